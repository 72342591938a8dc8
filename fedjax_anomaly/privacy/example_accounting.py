"""The epsilon of DP-SGD at every client, for the batches that are really drawn there."""

import dataclasses
import functools
import math

import numpy as np

from fedjax_anomaly.privacy.accounting import (
    LARGEST_BY_PLD,
    RDP_ORDERS,
    Accountant,
    Sampling,
    check_delta,
    check_target,
)

_PLD_INTERVAL = 5e-4


def sampling_rate(batch_size: int, num_windows: int) -> float:
    """q, the probability that a step draws a window: the float32 that the sampler of local training compares with.

    Args:
      batch_size: B.
      num_windows: N, of one client.
    """
    return min(1.0, float(np.float32(batch_size) / np.float32(num_windows)))


@dataclasses.dataclass(frozen=True)
class ExampleLevelRelease:
    """The noisy gradient sums of all clients' local steps, of windows that each lie in one client.

    Two data sets are neighbours when one window of one client is there in one of them and empty in the other, so that
    its gradient is zero; the number of windows of each client is the same in both, and public. A window lies in one
    client, so a client's epsilon is that of its own steps and the federation's is the largest of them. Clients are
    charged for every round, whether or not they were in its cohort: the server knows who was.

    Attributes:
      num_rounds: R.
      num_windows: N of each client.
      batch_size: B, expected; every step draws each window by itself with probability `sampling_rate(B, N)`.
      local_epochs: of a round, `ceil(1 / q)` steps each.
      fixed_rate: q of every client, in place of that by `batch_size`; 0 for none.
      local_steps: of every client in a round, in place of those by `local_epochs`; 0 for none.
      preprocessing: noise multipliers of the Gaussian releases that have every window in them once, before the steps.
      preprocessing_delta: bound on the probability that those releases say of a window what no noise hides.
    """

    num_rounds: int
    num_windows: tuple[int, ...]
    batch_size: int
    local_epochs: int
    fixed_rate: float = 0.0
    local_steps: int = 0
    preprocessing: tuple[float, ...] = ()
    preprocessing_delta: float = 0.0

    def rate(self, num_windows: int) -> float:
        """q, the probability that a step of a client of `num_windows` windows draws one of them."""
        return float(np.float32(self.fixed_rate)) if self.fixed_rate else sampling_rate(self.batch_size, num_windows)

    def steps(self, num_windows: int) -> int:
        """Noisy sums that a client of `num_windows` windows releases in all rounds."""
        epoch = math.ceil(1.0 / self.fixed_rate) if self.fixed_rate else math.ceil(num_windows / self.batch_size)
        return self.num_rounds * (self.local_steps or self.local_epochs * epoch)

    @property
    def sampling(self) -> Sampling:
        """`poisson` where any client draws its batches, `full` where all take all their windows in every step."""
        return "poisson" if self.rate(max(self.num_windows)) < 1.0 else "full"

    @property
    def accountant(self) -> str:
        """Which accountant `epsilon` uses, and for which neighbouring data sets."""
        return "PLD, one window emptied; the client with the largest epsilon"

    def client_epsilons(
        self, noise_multiplier: float, delta: float, accountant: Accountant = "PLD"
    ) -> tuple[float, ...]:
        """The epsilon at `delta` of each client's windows after all rounds; infinite without noise.

        PLD composes privacy-loss distributions of the Poisson-subsampled Gaussian, discretised so that the result is an
        upper bound; RDP is the moments accountant, an upper bound that is looser, shown for comparison. The releases of
        preprocessing are composed with the steps. Their delta is taken off `delta`; the rest holds where nothing was
        given away, which is that much less likely, hence the logarithm.

        Raises:
          ValueError: when `delta` is out of range, or not above that of preprocessing.

        Guarantees:
          With full batches equal to one Gaussian release in closed form (test:
          `tests/privacy/test_example_accounting.py::test_preprocessing_composes_as_gaussian_releases_do`).

        References:
          Doroshenko et al. 2022, "Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions".
          Mironov, Talwar and Zhang 2019, "Renyi Differential Privacy of the Sampled Gaussian Mechanism".
        """
        check_delta(delta)
        left = delta - self.preprocessing_delta
        if not left > 0.0:
            raise ValueError(f"dp_delta={delta} must be above preprocessing_delta={self.preprocessing_delta}.")
        given_away = -math.log1p(-self.preprocessing_delta)
        return tuple(
            epsilon_of_steps(accountant, noise_multiplier, self.rate(n), self.steps(n), left, self.preprocessing)
            + given_away
            for n in self.num_windows
        )

    def epsilon(self, noise_multiplier: float, delta: float, accountant: Accountant | None = None) -> float:
        """The epsilon of the client that has the largest, by PLD unless told otherwise."""
        return max(self.client_epsilons(noise_multiplier, delta, accountant or "PLD"))

    def calibrate(self, epsilon: float, delta: float) -> float:
        """The least noise multiplier (to 1e-3 of itself) whose `epsilon` after all rounds is at most the one given.

        Raises:
          ValueError: when `epsilon` or `delta` is out of range, or preprocessing alone takes more than `epsilon`.

        Guarantees:
          No client exceeds the target (test:
          `tests/privacy/test_example_accounting.py::test_calibration_meets_the_target_for_every_client`).
        """
        check_target(epsilon, delta)
        spent = dataclasses.replace(self, num_rounds=0).epsilon(1.0, delta, "RDP")
        if not spent < epsilon:
            raise ValueError(
                f"dp_epsilon={epsilon} must be above what preprocessing takes alone, {spent:.4g} by RDP; give it less."
            )
        return _calibrated(self, epsilon, delta)


@functools.lru_cache(maxsize=256)
def _calibrated(release: ExampleLevelRelease, epsilon: float, delta: float) -> float:
    """Bisection for the client that is worst at RDP's noise, then for any other that turns out to be worse."""
    rdp = functools.partial(release.epsilon, delta=delta, accountant="RDP")
    high = _least_noise(rdp, epsilon, 0.0, 1.0)
    of_clients = release.client_epsilons(high, delta, "RDP")
    worst = dataclasses.replace(release, num_windows=(release.num_windows[int(np.argmax(of_clients))],))
    noise_multiplier = _least_noise(functools.partial(worst.epsilon, delta=delta), epsilon, 0.0, high)
    if release.epsilon(noise_multiplier, delta) <= epsilon:
        return noise_multiplier
    return _least_noise(functools.partial(release.epsilon, delta=delta), epsilon, noise_multiplier, high)


def _least_noise(epsilon_of, target: float, low: float, high: float) -> float:  # noqa: ANN001
    """The least noise multiplier above `low` that meets the target, by bisection; `high` grows until it does."""
    while epsilon_of(high) > target:
        low, high = high, 2.0 * high
    while high - low > 1e-3 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if epsilon_of(middle) <= target else (middle, high)
    return high


@functools.lru_cache(maxsize=4096)
def epsilon_of_steps(
    accountant: Accountant,
    noise_multiplier: float,
    rate: float,
    steps: int,
    delta: float,
    gaussians: tuple[float, ...] = (),
) -> float:
    """The epsilon of noisy sums that draw a window with probability `rate` each.

    Args:
      accountant: PLD or RDP; an epsilon above `LARGEST_BY_PLD` is that of RDP.
      noise_multiplier: z; without noise epsilon is infinite.
      rate: q, up to 1.
      steps: how many sums.
      delta: in (0, 1).
      gaussians: noise multipliers of further releases that have every window in them.
    """
    # Importing dp-accounting takes seconds; runs without privacy do not need it.
    import dp_accounting

    if steps == 0 and not gaussians:
        return 0.0
    if (steps and noise_multiplier == 0.0) or 0.0 in gaussians:
        return math.inf
    if accountant == "PLD":
        by_rdp = epsilon_of_steps("RDP", noise_multiplier, rate, steps, delta, gaussians)
        if by_rdp > LARGEST_BY_PLD:
            return by_rdp
    relation = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    if accountant == "PLD":
        spent = dp_accounting.pld.PLDAccountant(relation, _PLD_INTERVAL)
    else:
        spent = dp_accounting.rdp.RdpAccountant(RDP_ORDERS, relation)
    if gaussians:
        spent.compose(dp_accounting.GaussianDpEvent(sum(z**-2 for z in gaussians) ** -0.5))
    if steps:
        event = dp_accounting.GaussianDpEvent(noise_multiplier)
        if rate < 1.0:
            event = dp_accounting.PoissonSampledDpEvent(rate, event)
        spent.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    return float(spent.get_epsilon(delta))
