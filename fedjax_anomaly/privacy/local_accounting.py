"""The epsilon of updates that each client clips and noises by itself before it sends them."""

import dataclasses
import math

from fedjax_anomaly.privacy.accounting import Accountant, ClientLevelRelease, Sampling

_ONE_SUM = ClientLevelRelease(1, 1, 1, "full")
"""Gaussian noise of equal size in many rounds composes to that on one vector, which is moved by one clip norm here."""


@dataclasses.dataclass(frozen=True)
class LocalRelease:
    """One client's noisy updates, of all rounds, as the server receives them.

    The server knows who sends, so what is protected is what an update says: inputs are neighbours when one client
    holds something else, which moves its clipped update by up to twice the clip norm. For the same reason nothing is
    gained by sampling, and every client is charged for every round.

    Attributes:
      num_rounds: updates that a client may be asked for.
      sampling: how cohorts are drawn, which the epsilon does not depend on.
    """

    num_rounds: int
    sampling: Sampling

    @property
    def accountant(self) -> str:
        """Which accountant `epsilon` uses, and for which neighbouring data sets."""
        return "PLD, what one client holds replaced; charged for every round"

    def epsilon(self, noise_multiplier: float, delta: float, accountant: Accountant | None = None) -> float:
        """The epsilon at `delta` of one client's updates in all rounds; infinite without noise.

        Args:
          noise_multiplier: z; the noise on every coordinate of an update has standard deviation z times the clip norm.
          delta: in (0, 1).
          accountant: PLD, also where None is given, or RDP.

        Raises:
          ValueError: when `delta` is out of range.

        References:
          Dwork and Roth 2014, "The Algorithmic Foundations of Differential Privacy", section 12.1 and appendix A.
        """
        if self.num_rounds == 0:
            return 0.0
        return _ONE_SUM.epsilon(noise_multiplier / self._moved, delta, accountant)

    def calibrate(self, epsilon: float, delta: float) -> float:
        """The least noise multiplier (to 2e-4 times the root of the rounds) whose `epsilon` is at most the one given.

        Raises:
          ValueError: when `epsilon` or `delta` is out of range.
        """
        return self._moved * _ONE_SUM.calibrate(epsilon, delta)

    @property
    def _moved(self) -> float:
        """The most that all rounds' updates together move between neighbours, as one vector and in clip norms."""
        return 2.0 * math.sqrt(self.num_rounds)
