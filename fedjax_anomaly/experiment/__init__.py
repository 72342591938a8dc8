"""One run from its configuration to its results; the only folder that knows every part."""

from fedjax_anomaly.experiment.build import Experiment, build
from fedjax_anomaly.experiment.ensemble import build_members, train_ensemble
from fedjax_anomaly.experiment.many import ManyOutcome, run_many
from fedjax_anomaly.experiment.run import Outcome, run_experiment
from fedjax_anomaly.experiment.training import Diverged, train

__all__ = [
    "Diverged",
    "Experiment",
    "ManyOutcome",
    "Outcome",
    "build",
    "build_members",
    "run_experiment",
    "run_many",
    "train",
    "train_ensemble",
]
