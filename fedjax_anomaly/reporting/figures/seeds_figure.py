"""Detection over seeds: every seed as a point, the mean with its interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fedjax_anomaly.reporting.figures import style

_SHOWN = {"f1": ("F1", style.F1), "auroc": ("AUROC", style.AUROC)}


def seeds_figure(names: Sequence[str], summaries: Sequence[Mapping[str, Any]]) -> Figure:
    """A line per setting, a panel for F1 and one for AUROC.

    Args:
      names: of the settings.
      summaries: of each setting, its metrics' `detection.summary`, or None where a metric is undefined.
    """
    figure = style.new_figure(7.6, 1.3 + 0.4 * len(names))
    for axes, (key, (label, color)) in zip(figure.subplots(1, 2, sharey=True), _SHOWN.items(), strict=True):
        for y, metrics in enumerate(summaries):
            summary = metrics[key]
            if summary is None:
                continue
            values = [value for value in summary["values"] if value is not None]
            axes.plot(values, np.full(len(values), y), "o", color=color, alpha=0.45, markersize=5)
            axes.plot(summary["mean"], y, "|", color=style.INK, markersize=14, markeredgewidth=1.6)
            if summary["low"] is not None:
                axes.plot([summary["low"], summary["high"]], [y, y], color=style.INK, linewidth=1.4)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        style.dress(axes, x_label=f"{label} on the test rows", grid="x")
    return figure
