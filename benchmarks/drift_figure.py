"""False incidents and faults alarmed over a month with slow drift, for each way to deal with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fedjax_anomaly.reporting.figures import style

FALSE = "false incidents per stream and day"


def drift_figure(
    by_day: Mapping[str, Sequence[Mapping[str, Any]]], by_week: Mapping[str, Sequence[Mapping[str, Any]]], begin: float
) -> Figure:
    """Two panels: false incidents day by day, and the share of faults alarmed week by week.

    Args:
      by_day: rows of each way, from `drift.weeks`, a day each.
      by_week: the same, a week each.
      begin: of the drift, in days.
    """
    figure = style.new_figure(9.6, 3.6)
    false, alarmed = figure.subplots(1, 2, width_ratios=(1.7, 1.0))
    for (way, rows), color, marker in zip(
        by_day.items(), style.category_colors(len(by_day)), style.MARKERS, strict=False
    ):
        days = np.arange(len(rows)) + 0.5
        false.plot(days, [row[FALSE] for row in rows], color=color, label=way, linewidth=1.6)
        weeks = [(i + 1, row["alarmed"]) for i, row in enumerate(by_week[way]) if row["alarmed"] is not None]
        alarmed.plot(*zip(*weeks, strict=True), color=color, marker=marker, linewidth=1.6)
    false.axvline(begin, color=style.HELD_OUT, linewidth=1.0, linestyle="--")
    false.annotate(
        "drift begins",
        (begin, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -10),
        textcoords="offset points",
        fontsize=style.NOTE_SIZE,
        color=style.HELD_OUT,
    )
    false.set_ylim(bottom=0.0)
    alarmed.set_ylim(0.0, 1.02)
    style.whole_numbers(alarmed)
    style.dress(false, x_label="day", y_label=FALSE)
    style.dress(alarmed, x_label="week", y_label="faults alarmed")
    style.legend_outside(figure, false, "outside lower center", columns=4)
    return figure
