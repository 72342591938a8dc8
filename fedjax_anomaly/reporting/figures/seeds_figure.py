"""The figures of many seeds: every seed as a point, and learning curves with their range over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedjax_anomaly.reporting.figures import style

_SHOWN = {"f1": ("F1", style.F1), "auroc": ("AUROC", style.AUROC)}


def seeds_figure(names: Sequence[str], summaries: Sequence[Mapping[str, Any]]) -> Figure:
    """A line per setting, a panel for F1 and one for AUROC.

    Args:
      names: of the settings.
      summaries: of each setting, its metrics' `detection.summary`, or None where a metric is undefined.
    """
    figure = style.new_figure(7.6, 1.1 + 0.5 * len(names))
    for axes, (key, (label, color)) in zip(figure.subplots(1, 2, sharey=True), _SHOWN.items(), strict=True):
        for y, metrics in enumerate(summaries):
            summary = metrics[key]
            if summary is None:
                continue
            values = [value for value in summary["values"] if value is not None]
            axes.plot(values, np.full(len(values), y), "o", color=color, alpha=0.55, markersize=6, markeredgewidth=0)
            axes.plot(summary["mean"], y + 0.25, "|", color=style.INK, markersize=9, markeredgewidth=1.8)
            if summary["low"] is not None:
                axes.plot([summary["low"], summary["high"]], [y + 0.25] * 2, color=style.INK, linewidth=1.4)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.45, -0.45)
        style.dress(axes, x_label=f"{label} on the test rows", grid="x")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


class Curves(NamedTuple):
    """A number over rounds, of all seeds of one setting.

    Attributes:
      rounds: where it is known.
      values: of each seed; NaN where it is undefined.
    """

    rounds: Int[np.ndarray, " R"]
    values: Float[np.ndarray, "S R"]


def seed_curves_figure(names: Sequence[str], panels: Mapping[str, Sequence[Curves]], log: str) -> Figure:
    """A panel per number, in it a line per setting: the mean over seeds in a band from the least to the greatest.

    Args:
      names: of the settings.
      panels: label of the vertical axis -> the curves of each setting; at most three panels.
      log: the label whose axis is logarithmic.
    """
    figure = style.new_figure(0.6 + 3.1 * len(panels), 3.0 + 0.22 * len(names))
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, settings) in zip(all_axes, panels.items(), strict=True):
        for name, color, curves in zip(names, style.category_colors(len(names)), settings, strict=True):
            _draw_band(axes, curves, color, name)
        style.dress(axes, x_label="round", y_label=label)
        style.whole_numbers(axes)
        if label == log:
            axes.set_yscale("log")
            style.plain_log_ticks(axes.yaxis)
    style.legend_outside(figure, all_axes[0], "outside lower center", columns=3)
    return figure


def _draw_band(axes: Axes, curves: Curves, color: str, name: str) -> None:
    known = np.isfinite(curves.values).any(axis=0)  # a test metric is known at the end of each chunk of rounds only
    rounds, values = curves.rounds[known], curves.values[:, known]
    axes.fill_between(rounds, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=color, alpha=0.2, linewidth=0)
    marker = "o" if len(rounds) <= 25 else None
    axes.plot(rounds, np.nanmean(values, axis=0), color=color, label=name, marker=marker, markersize=3.5)
