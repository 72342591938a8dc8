import numpy as np
import pytest

from fedjax_anomaly.detection.affiliation import affiliation
from fedjax_anomaly.detection.time_order import time_order_metrics
from fedjax_anomaly.detection.vus import vus_pr

KEYS = {
    "vus_pr", "affiliation_precision", "affiliation_recall", "affiliation_f1", "event_recall", "num_events",
    "detection_delay_rows_mean", "detection_delay_seconds_mean", "detection_delay_seconds_median",
    "false_alarms_per_day", "point_adjusted_f1_inflated",
}  # fmt: skip


def three_series(seed=0):
    """Two series with two events each and one without any, of different lengths."""
    rng = np.random.default_rng(seed)
    series = np.repeat([2, 0, 1], [300, 200, 250])
    label = np.zeros(750, bool)
    for start, length in [(50, 20), (290, 10), (300, 5), (420, 30)]:
        label[start : start + length] = True
    return label, rng.normal(size=750) + 2.0 * label, series


def test_alarms_equal_to_the_labels_are_perfect():
    label, _, series = three_series()
    assert time_order_metrics(label, label, label.astype(float), series, 60.0) == {
        "vus_pr": pytest.approx(1.0),
        "affiliation_precision": pytest.approx(1.0),
        "affiliation_recall": pytest.approx(1.0),
        "affiliation_f1": pytest.approx(1.0),
        "event_recall": 1.0,
        "num_events": 4,
        "detection_delay_rows_mean": 0.0,
        "detection_delay_seconds_mean": 0.0,
        "detection_delay_seconds_median": 0.0,
        "false_alarms_per_day": 0.0,
        "point_adjusted_f1_inflated": 1.0,
    }


def test_a_silent_detector_finds_nothing():
    label, score, series = three_series()
    metrics = time_order_metrics(label, np.zeros(750, bool), score, series, 60.0)
    assert metrics["event_recall"] == metrics["affiliation_recall"] == metrics["affiliation_f1"] == 0.0
    assert metrics["false_alarms_per_day"] == metrics["point_adjusted_f1_inflated"] == 0.0
    undefined = {name for name, value in metrics.items() if value is None}
    assert undefined == {name for name in KEYS if "delay" in name} | {"affiliation_precision"}


def test_without_an_event_only_false_alarms_are_defined():
    _, score, series = three_series()
    alarm = np.arange(750) % 150 == 10
    metrics = time_order_metrics(np.zeros(750, bool), alarm, score, series, 86.4)
    # Five alarms in 750 rows of a thousandth of a day.
    assert metrics == {**dict.fromkeys(KEYS), "num_events": 0, "false_alarms_per_day": pytest.approx(5.0 / 0.75)}


def test_delays_are_counted_in_rows_and_seconds():
    label, score, series = three_series()
    alarm = np.zeros(750, bool)
    alarm[[51, 60, 292, 429]] = True
    metrics = time_order_metrics(label, alarm, score, series, 15.0)
    # Delays of 1, 2 and 9 rows; the event at row 300 is missed and has none.
    assert metrics["event_recall"] == 0.75
    assert metrics["detection_delay_rows_mean"] == pytest.approx(4.0)
    assert metrics["detection_delay_seconds_mean"] == pytest.approx(60.0)
    assert metrics["detection_delay_seconds_median"] == pytest.approx(30.0)


def test_series_with_events_weigh_the_same():
    label, score, series = three_series()
    alarm = score > 1.5
    metrics = time_order_metrics(label, alarm, score, series, 60.0)
    parts = [slice(0, 300), slice(300, 500)]
    pairs = [affiliation(label[part], alarm[part]) for part in parts]
    precision, recall = np.mean(pairs, axis=0)
    assert metrics["vus_pr"] == pytest.approx(np.mean([vus_pr(label[part], score[part]) for part in parts]))
    assert metrics["affiliation_precision"] == pytest.approx(precision)
    assert metrics["affiliation_recall"] == pytest.approx(recall)
    assert metrics["affiliation_f1"] == pytest.approx(2.0 / (1.0 / precision + 1.0 / recall))


def test_the_order_of_the_series_does_not_matter():
    label, score, series = three_series()
    moved = np.concatenate([np.arange(500, 750), np.arange(300, 500), np.arange(300)])
    alarm = score > 1.5
    ours = time_order_metrics(label, alarm, score, series, 60.0)
    assert time_order_metrics(label[moved], alarm[moved], score[moved], series[moved], 60.0) == pytest.approx(ours)


def test_no_row_is_no_metric():
    none = np.zeros(0, bool)
    metrics = time_order_metrics(none, none, np.zeros(0), np.zeros(0, int), 60.0)
    assert metrics == {**dict.fromkeys(KEYS), "num_events": 0}


def test_bad_input_is_named():
    label, score, series = three_series()
    with pytest.raises(ValueError, match="not consecutive; sort the rows by series"):
        time_order_metrics(label, label, score, np.arange(750) % 2, 60.0)
    with pytest.raises(ValueError, match="seconds_per_row=0.0 must be positive"):
        time_order_metrics(label, label, score, series, 0.0)
    with pytest.raises(ValueError, match="differ in length, .*'score': 749"):
        time_order_metrics(label, label, score[1:], series, 60.0)
    score[12] = np.nan
    with pytest.raises(ValueError, match="score is NaN in row 12"):
        time_order_metrics(label, label, score, series, 60.0)
