"""The epsilon of secure sums in which every client has put its share of discrete Gaussian noise."""

import dataclasses
import math

import numpy as np

from fedjax_anomaly.privacy.accounting import Accountant, Sampling, check_delta, check_target
from fedjax_anomaly.privacy.conditional_rounding import rounded_norm_bound
from fedjax_anomaly.privacy.discrete_gaussian import LARGEST, NOISE_STD, TOTAL_VARIATION

_LARGEST_SUM = 2**31 - 1
_SHARE_OF_SAMPLING = 1e-3
"""The share of delta that may go to the distance between the sampled noise and the discrete Gaussian."""


def rho_of_sum(noise_std: float, num_shares: int, l2: float, l1: float, dimension: int) -> float:
    """The concentrated differential privacy of a sum with discrete Gaussian noise from many clients.

    Args:
      noise_std: sigma of each client's noise, in steps, at least 1/2.
      num_shares: n, how many clients add noise.
      l2: the most that the sum moves between neighbours, in L2 norm and in steps.
      l1: the same in L1 norm.
      dimension: d.

    Returns:
      rho: the Renyi divergence of order alpha between neighbours is at most `rho alpha`, for every alpha >= 1.

    Raises:
      ValueError: for noise that is too small for the theorem.

    References:
      Kairouz, Liu and Steinke 2021, proposition 14: a sum of discrete Gaussians is not one, but close to it.
    """
    if not noise_std >= 0.5:
        raise ValueError(f"noise_std={noise_std} must be at least half a step.")
    share = np.arange(1, num_shares) / np.arange(2, num_shares + 1)
    tau = 10.0 * float(np.sum(np.exp(-2.0 * (math.pi * noise_std) ** 2 * share)))
    std = math.sqrt(num_shares) * noise_std
    return min(
        (l2 / std) ** 2 / 2.0 + tau * dimension,
        ((l2 / std) ** 2 + 2.0 * l1 / std * tau + tau**2 * dimension) / 2.0,
        (l2 / std + tau * math.sqrt(dimension)) ** 2 / 2.0,
    )


@dataclasses.dataclass(frozen=True)
class DistributedRelease:
    """Secure sums of rounded updates, each with its client's share of the noise.

    The server learns the sums and knows who takes part, so inputs are neighbours when one client holds something else,
    and nothing is gained by sampling: every client is charged for every round. All clients of a sum are taken to add
    their noise.

    Attributes:
      num_rounds: sums that a client may take part in.
      clients_per_sum: n, of the smallest sum; a client's share of the noise variance is one nth.
      num_parameters: d, the length of an update.
      sampling: how cohorts are drawn, which the epsilon does not depend on.
    """

    num_rounds: int
    clients_per_sum: int
    num_parameters: int
    sampling: Sampling

    @property
    def accountant(self) -> str:
        """Which accountant `epsilon` uses, and for which neighbouring data sets."""
        return "RDP of the distributed discrete Gaussian, what one client holds replaced; charged for every round"

    def epsilon(self, noise_multiplier: float, delta: float, accountant: Accountant | None = None) -> float:
        """The epsilon at `delta` after all rounds; infinite without noise.

        Args:
          noise_multiplier: z; the noise on every coordinate of a sum has standard deviation z times the clip norm.
          delta: in (0, 1). A thousandth of it pays for the distance of the sampled noise from the discrete Gaussian;
            where that is not enough, for epsilons above 30 or so, epsilon is infinite.
          accountant: there is RDP only, which is what both names get.

        Raises:
          ValueError: when `delta` is out of range.

        Guarantees:
          Never below the exact epsilon of the sum (test:
          `tests/privacy/test_distributed_accounting.py::test_rho_bounds_the_exact_divergence_of_a_sum`).

        References:
          Kairouz, Liu and Steinke 2021, theorem 1.
        """
        import dp_accounting

        del accountant
        check_delta(delta)
        if self.num_rounds == 0:
            return 0.0
        if noise_multiplier == 0.0:
            return math.inf
        clip_in_steps = math.sqrt(self.clients_per_sum) * NOISE_STD / noise_multiplier
        l2 = 2.0 * float(rounded_norm_bound(clip_in_steps, self.num_parameters))
        l1 = math.sqrt(self.num_parameters) * l2
        rho = rho_of_sum(NOISE_STD, self.clients_per_sum, l2, l1, self.num_parameters)
        spent = dp_accounting.rdp.RdpAccountant()
        spent.compose(dp_accounting.ZCDpEvent(self.num_rounds * rho))
        epsilon = float(spent.get_epsilon((1.0 - _SHARE_OF_SAMPLING) * delta))
        samples = self.num_rounds * self.clients_per_sum * self.num_parameters
        # In logarithms: (1 + e^epsilon) samples TOTAL_VARIATION <= share delta.
        needed = np.logaddexp(0.0, epsilon) + math.log(samples * TOTAL_VARIATION)
        return epsilon if needed <= math.log(_SHARE_OF_SAMPLING * delta) else math.inf

    def calibrate(self, epsilon: float, delta: float) -> float:
        """The least noise multiplier (to 1e-4 of itself) whose `epsilon` after all rounds is at most the one given.

        Raises:
          ValueError: when `epsilon` or `delta` is out of range, or so small that rounding alone would take it up.
        """
        check_target(epsilon, delta)
        low, high = 0.0, 1.0
        while self.epsilon(high, delta) > epsilon:
            low, high = high, 2.0 * high
            if high > 2.0**20:
                raise ValueError(
                    f"dp_epsilon={epsilon} is out of reach of the distributed discrete Gaussian with "
                    f"{self.clients_per_sum} clients in a sum and {self.num_parameters} parameters: rounding alone "
                    "tells more than that; give more --clients_per_round or a larger --dp_epsilon."
                )
        while high - low > 1e-4 * high:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self.epsilon(middle, delta) <= epsilon else (middle, high)
        return high


def least_noise_multiplier(num_clients: int) -> float:
    """The noise multiplier below which a sum of so many clients could overflow 32 bits.

    Raises:
      ValueError: for so many clients that their noise alone could.
    """
    noise = num_clients * (LARGEST + 1)
    if noise > _LARGEST_SUM // 2:
        raise ValueError(
            f"{num_clients} clients in a sum are too many for discrete Gaussian noise in 32 bits, which holds "
            f"{_LARGEST_SUM // 2 // (LARGEST + 1)}; give a smaller --clients_per_round."
        )
    return NOISE_STD * num_clients**1.5 / (_LARGEST_SUM - noise)
