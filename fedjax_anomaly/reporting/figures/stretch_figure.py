"""The figure of consecutive rows: what the model saw, what it gave back, and when it raised an alarm."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fedjax_anomaly.reporting.figures import style
from fedjax_anomaly.reporting.figures.labels import (
    CHARACTER_INCHES,
    LINE_INCHES,
    Span,
    SpanLabel,
    named_spans,
    place_span_labels,
)

MAX_PANELS = 4
"""The most columns that are drawn."""

_WIDTH_INCHES = 8.0
_MARGIN_INCHES = 0.65  # what tick labels take off the width
_PANEL_INCHES = 0.95
_SCORE_INCHES = 1.45
_BURST = 10.0  # multiples of the usual range from which on a column is drawn on a logarithmic axis


def stretch_figure(
    position: Float[np.ndarray, " L"],
    position_label: str,
    observed: Float[np.ndarray, "L D"],
    reconstructed: Float[np.ndarray, "L D"],
    column_names: Sequence[str],
    scores: Float[np.ndarray, " L"],
    threshold: float,
    alarms: Bool[np.ndarray, " L"],
    labels: Bool[np.ndarray, " L"],
    attack_names: Sequence[str] | np.ndarray,
) -> Figure:
    """Consecutive rows of one client: columns observed and reconstructed, and the score with its alarms.

    Args:
      position: of each row, increasing.
      position_label: what a position is, with its unit.
      observed: D columns, at most `MAX_PANELS`.
      reconstructed: the same columns as the model gives them back.
      column_names: D names, with units where there are any.
      scores: of each row.
      threshold: of this client.
      alarms: where the score exceeds it.
      labels: truly anomalous rows; they are shaded.
      attack_names: of each row; written over each shaded span of one name.

    Raises:
      ValueError: for more columns than `MAX_PANELS`, or fewer than two rows.
    """
    if observed.shape[1] > MAX_PANELS:
        raise ValueError(f"observed has {observed.shape[1]} columns; choose at most {MAX_PANELS} of them.")
    if len(position) < 2:
        raise ValueError(f"position has {len(position)} rows; give at least 2, which have a width to draw.")
    edges = _row_edges(np.asarray(position, dtype=float))
    spans = named_spans(labels, attack_names)
    figure, panels, score_axes = _axes_below_names(edges, spans, len(column_names))
    for d, (axes, name) in enumerate(zip(panels, column_names, strict=True)):
        axes.plot(position, observed[:, d], color=style.NORMAL, linewidth=1.3, label="observed")
        axes.plot(position, reconstructed[:, d], color=style.RECONSTRUCTION, linewidth=1.3, label="reconstructed")
        style.dress(axes)
        style.panel_title(axes, name + _compress_bursts(axes, observed[:, d]))
    _draw_score(score_axes, position, scores, threshold, alarms)
    style.dress(score_axes, x_label=position_label)
    style.panel_title(score_axes, "anomaly score (logarithmic)")
    for axes in [*panels, score_axes]:
        axes.set_xlim(edges[0], edges[-1])
        for span in spans:
            axes.axvspan(edges[span.begin], edges[span.end], color=style.ANOMALOUS, alpha=0.17, linewidth=0)
    _legend_below(figure, [*panels[:1], score_axes], with_anomalies=bool(spans))
    return figure


def _compress_bursts(axes: Axes, values: Float[np.ndarray, " L"]) -> str:
    """Makes the axis logarithmic beyond the usual range where bursts would flatten everything else; returns a note."""
    usual = float(np.quantile(np.abs(values), 0.9))
    if usual <= 0.0 or np.abs(values).max() < _BURST * usual:
        return ""
    axes.set_yscale("symlog", linthresh=usual)
    return f" (logarithmic above {usual:.2g})"


def _row_edges(position: Float[np.ndarray, " L"]) -> Float[np.ndarray, " L+1"]:
    """Where each row's share of the axis begins and ends: halfway to its neighbours."""
    middles = (position[1:] + position[:-1]) / 2
    return np.concatenate([[2 * position[0] - middles[0]], middles, [2 * position[-1] - middles[-1]]])


def _axes_below_names(
    edges: Float[np.ndarray, " L+1"], spans: Sequence[Span], num_panels: int
) -> tuple[Figure, list[Axes], Axes]:
    """The panels, one above the other, with the spans' names in a strip above the first."""
    axis_inches = _WIDTH_INCHES - _MARGIN_INCHES
    inches_per_unit = axis_inches / (edges[-1] - edges[0])
    centres = [float((edges[span.begin] + edges[span.end]) / 2 - edges[0]) * inches_per_unit for span in spans]
    names = place_span_labels([span.name for span in spans], centres, axis_inches)
    heights = [_PANEL_INCHES] * num_panels + [_SCORE_INCHES]
    strip_inches = max((_height_inches(name) for name in names), default=0.0)
    figure = style.new_figure(_WIDTH_INCHES, sum(heights) + strip_inches + 0.25 * len(heights) + 0.6)
    if not names:
        axes = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        return figure, axes[:-1], axes[-1]
    heights = [strip_inches, *heights]
    strip, *axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    strip.set_axis_off()
    strip.set_ylim(0.0, strip_inches)
    for name in names:
        strip.text(
            edges[0] + name.centre / inches_per_unit,
            name.row * LINE_INCHES,
            name.text,
            rotation=90 if name.upright else 0,
            ha="center",
            va="bottom",
            fontsize=style.NOTE_SIZE,
            color=style.ANOMALOUS,
            in_layout=False,
        )
    return figure, axes[:-1], axes[-1]


def _height_inches(label: SpanLabel) -> float:
    return len(label.text) * CHARACTER_INCHES if label.upright else (label.row + 1) * LINE_INCHES


def _draw_score(
    axes: Axes,
    position: Float[np.ndarray, " L"],
    scores: Float[np.ndarray, " L"],
    threshold: float,
    alarms: Bool[np.ndarray, " L"],
) -> None:
    axes.plot(position, scores, color=style.SCORE, linewidth=1.0, label="anomaly score")
    axes.axhline(threshold, color=style.THRESHOLD, linestyle="--", linewidth=1.2, label="threshold")
    axes.plot(
        position[alarms],
        scores[alarms],
        linestyle="none",
        marker="o",
        markersize=3.8,
        color=style.ANOMALOUS,
        markeredgewidth=0,
        label="alarm",
    )
    axes.set_yscale("log")


def _legend_below(figure: Figure, axes: Sequence[Axes], with_anomalies: bool) -> None:
    handles = [handle for one in axes for handle in one.get_legend_handles_labels()[0]]
    if with_anomalies:
        handles.append(Patch(color=style.ANOMALOUS, alpha=0.17, linewidth=0, label="true anomaly"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncol=len(handles),
        frameon=False,
        fontsize=style.TICK_SIZE,
        labelcolor=style.INK,
        columnspacing=1.4,
        handlelength=1.6,
    )
