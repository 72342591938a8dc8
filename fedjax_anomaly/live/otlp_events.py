"""From numbers that come one request after the other to whole events, in a buffer of bounded size."""

import json
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

from fedjax_anomaly.live.interfaces import Record
from fedjax_anomaly.live.otlp_points import Point, TooLarge, same

_REMEMBERED_STREAMS = 1 << 16


class Full(RuntimeError):
    """There is no room for a request now; the sender has to try again later."""


class EventBuffer:
    """Joins the points of one stream and one time into an event, and keeps events until they are read.

    An event is complete when every column is there. One that stays incomplete is handed over as it is, for the detector
    to reject by the name of what is missing: `gather_seconds` after its first point, or when a later event of its
    stream is complete, or at the end. A stream's events come out in the order of their times. Points of other metrics
    are left out, and so are repetitions of a point that is there with the same value. A point of a time that has been
    handed over is refused.

    Any thread may call any method.

    Guarantees:
      Every accepted point of a column comes out once, however requests divide and interleave events (test:
      `tests/live/test_otlp_events.py::test_events_do_not_depend_on_how_requests_divide_them`), and no more than
      `most_events` are held (test: `...::test_a_request_is_taken_in_whole_or_not_at_all`).
    """

    def __init__(self, columns: Sequence[str], *, most_events: int, gather_seconds: float) -> None:
        """An empty buffer.

        Args:
          columns: those that an event must have.
          most_events: complete and incomplete ones together.
          gather_seconds: for which an event waits for its columns.
        """
        self._columns, self._most_events, self._gather_seconds = frozenset(columns), most_events, gather_seconds
        self._open: dict[str, dict[int, dict[str, Any]]] = {}  # Stream, time, column.
        self._waiting: deque[tuple[float, str, int]] = deque()  # In the order of their deadlines.
        self._ready: deque[Record] = deque()
        self._handed_over: OrderedDict[str, int] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._position = 0

    def take(self, points: Sequence[Point]) -> dict[int, str]:
        """Takes in the points of a request; where there is no room for all of its events, none of them.

        Returns:
          The data points that were refused, by their number in the request, and why.

        Raises:
          Full: when there is no room for its events now, or the buffer is closed.
          TooLarge: when there never will be.
        """
        wanted = [point for point in points if point.column in self._columns]
        with self._changed:
            self._make_sure_of_room(wanted)
            refused = {point.source: problem for point in wanted if (problem := self._add(point))}
            refused.pop(-1, None)
            for stream in dict.fromkeys(point.stream for point in wanted):
                self._hand_over_complete(stream)
            self._changed.notify_all()
        return refused

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """See `interfaces.Source`."""
        end = time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                first = self._hand_over_expired()
                if self._ready:
                    return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
                if self._closed:
                    return None
                left = min(end, first) - time.monotonic()
                if left <= 0.0 and end <= first:
                    return []
                self._changed.wait(max(left, 0.0))

    def close(self) -> None:
        """Takes in nothing more; what is there can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _make_sure_of_room(self, points: Sequence[Point]) -> None:
        if self._closed:
            raise Full("the detector is ending")
        new = {(p.stream, p.time_ns) for p in points if p.time_ns > self._handed_over.get(p.stream, -1)}
        new = {(stream, time_ns) for stream, time_ns in new if time_ns not in self._open.get(stream, ())}
        if len(new) > self._most_events:
            raise TooLarge(f"the request holds {len(new)} events, more than there is room for: {self._most_events}")
        waiting = len(self._ready) + sum(len(events) for events in self._open.values())
        if len(new) + waiting > self._most_events:
            raise Full(f"{waiting} events wait to be scored")

    def _add(self, point: Point) -> str:
        """Why a point is refused, or nothing."""
        if point.time_ns <= self._handed_over.get(point.stream, -1):
            return "a data point is late: its stream's event of that time or a later one has been scored"
        events = self._open.setdefault(point.stream, {})
        if point.time_ns not in events:
            events[point.time_ns] = {}
            self._waiting.append((time.monotonic() + self._gather_seconds, point.stream, point.time_ns))
        fields = events[point.time_ns]
        if point.column in fields and not same(fields[point.column], point.value):
            return f"{point.column} has several values at one time; tell its points apart by attributes"
        fields[point.column] = point.value
        return ""

    def _hand_over_complete(self, stream: str) -> None:
        complete = [t for t, fields in self._open.get(stream, {}).items() if len(fields) == len(self._columns)]
        if complete:
            self._hand_over(stream, max(complete))

    def _hand_over_expired(self) -> float:
        """Hands over what has waited long enough, or all at the end; returns when the next event will have."""
        now = time.monotonic()
        while self._waiting:
            deadline, stream, time_ns = self._waiting[0]
            if time_ns in self._open.get(stream, ()):
                if deadline > now and not self._closed:
                    return deadline
                self._hand_over(stream, time_ns)
            self._waiting.popleft()
        return float("inf")

    def _hand_over(self, stream: str, until_ns: int) -> None:
        """Moves a stream's events up to a time to those that can be read."""
        events = self._open[stream]
        for time_ns in sorted(t for t in events if t <= until_ns):
            fields: dict[str, Any] = {"stream": stream, "time": time_ns / 1e9, **events.pop(time_ns)}
            self._position += 1
            self._ready.append(Record(self._position, json.dumps(fields), fields))
        if not events:
            del self._open[stream]
        self._handed_over[stream] = until_ns
        self._handed_over.move_to_end(stream)
        if len(self._handed_over) > _REMEMBERED_STREAMS:
            self._handed_over.popitem(last=False)
