import itertools

import numpy as np
import pytest
from scipy import stats

from fedjax_anomaly.detection.statistics import bootstrap_interval, paired_test, summary


def test_the_interval_of_many_values_is_the_normal_one():
    # The central limit theorem: mean +- 1.96 standard errors, to a tenth of a standard error.
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    error = values.std() / 20.0
    for confidence in (0.95, 0.5):
        half = stats.norm.ppf(0.5 + confidence / 2.0) * error
        expected = (values.mean() - half, values.mean() + half)
        assert bootstrap_interval(values, confidence) == pytest.approx(expected, abs=0.1 * error)


def test_the_interval_leans_further_the_way_the_values_do_than_percentiles():
    values = np.random.default_rng(1).exponential(size=30)
    means = np.random.default_rng(2).choice(values, (20_000, 30)).mean(axis=1)
    percentiles = np.percentile(means, [2.5, 97.5])
    low, high = bootstrap_interval(values)
    assert high - values.mean() > values.mean() - low > 0.0
    assert low > percentiles[0] + 0.01 and high > percentiles[1] + 0.01


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(4).normal(size=20)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) == pytest.approx(bootstrap_interval(values), abs=0.05)


def test_equal_values_have_an_interval_of_width_zero():
    assert bootstrap_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def test_one_value_has_no_interval():
    assert bootstrap_interval([0.5]) is None
    assert summary([0.5]) == {"mean": 0.5, "std": None, "low": None, "high": None, "values": [0.5]}


def test_bad_intervals_are_named():
    with pytest.raises(ValueError, match="values is empty"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="confidence=95 must lie in"):
        bootstrap_interval([1.0, 2.0], confidence=95)


def test_the_summary_leaves_out_undefined_values_but_shows_them():
    # Mean of 1, 2 and 6 is 3; the squares 4 + 1 + 9 = 14 over 3 - 1.
    result = summary([1.0, None, 2.0, 6.0])
    assert result["mean"] == pytest.approx(3.0)
    assert result["std"] == pytest.approx(7.0**0.5)
    assert (result["low"], result["high"]) == bootstrap_interval([1.0, 2.0, 6.0])
    assert result["values"] == [1.0, None, 2.0, 6.0]
    assert summary([None, None]) is None


@pytest.mark.parametrize("count", [2, 5, 9, 13])
def test_the_p_value_is_the_share_of_sign_patterns_at_least_as_extreme(count):
    difference = np.random.default_rng(count).normal(0.4, 1.0, size=count)
    patterns = np.array(list(itertools.product([-1.0, 1.0], repeat=count)))
    expected = (np.abs(patterns @ difference) >= abs(difference.sum()) - 1e-9).mean()
    assert paired_test(difference, np.zeros(count))["p_value"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 10])
def test_no_p_value_is_below_what_the_pairs_allow(count):
    # All differences of one sign: only the pattern itself and its mirror image are as extreme, of 2^S.
    test = paired_test(np.arange(1.0, count + 1.0), np.zeros(count))
    assert test["p_value"] == pytest.approx(2.0 / 2.0**count)
    assert test["wins"] == test["num_pairs"] == count


def test_many_pairs_are_sampled_close_to_the_exact_p_value():
    difference = np.random.default_rng(0).normal(0.4, 1.0, size=16)
    patterns = 2.0 * (np.arange(2**16)[:, None] >> np.arange(16) & 1) - 1.0
    exact = (np.abs(patterns @ difference) >= abs(difference.sum())).mean()
    # 10,000 draws: three standard errors of a share are at most 0.015, and the two-sided value is twice a share.
    assert paired_test(difference, np.zeros(16))["p_value"] == pytest.approx(exact, abs=0.03)


def test_the_test_is_of_pairs():
    # Far apart seeds, a small but steady gain: unpaired methods would not differ.
    seeds = np.arange(8.0)
    test = paired_test(seeds + 0.1, seeds)
    assert test["mean_difference"] == pytest.approx(0.1)
    assert test["low"] == pytest.approx(0.1) and test["high"] == pytest.approx(0.1)
    assert test["p_value"] == pytest.approx(2.0 / 2.0**8)
    assert paired_test(seeds, seeds + 0.1)["wins"] == 0


def test_swapping_the_methods_turns_the_sign_and_keeps_the_p_value():
    rng = np.random.default_rng(3)
    a, b = rng.random(7), rng.random(7)
    ours, swapped = paired_test(a, b), paired_test(b, a)
    assert swapped["mean_difference"] == pytest.approx(-ours["mean_difference"])
    assert swapped["p_value"] == pytest.approx(ours["p_value"])
    assert swapped["wins"] == 7 - ours["wins"]


def test_equal_methods_do_not_differ():
    test = paired_test([0.5, 0.7, 0.6], [0.5, 0.7, 0.6])
    assert test == {"mean_difference": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0, "num_pairs": 3, "wins": 0}


def test_a_pair_with_an_undefined_value_is_left_out():
    test = paired_test([1.0, None, 3.0, 4.0], [0.0, 1.0, None, 1.0])
    assert test["num_pairs"] == 2 and test["mean_difference"] == pytest.approx(2.0)
    assert paired_test([None], [1.0]) is None
    with pytest.raises(ValueError, match="a has 2 values, but b has 1"):
        paired_test([1.0, 2.0], [1.0])
