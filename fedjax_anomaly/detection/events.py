"""Anomalies as events in time: which were found, how late, and how often an alarm was false.

A series is what one node wrote down, row after row; neither an event nor an alarm episode crosses into the next series.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

SECONDS_PER_DAY = 86_400.0


class Runs(NamedTuple):
    """Maximal runs of True rows within one series, in order.

    Attributes:
      start: Int[E], the first row of each run.
      end: Int[E], the row after its last one.
    """

    start: Int[np.ndarray, " E"]
    end: Int[np.ndarray, " E"]


def find_runs(flag: Bool[np.ndarray, " L"], series: Int[np.ndarray, " L"]) -> Runs:
    """The maximal runs of True rows; a run ends where the series does."""
    flag = np.asarray(flag, dtype=bool)
    new_series = np.diff(series, prepend=series[:1]) != 0
    before = np.concatenate([[False], flag[:-1]])[: len(flag)]
    last_of_series = np.append(new_series[1:], True)[: len(flag)]
    after = np.append(flag[1:], False)[: len(flag)]
    start = np.flatnonzero(flag & (~before | new_series))
    end = np.flatnonzero(flag & (~after | last_of_series)) + 1
    return Runs(start, end)


def touched(runs: Runs, flag: Bool[np.ndarray, " L"]) -> Bool[np.ndarray, " E"]:
    """True for the runs that hold at least one True row of `flag`."""
    count = np.concatenate([[0], np.cumsum(flag)])
    return count[runs.end] > count[runs.start]


def detection_delay_rows(events: Runs, alarm: Bool[np.ndarray, " L"]) -> Int[np.ndarray, " detected"]:
    """Rows from the start of each detected event to the first alarm inside it; 0 is an alarm on its first row."""
    start = events.start[touched(events, alarm)]
    alarms = np.flatnonzero(alarm)
    return alarms[np.searchsorted(alarms, start)] - start


def false_alarms_per_day(
    label: Bool[np.ndarray, " L"],
    alarm: Bool[np.ndarray, " L"],
    series: Int[np.ndarray, " L"],
    seconds_per_row: float,
) -> float | None:
    """Alarm episodes that touch no event, per day and client: what the operator of one node has to look at in vain.

    An episode is a maximal run of alarms, however long. The count over all series is divided by the days of test time
    summed over all series (normal and anomalous rows alike); None without a row.
    """
    if len(label) == 0:
        return None
    episodes = find_runs(alarm, series)
    return float((~touched(episodes, label)).sum() / (len(label) * seconds_per_row / SECONDS_PER_DAY))


def point_adjusted_f1(events: Runs, label: Bool[np.ndarray, " L"], alarm: Bool[np.ndarray, " L"]) -> float | None:
    """F1 after every row of a detected event counts as an alarm; None without an event.

    One alarm in a long event earns all of its rows, so that random scores can beat real detectors. It is here only to
    be compared with published numbers.

    References:
      Xu et al. 2018, "Unsupervised anomaly detection via variational auto-encoder for seasonal KPIs in web
      applications", section 4.2.
      Kim et al. 2022, "Towards a rigorous evaluation of time-series anomaly detection", section 3.
    """
    if len(events.start) == 0:
        return None
    length = events.end - events.start
    hits = int(length[touched(events, alarm)].sum())
    return 2.0 * hits / (hits + int((alarm & ~label).sum()) + int(length.sum()))
