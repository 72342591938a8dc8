import json

import numpy as np
import pytest
from scipy.stats import norm

from fedjax_anomaly.detection.false_discoveries import OnlineDiscoveries, TailPValues

RATE, STREAMS, LENGTH, REPEATS = 0.2, 20, 50, 150


def share_of_false(decide, anomalous, shift, correlation=0.0, seed=0):
    """The share of false alarms, mean and standard error, and of found anomalies, over repetitions."""
    generator = np.random.default_rng(seed)
    false, found = [], []
    for _ in range(REPEATS):
        z = generator.normal(size=(LENGTH, STREAMS))
        for t in range(1, LENGTH):
            z[t] = correlation * z[t - 1] + np.sqrt(1.0 - correlation**2) * z[t]
        bad = generator.random(z.shape) < anomalous
        alarm = decide(norm.sf(z + shift * bad).ravel())
        false.append((alarm & ~bad.ravel()).sum() / max(alarm.sum(), 1))
        found.append((alarm & bad.ravel()).sum() / max(bad.sum(), 1))
    return np.mean(false), np.std(false) / np.sqrt(REPEATS), np.mean(found)


def online(p_values):
    return OnlineDiscoveries(RATE).judge(p_values)[0]


@pytest.mark.parametrize(("anomalous", "shift"), [(0.0, 0.0), (0.02, 4.0), (0.2, 3.0)])
def test_the_share_of_false_alarms_is_bounded(anomalous, shift):
    false, error, found = share_of_false(online, anomalous, shift)
    assert false - 3.0 * error <= RATE
    if anomalous:
        assert found > 0.4
        # A threshold for each score alone, at the same false-positive rate, is beyond it where anomalies are rare.
        if anomalous < 0.1:
            assert share_of_false(lambda p: p <= 0.01, anomalous, shift)[0] > RATE


def test_correlated_streams_keep_the_bound_in_simulation():
    false, error, _ = share_of_false(online, 0.02, 4.0, correlation=0.8)
    assert false - 3.0 * error <= RATE


def test_levels_are_those_of_the_formula_and_batches_do_not_matter():
    # LORD++ as it is written down, with all alarms remembered; there are fewer than 64.
    p_values = np.random.default_rng(1).random(300) ** 6
    alarm, level = OnlineDiscoveries(0.1).judge(p_values)

    def gamma(m):
        return 0.07720838 * np.log(max(m, 2)) / (m * np.exp(np.sqrt(np.log(m))))

    past: list[int] = []
    for i, p in enumerate(p_values):
        expected = 0.05 * gamma(i + 1) + sum((0.05 if j == 0 else 0.1) * gamma(i - at) for j, at in enumerate(past))
        if len(past) <= 64:
            np.testing.assert_allclose(level[i], expected, rtol=1e-9)
        else:
            assert level[i] <= expected
        assert alarm[i] == (p <= level[i])
        past += [i] * bool(alarm[i])
    assert len(past) > 64
    parts, state = [], OnlineDiscoveries(0.1)
    for part in np.split(p_values, [1, 7, 150, 222]):
        parts.append(state.judge(part)[0])
        stored = json.loads(json.dumps(state.snapshot()))
        state = OnlineDiscoveries(0.1)
        state.restore(stored)
    np.testing.assert_array_equal(np.concatenate(parts), alarm)


def test_after_each_period_it_begins_anew():
    p_values = np.random.default_rng(4).random(200) ** 6
    alarm, level = OnlineDiscoveries(0.1, period=70).judge(p_values)
    for begin in (0, 70, 140):
        own_alarm, own_level = OnlineDiscoveries(0.1).judge(p_values[begin : begin + 70])
        np.testing.assert_array_equal(alarm[begin : begin + 70], own_alarm)
        np.testing.assert_array_equal(level[begin : begin + 70], own_level)


def test_pvalues_of_normal_scores_are_uniform():
    # Each calibration set of 5,000 has its own error: 10 of them, and 20,000 new scores each.
    generator = np.random.default_rng(2)
    for level, slack in ((0.5, 0.02), (0.05, 0.1), (0.01, 0.15), (1e-3, 0.5)):
        shares = [
            (TailPValues(generator.gamma(2.0, size=5000))(generator.gamma(2.0, size=20_000)) <= level).mean()
            for _ in range(10)
        ]
        assert abs(np.mean(shares) / level - 1.0) < slack, level


def test_thresholds_invert_pvalues():
    p_value = TailPValues(np.random.default_rng(3).gamma(2.0, size=2000))
    levels = np.array([1e-9, 1e-6, 1e-3, 0.019])
    np.testing.assert_allclose(p_value(p_value.threshold(levels)), levels, rtol=1e-3)
    assert (p_value(p_value.threshold(np.array([0.3, 0.7])) + 1e-9) <= [0.3, 0.7]).all()


def test_rates_out_of_bounds_and_too_few_scores_are_refused():
    with pytest.raises(ValueError, match="false_discovery_rate=1.0"):
        OnlineDiscoveries(1.0)
    with pytest.raises(ValueError, match="which need 500"):
        TailPValues(np.ones(499))
