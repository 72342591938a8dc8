"""From numbers that come one request after the other to whole events, in a buffer of bounded size."""

import dataclasses
import json
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any

from fedjax_anomaly.live.interfaces import Record
from fedjax_anomaly.live.otlp.points import Point, TooLarge, same

_REMEMBERED_STREAMS = 1 << 16


class Full(RuntimeError):
    """There is no room for a request now; the sender has to try again later."""


class EventBuffer:
    """Joins the points of one stream and one time into an event, and keeps events until they are read.

    Times are one when they differ by no more than `join_seconds`, as some SDKs look at the clock for each metric; the
    event has that of its first point. Another value of a column, with a time of its own, begins another event.

    An event is complete when every column is there. One that stays incomplete is handed over as it is, for the detector
    to reject by the name of what is missing: `gather_seconds` after its first point, or when a later event of its
    stream is complete, or at the end. A stream's events come out in the order of their times. Points of other metrics
    are left out, and so are repetitions of a point that is there with the same value. A point of a time that has been
    handed over is refused.

    Any thread may call any method.

    Guarantees:
      Every accepted point of a column comes out once, however requests divide and interleave events (test:
      `tests/live/otlp/test_events.py::test_events_do_not_depend_on_how_requests_divide_them`), and no more than
      `most_events` are held (test: `...::test_a_request_is_taken_in_whole_or_not_at_all`).
    """

    def __init__(
        self, columns: Sequence[str], *, most_events: int, gather_seconds: float, join_seconds: float = 0.0
    ) -> None:
        """An empty buffer.

        Args:
          columns: those that an event must have.
          most_events: complete and incomplete ones together.
          gather_seconds: for which an event waits for its columns.
          join_seconds: between points that are of one time.
        """
        self._columns, self._most_events, self._gather_seconds = frozenset(columns), most_events, gather_seconds
        self._join_ns = round(1e9 * join_seconds)
        self._open: dict[str, dict[int, _Gathering]] = {}  # By stream and time.
        self._waiting: deque[tuple[float, str, int]] = deque()  # In the order of their deadlines.
        self._ready: deque[Record] = deque()
        self._handed_over: OrderedDict[str, int] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._num_open = self._position = 0

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
            if self._closed:
                raise Full("the detector is ending")
            streams = dict.fromkeys(point.stream for point in wanted)
            gathered = {
                stream: {t: event.copy() for t, event in self._open.get(stream, {}).items()} for stream in streams
            }
            refused = {point.source: problem for point in wanted if (problem := self._add(gathered, point))}
            self._keep(gathered)
            for stream in streams:
                self._hand_over_complete(stream)
            self._changed.notify_all()
        refused.pop(-1, None)
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

    def _add(self, gathered: dict[str, dict[int, "_Gathering"]], point: Point) -> str:
        """Why a point is refused, or nothing."""
        if point.time_ns <= self._handed_over.get(point.stream, -1):
            return "a data point is late: its stream's event of that time or a later one has been scored"
        events = gathered[point.stream]
        event = events.get(point.time_ns)
        if event is None:
            near = [t for t in events if abs(t - point.time_ns) <= self._join_ns and events[t].has_room_for(point)]
            nearest = min(near, key=lambda t: abs(t - point.time_ns), default=point.time_ns)
            event = events.setdefault(nearest, _Gathering(point.time_ns, {}))
        if not event.has_room_for(point):
            return f"{point.column} has several values at one time; tell its points apart by attributes"
        event.latest_ns = max(event.latest_ns, point.time_ns)
        event.fields[point.column] = point.value
        return ""

    def _keep(self, gathered: dict[str, dict[int, "_Gathering"]]) -> None:
        """Takes over the events as they are with a request, where there is room for them."""
        waiting = len(self._ready) + self._num_open
        new = [
            (stream, t) for stream, events in gathered.items() for t in events if t not in self._open.get(stream, ())
        ]
        if len(new) > self._most_events:
            raise TooLarge(f"the request holds {len(new)} events, more than there is room for: {self._most_events}")
        if len(new) + waiting > self._most_events:
            raise Full(f"{waiting} events wait to be scored")
        self._open |= {stream: events for stream, events in gathered.items() if events}
        deadline = time.monotonic() + self._gather_seconds
        self._waiting.extend((deadline, stream, t) for stream, t in new)
        self._num_open += len(new)

    def _hand_over_complete(self, stream: str) -> None:
        complete = [t for t, event in self._open.get(stream, {}).items() if len(event.fields) == len(self._columns)]
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
        latest_ns = self._handed_over.pop(stream, -1)
        for time_ns in sorted(t for t in events if t <= until_ns):
            event = events.pop(time_ns)
            self._num_open -= 1
            latest_ns = max(latest_ns, event.latest_ns)
            fields: dict[str, Any] = {"stream": stream, "time": time_ns / 1e9, **event.fields}
            self._position += 1
            self._ready.append(Record(self._position, json.dumps(fields), fields))
        if not events:
            del self._open[stream]
        self._handed_over[stream] = latest_ns
        if len(self._handed_over) > _REMEMBERED_STREAMS:
            self._handed_over.popitem(last=False)


@dataclasses.dataclass
class _Gathering:
    """An event that is not complete.

    Attributes:
      latest_ns: the time of its latest point.
      fields: the columns that are there.
    """

    latest_ns: int
    fields: dict[str, Any]

    def has_room_for(self, point: Point) -> bool:
        """Whether its column is not there, or with the same value."""
        return point.column not in self.fields or same(self.fields[point.column], point.value)

    def copy(self) -> "_Gathering":
        """One that can be added to for a request that may yet be refused."""
        return _Gathering(self.latest_ns, dict(self.fields))
