"""What live_day.py counts as found, as late and as false."""

import live_day
import numpy as np
from live_replay import Fault, Scenario

from fedjax_anomaly.data.table import Categorical, Table
from fedjax_anomaly.live.interfaces import ScoredEvent

DAY_MINUTES = 1440


def minutes(stream, *numbers):
    return [(stream, 60.0 * number) for number in numbers]


def test_a_day_made_by_hand_is_judged_as_by_hand():
    """Two streams: a fault found in its second sample, one missed, a spread one, and four false incidents."""
    faults = [Fault("a", "spike", 6000.0, 6600.0), Fault("b", "scan", 12_000.0, 12_600.0)]
    labelled = minutes("a", *range(100, 110)) + minutes("b", *range(200, 210), 500, 501)
    normal = Categorical(np.zeros(2 * DAY_MINUTES, np.int32), ("normal",))
    numeric = np.zeros((2 * DAY_MINUTES, 1), np.float32)
    day = Scenario(Table(numeric, ("x",), (), (), normal, source=normal), faults, set(labelled))
    alarms = minutes("a", 20, 101, 102, 105, 900) + minutes("b", 105, 106, 500, 501, 800, 801)

    def judged(least_alarms):
        events = [ScoredEvent(stream, 0, time, 0, 2.0, 1.0, True, np.ones(1)) for stream, time in alarms]
        return live_day.judge(day, alarms, live_day.join(events, least_alarms))

    one = judged(1)
    assert one.delays == [1.0, np.inf]
    assert one.missed == ["scan"]
    assert one.false_incidents == [4]  # a: 20 and 900; b: 105, a minute of a's fault, and 800. 500 is a spread fault.
    assert one.stream_days == [2.0]
    assert (one.false_alarms, one.num_alarms) == (6, 11)  # a: 20, 900; b: 105, 106, 800, 801.
    two = judged(2)
    assert two.delays == [2.0, np.inf]  # The first alarm alone is not told of.
    assert two.false_incidents == [2]
    assert live_day.pooled([one, two]).figures() == {
        "faults": 4,
        "alarmed": 0.5,
        "median delay": np.inf,
        "false incidents per stream and day": 1.5,
        "of the worst fleet": 2.0,
        "false share of alarms": 12 / 22,
    }
