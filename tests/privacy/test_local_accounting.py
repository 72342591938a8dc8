import math

from fedjax_anomaly.privacy import LocalRelease
from tests.privacy.test_accounting import gaussian_epsilon

RELEASE = LocalRelease(num_rounds=50, sampling="fixed_size")


def test_a_replaced_update_moves_by_twice_the_clip_norm():
    for noise_multiplier in (10.0, 20.0):
        exact = gaussian_epsilon(noise_multiplier / 2.0 / math.sqrt(50.0), 1e-3)
        assert exact <= RELEASE.epsilon(noise_multiplier, 1e-3) <= 1.002 * exact
        assert exact < RELEASE.epsilon(noise_multiplier, 1e-3, "RDP") <= 1.3 * exact


def test_cohorts_gain_nothing_where_the_server_sees_who_sends():
    assert RELEASE.epsilon(5.0, 1e-3) == LocalRelease(50, "full").epsilon(5.0, 1e-3)
    assert LocalRelease(0, "full").epsilon(5.0, 1e-3) == 0.0
    assert RELEASE.epsilon(0.0, 1e-3) == math.inf


def test_calibration_meets_the_target_and_is_tight():
    noise_multiplier = RELEASE.calibrate(2.0, 1e-3)
    assert RELEASE.epsilon(noise_multiplier, 1e-3) <= 2.0 < RELEASE.epsilon(noise_multiplier - 3e-3, 1e-3)
