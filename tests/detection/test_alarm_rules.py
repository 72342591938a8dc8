import jax
import numpy as np
import pytest

from fedjax_anomaly.detection.alarm_rules import constant_rule
from fedjax_anomaly.detection.threshold import conformal_threshold, deviation_threshold, quantile_threshold


@pytest.mark.parametrize(
    ("name", "level", "compute"),
    [
        ("quantile", 0.9, quantile_threshold),
        ("conformal", 0.1, conformal_threshold),
        ("mean_3sigma", 2.0, deviation_threshold),
    ],
)
def test_constant_rules_alarm_above_the_threshold_of_their_name(name, level, compute):
    generator = np.random.default_rng(0)
    calibration, scores = generator.exponential(size=(2, 200)).astype(np.float32)
    rule = constant_rule(name, level)
    _, (thresholds, alarms) = jax.lax.scan(
        lambda state, score: (lambda s, t, a: (s, (t, a)))(*rule.step(state, score)), rule.init(calibration), scores
    )
    expected = np.float32(compute(calibration, level))
    np.testing.assert_array_equal(thresholds, np.full(200, expected))
    np.testing.assert_array_equal(alarms, scores > expected)
