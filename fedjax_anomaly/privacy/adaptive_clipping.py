"""A clip norm that follows a quantile of the updates' norms, learned from a noisy count."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

_COUNT_NOISE = 0.05
"""Deviation of the noise on the count, as a share of the clients that are expected in a sum."""


@dataclasses.dataclass(frozen=True)
class AdaptiveClip:
    """How the clip norm moves.

    Attributes:
      initial_norm: of the first round.
      quantile: the share of updates that are to be within the clip norm.
      learning_rate: of the logarithm of the clip norm.

    Raises:
      ValueError: for a value out of range.
    """

    initial_norm: float
    quantile: float = 0.5
    learning_rate: float = 0.2

    def __post_init__(self) -> None:
        if not self.initial_norm > 0.0:
            raise ValueError(f"clip_norm={self.initial_norm} must be positive.")
        if not 0.0 < self.quantile < 1.0:
            raise ValueError(f"clip_quantile={self.quantile} must lie in (0, 1).")
        if not self.learning_rate > 0.0:
            raise ValueError(f"clip_learning_rate={self.learning_rate} must be positive.")

    def next_norm(self, norm: jax.Array, share_within: jax.Array) -> jax.Array:
        """The clip norm of the next round: smaller where more updates than the quantile are within it.

        References:
          Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", equation 2.
        """
        return norm * jnp.exp(-self.learning_rate * (share_within - self.quantile))


class NoiseSplit(NamedTuple):
    """One noise multiplier, divided between a sum of updates and a count.

    Attributes:
      update_multiplier: deviation of the noise on the sum of updates, in units of the clip norm.
      count_std: deviation of the noise on the count.
    """

    update_multiplier: float | jax.Array
    count_std: float | jax.Array


def split_noise(noise_multiplier: float | jax.Array, clients_per_sum: float) -> NoiseSplit:
    """Divides the noise so that the sum of updates and the count together cost what one sum costs.

    A client moves the sum of updates by at most the clip norm and the count, of plus or minus one half for each
    client, by one half. The count's noise is a twentieth of the clients in a sum, or the noise multiplier where that is
    more, so that the updates' noise is at most 2 / sqrt(3) of what it would be by itself.

    Args:
      noise_multiplier: z of the pair; it may be traced.
      clients_per_sum: expected.

    Guarantees:
      1 / update_multiplier^2 + (1/2)^2 / count_std^2 = 1 / z^2 (test:
      `tests/privacy/test_adaptive_clipping.py::test_the_pair_costs_what_one_sum_costs`).

    References:
      Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", theorem 1; the twentieth is
      from section 3.
    """
    count_std = jnp.maximum(_COUNT_NOISE * clients_per_sum, noise_multiplier)
    return NoiseSplit(noise_multiplier / jnp.sqrt(1.0 - jnp.square(noise_multiplier / (2.0 * count_std))), count_std)
