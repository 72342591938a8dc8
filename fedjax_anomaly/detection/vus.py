"""Volume under the surface of precision and recall: AUPRC that forgives alarms near an event."""

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.detection.events import Runs, find_runs


def vus_pr(
    label: Bool[np.ndarray, " L"], score: Float[np.ndarray, " L"], *, max_buffer: int = 100, num_thresholds: int = 250
) -> float | None:
    """VUS-PR of one series: the area under the range-based PR curve, averaged over buffers of 0 .. `max_buffer` rows.

    A buffer of w rows gives partial credit, sqrt(1 - d / w), to a row at a distance of d <= w // 2 from an event. The
    credit in the buffer is asked for only where a threshold predicts it, so that a detector whose scores are the labels
    reaches 1. Recall is multiplied by the share of events (with their buffers, joined where these meet) that are hit.

    Args:
      label: True where anomalous.
      score: larger is more anomalous.
      max_buffer: in rows. 100 is the default of the authors' TSB-AD 1.5; it does not follow the events, whose lengths
        a detector does not know, and so stays the same for all series.
      num_thresholds: order statistics of the scores, evenly spaced in rank, at which the curve is computed.

    Returns:
      The volume in [0, 1]; None without an anomalous row.

    Guarantees:
      Equal to a plain loop over buffers, thresholds and rows (test:
      `tests/detection/test_vus.py::test_vus_equals_a_plain_loop`).

    References:
      Paparrizos et al. 2022, "Volume under the surface: a new accuracy evaluation measure for time-series anomaly
      detection", section 4; the details are those of `RangeAUC_volume_opt` in the authors' package vus 0.0.6.
    """
    events = find_runs(label, np.zeros(len(label), dtype=int))
    if len(events.start) == 0:
        return None
    ranks = np.linspace(0, len(score) - 1, num_thresholds).astype(int)
    thresholds = -np.sort(-score)[ranks]
    # The first (highest) threshold at which each row is predicted: sums over the predicted rows are cumulative counts.
    level = np.searchsorted(-thresholds, -score)
    predicted = _cumulative(level, None, num_thresholds)
    hits = _cumulative(level[label], None, num_thresholds)
    areas = []
    for buffer in range(max_buffer + 1):
        rows, credit = _buffer_credit(events, label, buffer)
        buffer_hits = _cumulative(level[rows], credit, num_thresholds)
        # The authors ask for the mean of the plain and of the extended labels.
        wanted = label.sum() + buffer_hits / 2.0
        found = _regions_found(events, level, buffer // 2, num_thresholds)
        recall = np.minimum((hits + buffer_hits) / wanted, 1.0) * found
        areas.append(np.diff(recall, prepend=0.0) @ ((hits + buffer_hits) / predicted))
    return float(np.mean(areas))


def _cumulative(level: np.ndarray, weights: np.ndarray | None, num_thresholds: int) -> np.ndarray:
    """[num_thresholds]: the weight of the rows that each threshold predicts."""
    return np.cumsum(np.bincount(level, weights=weights, minlength=num_thresholds))


def _buffer_credit(events: Runs, label: np.ndarray, buffer: int) -> tuple[np.ndarray, np.ndarray]:
    """The normal rows that lie in a buffer, and the credit of each; buffers that overlap add up to at most 1."""
    distance = np.arange(1, buffer // 2 + 1)
    rows = np.concatenate([events.end[:, None] - 1 + distance, events.start[:, None] - distance]).reshape(-1)
    credit = np.tile(np.sqrt(1.0 - distance / max(buffer, 1)), 2 * len(events.start))
    inside = (rows >= 0) & (rows < len(label))
    rows, credit = rows[inside], credit[inside]
    unique, position = np.unique(rows[~label[rows]], return_inverse=True)
    return unique, np.minimum(np.bincount(position, weights=credit[~label[rows]], minlength=len(unique)), 1.0)


def _regions_found(events: Runs, level: np.ndarray, reach: int, num_thresholds: int) -> np.ndarray:
    """[num_thresholds]: the share of events, widened by `reach` and joined where they meet, that hold a prediction."""
    start = np.maximum(events.start - reach, 0)
    last = np.minimum(events.end - 1 + reach, len(level) - 1)
    apart = last[:-1] < start[1:]
    start, last = start[np.append(True, apart)], last[np.append(apart, True)]
    # Every other segment of `reduceat` is a gap; the extra entry lets the last region end with the series.
    first_level = np.minimum.reduceat(np.append(level, 0), np.stack([start, last + 1], axis=1).reshape(-1))[::2]
    return _cumulative(first_level, None, num_thresholds) / len(start)
