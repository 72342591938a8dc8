"""Figures as pure functions from arrays to a matplotlib `Figure`; matplotlib's global state is left alone."""

from fedjax_anomaly.reporting.figures.client_figures import cluster_figure, partition_figure, sizes_figure
from fedjax_anomaly.reporting.figures.run_figures import attack_figure, score_figure, training_figure
from fedjax_anomaly.reporting.figures.seeds_figure import Curves, seed_curves_figure, seeds_figure
from fedjax_anomaly.reporting.figures.stretch_figure import stretch_figure
from fedjax_anomaly.reporting.figures.style import save

__all__ = [
    "Curves",
    "attack_figure",
    "cluster_figure",
    "partition_figure",
    "save",
    "score_figure",
    "seed_curves_figure",
    "seeds_figure",
    "sizes_figure",
    "stretch_figure",
    "training_figure",
]
