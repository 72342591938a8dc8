"""Affiliation precision and recall: how close alarms lie to events, against chance."""

import numpy as np
from jaxtyping import Bool

from fedjax_anomaly.detection.events import Runs, find_runs

_CELLS = 4


def affiliation(label: Bool[np.ndarray, " L"], alarm: Bool[np.ndarray, " L"]) -> tuple[float | None, float | None]:
    """Affiliation precision and recall of the alarms of one series.

    The series is cut halfway between neighbouring events into one zone per event. A distance is turned into the chance
    that a point drawn uniformly from the zone lies at least as far away: precision is that chance, averaged over the
    alarms of a zone, for their distance to the event; recall is it, averaged over the event, for the distance to the
    nearest alarm of the zone. Both are then averaged over the zones.

    Alarms at random score about 0.5, not 0: read both next to a metric that random alarms cannot please.

    Args:
      label: True where anomalous; a row covers the time from its index to the next.
      alarm: True where alarmed.

    Returns:
      (precision, recall). Precision averages over zones with an alarm and is None without one; recall counts a zone
      without an alarm as 0. Both are None without an event.

    Guarantees:
      Equal to a numerical integral of the definitions (test:
      `tests/detection/test_affiliation.py::test_affiliation_equals_the_integral_of_its_definition`).

    References:
      Huet, Navarro and Rossi 2022, "Local evaluation of time series anomaly detection algorithms", sections 3 and 4.
    """
    events = find_runs(label, np.zeros(len(label), dtype=int))
    if len(events.start) == 0:
        return None, None
    between = (events.end[:-1] + events.start[1:]) / 2.0
    low, high = np.concatenate([[0.0], between]), np.append(between, len(label))
    # Rows end at whole numbers and zones at halves, so the survival functions below are linear between multiples of a
    # quarter (a kink lies halfway between the end of a row and the end of its zone, or between the two ends of a zone):
    # the value in the middle of each quarter integrates them exactly.
    time = (np.arange(_CELLS * len(label)) + 0.5) / _CELLS
    zone = np.searchsorted(between, time)
    alarmed = np.repeat(alarm, _CELLS)
    chance = _precision_chance(time[alarmed], zone[alarmed], events, low, high)
    weight = np.bincount(zone[alarmed], minlength=len(low))
    precision = np.bincount(zone[alarmed], weights=chance, minlength=len(low))[weight > 0] / weight[weight > 0]
    inside = np.repeat(label, _CELLS)
    chance = _recall_chance(time[inside], zone[inside], alarm, low, high)
    recall = np.bincount(zone[inside], weights=chance) / np.bincount(zone[inside])
    return float(precision.mean()) if len(precision) else None, float(recall.mean())


def _precision_chance(
    time: np.ndarray, zone: np.ndarray, events: Runs, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The chance that a uniform point of the zone is at least as far from the zone's event as `time` is."""
    start, end, low, high = events.start[zone], events.end[zone], low[zone], high[zone]
    distance = np.maximum(np.maximum(start - time, time - end), 0.0)
    nearer = end - start + np.minimum(distance, start - low) + np.minimum(distance, high - end)
    return np.where(distance > 0.0, 1.0 - nearer / (high - low), 1.0)


def _recall_chance(
    time: np.ndarray, zone: np.ndarray, alarm: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The chance that a uniform point of the zone is at least as far from `time` as the zone's nearest alarm is."""
    low, high, row = low[zone], high[zone], np.floor(time).astype(int)
    index = np.arange(len(alarm))
    last_end = np.maximum.accumulate(np.where(alarm, index + 1.0, -np.inf))[row]
    next_start = np.minimum.accumulate(np.where(alarm, index, np.inf)[::-1])[::-1][row]
    behind = np.where(last_end > low, time - last_end, np.inf)
    ahead = np.where(next_start < high, next_start - time, np.inf)
    distance = np.maximum(np.minimum(behind, ahead), 0.0)
    nearer = np.minimum(distance, time - low) + np.minimum(distance, high - time)
    return 1.0 - nearer / (high - low)
