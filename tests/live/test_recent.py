"""The ring of recent rows against a plain list."""

import itertools
import json

import numpy as np
import pytest

from fedjax_anomaly.live.interfaces import ScoredEvent
from fedjax_anomaly.live.recent import RecentRows

SIZES = {"num_features": 3, "num_rows": 10, "max_streams": 4}


def some_events(count, seed=0):
    """Two streams of client 1 and one of client 0, in turns that are not even."""
    rng = np.random.default_rng(seed)
    streams = rng.choice(["b/1", "a", "b/2"], size=count, p=[0.5, 0.3, 0.2])
    return [
        ScoredEvent(
            name, int(name[0] == "b"), float(t), t, 1.0, 1.0, bool(rng.random() < 0.2), np.ones(1), 0.0,
            rng.normal(size=3).astype(np.float32), bool(rng.random() < 0.1),
        )
        for t, name in enumerate(streams)
    ]  # fmt: skip


def check(recent, events):
    expected = []
    for stream in dict.fromkeys(event.stream for event in events):
        expected += [event for event in events if event.stream == stream][-10:]
    np.testing.assert_array_equal(recent.rows, [event.row for event in expected])
    assert recent.client.tolist() == [event.client for event in expected]
    assert recent.time.tolist() == [event.time for event in expected]
    assert recent.alarm.tolist() == [event.alarm for event in expected]
    begins = [a.stream != b.stream or b.restart for a, b in itertools.pairwise(expected)]
    assert (np.diff(recent.run) != 0).tolist() == begins


@pytest.mark.parametrize("count", [0, 5, 100])
def test_the_last_rows_come_back(tmp_path, count):
    rows, events = RecentRows(tmp_path / "rows.bin", **SIZES), some_events(count)
    rows.take(events)
    assert len(rows.recent().rows) == sum(min(10, rows.count(stream)) for stream in {e.stream for e in events})
    if count:
        check(rows.recent(), events)


def test_the_last_rows_come_back_also_after_a_restart(tmp_path):
    """A process is killed after more rows than its stored state knows of; the next one takes these again."""
    events = some_events(120)
    first = RecentRows(tmp_path / "rows.bin", **SIZES)
    first.take(events[:60])
    state = json.loads(json.dumps(first.snapshot()))
    first.take(events[60:75])
    del first
    again = RecentRows(tmp_path / "rows.bin", **SIZES)
    again.restore(state)
    again.take(events[60:])
    check(again.recent(), events)
    # A file of another shape is begun anew.
    assert len(RecentRows(tmp_path / "rows.bin", **SIZES | {"num_rows": 12}).recent().rows) == 0
