import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_anomaly.detection.spot import spot_rule

STREAMS, CALIBRATION, LENGTH = 12, 5000, 2000
TARGET = 1e-2


def run(rule, calibration, scores):
    """Thresholds and alarms [S, L], stream after stream so that only peaks are fitted."""

    def one(inputs):
        def step(state, score):
            state, threshold, alarm = rule.step(state, score)
            return state, (threshold, alarm)

        return jax.lax.scan(step, *inputs)[1]

    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[rule.init(scores) for scores in calibration])
    return jax.tree.map(
        np.asarray, jax.jit(lambda *all_: jax.lax.map(one, all_))(states, jnp.asarray(scores, jnp.float32))
    )


@pytest.fixture(scope="module")
def gamma_scores():
    generator = np.random.default_rng(0)
    return generator.gamma(2.0, size=(STREAMS, CALIBRATION)), generator.gamma(2.0, size=(STREAMS, LENGTH))


def test_alarms_come_at_the_target_rate(gamma_scores):
    # 24,000 scores: 1,200 alarms are expected, of a standard deviation of 34 (binomial) and that of 12 estimated
    # thresholds, each about a seventh of its rate (1200 / 7 / sqrt(12) = 49): three of sqrt(34^2 + 49^2) = 60.
    rule = spot_rule(0.05, level=0.9, num_peaks=64)
    _, alarms = run(rule, *gamma_scores)
    assert abs(alarms.sum() - 1200) < 3 * 60
    # A fit as in the paper, which does not know of the alarms that are missing among its peaks, is beyond that.
    blind = rule._replace(step=lambda s, x: rule.step(s._replace(limits=jnp.zeros_like(s.limits)), x))
    _, alarms = run(blind, *gamma_scores)
    assert alarms.sum() > 1200 + 3 * 60


def test_a_wandering_mean_is_followed_with_a_depth(gamma_scores):
    # Three anomalies of +15, on a mean that goes from 2 to 32; no score of calibration was above 20.
    calibration, scores = gamma_scores
    wandering = scores[:3] + np.linspace(0.0, 30.0, LENGTH)
    wandering[:, [700, 1300, 1900]] += 15.0
    _, local = run(spot_rule(TARGET, depth=20), calibration[:3], wandering)
    assert local[:, [700, 1300, 1900]].all()
    assert local.mean() < 2.0 * TARGET
    assert (wandering[:, 3 * LENGTH // 4 :] > calibration.max()).mean() > 0.9


def test_a_scale_that_doubles_is_followed_in_good_part(gamma_scores):
    """The exact threshold is then twice the gamma law's own quantile; one that learns nothing stays at half of that.

    Few peaks make a short memory, and an estimate that is low on average; 0.65 of the exact one is far from both ends.
    """
    calibration, _ = gamma_scores
    scale = np.minimum(np.linspace(1.0, 9.0, 4000), 2.0)
    scores = np.random.default_rng(2).gamma(2.0, size=(2, 4000)) * scale
    thresholds, alarms = run(spot_rule(TARGET, level=0.9, num_peaks=16), calibration[:2], scores)
    exact = stats.gamma(2.0).ppf(1.0 - TARGET)
    assert thresholds[:, :100].mean() == pytest.approx(exact, rel=0.1)
    assert 0.65 < thresholds[:, 3000:].mean() / (2.0 * exact) < 1.1
    constant = np.quantile(calibration[:2], 1.0 - TARGET, axis=1)[:, None]
    assert 3.0 * alarms[:, 3000:].mean() < (scores > constant)[:, 3000:].mean()


def test_streams_side_by_side_give_what_single_ones_do_and_nothing_is_learned_from_alarms(gamma_scores):
    calibration, scores = gamma_scores
    rule = spot_rule(TARGET, depth=20)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[rule.init(c) for c in calibration[:3]])
    step = jax.jit(jax.vmap(rule.step))
    _, expected = run(rule, calibration[:3], scores[:3])
    for t in range(60):
        states, _, alarm = step(states, jnp.asarray(scores[:3, t], jnp.float32))
        np.testing.assert_array_equal(alarm, expected[:, t])
    after, threshold, alarm = step(states, jnp.full(3, 1e6))
    assert alarm.all() and (threshold < 1e6).all()
    jax.tree.map(np.testing.assert_array_equal, states, after)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"target_fpr": 0.011}, "target_fpr"),
        ({"target_fpr": 0.0}, "target_fpr"),
        ({"target_fpr": 1e-3, "level": 1.0}, "level"),
        ({"target_fpr": 1e-3, "num_peaks": 5}, "num_peaks"),
        ({"target_fpr": 1e-3, "depth": -1}, "depth"),
    ],
)
def test_arguments_out_of_bounds_are_refused_by_name(arguments, name):
    with pytest.raises(ValueError, match=name):
        spot_rule(**arguments)


def test_too_few_scores_are_refused():
    rule = spot_rule(1e-3)
    assert rule.scores_needed == math.ceil(10 / 0.02)
    with pytest.raises(ValueError, match="needs 500"):
        rule.init(np.ones(499))
