"""Sums of OpenTelemetry that grow since a process began, as what has come since the point before."""

import math
from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence
from typing import Literal, NamedTuple

from fedjax_anomaly.live.otlp.points import Point

SumsAs = Literal["delta", "rate", "cumulative"]

_REMEMBERED_SERIES = 1 << 16


class _Last(NamedTuple):
    """The last point of a series, and what was made of it; None for the first one."""

    start_ns: int
    time_ns: int
    value: float
    change: float | None
    seconds: float


class Converted(NamedTuple):
    """What `Sums.convert` makes of a request.

    Attributes:
      points: with other values; first points of cumulative series are missing.
      refused: the numbers of data points, and why.
      last: of each series, for `Sums.keep`.
    """

    points: list[Point]
    refused: dict[int, str]
    last: dict[Hashable, _Last]


class Sums:
    """Makes changes, or rates, of the cumulative sums of many series.

    A change is the difference to the series' point before. When the start time is another one, or the value has fallen,
    the process that counts has begun anew, at zero, and the change is the value. The first point of a series has none.
    A repetition of the last point gives what that one gave; an older one is refused. Sums of delta temporality are
    changes already. A rate is a change divided by the seconds that it is of.

    Guarantees:
      Changes and rates are those of a derivation by hand (test: `tests/live/otlp/test_sums.py`), and changes those of
      the SDK's own delta temporality (test:
      `tests/live/otlp/test_receiver.py::test_changes_are_those_of_the_sdks_own_deltas`).

    References:
      OpenTelemetry Metrics Data Model, sections "Sums" and "Resets and Gaps".
    """

    def __init__(self, sums_as: SumsAs, columns: Collection[str]) -> None:
        """Begins without series.

        Args:
          sums_as: what becomes of sums; cumulative leaves all as sent.
          columns: other points are left out.
        """
        self._sums_as, self._columns = sums_as, frozenset(columns)
        self._last: OrderedDict[Hashable, _Last] = OrderedDict()

    def convert(self, points: Sequence[Point]) -> Converted:
        """Changes the values of a request's points; what it remembers of them has to be given to `keep`."""
        converted = Converted([], {}, {})
        for point in sorted((p for p in points if p.column in self._columns), key=lambda p: p.time_ns):
            if point.counter is None or self._sums_as == "cumulative":
                converted.points.append(point)
            elif not math.isfinite(point.value):
                converted.points.append(point)  # For the detector to reject; the series goes on from before.
            else:
                problem = self._add(converted, point)
                if problem:
                    converted.refused[point.source] = problem
        return converted

    def keep(self, last: dict[Hashable, _Last]) -> None:
        """Remembers the points of a request that was taken in."""
        for series, point in last.items():
            self._last[series] = point
            self._last.move_to_end(series)
        while len(self._last) > _REMEMBERED_SERIES:
            self._last.popitem(last=False)

    def _add(self, converted: Converted, point: Point) -> str:
        """Adds what a point of a sum becomes; returns why it is refused, or nothing."""
        assert point.counter is not None
        series, start_ns, cumulative = point.counter
        if not cumulative:
            change, seconds = point.value, (point.time_ns - start_ns) / 1e9 if start_ns else 0.0
        else:
            before = converted.last.get(series) or self._last.get(series)
            now = _after(before, start_ns, point.time_ns, point.value)
            if now is None:
                return f"a point of {point.column} is older than the one before, or is another one of its time"
            converted.last[series] = now
            if now.change is None:
                return ""
            change, seconds = now.change, now.seconds
        if self._sums_as == "rate":
            if not seconds > 0.0:
                return f"a point of {point.column} is of no time, so that it has no rate: its start time is missing"
            change /= seconds
        converted.points.append(point._replace(value=change))
        return ""


def _after(before: _Last | None, start_ns: int, time_ns: int, value: float) -> _Last | None:
    """The state after a point of a cumulative series; None where it does not come after the one before."""
    if before is None:
        return _Last(start_ns, time_ns, value, None, 0.0)
    if time_ns <= before.time_ns:
        return before if (time_ns, value) == (before.time_ns, before.value) else None
    restarted = start_ns != before.start_ns
    change = value if restarted or value < before.value else value - before.value
    since_ns = max(start_ns, before.time_ns) if restarted else before.time_ns
    return _Last(start_ns, time_ns, value, change, (time_ns - since_ns) / 1e9)
