"""Metrics of rows in time order: events, delays, false alarms a day, affiliation, VUS-PR."""

import numpy as np
from jaxtyping import Bool, Float, Int

from fedjax_anomaly.detection.affiliation import affiliation
from fedjax_anomaly.detection.events import (
    detection_delay_rows,
    false_alarms_per_day,
    find_runs,
    point_adjusted_f1,
    touched,
)
from fedjax_anomaly.detection.metrics import Metrics
from fedjax_anomaly.detection.vus import vus_pr


def time_order_metrics(
    label: Bool[np.ndarray, " L"],
    alarm: Bool[np.ndarray, " L"],
    score: Float[np.ndarray, " L"],
    series: Int[np.ndarray, " L"],
    seconds_per_row: float,
) -> Metrics:
    """Metrics for rows that are samples of time series, one series per client.

    Args:
      label: True where anomalous.
      alarm: True where alarmed.
      score: larger is more anomalous.
      series: the series of each row; the rows of one series are consecutive and in time order.
      seconds_per_row: the sampling period.

    Returns:
      `vus_pr`, `affiliation_precision`, `affiliation_recall`: means over the series that have an event (precision: and
        an alarm); `affiliation_f1`: the harmonic mean of these two means, 0 where no such series has an alarm.
      `event_recall`: the share of all `num_events` events with an alarm inside.
      `detection_delay_rows_mean`, `detection_delay_seconds_mean`, `detection_delay_seconds_median`: from the start of
        an event to the first alarm inside it, over the detected events; missed events do not count.
      `false_alarms_per_day`: alarm episodes that touch no event, per day and client.
      `point_adjusted_f1_inflated`: for comparison with published numbers only.
      What is undefined is None: all but `num_events` and `false_alarms_per_day` where there is no event.

    Raises:
      ValueError: when the rows of a series are not consecutive, the arguments differ in length, a score is NaN, or
        `seconds_per_row` is not positive.
    """
    _check(label, alarm, score, series, seconds_per_row)
    events = find_runs(label, series)
    delay = detection_delay_rows(events, alarm)
    return {
        **_series_means(label, alarm, score, series),
        "event_recall": float(touched(events, alarm).mean()) if len(events.start) else None,
        "num_events": len(events.start),
        "detection_delay_rows_mean": float(delay.mean()) if len(delay) else None,
        "detection_delay_seconds_mean": float(delay.mean() * seconds_per_row) if len(delay) else None,
        "detection_delay_seconds_median": float(np.median(delay) * seconds_per_row) if len(delay) else None,
        "false_alarms_per_day": false_alarms_per_day(label, alarm, series, seconds_per_row),
        "point_adjusted_f1_inflated": point_adjusted_f1(events, label, alarm),
    }


def _series_means(label: np.ndarray, alarm: np.ndarray, score: np.ndarray, series: np.ndarray) -> Metrics:
    """The metrics that belong to one series, averaged over the series in which they are defined."""
    breaks = np.flatnonzero(np.diff(series)) + 1
    volumes, precisions, recalls = [], [], []
    for rows in np.split(np.arange(len(label)), breaks):
        volumes.append(vus_pr(label[rows], score[rows]))
        precision, recall = affiliation(label[rows], alarm[rows])
        precisions.append(precision)
        recalls.append(recall)
    precision, recall = _mean(precisions), _mean(recalls)
    return {
        "vus_pr": _mean(volumes),
        "affiliation_precision": precision,
        "affiliation_recall": recall,
        "affiliation_f1": _harmonic_mean(precision, recall),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _harmonic_mean(precision: float | None, recall: float | None) -> float | None:
    if recall is None:
        return None
    return 2.0 * precision * recall / (precision + recall) if precision else 0.0


def _check(label: np.ndarray, alarm: np.ndarray, score: np.ndarray, series: np.ndarray, seconds_per_row: float) -> None:
    lengths = {"label": len(label), "alarm": len(alarm), "score": len(score), "series": len(series)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arguments differ in length, {lengths}; give one entry per row to each.")
    if not seconds_per_row > 0.0:
        raise ValueError(f"seconds_per_row={seconds_per_row} must be positive: the time between two rows.")
    if np.isnan(score).any():
        raise ValueError(f"score is NaN in row {np.flatnonzero(np.isnan(score))[0]}; the model has diverged.")
    if np.count_nonzero(np.diff(series)) + 1 > max(len(np.unique(series)), 1):
        raise ValueError("series: the rows of a series are not consecutive; sort the rows by series, then by time.")
