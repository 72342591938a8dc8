import json

import numpy as np
import pytest

from fedjax_anomaly.live.incidents import Incidents
from fedjax_anomaly.live.interfaces import ScoredEvent

NAMES = ("cpu", "memory", "disk")
GAP = 5.0


def event(stream, time, score, errors=(1.0, 2.0, 1.0), threshold=1.0):
    return ScoredEvent(stream, 0, float(time), 0, score, threshold, score > threshold, np.array(errors, np.float32))


def random_events(seed=0, count=400):
    generator = np.random.default_rng(seed)
    times = {"a": 0.0, "b": 100.0}
    events = []
    for _ in range(count):
        stream = str(generator.choice(["a", "b"]))
        times[stream] += float(generator.choice([0.5, 2.0, 5.0, 5.5]))
        score = float(generator.choice([0.5, 1.5, 3.0], p=[0.6, 0.35, 0.05]))
        events.append(event(stream, times[stream], score, generator.random(3)))
    return events


def incidents_of_a_plain_loop(events):
    """(stream, start, end, peak time, number, severity, shares) of all incidents, also those that have not ended."""
    found = []
    for stream in ("a", "b"):
        groups: list[list[ScoredEvent]] = []
        for e in (e for e in events if e.stream == stream and e.alarm):
            if groups and e.time - groups[-1][-1].time <= GAP:
                groups[-1].append(e)
            else:
                groups.append([e])
        for group in groups:
            peak = max(group, key=lambda e: e.score)
            total = sum(e.column_errors.astype(float) for e in group)
            severity = "critical" if peak.score >= 2.0 else "warning"
            shares = dict(zip(NAMES, total / total.sum(), strict=True))
            found.append((stream, group[0].time, group[-1].time, peak.time, len(group), severity, shares))
    return found


def test_incidents_are_those_of_a_plain_loop_over_alarms():
    events = random_events()
    incidents = Incidents(NAMES, gap_seconds=GAP)
    told = [incident for e in events for incident in incidents.update([e])]
    last = {(i.stream, i.start): i for i in [*told, *incidents.open()]}
    expected = incidents_of_a_plain_loop(events)
    assert len(expected) == len(last) > 20
    for stream, start, end, peak_time, number, severity, shares in expected:
        got = last[stream, start]
        assert (got.end, got.peak_time, got.num_alarms, got.severity) == (end, peak_time, number, severity)
        assert got.shares == pytest.approx(shares)
        assert sum(got.shares.values()) == pytest.approx(1.0)
        assert list(got.shares.values()) == sorted(got.shares.values(), reverse=True)
    assert sum(not i.ended for i in last.values()) == len(incidents.open())


def test_a_process_started_again_tells_the_same():
    events = random_events()
    whole = Incidents(NAMES, gap_seconds=GAP)
    expected = [whole.update(events[i : i + 7]) for i in range(0, len(events), 7)]
    again, told = Incidents(NAMES, gap_seconds=GAP), []
    for i in range(0, len(events), 7):
        told.append(again.update(events[i : i + 7]))
        stored = json.loads(json.dumps(again.snapshot()))
        again = Incidents(NAMES, gap_seconds=GAP)
        again.restore(stored)
    assert told == expected


def test_an_incident_is_told_of_when_it_begins_becomes_critical_and_ends():
    incidents = Incidents(NAMES, gap_seconds=GAP, least_alarms=2)
    told = [
        [(i.severity, i.ended, i.num_alarms) for i in incidents.update([event("a", t, score)])]
        for t, score in ((0, 1.5), (1, 0.5), (5, 1.5), (6, 1.4), (7, 2.0), (12, 0.5), (12.5, 0.1))
    ]
    assert told == [[], [], [("warning", False, 2)], [], [("critical", False, 4)], [], [("critical", True, 4)]]
    # Fewer alarms than asked for are never told of.
    assert incidents.update([event("a", 50, 3.0), event("a", 60, 0.5)]) == []


def test_contributions_say_what_a_column_adds_to_the_score():
    incidents = Incidents(NAMES, gap_seconds=GAP, contributions=lambda errors: errors**2)
    (incident,) = incidents.update([event("a", 0, 1.5)])
    assert incident.shares == pytest.approx({"memory": 4 / 6, "cpu": 1 / 6, "disk": 1 / 6})
    (incident,) = incidents.update([event("b", 0, 1.5, errors=(0.0, 0.0, 0.0))])
    assert incident.shares == pytest.approx(dict.fromkeys(NAMES, 1 / 3))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"gap_seconds": -1.0}, "gap_seconds"),
        ({"least_alarms": 0}, "least_alarms"),
        ({"critical_factor": 0.5}, "factor"),
    ],
)
def test_arguments_out_of_bounds_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        Incidents(NAMES, **{"gap_seconds": GAP} | arguments)
