"""Where to write names in a figure so that they do not cover each other; lengths are inches on paper."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.reporting.figures.style import CHARACTER_INCHES, NOTE_SIZE

LINE_INCHES = 1.35 * NOTE_SIZE / 72.0
"""The height of a line of notes."""

_GAP_INCHES = 0.08
_MAX_ROWS = 3


class Span(NamedTuple):
    """Consecutive rows [begin, end) of one name."""

    begin: int
    end: int
    name: str


class SpanLabel(NamedTuple):
    """A text over an axis: its centre along the axis, the row above the axis, and whether it is written upwards."""

    text: str
    centre: float
    row: int
    upright: bool


def named_spans(active: Bool[np.ndarray, " L"], names: Sequence[str] | np.ndarray) -> list[Span]:
    """The runs of active rows that share a name."""
    spans = []
    position = 0
    for name, run in itertools.groupby(name if here else None for here, name in zip(active, names, strict=True)):
        length = len(list(run))
        if name is not None:
            spans.append(Span(position, position + length, str(name)))
        position += length
    return spans


def place_span_labels(names: Sequence[str], centres: Sequence[float], axis_inches: float) -> list[SpanLabel]:
    """Places the name of each span over it, level while all names fit in a few rows, else upright.

    Upright names that would touch are folded into the first: "smurf ×3" for three spans of one name, "smurf +2" for
    different ones.

    Args:
      names: of the spans, from left to right.
      centres: of the spans along the axis, in [0, `axis_inches`].
      axis_inches: the length of the axis.
    """
    row_ends = [-_GAP_INCHES] * _MAX_ROWS
    labels = []
    for name, centre in zip(names, centres, strict=True):
        width = len(name) * CHARACTER_INCHES
        left = min(max(centre - width / 2, 0.0), max(axis_inches - width, 0.0))
        free = [row for row in range(_MAX_ROWS) if row_ends[row] + _GAP_INCHES <= left]
        if not free:
            return _upright_labels(names, centres)
        row_ends[free[0]] = left + width
        labels.append(SpanLabel(name, left + width / 2, free[0], upright=False))
    return labels


def _upright_labels(names: Sequence[str], centres: Sequence[float]) -> list[SpanLabel]:
    groups: list[tuple[float, list[str]]] = []
    for name, centre in zip(names, centres, strict=True):
        if groups and centre - groups[-1][0] < LINE_INCHES:
            groups[-1][1].append(name)
        else:
            groups.append((centre, [name]))
    labels = []
    for centre, members in groups:
        others = len(members) - 1
        several = f" ×{len(members)}" if len(set(members)) == 1 else f" +{others}"
        labels.append(SpanLabel(members[0] + (several if others else ""), centre, 0, upright=True))
    return labels


def place_point_labels(
    points: Float[np.ndarray, "C 2"], names: Sequence[str], bounds: Float[np.ndarray, " 4"]
) -> Float[np.ndarray, "C 4"]:
    """The box of each point's name, greedily where it overlaps least with points and earlier names.

    Args:
      points: positions.
      names: of the points.
      bounds: the box that the names should stay in.

    Returns:
      Boxes as (left, bottom, right, top).
    """
    boxes = [np.concatenate([point - 0.06, point + 0.06]) for point in points]  # left, bottom, right, top
    for point, name in zip(points, names, strict=True):
        size = np.array([len(name) * CHARACTER_INCHES, LINE_INCHES])
        choices = []
        for distance in (0.07, 0.16, 0.28):
            for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
                offset = np.array([x, y])
                corner = point + offset * distance + (offset - 1) / 2 * size
                choices.append(np.concatenate([corner, corner + size]))
        boxes.append(min(choices, key=lambda box: _conflict(box, boxes, bounds)))
    return np.array(boxes[len(points) :]).reshape(len(points), 4)


def _conflict(box: np.ndarray, others: Sequence[np.ndarray], bounds: np.ndarray) -> float:
    """The area that a box shares with others or has out of bounds."""
    outside = float(np.prod(box[2:] - box[:2])) - _overlap(box, bounds)
    return outside + sum(_overlap(box, other) for other in others)


def _overlap(box: np.ndarray, other: np.ndarray) -> float:
    """The common area of two boxes."""
    sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0.0)))
