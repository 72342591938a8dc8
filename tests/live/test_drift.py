import json

import numpy as np
import pytest
from scipy.stats import norm

from fedjax_anomaly.live.drift import DriftMonitor
from fedjax_anomaly.live.interfaces import ScoredEvent

LENGTH = 6000
CALIBRATION = norm.ppf(np.arange(1, 1000) / 1000)


def events(scores, stream="a", threshold=3.0):
    nothing = np.zeros(1, np.float32)
    return [
        ScoredEvent(stream, 0, float(t), t, score, threshold, score > threshold, nothing)
        for t, score in enumerate(scores.tolist())
    ]


def correlated(correlation, seed=0):
    generator = np.random.default_rng(seed)
    z = generator.normal(size=LENGTH)
    for t in range(1, LENGTH):
        z[t] = correlation * z[t - 1] + np.sqrt(1.0 - correlation**2) * z[t]
    return z


def monitor(**arguments):
    return DriftMonitor(lambda client: CALIBRATION, **arguments)


def test_a_shift_is_found_and_correlated_scores_without_one_are_not():
    z = correlated(0.8)
    assert monitor().update(events(z)) == []
    (drift,) = monitor().update(events(z + 0.7 * (np.arange(LENGTH) >= 3000)))
    assert 3000 < drift.time < 5000
    assert 0.6 < drift.rank < 0.85
    # Single scores, which ADWIN takes for independent, look as if they changed all the time.
    assert len(monitor(block=1).update(events(z))) > 5


def test_anomalies_are_no_drift():
    z = correlated(0.0)
    z[3000:4000] = 50.0
    assert monitor().update(events(z)) == []


def test_a_process_started_again_finds_the_same():
    z = correlated(0.5) + 1.0 * (np.arange(LENGTH) >= 3000)
    whole = monitor()
    expected = whole.update([*events(z), *events(z[::-1], "b")])
    assert len(expected) == 2
    again, found = monitor(), []
    inputs = {"a": events(z), "b": events(z[::-1], "b")}
    for part in np.array_split(np.arange(LENGTH), 7):
        for stream in ("a", "b"):
            found += again.update(inputs[stream][part[0] : part[-1] + 1])
        names, arrays = again.snapshot()
        again = monitor()
        again.restore(json.loads(json.dumps(names)), arrays)
    assert sorted(found) == sorted(expected)
    for stream in ("a", "b"):
        for own, other in zip(again.recent(stream), whole.recent(stream), strict=True):
            np.testing.assert_array_equal(own, other)


def test_a_change_is_due_for_a_new_threshold_once_and_with_enough_scores_of_its_own():
    z = correlated(0.0) + 1.0 * (np.arange(LENGTH) >= 3000)
    watched, due = monitor(), []
    for event in events(z):
        watched.update([event])
        if watched.due("a", 500):
            due.append(event.time)
            scores, alarm = watched.recent("a")
            assert len(scores) == len(alarm) == 500
            watched.handled("a", scores[~alarm])
    assert len(due) == 1
    assert 3500 < due[0] < 5000
    assert abs(np.mean(watched.recent("a")[0]) - 1.0) < 0.1


@pytest.mark.parametrize(
    ("arguments", "name"), [({"delta": 0.0}, "drift_delta"), ({"block": 0}, "drift_block"), ({"block": 4096}, "2048")]
)
def test_arguments_out_of_bounds_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        monitor(**arguments)
