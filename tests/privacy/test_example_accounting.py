import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from fedjax_anomaly.privacy.example_accounting import ExampleLevelRelease, epsilon_of_steps, sampling_rate
from tests.privacy.test_accounting import gaussian_epsilon

MNIST = ExampleLevelRelease(num_rounds=1, num_windows=(60_000,), batch_size=256, local_epochs=60)
SILOS = ExampleLevelRelease(num_rounds=20, num_windows=(700, 90, 65, 64, 2000), batch_size=64, local_epochs=2)


def rdp_epsilon(noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    """Written from the papers, for whole orders.

    Mironov, Talwar and Zhang 2019, section 3.3, the binomial sum; Canonne, Kamath and Steinke 2020, proposition 12, the
    conversion to epsilon.
    """
    best = math.inf
    for order in range(2, 200):
        k = np.arange(order + 1)
        logs = (
            special.gammaln(order + 1)
            - special.gammaln(k + 1)
            - special.gammaln(order - k + 1)
            + (order - k) * math.log1p(-rate)
            + k * math.log(rate)
            + (k * k - k) / (2.0 * noise_multiplier**2)
        )
        divergence = steps * special.logsumexp(logs) / (order - 1)
        epsilon = divergence + math.log1p(-1.0 / order) - math.log(delta * order) / (order - 1)
        best = min(best, epsilon)
    return best


def one_step_epsilon(noise_multiplier: float, rate: float, delta: float) -> float:
    """Of one subsampled Gaussian sum, by numerical integration of the hockey-stick divergence in both directions."""

    def delta_at(epsilon: float) -> float:
        def density(x, mean):
            return stats.norm.pdf(x, mean, noise_multiplier)

        def mixture(x):
            return (1 - rate) * density(x, 0.0) + rate * density(x, 1.0)

        grid = np.linspace(-12 * noise_multiplier, 1 + 12 * noise_multiplier, 200_001)
        removed = np.maximum(mixture(grid) - math.exp(epsilon) * density(grid, 0.0), 0.0)
        added = np.maximum(density(grid, 0.0) - math.exp(epsilon) * mixture(grid), 0.0)
        return max(integrate.trapezoid(removed, grid), integrate.trapezoid(added, grid))

    low, high = 0.0, 20.0
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if delta_at(middle) <= delta else (middle, high)
    return high


def test_the_known_setting_of_mnist():
    # The tutorial of TensorFlow Privacy, "Implement differential privacy with TensorFlow Privacy", and its
    # compute_dp_sgd_privacy: 60,000 examples, batches of 256, noise 1.1, 60 epochs, delta 1e-5 give epsilon 3.0 by the
    # RDP of its day. The conversion of 2020 brings it to 2.6, and PLD is below that.
    assert MNIST.steps(60_000) == 60 * 235
    old = min(
        rdp + math.log(1e5) / (order - 1)
        for order, rdp in ((a, rdp_of_order(1.1, 256 / 60_000, a) * 14_100) for a in range(2, 33))
    )
    assert old == pytest.approx(3.0, abs=0.05)
    by_rdp, by_pld = (MNIST.epsilon(1.1, 1e-5, accountant) for accountant in ("RDP", "PLD"))
    assert by_rdp == pytest.approx(2.6, abs=0.05)
    assert 2.3 < by_pld < by_rdp


def rdp_of_order(noise_multiplier: float, rate: float, order: int) -> float:
    """The divergence itself, by numerical integration over the sum."""
    x = np.linspace(-30.0, 40.0 + order, 400_001)
    log_base = stats.norm.logpdf(x, 0.0, noise_multiplier)
    log_ratio = np.log1p(rate * np.expm1(np.minimum((2 * x - 1) / (2 * noise_multiplier**2), 600.0)))
    return math.log(integrate.trapezoid(np.exp(log_base + order * log_ratio), x)) / (order - 1)


@pytest.mark.parametrize(
    ("noise_multiplier", "rate", "steps"), [(1.1, 0.01, 1000), (0.8, 0.0256, 2400), (3.0, 0.5, 60)]
)
def test_rdp_equals_a_direct_computation(noise_multiplier, rate, steps):
    size = 10_000
    steps_of_an_epoch = math.ceil(size / round(rate * size))
    release = ExampleLevelRelease(steps // steps_of_an_epoch, (size,), round(rate * size), 1)
    expected = rdp_epsilon(noise_multiplier, sampling_rate(release.batch_size, size), release.steps(size), 1e-5)
    assert release.epsilon(noise_multiplier, 1e-5, "RDP") == pytest.approx(expected, rel=1e-3)


def test_everything_drawn_is_the_analytic_gaussian_mechanism():
    # 30 rounds of 2 full batches compose to one release with multiplier z / sqrt 60.
    release = ExampleLevelRelease(num_rounds=30, num_windows=(50,), batch_size=64, local_epochs=2)
    for noise_multiplier in (3.0, 10.0):
        exact = gaussian_epsilon(noise_multiplier / math.sqrt(60.0), 1e-5)
        assert release.epsilon(noise_multiplier, 1e-5) == pytest.approx(exact, rel=2e-3)
        assert release.epsilon(noise_multiplier, 1e-5) >= exact * (1 - 1e-9)
        assert release.epsilon(noise_multiplier, 1e-5, "RDP") >= exact


@pytest.mark.parametrize(("noise_multiplier", "batch_size"), [(0.6, 8), (1.0, 20)])
def test_one_sampled_step_equals_numerical_integration(noise_multiplier, batch_size):
    rate = sampling_rate(batch_size, 40)
    exact = one_step_epsilon(noise_multiplier, rate, 1e-3)
    found = epsilon_of_steps("PLD", noise_multiplier, rate, 1, 1e-3)
    assert exact - 1e-4 <= found <= exact * 1.002 + 1e-3


def test_a_given_rate_makes_all_clients_alike():
    release = dataclasses.replace(SILOS, fixed_rate=0.1)
    # An epoch is ceil(1 / 0.1) = 10 steps at every client; 20 rounds of 2 epochs.
    assert [release.steps(size) for size in SILOS.num_windows] == [400] * 5
    assert dataclasses.replace(release, local_steps=3).steps(64) == 60
    expected = epsilon_of_steps("PLD", 1.0, float(np.float32(0.1)), 400, 1e-5)
    assert release.client_epsilons(1.0, 1e-5) == (expected,) * 5
    assert release.sampling == "poisson"
    assert dataclasses.replace(SILOS, fixed_rate=1.0).sampling == "full"


def test_each_client_is_accounted_by_its_own_rate_and_steps():
    of_clients = SILOS.client_epsilons(1.0, 1e-5)
    alone = [dataclasses.replace(SILOS, num_windows=(size,)).epsilon(1.0, 1e-5) for size in SILOS.num_windows]
    assert list(of_clients) == alone
    assert SILOS.epsilon(1.0, 1e-5) == max(of_clients)
    # 65 windows are two steps at a rate close to 1, where 64 are one step of everything.
    assert np.argmax(of_clients) == 2
    assert of_clients[4] < of_clients[0] < of_clients[1]


@pytest.mark.parametrize("target", [1.0, pytest.param(8.0, marks=pytest.mark.slow)])
def test_calibration_meets_the_target_for_every_client(target):
    noise_multiplier = SILOS.calibrate(target, 1e-5)
    assert max(SILOS.client_epsilons(noise_multiplier, 1e-5)) <= target
    assert SILOS.epsilon(noise_multiplier * 0.997, 1e-5) > target


def test_rdp_is_never_below_pld():
    for noise_multiplier in (0.7, 1.5, 4.0):
        pld, rdp = (SILOS.client_epsilons(noise_multiplier, 1e-5, name) for name in ("PLD", "RDP"))
        assert all(a <= b * 1.001 for a, b in zip(pld, rdp, strict=True))


def test_no_noise_is_infinite_and_no_round_is_nothing():
    assert SILOS.epsilon(0.0, 1e-5) == math.inf
    assert dataclasses.replace(SILOS, num_rounds=0).epsilon(1.0, 1e-5) == 0.0


def test_preprocessing_composes_as_gaussian_releases_do():
    # In units of their noise, releases add up by squares: 20 of full batches with z = 8, and one of 5 and of 12.
    release = ExampleLevelRelease(20, (50,), 64, 1, preprocessing=(5.0, 12.0), preprocessing_delta=1e-6)
    together = (20 / 8.0**2 + 1 / 5.0**2 + 1 / 12.0**2) ** -0.5
    exact = gaussian_epsilon(together, 9e-6)
    assert exact <= release.epsilon(8.0, 1e-5) <= 1.002 * exact
    assert release.epsilon(8.0, 1e-5, "RDP") > exact
    unspent = dataclasses.replace(release, num_rounds=0)
    assert unspent.epsilon(8.0, 1e-5) == pytest.approx(gaussian_epsilon(60 / 13, 9e-6), rel=2e-3)
    assert dataclasses.replace(release, preprocessing=(0.0,)).epsilon(8.0, 1e-5) == math.inf


def test_the_training_gets_what_preprocessing_leaves():
    silos = ExampleLevelRelease(3, (65, 40), 64, 1, preprocessing=(10.0, 10.0), preprocessing_delta=1e-6)
    noise_multiplier = silos.calibrate(2.0, 1e-5)
    assert 1.99 < silos.epsilon(noise_multiplier, 1e-5) <= 2.0
    assert dataclasses.replace(silos, preprocessing=()).epsilon(noise_multiplier, 1e-5) < 1.98
    with pytest.raises(ValueError, match=r"dp_epsilon=0.1 must be above what preprocessing takes alone"):
        silos.calibrate(0.1, 1e-5)
    with pytest.raises(ValueError, match="must be above preprocessing_delta"):
        silos.epsilon(1.0, 1e-6)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_targets_out_of_range_are_refused(epsilon, delta):
    with pytest.raises(ValueError, match="must"):
        SILOS.calibrate(epsilon, delta)


def test_noise_that_protects_nothing_is_stated_all_the_same():
    """PLD would ask for petabytes; RDP's bound is that of its least order, alpha steps / (2 z^2) and a little more."""
    release = ExampleLevelRelease(num_rounds=600, num_windows=(50,), batch_size=64, local_epochs=1)
    assert release.epsilon(1e-6, 1e-5) == pytest.approx(2 * 600 / (2 * 1e-12), rel=1e-3)
