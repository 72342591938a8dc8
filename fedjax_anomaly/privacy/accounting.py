"""The epsilon that a run has earned, for the sampling of clients that it really did."""

import dataclasses
import math
from typing import Literal

Sampling = Literal["full", "fixed_size", "poisson", "cyclic"]
Accountant = Literal["PLD", "RDP"]

RDP_ORDERS = (*range(2, 65), 80, 96, 128, 192, 256, 512, 1024)
"""Whole ones only: dp-accounting's series for others does not always converge."""

LARGEST_BY_PLD = 1000.0
"""An epsilon above it protects nothing, and distributions that wide do not fit into memory: RDP's bound stands then."""


@dataclasses.dataclass(frozen=True)
class ClientLevelRelease:
    """A sequence of noisy sums of clipped client updates.

    Attributes:
      num_rounds: sums released.
      num_clients: C.
      clients_per_round: S, the cohort's size, or its expectation under Poisson sampling.
      sampling: `full`: every client in every round; `fixed_size`: a uniform sample of S without replacement;
        `poisson`: every client independently with probability S / C; `cyclic`: clients take turns in a fixed order.
    """

    num_rounds: int
    num_clients: int
    clients_per_round: int
    sampling: Sampling

    @property
    def min_separation(self) -> int:
        """Rounds from one turn of a client to its next, at least."""
        return math.ceil(self.num_clients / self.clients_per_round) if self.sampling == "cyclic" else 1

    @property
    def participations(self) -> int:
        """Rounds that one client is in, at most."""
        return math.ceil(self.num_rounds / self.min_separation)

    @property
    def accountant(self) -> str:
        """Which accountant `epsilon` uses, and for which neighbouring data sets."""
        if self.sampling == "fixed_size":
            return "RDP, one client replaced"
        if self.sampling == "cyclic":
            return "PLD, the place of one client emptied"
        return "PLD, one client added or removed"

    def epsilon(self, noise_multiplier: float, delta: float, accountant: Accountant | None = None) -> float:
        """The epsilon at `delta` after all rounds; infinite without noise.

        Full participation and Poisson sampling are accounted by privacy-loss distributions for adding or removing a
        client, a fixed order for emptying its place, by the turns that one client has and without amplification. A
        fixed-size cohort has no tight accounting there; it is accounted by Renyi divergences for replacing a client,
        which moves the sum by up to twice the clip norm. With `accountant="RDP"` all are accounted by Renyi
        divergences, for comparison.

        References:
          Doroshenko et al. 2022, "Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions".
          Wang, Balle and Kasiviswanathan 2019, "Subsampled Renyi Differential Privacy and Analytical Moments
          Accountant", theorem 9.
        """
        check_delta(delta)
        if noise_multiplier == 0.0 or self.num_rounds == 0:
            return 0.0 if self.num_rounds == 0 else math.inf
        by_rdp = self._spent(noise_multiplier, delta, by_rdp=True)
        if accountant == "RDP" or self.sampling == "fixed_size" or by_rdp > LARGEST_BY_PLD:
            return by_rdp
        return self._spent(noise_multiplier, delta, by_rdp=False)

    def _spent(self, noise_multiplier: float, delta: float, by_rdp: bool) -> float:
        spent = self._make_accountant(by_rdp)
        spent.compose(self._event(noise_multiplier))
        return float(spent.get_epsilon(delta))

    def calibrate(self, epsilon: float, delta: float) -> float:
        """The least noise multiplier (to 1e-4) whose `epsilon` after all rounds is at most the one given.

        Raises:
          ValueError: when `epsilon` or `delta` is out of range.
        """
        import dp_accounting

        check_target(epsilon, delta)
        return float(
            dp_accounting.calibrate_dp_mechanism(
                self._make_accountant,
                self._event,
                epsilon,
                delta,
                bracket_interval=dp_accounting.LowerEndpointAndGuess(0.0, 1.0),
                tol=1e-4,
            )
        )

    def _make_accountant(self, by_rdp: bool = False):  # noqa: ANN202  (dp-accounting is imported only where privacy is used)
        import dp_accounting

        relation = dp_accounting.NeighboringRelation
        if self.sampling == "fixed_size":
            return dp_accounting.rdp.RdpAccountant(neighboring_relation=relation.REPLACE_ONE)
        if by_rdp:
            return dp_accounting.rdp.RdpAccountant(RDP_ORDERS, relation.ADD_OR_REMOVE_ONE)
        return dp_accounting.pld.PLDAccountant(neighboring_relation=relation.ADD_OR_REMOVE_ONE)

    def _event(self, noise_multiplier: float):  # noqa: ANN202
        import dp_accounting

        if self.sampling in ("full", "cyclic"):
            event = dp_accounting.GaussianDpEvent(noise_multiplier)
        elif self.sampling == "poisson":
            rate = self.clients_per_round / self.num_clients
            event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise_multiplier))
        else:
            event = dp_accounting.SampledWithoutReplacementDpEvent(
                self.num_clients, self.clients_per_round, dp_accounting.GaussianDpEvent(noise_multiplier / 2.0)
            )
        return dp_accounting.SelfComposedDpEvent(event, self.participations)


def noise_to_clip_ratio(noise_multiplier: float, num_parameters: int, clients_per_sum: float) -> float:
    """Expected L2 norm of the noise on a mean update, in units of the clip norm; a run is pointless far above 1.

    Args:
      noise_multiplier: z.
      num_parameters: coordinates of an update.
      clients_per_sum: clients whose updates are averaged.
    """
    return noise_multiplier * math.sqrt(num_parameters) / clients_per_sum


def check_delta(delta: float) -> None:
    """Raises ValueError for a delta out of range."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"dp_delta={delta} must lie in (0, 1).")


def check_target(epsilon: float, delta: float) -> None:
    """Raises ValueError for a target that noise cannot be calibrated to."""
    check_delta(delta)
    if not epsilon > 0.0:
        raise ValueError(f"dp_epsilon={epsilon} must be positive.")
