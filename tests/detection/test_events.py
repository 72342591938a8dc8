import numpy as np
import pytest
from sklearn.metrics import f1_score

from fedjax_anomaly.detection.events import (
    detection_delay_rows,
    false_alarms_per_day,
    find_runs,
    point_adjusted_f1,
    touched,
)

SERIES = np.repeat([7, 3], [5, 7])


def flags(*rows, count=12):
    flag = np.zeros(count, bool)
    flag[list(rows)] = True
    return flag


LABEL = flags(1, 2, 4, 5, 8, 9, 10)  # events: rows 1-2 and 4 of the first series, 5 and 8-10 of the second
ALARM = flags(0, 2, 3, 6, 10)  # episodes: 0 (false), 2-3, 6 (false), 10


def loop_runs(flag, series):
    runs, start = [], None
    for row in range(len(flag) + 1):
        ends = row == len(flag) or not flag[row] or (row > 0 and series[row] != series[row - 1])
        if ends and start is not None:
            runs.append((start, row))
            start = None
        if row < len(flag) and flag[row] and start is None:
            start = row
    return runs


def test_an_event_ends_where_its_series_ends():
    events = find_runs(LABEL, SERIES)
    assert list(zip(*events, strict=True)) == [(1, 3), (4, 5), (5, 6), (8, 11)]


def test_runs_equal_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    for count in range(30):
        flag, series = rng.random(count) < 0.6, np.sort(rng.integers(0, 4, count))
        assert list(zip(*find_runs(flag, series), strict=True)) == loop_runs(flag, series)


def test_an_event_is_touched_only_by_an_alarm_inside():
    # Row 3 lies right behind the first event and row 6 right behind the third: neither counts.
    events = find_runs(LABEL, SERIES)
    assert touched(events, ALARM).tolist() == [True, False, False, True]
    assert touched(events, flags(0, 3, 6, 7, 11)).sum() == 0


def test_the_delay_counts_rows_from_the_start_of_a_detected_event():
    # Event 1-2: first alarm in row 2, one row late. Event 8-10: row 10, two rows late.
    events = find_runs(LABEL, SERIES)
    assert detection_delay_rows(events, ALARM).tolist() == [1, 2]
    # An alarm that already rang before the event began is there on its first row.
    assert detection_delay_rows(events, flags(0, 1, 2)).tolist() == [0]
    assert detection_delay_rows(events, flags()).tolist() == []


def test_false_alarms_are_episodes_per_day_and_client():
    # Two false episodes; 12 rows of one hour are half a day of test time, summed over both clients.
    assert false_alarms_per_day(LABEL, ALARM, SERIES, 3600.0) == pytest.approx(4.0)
    # The same again on twice as many clients: per client, nothing changes.
    twice = np.concatenate([SERIES, SERIES + 10])
    assert false_alarms_per_day(np.tile(LABEL, 2), np.tile(ALARM, 2), twice, 3600.0) == pytest.approx(4.0)


def test_a_long_false_alarm_is_one_episode_in_each_series():
    # Rows 2-9 are one run of alarms that the series' border cuts in two; without events, both are false.
    assert false_alarms_per_day(flags(), flags(*range(2, 10)), SERIES, 7200.0) == pytest.approx(2.0)
    assert false_alarms_per_day(flags(count=0), flags(count=0), SERIES[:0], 60.0) is None


def test_point_adjusting_equals_filling_detected_events_by_hand():
    events = find_runs(LABEL, SERIES)
    filled = ALARM.copy()
    for start, end in loop_runs(LABEL, SERIES):
        filled[start:end] |= ALARM[start:end].any()
    assert point_adjusted_f1(events, LABEL, ALARM) == pytest.approx(f1_score(LABEL, filled))
    # 5 rows of detected events, 3 false rows, 7 anomalous rows: 2 * 5 / (5 + 3 + 7).
    assert point_adjusted_f1(events, LABEL, ALARM) == pytest.approx(2.0 / 3.0)
    assert point_adjusted_f1(find_runs(flags(), SERIES), flags(), ALARM) is None


def test_point_adjusting_inflates_the_f1_of_random_alarms():
    label = np.zeros(10_000, bool)
    label[4000:5000] = True
    alarm = np.random.default_rng(0).random(10_000) < 0.01
    events = find_runs(label, np.zeros(10_000, int))
    assert f1_score(label, alarm) < 0.05
    assert point_adjusted_f1(events, label, alarm) > 0.9
