"""From records to events: every record either becomes an event of a known stream, in order, or is rejected by name.

| what comes | what becomes of it |
|---|---|
| text that cannot be parsed | rejected, `unreadable` |
| no stream, or one of no known client | rejected, `unknown_stream` |
| a stream more than there is room for | rejected, `too_many_streams` |
| a column is missing or null | rejected, `missing_field` |
| further fields | not used; the event counts under `extra_fields` |
| text or a structure where a number belongs | rejected, `not_a_number` |
| NaN, infinity, or a number that float32 cannot hold | rejected, `not_finite` |
| a category that training did not know | scored, in the bucket for rare and unknown ones |
| no time, where the model knows its step in time, or one that is none | rejected, `bad_time` |
| a time further ahead of the clock than is allowed | rejected, `future` |
| a time that one of the stream's last T events had | rejected, `duplicate` |
| a time before the stream's last one: late, out of order | rejected, `late` |
| more than 1.5 steps since the stream's last time: a gap | scored; the window and the smoothing begin anew |

Where training had no times (`capture` order, or none) an event needs no time: its place is that of its arrival.
"""

import datetime
import time as clock
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.encoding import RowEncoding, ValueProblem, as_number
from fedjax_anomaly.live.interfaces import Record
from fedjax_anomaly.live.recent_times import RecentTimes

Reason = Literal[
    ValueProblem, "unreadable", "unknown_stream", "too_many_streams", "bad_time", "future", "duplicate", "late"
]

GAP_STEPS = 1.5
"""Steps in time after which rows do not belong to one window, as in training (`data.clients`)."""


class Rejected(NamedTuple):
    """A record that is not scored, and why."""

    record: Record
    reason: Reason
    detail: str


class Events(NamedTuple):
    """Accepted events in the order of their records.

    Attributes:
      slot: Int[B], the number of each event's stream.
      client: Int[B], whose model and encoding it has.
      row: Float[B, F], encoded.
      restart: Bool[B], see `detection.streaming.Event`.
      time: Float[B], in seconds.
      position: of each event's record.
    """

    slot: Int[np.ndarray, " B"]
    client: Int[np.ndarray, " B"]
    row: Float[np.ndarray, "B F"]
    restart: Bool[np.ndarray, " B"]
    time: Float[np.ndarray, " B"]
    position: list[int]


class Intake:
    """Checks and encodes records; remembers of each stream what that needs."""

    def __init__(self, bundle: Bundle, *, max_streams: int, max_future_seconds: float = 0.0) -> None:
        """A stream is named after its client, or `CLIENT/ANYTHING` where a client has several.

        Args:
          bundle: the trained detector.
          max_streams: for how many there is room, at least the number of clients.
          max_future_seconds: how far ahead of this machine's clock an event may be; 0 does not look.

        Raises:
          ValueError: when there is not room for a stream of each client.
        """
        if max_streams < bundle.num_clients:
            raise ValueError(
                f"max_streams={max_streams} is less than the {bundle.num_clients} clients; give room for one stream of "
                "each."
            )
        self._client_of = {str(c): c for c in range(bundle.num_clients)} | {
            name: c for c, name in enumerate(bundle.client_names)
        }
        self._encoding = RowEncoding(bundle)
        self._fields = self._encoding.fields
        self._expected = {*self._fields, "stream", "time"}
        self._get = itemgetter(*self._fields) if len(self._fields) > 1 else lambda fields: (fields[self._fields[0]],)
        self._most_seconds = GAP_STEPS * bundle.step_seconds
        self._needs_time = ~np.isnan(bundle.step_seconds)
        self._max_streams, self._max_future_seconds = max_streams, max_future_seconds
        self._slot_of: dict[str, int] = {}
        self.names: list[str] = []
        self.clients: list[int] = []
        self._times = RecentTimes(bundle.window_length)
        self.extra_fields = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that an event must have."""
        return self._fields

    def take(self, records: Sequence[Record]) -> tuple[Events, list[Rejected]]:
        """Checks and encodes records, in their order; together they come out as many as went in."""
        kept: list[tuple[Record, str, int, tuple]] = []
        rejected: list[Rejected] = []
        for record in records:
            if record.fields is None:
                rejected.append(Rejected(record, "unreadable", record.error or ""))
                continue
            stream = record.fields.get("stream")
            name = str(stream)
            slot = self._slot_of.get(name)
            client = self._client(name) if slot is None else self.clients[slot]
            if client is None:
                rejected.append(Rejected(record, "unknown_stream", f"{stream!r} is no client's name or number"))
                continue
            try:
                values = self._get(record.fields)
            except KeyError as missing:
                rejected.append(Rejected(record, "missing_field", str(missing.args[0])))
                continue
            kept.append((record, name, client, values))
        numeric, problems = self._encoding.numbers([values for *_, values in kept])
        if problems:
            rejected += [Rejected(kept[i][0], reason, detail) for i, (reason, detail) in problems.items()]
            good = [i for i in range(len(kept)) if i not in problems]
            kept, numeric = [kept[i] for i in good], numeric[good]
        return self._in_order(kept, numeric, rejected)

    def _client(self, name: str) -> int | None:
        client = self._client_of.get(name)
        return self._client_of.get(name.rpartition("/")[0]) if client is None else client

    def _in_order(
        self, kept: list[tuple[Record, str, int, tuple]], numeric: np.ndarray, rejected: list[Rejected]
    ) -> tuple[Events, list[Rejected]]:
        """Looks at times, one record after the other, and encodes those that are accepted."""
        now = clock.time()
        last, num_expected = self._times.last, len(self._expected)
        accepted: list[tuple] = []
        for index, (record, stream, client, values) in enumerate(kept):
            fields: dict[str, Any] = record.fields  # type: ignore[assignment]
            time = fields.get("time")
            if type(time) is not float or not abs(time) < np.inf:
                time = _seconds(time, now, required=self._needs_time[client])
            slot = self._slot_of.get(stream)
            if slot is None or time is None or not time > last[slot] or self._max_future_seconds:
                problem = self._problem(time, slot, client, now, record)
                if problem is not None:
                    rejected.append(problem)
                    continue
                assert time is not None
            if slot is None:
                slot = self._open(stream, client)
            since = time - last[slot]
            restart = bool(since == np.inf or since > self._most_seconds[client])
            self._times.push(slot, time)
            if len(fields) != num_expected and set(fields) - self._expected:
                self.extra_fields += 1
            accepted.append((index, slot, client, time, restart, record.position, values))
        columns = map(list, zip(*accepted, strict=True)) if accepted else ([] for _ in range(7))
        chosen, slots, clients, times, restarts, positions, rows = columns
        slot_array, client_array = np.array(slots, np.int32), np.array(clients, np.int32)
        numeric = numeric if len(chosen) == len(kept) else numeric[chosen]
        encoded = self._encoding.encode(numeric, rows, slot_array, client_array)
        events = Events(slot_array, client_array, encoded, np.array(restarts, bool), np.array(times, float), positions)
        return events, rejected

    def _problem(
        self, time: float | None, slot: int | None, client: int, now: float, record: Record
    ) -> Rejected | None:
        """Why an event's time keeps it from being scored, or None."""
        if time is None:
            given = record.fields.get("time")  # type: ignore[union-attr]
            return Rejected(record, "bad_time", f"{given!r} is neither seconds nor an ISO 8601 time")
        if self._max_future_seconds and time > now + self._max_future_seconds:
            return Rejected(record, "future", f"{time - now:.0f} seconds ahead of the clock")
        if slot is None:
            full = len(self.names) >= self._max_streams
            return Rejected(record, "too_many_streams", f"there is room for {self._max_streams}") if full else None
        last = self._times.last[slot]
        if time > last or not self._needs_time[client]:
            return None
        if self._times.holds(slot, time):
            return Rejected(record, "duplicate", "the stream has had an event of this time")
        return Rejected(record, "late", f"{last - time:g} seconds before the stream's last event")

    def _open(self, stream: str, client: int) -> int:
        slot = len(self.names)
        self._slot_of[stream] = slot
        self.names.append(stream)
        self.clients.append(client)
        self._times.open()
        self._encoding.open(slot)
        return slot

    def snapshot(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What is remembered, the smaller part as JSON, the other one copied."""
        times, num_times = self._times.snapshot()
        words = {"names": self.names, "clients": self.clients, "extra_fields": self.extra_fields}
        return words, {"times": times, "num_times": num_times, "before": self._encoding.before.copy()}

    def restore(self, words: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Remembers what a snapshot holds, in place of everything else."""
        self.names, self.clients, self.extra_fields = words["names"], words["clients"], words["extra_fields"]
        self._slot_of = {name: slot for slot, name in enumerate(self.names)}
        self._times.restore(arrays["times"], arrays["num_times"])
        self._encoding.before = arrays["before"].copy()


def _seconds(value: Any, now: float, *, required: bool) -> float | None:
    """A time in seconds: as given, from ISO 8601, or that of arrival where none is given and none is required."""
    if value is None or value == "":
        return None if required else now
    number = as_number(value)
    if isinstance(value, str) and number is None:
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    return number if number is not None and not isinstance(value, bool) and abs(number) < np.inf else None
