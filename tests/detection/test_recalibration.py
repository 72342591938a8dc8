import numpy as np
import pytest

from fedjax_anomaly.detection.recalibration import without_outliers


def test_the_quantile_of_a_wider_distribution_comes_back():
    # Scores have become 1.5 times as large: 3.6 % exceed the old 0.7 % threshold, and their own values are lost.
    generator = np.random.default_rng(0)
    threshold, wider = 5.0, 1.5 * generator.exponential(size=4000)
    alarm = wider > threshold
    spoilt = np.where(alarm, 1e9, wider)
    scores = without_outliers(spoilt, alarm, threshold)
    assert len(scores) == len(wider)
    expected = 1.5 * -np.log(5e-3)  # 7.95; leaving alarms out gives less than 5.
    assert abs(np.quantile(scores, 1.0 - 5e-3) / expected - 1.0) < 0.08
    assert (scores > threshold).sum() == alarm.sum()


def test_scores_without_alarms_are_left_as_they_are():
    scores = np.arange(5.0)
    np.testing.assert_array_equal(without_outliers(scores, np.zeros(5, bool), 9.0), scores)


def test_a_stream_that_is_mostly_alarms_gives_no_threshold():
    with pytest.raises(ValueError, match="3 of 10 scores are alarms"):
        without_outliers(np.ones(10), np.arange(10) < 3, 0.5)
