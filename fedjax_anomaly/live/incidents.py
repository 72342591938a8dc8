"""Incidents: neighbouring alarms of a stream as one, with what an operator asks of it first."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from fedjax_anomaly.live.interfaces import ScoredEvent

Severity = Literal["warning", "critical"]


class Incident(NamedTuple):
    """Neighbouring alarms of a stream.

    Attributes:
      stream: its name.
      client: whose model judged it.
      start: of the first alarm, in seconds.
      end: of the last alarm so far, in seconds.
      peak_time: of the alarm that exceeded its threshold by the greatest factor, in seconds.
      peak_score: its score.
      peak_threshold: its threshold.
      severity: `critical` where the peak is at least the critical factor times its threshold.
      num_alarms: how many.
      shares: each column's share of the score, over all alarms; they sum to 1, the greatest first.
      ended: whether it is over: the stream went on for longer than the gap without an alarm.
    """

    stream: str
    client: int
    start: float
    end: float
    peak_time: float
    peak_score: float
    peak_threshold: float
    severity: Severity
    num_alarms: int
    shares: dict[str, float]
    ended: bool


@dataclasses.dataclass
class _Open:
    """What is known of an incident that may go on; all of it is JSON."""

    client: int
    start: float
    end: float
    peak_time: float
    peak_score: float
    peak_threshold: float
    num_alarms: int
    column_sums: list[float]


class Incidents:
    """Joins the alarms of each stream.

    An alarm that comes at most `gap_seconds` after the last one of its stream belongs to the same incident. An incident
    ends with the first event of its stream that is later than that; a stream that falls silent leaves its incident
    open, as nothing is known of it.
    """

    def __init__(
        self,
        column_names: Sequence[str],
        *,
        gap_seconds: float,
        least_alarms: int = 1,
        critical_factor: float = 2.0,
        contributions: Callable[[Float[np.ndarray, " D"]], Float[np.ndarray, " D"]] = lambda errors: errors,
    ) -> None:
        """Begins without incidents.

        Args:
          column_names: of the D columns.
          gap_seconds: between alarms of one incident, at most.
          least_alarms: fewer make no incident.
          critical_factor: of the score over the threshold at the peak, from which on an incident is critical.
          contributions: from the errors of a row's columns to what each adds to the score, at least 0.

        Raises:
          ValueError: when an argument is out of its bounds.

        Guarantees:
          Incidents are those of a plain loop over each stream's alarms, and a process that stored its state and was
          started again tells the same (tests: `tests/live/test_incidents.py`).
        """
        for name, value, least in (("gap_seconds", gap_seconds, 0.0), ("least_alarms", least_alarms, 1)):
            if not value >= least:
                raise ValueError(f"{name}={value} must be at least {least}.")
        if not critical_factor >= 1.0:
            raise ValueError(f"critical_factor={critical_factor} must be at least 1, where a score is its threshold.")
        self._names, self._gap, self._least = tuple(column_names), gap_seconds, least_alarms
        self._critical, self._contributions = critical_factor, contributions
        self._open: dict[str, _Open] = {}

    def update(self, events: Sequence[ScoredEvent]) -> list[Incident]:
        """Takes some events, each stream's in order of time.

        Returns:
          The incidents that have begun, become critical or ended, in this order of events.
        """
        told: list[Incident] = []
        for event in events:
            known = self._open.get(event.stream)
            if known is not None and event.time - known.end > self._gap:
                del self._open[event.stream]
                if known.num_alarms >= self._least:
                    told.append(self._told(event.stream, known, ended=True))
                known = None
            if event.alarm:
                told += self._extend(event, known)
        return told

    def open(self) -> list[Incident]:
        """Those that have begun and not ended."""
        return [
            self._told(stream, known, ended=False)
            for stream, known in self._open.items()
            if known.num_alarms >= self._least
        ]

    def snapshot(self) -> dict[str, Any]:
        """The state, as JSON."""
        return {stream: vars(known) for stream, known in self._open.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot."""
        self._open = {stream: _Open(**known) for stream, known in state.items()}

    def _extend(self, event: ScoredEvent, known: _Open | None) -> list[Incident]:
        """Adds an alarm; returns the incident where that is news."""
        before = self._severity(known) if known is not None and known.num_alarms >= self._least else None
        added = np.asarray(self._contributions(event.column_errors), np.float64)
        if known is None:
            known = _Open(
                event.client, event.time, event.time, event.time, event.score, event.threshold, 0, [0.0] * len(added)
            )
            self._open[event.stream] = known
        known.end = event.time
        known.num_alarms += 1
        known.column_sums = (np.asarray(known.column_sums) + added).tolist()
        if _factor(event.score, event.threshold) > _factor(known.peak_score, known.peak_threshold):
            known.peak_time, known.peak_score, known.peak_threshold = event.time, event.score, event.threshold
        is_news = known.num_alarms >= self._least and self._severity(known) != before
        return [self._told(event.stream, known, ended=False)] if is_news else []

    def _severity(self, known: _Open) -> Severity:
        return "critical" if _factor(known.peak_score, known.peak_threshold) >= self._critical else "warning"

    def _told(self, stream: str, known: _Open, *, ended: bool) -> Incident:
        sums = np.asarray(known.column_sums)
        shares = sums / sums.sum() if sums.sum() > 0.0 else np.full(len(sums), 1.0 / len(sums))
        order = np.argsort(-shares, kind="stable")
        return Incident(
            stream,
            known.client,
            known.start,
            known.end,
            known.peak_time,
            known.peak_score,
            known.peak_threshold,
            self._severity(known),
            known.num_alarms,
            {self._names[j]: float(shares[j]) for j in order},
            ended,
        )


def _factor(score: float, threshold: float) -> float:
    return score / threshold if threshold > 0.0 else float("inf")
