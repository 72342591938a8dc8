"""Names in a figure do not cover each other."""

import itertools

import numpy as np

from fedjax_anomaly.reporting.figures.labels import (
    CHARACTER_INCHES,
    LINE_INCHES,
    named_spans,
    place_point_labels,
    place_span_labels,
)


def test_spans_are_the_runs_of_active_rows_of_one_name() -> None:
    active = np.array([True, True, False, True, True, True, False])
    spans = named_spans(active, ["a", "a", "a", "a", "b", "b", "b"])
    assert spans == [(0, 2, "a"), (3, 4, "a"), (4, 6, "b")]


def test_level_names_in_one_row_do_not_touch() -> None:
    names = ["leak", "saturation", "crash", "slow"]
    labels = place_span_labels(names, [0.1, 0.5, 0.6, 6.9], axis_inches=7.0)
    assert [label.text for label in labels] == names
    assert not any(label.upright for label in labels)
    for one, other in itertools.combinations(labels, 2):
        reach = (len(one.text) + len(other.text)) / 2 * CHARACTER_INCHES
        assert one.row != other.row or abs(one.centre - other.centre) > reach
    for label in labels:
        assert len(label.text) / 2 * CHARACTER_INCHES <= label.centre <= 7.0 - len(label.text) / 2 * CHARACTER_INCHES


def test_many_names_are_written_upwards_and_folded_where_they_would_touch() -> None:
    # Every third of 0.06 inches is 0.18 > a line's height of 0.15, so three spans share a name each.
    assert 2 * 0.06 < LINE_INCHES < 3 * 0.06
    names = ["smurf"] * 3 + ["neptune", "smurf", "satan"] * 9
    labels = place_span_labels(names, [0.06 * i for i in range(30)], axis_inches=7.0)
    assert all(label.upright for label in labels)
    assert [label.text for label in labels] == ["smurf ×3"] + ["neptune +2"] * 9


def test_names_of_separate_points_stand_beside_them_without_overlap() -> None:
    points = np.array([[1.0, 1.0], [1.0, 1.1], [1.05, 1.05], [3.9, 2.0]])
    boxes = place_point_labels(points, ["node-0", "node-1", "node-2", "node-3"], np.array([0.0, 0.0, 4.0, 3.0]))
    for one, other in itertools.combinations(boxes, 2):
        assert np.any(one[2:] <= other[:2]) or np.any(other[2:] <= one[:2])
    assert np.all(boxes[:, :2] >= 0.0) and np.all(boxes[:, 2:] <= [4.0, 3.0])
    assert np.all(np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - points, axis=1) < 0.8)
