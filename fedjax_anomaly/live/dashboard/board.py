"""What the dashboard shows, in bounded memory: the last points of every stream, its alarms, and incidents."""

import heapq
import math
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from fedjax_anomaly.live.drift import Drift
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import ScoredEvent

Order = Literal["severity", "name", "ratio", "alarms"]

MOST_CHARTS = 24
"""Streams whose points one answer has, at most."""

_MOST_POINTS, _LEAST_POINTS, _POINTS_IN_ALL = 720, 60, 4_000_000
_ENDED_INCIDENTS = 500
_MOST_LISTED = 100
_MOST_INCIDENTS_OF_A_STREAM = 20
_MOST_SHARES = 5
_MOST_LETTERS = 120
_RATE_SECONDS = 5
_RANKS = {"critical": 0, "warning": 1}


def points_for(max_streams: int) -> int:
    """The last points that are kept of each stream, so that those of all streams take 70 MB where they are many."""
    return max(_LEAST_POINTS, min(_MOST_POINTS, _POINTS_IN_ALL // max(1, max_streams)))


class _Track:
    """One stream: a ring of its last points, and what is known of it as a whole."""

    __slots__ = (
        *("number", "name", "folded", "times", "scores", "thresholds", "marks"),
        *("events", "alarms", "drifts", "open", "last_end"),
    )

    def __init__(self, number: int, name: str, points: int) -> None:
        self.number, self.name, self.folded = number, name, name.casefold()
        self.times = array("d", bytes(8 * points))
        self.scores, self.thresholds = array("f", bytes(4 * points)), array("f", bytes(4 * points))
        self.marks = bytearray(points)
        self.events = self.alarms = self.drifts = 0
        self.open: Incident | None = None
        self.last_end = -math.inf

    def add(self, event: ScoredEvent) -> None:
        """Takes the next event."""
        place = self.events % len(self.marks)
        self.times[place], self.scores[place], self.thresholds[place] = event.time, event.score, event.threshold
        self.marks[place] = event.alarm
        self.events += 1
        if event.alarm:
            self.alarms += 1
            if self.open is not None:
                self.open = _extended(self.open, event.time, event.score, event.threshold)

    def begin(self, incident: Incident) -> None:
        """Takes news of an open incident, which the batch that it came from may have extended by then."""
        self.open = incident
        for place in self.places(0):
            if self.marks[place] and self.times[place] > incident.end:
                self.open = _extended(self.open, self.times[place], self.scores[place], self.thresholds[place])

    def ratio(self) -> float:
        """Of the last score to its threshold."""
        last = (self.events - 1) % len(self.marks)
        return self.scores[last] / self.thresholds[last] if self.events and self.thresholds[last] > 0.0 else 0.0

    def places(self, since: int) -> Iterator[int]:
        """Where the kept points lie that came after the first `since` ones, in their order."""
        size = len(self.marks)
        return (i % size for i in range(max(since, self.events - size, 0), self.events))


_ORDERS: dict[str, Callable[[_Track], Any]] = {
    # Without an incident the last one decides, so that nothing moves as long as nothing happens.
    "severity": lambda track: (
        (_RANKS[track.open.severity], -track.open.start, track.folded)
        if track.open is not None
        else (len(_RANKS), -track.last_end, track.folded)
    ),
    "name": lambda track: track.folded,
    "ratio": lambda track: (-track.ratio(), track.folded),
    "alarms": lambda track: (-track.alarms, track.folded),
}


class Board:
    """Takes in what the detector says, in one thread, and tells what to show, in others."""

    def __init__(self, points: int = _MOST_POINTS) -> None:
        """Begins without streams.

        Args:
          points: the last ones that are kept of each stream.

        Raises:
          ValueError: when there are to be none.

        Guarantees:
          What is told are the last points as they came, once each, and memory and answers stay bounded over streams,
          events and incidents (tests: `tests/live/test_dashboard.py`).
        """
        if points < 1:
            raise ValueError(f"points={points} must be at least 1.")
        self._points = points
        self._tracks: dict[str, _Track] = {}
        self._numbered: list[_Track] = []
        self._open: dict[str, _Track] = {}
        self._ended: deque[Incident] = deque(maxlen=_ENDED_INCIDENTS)
        self._incidents_in_all = self._drifts = 0
        self._last: float | None = None  # When events came.
        self._seconds: deque[list[int]] = deque(maxlen=_RATE_SECONDS + 1)
        self._lock = threading.Lock()

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        """Takes some events."""
        with self._lock:
            for event in events:
                track = self._tracks.get(event.stream) or self._track(event.stream)
                track.add(event)
            self._last = time.monotonic()
            second = int(self._last)
            if not self._seconds or self._seconds[-1][0] != second:
                self._seconds.append([second, 0])
            self._seconds[-1][1] += len(events)

    def incident(self, incident: Incident) -> None:
        """Takes an incident that has begun, become critical or ended."""
        with self._lock:
            track = self._track(incident.stream)
            if not incident.ended:
                self._incidents_in_all += track.open is None or track.open.start != incident.start
                self._open[track.name] = track
                track.begin(incident)
                return
            self._open.pop(track.name, None)
            track.open, track.last_end = None, incident.end
            self._ended.append(incident)

    def drift(self, drift: Drift) -> None:
        """Takes a change of a stream's normal scores."""
        with self._lock:
            self._track(drift.stream).drifts += 1
            self._drifts += 1

    def view(self, *, search: str = "", order: Order = "severity", shown: Sequence[tuple[int, int]] = ()) -> Any:
        """What to show, as JSON.

        Args:
          search: part of the names of the streams to list, in any case.
          order: of that list, which is cut after a hundred.
          shown: the numbers of streams whose points are asked for, each with the number of points known already; of
            more than `MOST_CHARTS` the first are taken.
        """
        with self._lock:
            folded = search.casefold()
            found = [track for track in self._numbered if folded in track.folded]
            listed = heapq.nsmallest(_MOST_LISTED, found, _ORDERS[order])
            severest = heapq.nsmallest(MOST_CHARTS, self._numbered, _ORDERS["severity"])
            worst = heapq.nsmallest(_MOST_LISTED, self._open.values(), _ORDERS["severity"])
            incidents = [track.open for track in worst if track.open is not None]
            incidents += list(reversed(self._ended))[: _MOST_LISTED - len(incidents)]
            return {
                "totals": {
                    "streams": len(self._numbered),
                    "open": len(self._open),
                    "incidents": self._incidents_in_all,
                    "drifts": self._drifts,
                    "rate": self._rate(),
                    "silent_seconds": None if self._last is None else _short(time.monotonic() - self._last),
                },
                "matching": len(found),
                "streams": [_summary(track) for track in listed],
                "severest": [track.number for track in severest],
                "incidents": [self._told(incident, 3) for incident in incidents],
                "charts": [
                    self._chart(self._numbered[number], known)
                    for number, known in shown[:MOST_CHARTS]
                    if number < len(self._numbered)
                ],
            }

    def _track(self, name: str) -> _Track:
        track = self._tracks.get(name)
        if track is None:
            track = self._tracks[name] = _Track(len(self._numbered), name, self._points)
            self._numbered.append(track)
        return track

    def _rate(self) -> float:
        """Events per second over the last whole seconds."""
        now = int(time.monotonic())
        return sum(n for second, n in self._seconds if now - _RATE_SECONDS <= second < now) / _RATE_SECONDS

    def _chart(self, track: _Track, known: int) -> dict[str, Any]:
        """The points that are not known yet; `first` is the number of the first one."""
        places = list(track.places(known))
        own = [incident for incident in self._ended if incident.stream == track.name]
        own += [track.open] if track.open is not None else []
        return {
            **_summary(track),
            "first": track.events - len(places),
            "times": [track.times[i] for i in places],
            "scores": [_short(track.scores[i]) for i in places],
            "thresholds": [_short(track.thresholds[i]) for i in places],
            "marks": [track.marks[i] for i in places],
            "incidents": [self._told(incident, _MOST_SHARES) for incident in own[-_MOST_INCIDENTS_OF_A_STREAM:]],
        }

    def _told(self, incident: Incident, most_shares: int) -> dict[str, Any]:
        shares = list(incident.shares.items())[:most_shares]
        return {
            "stream": _name(incident.stream),
            "number": self._tracks[incident.stream].number,
            "start": incident.start,
            "end": incident.end,
            "peak": _short(incident.peak_score),
            "threshold": _short(incident.peak_threshold),
            "severity": incident.severity,
            "alarms": incident.num_alarms,
            "shares": [[_name(column), _short(share)] for column, share in shares],
            "ended": incident.ended,
        }


def _summary(track: _Track) -> dict[str, Any]:
    last = (track.events - 1) % len(track.marks)
    return {
        "number": track.number,
        "name": _name(track.name),
        "time": track.times[last] if track.events else None,
        "score": _short(track.scores[last]) if track.events else None,
        "threshold": _short(track.thresholds[last]) if track.events else None,
        "events": track.events,
        "alarms": track.alarms,
        "drifts": track.drifts,
        "severity": track.open.severity if track.open is not None else None,
    }


def _extended(incident: Incident, moment: float, score: float, threshold: float) -> Incident:
    """With one more alarm."""
    longer = incident._replace(end=moment, num_alarms=incident.num_alarms + 1)
    if score * incident.peak_threshold > incident.peak_score * threshold:
        longer = longer._replace(peak_time=moment, peak_score=score, peak_threshold=threshold)
    return longer


def _short(value: float) -> float | None:
    """Five digits; JSON has no infinity, which a threshold may be."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _name(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"
