import numpy as np
import pytest

from fedjax_anomaly.detection.smoothing import causal_mean


@pytest.mark.parametrize("num_rows", [1, 2, 5, 40])
def test_a_mean_is_that_of_a_plain_loop_over_each_series(num_rows):
    rng = np.random.default_rng(0)
    scores = rng.lognormal(size=60)
    series = np.repeat([3, 1, 2], [30, 4, 26])
    expected = []
    for name in (3, 1, 2):
        own = scores[series == name]
        expected += [own[max(0, i - num_rows + 1) : i + 1].mean() for i in range(len(own))]
    np.testing.assert_allclose(causal_mean(scores, series, num_rows), expected, rtol=1e-12)


def test_one_row_leaves_the_scores_as_they_are():
    scores = np.random.default_rng(0).lognormal(size=50).astype(np.float32)
    smoothed = causal_mean(scores, np.zeros(50, int), 1)
    assert smoothed.dtype == np.float32
    np.testing.assert_allclose(smoothed, scores, rtol=1e-6)


def test_a_later_score_changes_no_earlier_mean():
    scores = np.ones(20)
    changed = scores.copy()
    changed[12:] = 9.0
    before, after = (causal_mean(values, np.zeros(20, int), 4) for values in (scores, changed))
    np.testing.assert_array_equal(before[:12], after[:12])
    assert (after[12:] > before[12:]).all()


def test_less_than_one_row_is_refused():
    with pytest.raises(ValueError, match="score_smoothing=0 must be at least 1"):
        causal_mean(np.ones(3), np.zeros(3, int), 0)
