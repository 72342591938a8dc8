"""A threshold from what an operator can live with: so many false incidents per stream and day.

A false-positive rate says little about that: false alarms come in bunches, as windows overlap and loads stay high for
a while, and how many make one incident differs from fleet to fleet. Incidents of held-out normal rows can be counted.
"""

import math
from bisect import bisect_right

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fedjax_anomaly.detection.alarm_rules import AlarmRule

SCALE_SCORES = 256
"""Of a stream, for the mean of its normal scores."""


def allowed_incidents(per_day: float, stream_days: float) -> int:
    """How many incidents held-out normal rows may show, so that at most `per_day` are to be expected on others.

    The level at which k + 1 incidents would be seen in D stream-days is exceeded by (k + 1) / D a day on average, where
    incidents come by chance: the one at the level counts as well, as in the conformal threshold. So k + 1 <= per_day D.

    Args:
      per_day: false incidents per stream and day.
      stream_days: D, what the held-out rows amount to.

    Raises:
      ValueError: when even no incident at all would not show so few.
    """
    allowed = math.floor(per_day * stream_days + 1e-9) - 1
    if not allowed >= 0:
        raise ValueError(
            f"false_incidents_per_day={per_day} cannot be shown by held-out normal rows of {stream_days:.3g} "
            f"stream-days: give at least {1.0 / max(stream_days, 1e-9):.3g}, or train with a larger "
            "--validation_fraction or more data."
        )
    return allowed


def incident_level(
    scores: Float[np.ndarray, " N"],
    stream: Int[np.ndarray, " N"],
    time: Float[np.ndarray, " N"],
    *,
    allowed: int,
    gap_seconds: float,
    least_alarms: int = 1,
) -> float:
    """The lowest level at which, and above which, scores make at most so many incidents.

    Scores above a level are alarms. Those of a stream that are at most a gap apart are one incident, if there are
    enough of them. A higher level can make more incidents of one, therefore all higher levels are looked at.

    Args:
      scores: of normal rows, in any order.
      stream: whose they are.
      time: when, in seconds.
      allowed: incidents, at most.
      gap_seconds: between alarms of one incident, at most.
      least_alarms: fewer make no incident.

    Returns:
      One of the scores.

    Raises:
      ValueError: when there are no scores, or some that are not finite.

    Guarantees:
      Equal to counting anew at every level. With `allowed_incidents` and `scaled_rule`, independent fresh scores keep
      the budget on average, and those whose neighbours correlate by 0.9 to a fifth, as the means of short streams are
      then uncertain (tests: `tests/detection/test_incident_budget.py`).

    References:
      Coles 2001, "An Introduction to Statistical Modeling of Extreme Values", section 5.3.2 (runs declustering).
    """
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError(f"{len(scores)} held-out normal scores must be finite, and at least one.")
    # One axis for all streams, with more than a gap between them.
    number = np.unique(stream, return_inverse=True)[1]
    place = time - time.min() + number * (np.ptp(time) + 2.0 * gap_seconds + 1.0)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].tolist()
    bunches = _Bunches(gap_seconds, least_alarms)
    for i, here in enumerate(place[order].tolist()):
        bunches.add(here)
        is_last_of_equals = i + 1 == len(ordered) or ordered[i + 1] < ordered[i]
        if is_last_of_equals and bunches.incidents > allowed:
            return ordered[i]
    return ordered[-1]


def scaled_rule(factor: float) -> AlarmRule:
    """A stream's threshold is a factor times the mean of its normal scores.

    A mean needs few scores where a high quantile needs many: the factor may come from the rows of all streams, each
    divided by its own mean, and still suits quiet and noisy streams.

    Args:
      factor: of all streams.
    """

    def init(calibration_scores: np.ndarray) -> np.ndarray:
        return np.asarray(factor * np.mean(calibration_scores, dtype=np.float64), np.float32)

    def step(state: Float[Array, ""], score: Float[Array, ""]) -> tuple[Array, Array, Bool[Array, ""]]:
        return state, state, score > state

    return AlarmRule(init, step, SCALE_SCORES, scope="client")


class _Bunches:
    """Points on a line, those at most a gap apart in one bunch; counts the bunches that are large enough."""

    def __init__(self, gap: float, least: int) -> None:
        self._gap, self._least = gap, least
        self._first: list[float] = []
        self._last: list[float] = []
        self._size: list[int] = []
        self.incidents = 0

    def add(self, point: float) -> None:
        """Puts a point into the bunch before it, the one after it, both as one, or a new one."""
        i = bisect_right(self._first, point)
        low = i - 1 if i > 0 and point - self._last[i - 1] <= self._gap else i
        high = i + 1 if i < len(self._first) and self._first[i] - point <= self._gap else i
        joined = self._size[low:high]
        first = min([point, *self._first[low:high]])
        last = max([point, *self._last[low:high]])
        size = 1 + sum(joined)
        self._first[low:high], self._last[low:high], self._size[low:high] = [first], [last], [size]
        self.incidents += (size >= self._least) - sum(other >= self._least for other in joined)
