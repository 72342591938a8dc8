import dataclasses
import math

import numpy as np
import pytest
from scipy import optimize, stats

from fedjax_anomaly.privacy.accounting import ClientLevelRelease, noise_to_clip_ratio

FULL = ClientLevelRelease(num_rounds=50, num_clients=20, clients_per_round=20, sampling="full")


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Balle and Wang 2018, "Improving the Gaussian Mechanism", theorem 8, solved for epsilon."""
    mu = 1.0 / noise_multiplier

    def excess(epsilon: float) -> float:
        first = stats.norm.cdf(mu / 2.0 - epsilon / mu)
        return first - math.exp(epsilon) * stats.norm.cdf(-mu / 2.0 - epsilon / mu) - delta

    return optimize.brentq(excess, 0.0, 200.0)


def test_full_participation_equals_the_analytic_gaussian_mechanism():
    # 50 Gaussian releases with multiplier z compose to one with multiplier z / sqrt 50.
    for noise_multiplier in (2.0, 5.0, 20.0):
        exact = gaussian_epsilon(noise_multiplier / math.sqrt(50.0), 1e-3)
        assert FULL.epsilon(noise_multiplier, 1e-3) == pytest.approx(exact, rel=2e-3)
        assert FULL.epsilon(noise_multiplier, 1e-3) >= exact * (1.0 - 1e-9)


def test_calibration_meets_the_target_and_is_tight():
    noise_multiplier = FULL.calibrate(8.0, 1e-3)
    assert FULL.epsilon(noise_multiplier, 1e-3) <= 8.0
    assert FULL.epsilon(noise_multiplier - 2e-4, 1e-3) > 8.0


def test_poisson_sampling_of_everybody_is_full_participation():
    everybody = dataclasses.replace(FULL, sampling="poisson")
    assert everybody.epsilon(5.0, 1e-3) == pytest.approx(FULL.epsilon(5.0, 1e-3), rel=1e-3)


def test_poisson_sampling_amplifies_about_as_the_square_of_the_rate():
    # Abadi et al. 2016: for many rounds epsilon is about proportional to q sqrt(R) / z, so a rate of 1 % over 10,000
    # rounds costs about as much as full participation in one round.
    sampled = ClientLevelRelease(10_000, 1000, 10, "poisson").epsilon(4.0, 1e-5)
    once = ClientLevelRelease(1, 1000, 1000, "full").epsilon(4.0, 1e-5)
    assert sampled == pytest.approx(once, rel=0.15)


def test_a_fixed_size_cohort_is_accounted_for_replacement():
    # With everybody in the cohort nothing is gained by sampling and replacing a client moves the sum by twice the clip
    # norm: at least the exact epsilon of half the multiplier, and within RDP's usual slack of it.
    release = ClientLevelRelease(50, 20, 20, "fixed_size")
    exact = gaussian_epsilon(10.0 / 2.0 / math.sqrt(50.0), 1e-3)
    assert exact <= release.epsilon(10.0, 1e-3) <= 1.5 * exact


def test_a_fixed_order_is_charged_for_the_turns_of_one_client():
    # 50 rounds of 3 blocks: a client has at most 17 turns. Without sampling, 17 Gaussian releases compose exactly.
    release = ClientLevelRelease(50, 20, 7, "cyclic")
    assert (release.min_separation, release.participations) == (3, 17)
    assert release.epsilon(5.0, 1e-3) == pytest.approx(gaussian_epsilon(5.0 / math.sqrt(17.0), 1e-3), rel=2e-3)
    # Nothing is gained by who comes when: one turn costs what a round of full participation costs.
    assert ClientLevelRelease(3, 20, 7, "cyclic").epsilon(5.0, 1e-3) == pytest.approx(
        ClientLevelRelease(1, 20, 20, "full").epsilon(5.0, 1e-3)
    )


def test_a_smaller_cohort_never_costs_more():
    costs = [ClientLevelRelease(20, 100, s, "fixed_size").epsilon(6.0, 1e-4) for s in (10, 40, 100)]
    assert costs == sorted(costs)


def test_no_noise_is_infinite_and_no_round_is_nothing():
    assert FULL.epsilon(0.0, 1e-3) == math.inf
    assert dataclasses.replace(FULL, num_rounds=0).epsilon(1.0, 1e-3) == 0.0


def test_the_noise_ratio_of_twenty_clients():
    # E||noise|| on the mean of n clients: z S sqrt(d) / n.
    rng = np.random.default_rng(0)
    drawn = np.linalg.norm(rng.normal(scale=3.0, size=(200, 5000)), axis=1).mean() / 20
    assert noise_to_clip_ratio(3.0, 5000, 20) == pytest.approx(drawn, rel=0.01)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-3), (1.0, 0.0), (1.0, 1.0)])
def test_targets_out_of_range_are_refused(epsilon, delta):
    with pytest.raises(ValueError, match="must"):
        FULL.calibrate(epsilon, delta)


def test_noise_that_protects_nothing_is_stated_all_the_same():
    release = ClientLevelRelease(num_rounds=600, num_clients=20, clients_per_round=20, sampling="full")
    assert release.epsilon(1e-6, 1e-3) == pytest.approx(2 * 600 / (2 * 1e-12), rel=1e-3)
