"""What drift.py counts as found, as false, and as a true report."""

import drift
import numpy as np
import pytest
from drift_figure import drift_figure
from live_replay import Fault, Scenario

from fedjax_anomaly.data.table import Categorical, Table
from fedjax_anomaly.live.interfaces import ScoredEvent

DAY = 86_400.0
START = 5 * DAY


def at(day, minute=0):
    return START + day * DAY + 60.0 * minute


@pytest.fixture
def outcome():
    """Two streams for eight days: two faults, of which one is missed, three false incidents, and reports of drift."""
    minutes = np.tile(START + 60.0 * np.arange(8 * 1440), 2)
    source = Categorical(np.repeat(np.arange(2, dtype=np.int32), 8 * 1440), ("a", "b"))
    normal = Categorical(np.zeros(len(minutes), np.int32), ("normal",))
    table = Table(np.zeros((len(minutes), 1), np.float32), ("x",), (), (), normal, minutes, source)
    faults = [Fault("a", "spike", at(1), at(1, 30)), Fault("b", "scan", at(7), at(7, 10))]
    labelled = {("a", at(1, minute)) for minute in range(30)} | {("b", at(7, minute)) for minute in range(10)}
    alarms = [("a", at(1, 4)), ("a", at(1, 40)), ("a", at(1, 34)), ("a", at(3)), ("b", at(1, 5)), ("b", at(7, 20))]
    events = [ScoredEvent(s, 0, t, 0, 2.0, 1.0, True, np.ones(1)) for s, t in sorted(alarms, key=lambda a: a[1])]
    lines = [{"what": "drift", "stream": s, "time": at(day)} for s, day in (("a", 2), ("a", 5), ("a", 6), ("b", 4))]
    lines += [{"what": "retrained", "time": at(6), "seconds": 3.0, "bytes_sent": 2e6}]
    return drift.judge(Scenario(table, faults, labelled), events, lines, 1.0)


def test_a_month_made_by_hand_is_judged_as_by_hand(outcome):
    assert outcome.delays == [4.0, np.inf]
    # Gaps of ten minutes join: a's 4th minute stands alone within its fault, 34 and 40 are one false incident.
    assert sorted(np.round(outcome.false_days, 2)) == [1.0, 1.02, 3.0, 7.01]
    first, second = drift.weeks([outcome, outcome], 8.0)
    assert (first["faults"], first["alarmed"], first["median delay"]) == (2, 1.0, 4.0)
    assert first["false incidents per stream and day"] == pytest.approx(6 / (4 * 7.0))
    assert (second["days"], second["alarmed"]) == ("7 to 8", 0.0)
    assert second["false incidents per stream and day"] == pytest.approx(2 / 4)


def test_reports_are_true_after_the_drift_has_begun(outcome):
    told = drift.reports([outcome], 3.0)
    assert (told["true reports"], told["false reports"]) == (3, 1)
    assert (told["streams reported"], told["days to a stream's first report"]) == (1.0, 1.5)  # After 2 days and 1.
    assert (told["trainings"], told["seconds of a training"], told["MB sent"]) == (1, 3.0, 2.0)
    assert drift.reports([outcome], np.inf)["false reports"] == 4


def test_the_figure_has_a_line_for_each_way(outcome):
    rows = {way: drift.weeks([outcome], 8.0, 1.0) for way in ("no drift", "retrain")}
    figure = drift_figure(rows, {way: drift.weeks([outcome], 8.0) for way in rows}, 3.0)
    assert [len(axes.get_lines()) for axes in figure.axes] == [3, 2]
