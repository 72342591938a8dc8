"""Points of requests that divide events in any way come out as whole events."""

import threading
import time

import numpy as np
import pytest

from fedjax_anomaly.live.otlp.events import EventBuffer, Full
from fedjax_anomaly.live.otlp.points import Point, TooLarge

COLUMNS = ("cpu", "latency")


def points(stream: str, time_ns: int, *columns: str) -> list[Point]:
    return [Point(stream, time_ns, column, float(time_ns), i) for i, column in enumerate(columns or COLUMNS)]


def buffer(most_events: int = 100, gather_seconds: float = 60.0) -> EventBuffer:
    return EventBuffer(COLUMNS, most_events=most_events, gather_seconds=gather_seconds)


def read(events: EventBuffer, most: int = 100) -> list[tuple]:
    return [(r.fields["stream"], r.fields["time"], set(r.fields) - {"stream", "time"}) for r in events.read(most, 0.0)]


@pytest.mark.parametrize("seed", range(5))
def test_events_do_not_depend_on_how_requests_divide_them(seed):
    """Each stream's points come in the order of their times; everything else is mixed and cut at random."""
    rng = np.random.default_rng(seed)
    queues = [
        [p for t in (1, 2, 3) for p in rng.permutation(np.array(points(stream, t * 10**9, *COLUMNS, "other"), object))]
        for stream in "abc"
    ]
    mixed = []
    while any(queues):
        queue = queues[rng.choice([i for i, queue in enumerate(queues) if queue])]
        mixed.append(Point(*queue.pop(0)))
    events = buffer()
    for part in np.split(np.arange(len(mixed)), np.sort(rng.choice(len(mixed), 6))):
        assert not events.take([mixed[i] for i in part])
    found = events.read(100, 0.0)
    assert [r.position for r in found] == list(range(1, 10))
    for stream in "abc":
        own = [r.fields for r in found if r.fields["stream"] == stream]
        assert own == [{"stream": stream, "time": t, "cpu": t * 1e9, "latency": t * 1e9} for t in (1.0, 2.0, 3.0)]
    assert events.read(1, 0.0) == []


def test_times_that_are_near_are_one_event_that_is_then_closed_as_a_whole():
    events = EventBuffer(COLUMNS, most_events=100, gather_seconds=60.0, join_seconds=1e-6)
    first = [Point("a", 1000, "cpu", 5.0, 0), Point("a", 1900, "latency", 6.0, 1)]
    second = [Point("a", 4500, "latency", 8.0, 0), Point("a", 4000, "cpu", 7.0, 1)]
    assert not events.take([first[0], second[0]])
    assert not events.take([first[1], second[1]])
    found = [(r.fields["time"], r.fields["cpu"], r.fields["latency"]) for r in events.read(9, 0.0)]
    assert found == [(1e-6, 5.0, 6.0), (4.5e-6, 7.0, 8.0)]
    assert len(events.take(second)) == 2
    assert events.read(9, 0.0) == []


def test_a_value_that_comes_with_each_of_near_times_is_one():
    """An attribute of the resource comes with every time at which one of its metrics was measured."""
    events = EventBuffer((*COLUMNS, "region"), most_events=100, gather_seconds=60.0, join_seconds=1e-6)
    events.take([Point("a", t, column, 0.5, t) for column, t in (("cpu", 1000), ("latency", 1300))])
    events.take([Point("a", t, "region", "eu", -1) for t in (1000, 1300)])
    events.close()
    (record,) = events.read(9, 0.0)
    assert record.fields == {"stream": "a", "time": 1e-6, "cpu": 0.5, "latency": 0.5, "region": "eu"}


def test_a_second_value_with_a_time_of_its_own_begins_another_event():
    events = EventBuffer(COLUMNS, most_events=100, gather_seconds=60.0, join_seconds=1e-6)
    assert not events.take([Point("a", 1000, "cpu", 5.0, 0), Point("a", 1500, "cpu", 7.0, 1)])
    events.close()
    assert [r.fields["cpu"] for r in events.read(9, 0.0)] == [5.0, 7.0]


def test_an_incomplete_event_comes_before_a_later_complete_one_and_is_then_closed():
    events = buffer()
    events.take(points("a", 10**9, "cpu") + points("b", 10**9, "cpu"))
    assert read(events) == []
    events.take(points("a", 2 * 10**9))
    assert read(events) == [("a", 1.0, {"cpu"}), ("a", 2.0, {"cpu", "latency"})]
    assert "late" in events.take(points("a", 10**9, "latency"))[0]
    assert not events.take(points("b", 10**9, "latency"))
    assert read(events) == [("b", 1.0, {"cpu", "latency"})]


def test_an_incomplete_event_waits_no_longer_than_it_is_told():
    events = buffer(gather_seconds=0.1)
    begin = time.monotonic()
    events.take(points("a", 10**9, "cpu"))
    assert len(events.read(10, 30.0)) == 1
    assert 0.1 <= time.monotonic() - begin < 10.0


def test_two_values_of_a_column_are_refused_and_a_repetition_is_not():
    events = buffer()
    assert not events.take(points("a", 10**9, "cpu") + points("a", 10**9, "cpu"))
    other = Point("a", 10**9, "cpu", -1.0, 7)
    assert "several values" in events.take([other])[7]


def test_a_request_is_taken_in_whole_or_not_at_all():
    events = buffer(most_events=3)
    events.take(points("a", 1) + points("a", 2))
    with pytest.raises(Full, match="2 events wait"):
        events.take(points("b", 1) + points("b", 2))
    with pytest.raises(TooLarge, match="4 events"):
        events.take([p for t in range(1, 5) for p in points("b", t)])
    assert len(events.read(1, 0.0)) == 1
    assert not events.take(points("b", 1) + points("b", 2))
    assert [r.fields["stream"] for r in events.read(9, 0.0)] == ["a", "b", "b"]


def test_the_end_lets_everything_out_that_was_taken_in():
    events = buffer()
    events.take(points("a", 1, "cpu"))
    waiting = threading.Timer(0.05, events.close)
    waiting.start()
    assert len(events.read(10, 30.0)) == 1
    assert events.read(10, 30.0) is None
    with pytest.raises(Full, match="ending"):
        events.take(points("a", 2))
