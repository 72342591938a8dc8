"""Table 1 as a picture: F1 and AUROC of every method, a panel for each data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from comparison import METHODS, OURS
from comparison_rows import Row
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_anomaly.reporting.figures import style

_MARKS: dict[str, dict[str, Any]] = {
    "f1": {"color": style.F1, "marker": "o", "label": "F1"},
    "auroc": {"color": style.AUROC, "marker": "D", "label": "AUROC"},
}
_APART = 0.16


def table1_figure(rows: Sequence[Row], warning: str = "") -> Figure:
    """Dots are means over seeds, bars their intervals; a method without a result is named so.

    Args:
      rows: from `rows_of_table`, of at least one run.
      warning: is written above all panels.
    """
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    columns = min(3, len(datasets))
    lines = -(-len(datasets) // columns)
    figure = style.new_figure(2.6 + 2.9 * columns, 0.7 + 3.5 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, name in zip(panels.flat, datasets, strict=False):
        _panel(axes, [row for row in rows if row["dataset"] == name])
        style.panel_title(axes, name)
    for axes in panels.flat[len(datasets) :]:
        axes.set_visible(False)
    style.legend_outside(figure, panels[0, 0], "outside upper right", columns=2)
    seeds = rows[0]["num_seeds"]
    title = f"Mean over {seeds} seeds, 95 % bootstrap interval"
    figure.suptitle(
        f"{warning}. {title}" if warning else title, x=0.01, ha="left", fontsize=style.LABEL_SIZE, color=style.INK
    )
    return figure


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    position = {method.key: number for number, method in enumerate(METHODS)}
    for shift, (name, look) in zip((-_APART, _APART), _MARKS.items(), strict=True):
        known = [row for row in rows if row[name]]
        mean = np.array([row[name]["mean"] for row in known])
        bounds = np.array(
            [[_or(row[name]["low"], row[name]["mean"]), _or(row[name]["high"], row[name]["mean"])] for row in known]
        ).reshape(-1, 2)
        axes.errorbar(
            mean,
            [position[row["method"]] + shift for row in known],
            xerr=np.abs(bounds - mean[:, None]).T,
            linestyle="",
            markersize=4.5,
            elinewidth=1.4,
            **look,
        )
    for row in rows:
        if row["status"] != "done":
            axes.text(
                0.02,
                position[row["method"]],
                row["status"],
                va="center",
                fontsize=style.NOTE_SIZE,
                color=style.HELD_OUT,
            )
    axes.axhspan(position[OURS] - 0.5, position[OURS] + 0.5, color=style.GRID, alpha=0.45, linewidth=0)
    axes.set_yticks(range(len(METHODS)), [method.label for method in METHODS])
    axes.set_ylim(len(METHODS) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.02)
    style.dress(axes, x_label="F1 and AUROC on test rows", grid="both")
    axes.tick_params(axis="y", length=0)


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
