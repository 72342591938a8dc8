"""One run from its configuration to its results; the only folder that knows every part."""

from fedjax_anomaly.experiment.build import Experiment, build
from fedjax_anomaly.experiment.run import Outcome, run_experiment
from fedjax_anomaly.experiment.training import Diverged, train

__all__ = ["Diverged", "Experiment", "Outcome", "build", "run_experiment", "train"]
