import dataclasses
import math

import numpy as np
import pytest
from scipy import special

from fedjax_anomaly.privacy.discrete_gaussian import LARGEST, NOISE_STD
from fedjax_anomaly.privacy.distributed_accounting import DistributedRelease, least_noise_multiplier, rho_of_sum
from tests.privacy.test_accounting import gaussian_epsilon

RELEASE = DistributedRelease(num_rounds=30, clients_per_sum=200, num_parameters=3000, sampling="full")


def log_sum_pmf(noise_std: float, num_shares: int) -> np.ndarray:
    """The logarithms of a sum of discrete Gaussians on -60 to 60, by convolution."""
    x = np.arange(-60, 61)
    one = np.exp(-(x**2) / (2.0 * noise_std**2))
    total = np.eye(1, 121, 60)[0]
    for _ in range(num_shares):
        total = np.convolve(total, one / one.sum(), "same")
    return np.log(np.maximum(total, 1e-300))


def divergence(log_pmf: np.ndarray, moved: int, order: float) -> float:
    """Renyi, of the sum and the sum moved by so many steps, over the cells that float64 resolves."""
    p, q = log_pmf[moved:], log_pmf[:-moved]
    seen = np.minimum(p, q) > math.log(1e-290)
    return float(special.logsumexp(order * p[seen] + (1.0 - order) * q[seen]) / (order - 1.0))


@pytest.mark.parametrize(("noise_std", "num_shares"), [(0.5, 2), (0.5, 3), (0.7, 2), (1.0, 4), (2.0, 3)])
def test_rho_bounds_the_exact_divergence_of_a_sum(noise_std, num_shares):
    """Where the sum of small noises is not a discrete Gaussian, and where it nearly is one."""
    pmf = log_sum_pmf(noise_std, num_shares)
    half = log_sum_pmf(noise_std, max(1, num_shares // 4)) if noise_std >= 1.0 else None
    for moved in (1, 2, 3):
        rho = rho_of_sum(noise_std, num_shares, moved, moved, 1)
        for order in (1.5, 2.0, 4.0, 8.0):
            exact = divergence(pmf, moved, order)
            assert exact <= rho * order * (1.0 + 1e-9)
            if noise_std >= 1.0:
                assert exact >= 0.99 * rho * order
                # A quarter of the shares, half the deviation, does not keep the promise (control).
                assert divergence(half, moved, order) > 1.5 * rho * order


def test_tau_is_that_of_the_paper():
    # n = 2, sigma = 0.6: one term with k / (k + 1) = 1 / 2.
    tau = 10.0 * math.exp(-(math.pi**2) * 0.36)
    l2, l1, dimension, std = 3.0, 5.0, 4, 0.6 * math.sqrt(2.0)
    candidates = [
        l2**2 / (2.0 * std**2) + tau * dimension,
        0.5 * (l2**2 / std**2 + 2.0 * l1 * tau / std + tau**2 * dimension),
        0.5 * (l2 / std + tau * math.sqrt(dimension)) ** 2,
    ]
    assert rho_of_sum(0.6, 2, l2, l1, dimension) == pytest.approx(min(candidates), rel=1e-12)
    with pytest.raises(ValueError, match=r"noise_std=0.4 must be at least half a step"):
        rho_of_sum(0.4, 2, l2, l1, dimension)


def test_epsilon_is_that_of_gaussian_noise_and_what_rounding_adds():
    # One client replaced moves the sum by 2 clip norms; 30 rounds compose to one with multiplier z / sqrt 30. Rounding
    # makes updates longer: in steps c = sqrt(200) 2800 / z, and c^2 becomes c^2 + d / 4 + 2 (c + sqrt(d) / 2).
    for noise_multiplier in (4.0, 10.0, 40.0):
        exact = gaussian_epsilon(noise_multiplier / 2.0 / math.sqrt(30.0), 1e-3)
        steps = math.sqrt(200.0) * NOISE_STD / noise_multiplier
        longer = math.sqrt(1.0 + 750.0 / steps**2 + 2.0 / steps + math.sqrt(3000.0) / steps**2)
        at_least = gaussian_epsilon(noise_multiplier / longer / 2.0 / math.sqrt(30.0), 1e-3)
        assert exact < at_least <= RELEASE.epsilon(noise_multiplier, 1e-3) <= 1.25 * exact


def test_calibration_meets_the_target_and_is_tight():
    noise_multiplier = RELEASE.calibrate(8.0, 1e-3)
    assert RELEASE.epsilon(noise_multiplier, 1e-3) <= 8.0 < RELEASE.epsilon(0.999 * noise_multiplier, 1e-3)
    # Of two clients with ten million parameters, the roundings alone tell more than that.
    with pytest.raises(ValueError, match=r"dp_epsilon=0.5 is out of reach .* rounding alone tells more"):
        dataclasses.replace(RELEASE, clients_per_sum=2, num_parameters=10**7).calibrate(0.5, 1e-5)


def test_what_is_not_earned_is_infinite():
    assert RELEASE.epsilon(0.0, 1e-3) == math.inf
    assert dataclasses.replace(RELEASE, num_rounds=0).epsilon(1.0, 1e-3) == 0.0
    # The distance of 1.8e7 samples, 2.3e-22 in all, times e^epsilon has to stay below a millionth: epsilon below 36.
    assert math.isfinite(RELEASE.epsilon(2.05, 1e-3))
    assert RELEASE.epsilon(2.05, 1e-3) > 30.0
    assert RELEASE.epsilon(1.5, 1e-3) == math.inf


def test_the_least_noise_is_that_for_which_a_sum_fits():
    for clients in (2, 20, 1000):
        steps = math.sqrt(clients) * NOISE_STD / least_noise_multiplier(clients)
        assert clients * (steps + 1 + LARGEST) == pytest.approx(2**31 - 1, rel=1e-9)
    with pytest.raises(ValueError, match="40000 clients in a sum are too many .* holds 32767"):
        least_noise_multiplier(40_000)
