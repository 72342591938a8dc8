"""One look for every figure: a colour-blind-safe palette, readable sizes, a light grid, legends outside of the data."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogFormatter, MaxNLocator

from fedjax_anomaly.reporting.atomic import write_atomically

# The palette of Okabe and Ito 2008, "Color Universal Design"; a colour means the same in every figure.
NORMAL = "#0072B2"
ANOMALOUS = "#D55E00"
RECONSTRUCTION = "#E69F00"
THRESHOLD = "#000000"
HELD_OUT = "#7A7A7A"
SCORE = "#4D4D4D"
AUROC = "#009E73"
F1 = "#CC79A7"
INK = "#262626"
GRID = "#DDDDDD"

_CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SAVED_DPI = 160
LABEL_SIZE = 10.0
TICK_SIZE = 9.0
NOTE_SIZE = 8.0
CHARACTER_INCHES = 0.62 * NOTE_SIZE / 72.0
"""The mean width of a character of a note, for laying notes out before anything is drawn."""


def category_colors(count: int) -> list[str]:
    """`count` colours to tell categories apart; past the palette's eight, evenly spaced ones of a perceptual map."""
    if count <= len(_CATEGORIES):
        return list(_CATEGORIES[:count])
    return [matplotlib.colors.to_hex(color) for color in matplotlib.colormaps["viridis"](np.linspace(0.0, 1.0, count))]


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure outside of pyplot's global state, laid out so that no label is cut off."""
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.06)
    return Figure(figsize=(width_inches, height_inches), layout=layout, facecolor="white")


def dress(axes: Axes, *, x_label: str = "", y_label: str = "", grid: str = "both") -> None:
    """Gives axes their labels and the common look; `grid` is "x", "y", "both" or ""."""
    axes.set_xlabel(_sentence(x_label), fontsize=LABEL_SIZE, color=INK)
    axes.set_ylabel(_sentence(y_label), fontsize=LABEL_SIZE, color=INK)
    axes.tick_params(which="both", labelsize=TICK_SIZE, labelcolor=INK, color=GRID)
    axes.tick_params(which="minor", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#9A9A9A")
    axes.set_axisbelow(True)
    if grid in ("x", "y", "both"):
        axes.grid(axis=grid, color=GRID, linewidth=0.6)  # type: ignore[arg-type]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def whole_numbers(axes: Axes) -> None:
    """Keeps the ticks of the x axis on whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def plain_log_ticks(axis: Axis) -> None:
    """Writes 0.02 rather than 2 x 10^-2 on a logarithmic axis, also between powers of ten where these are few."""
    axis.set_major_formatter(_PlainLogFormatter())
    axis.set_minor_formatter(_PlainLogFormatter(labelOnlyBase=False, minor_thresholds=(1.0, 0.4)))


class _PlainLogFormatter(LogFormatter):
    """Labels the ticks that `LogFormatter` labels, with plain decimals."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def legend_above(axes: Axes, columns: int) -> None:
    """The legend in a row above the axes, where it cannot cover data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncol=columns,
        frameon=False,
        fontsize=TICK_SIZE,
        borderaxespad=0.2,
        borderpad=0.0,
        handlelength=1.6,
        columnspacing=1.4,
        labelcolor=INK,
    )


def legend_outside(
    figure: Figure, axes: Axes, location: Literal["outside upper right", "outside lower center"], columns: int
) -> None:
    """The legend of one of a figure's panels, for all of them, outside of the panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc=location,
        ncol=columns,
        frameon=False,
        fontsize=TICK_SIZE,
        labelcolor=INK,
    )


def panel_title(axes: Axes, title: str) -> None:
    """A small title, flush left above the axes."""
    axes.set_title(title, loc="left", fontsize=TICK_SIZE, color=INK, pad=3)


def fold(names: Sequence[str], sizes: Sequence[float], limit: int, kind: str) -> tuple[list[int], list[int], str]:
    """Which of many categories to show by name, largest first, and which to fold into one.

    Args:
      names: the categories.
      sizes: their sizes.
      limit: the most entries to show, that of the folded ones included.
      kind: what the categories are, in the plural.

    Returns:
      (the indices to show, the indices to fold, the folded ones' name); nothing is folded when all fit.
    """
    order = sorted(range(len(names)), key=lambda i: (-sizes[i], names[i]))
    if len(order) <= limit:
        return order, [], ""
    shown, folded = order[: limit - 1], order[limit - 1 :]
    return shown, folded, f"other ({len(folded)} {kind})"


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG; the file is whole or not there."""
    contents = io.BytesIO()
    figure.savefig(contents, format="png", dpi=SAVED_DPI)
    write_atomically(path, contents.getvalue())
