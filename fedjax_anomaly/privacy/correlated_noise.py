"""Noise that cancels over rounds (DP-FTRL), for cohorts in a fixed order, which no sampling amplifies."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_anomaly.privacy.accounting import ClientLevelRelease
from fedjax_anomaly.types import PyTree

MOST_BANDS = 32
"""The noise of so many rounds is kept, of the size of a model each."""

Strategy = tuple[float, ...]
"""First column of the banded Toeplitz matrix C, from its diagonal, which is 1, downwards; zeros follow."""


@functools.cache
def optimal_strategy(num_rounds: int, min_separation: int) -> Strategy:
    """The banded Toeplitz matrix with the least mean squared error of prefix sums over the rounds.

    It has as many bands as a client waits rounds between two turns, so that its contributions cannot add up, or
    `MOST_BANDS`. With one band it is the identity, which is independent noise: where a client is in every round, no
    correlation makes the last prefix sum more exact.

    Args:
      num_rounds: R.
      min_separation: rounds from one turn of a client to its next; 1 is every round.

    Returns:
      Float32 values, so that the accountant is told what is used.

    References:
      Choquette-Choo et al. 2023, "(Amplified) Banded Matrix Factorization", section 4. McKenna 2024, "Scaling up the
      Banded Matrix Factorization Mechanism for Differentially Private ML", section 3.
    """
    from jax_privacy.matrix_factorization import toeplitz

    bands = min(min_separation, num_rounds, MOST_BANDS)
    if bands == 1:
        return (1.0,)
    with jax.numpy_dtype_promotion("standard"):
        coefficients = np.asarray(toeplitz.optimize_banded_toeplitz(num_rounds, bands), np.float64)
    return tuple(float(value) for value in (coefficients / coefficients[0]).astype(np.float32))


def noise_growth(strategy: Strategy, num_rounds: int) -> float:
    """Deviation of a round's noise C^-1 z, in units of that of the independent z; root mean square over the rounds."""
    from jax_privacy.matrix_factorization import toeplitz

    with jax.enable_x64(), jax.numpy_dtype_promotion("standard"):
        inverse = np.asarray(toeplitz.inverse_coef(jnp.asarray(strategy, jnp.float64), num_rounds))
    return float(np.sqrt(np.cumsum(np.square(inverse)).mean()))


@dataclasses.dataclass(frozen=True)
class CorrelatedRelease(ClientLevelRelease):
    """Noisy sums whose noise is C^-1 times independent noise, of clients that take turns in a fixed order.

    What is released is a function of C x + noise, x being the sums and the noise independent: one Gaussian mechanism,
    whose sensitivity is over all turns of a client together.

    Attributes:
      strategy: of C.
    """

    strategy: Strategy

    @functools.cached_property
    def sensitivity(self) -> float:
        """The most that one client moves C x by, in L2 norm and units of the clip norm, over all of its turns.

        Guarantees:
          It is the largest over all patterns of turns, and reached (test:
          `tests/privacy/test_correlated_noise.py::test_the_sensitivity_is_the_largest_over_all_patterns`).

        References:
          Denisov et al. 2022, "Improved Differential Privacy for SGD via Optimal Private Linear Operators on Adaptive
          Streams", theorem 2.1: sums may depend on the noisy sums before. Kalinin and Lampert 2024, "Banded Square Root
          Matrix Factorization for Differentially Private Model Training", theorem 2.
        """
        from jax_privacy.matrix_factorization import toeplitz

        with jax.enable_x64(), jax.numpy_dtype_promotion("standard"):
            squared = toeplitz.minsep_sensitivity_squared(
                jnp.asarray(self.strategy, jnp.float64), self.min_separation, self.participations, n=self.num_rounds
            )
            return float(jnp.sqrt(squared))

    def _event(self, noise_multiplier: float):  # noqa: ANN202
        import dp_accounting

        return dp_accounting.GaussianDpEvent(noise_multiplier / self.sensitivity)


class CorrelatedMechanism(NamedTuple):
    """Clipping, and noise that depends on the noise of the rounds before.

    Attributes:
      clip: one client's update -> the clipped update.
      init_noise: parameters -> state of the noise, the last rounds' noise; no key.
      add_noise: (key, state, SUM of clipped updates) -> (state, noisy sum).
    """

    clip: Callable[[PyTree], PyTree]
    init_noise: Callable[[PyTree], PyTree]
    add_noise: Callable[[jax.Array, PyTree, PyTree], tuple[PyTree, PyTree]]


def correlated_gaussian(
    clip_norm: float, noise_multiplier: float | jax.Array, strategy: Strategy
) -> CorrelatedMechanism:
    """Gaussian noise on the sums of successive rounds, correlated by C^-1, by jax-privacy's streaming privatizer.

    Args:
      clip_norm: bound S on the L2 norm of one update over all its leaves.
      noise_multiplier: z; the independent noise has standard deviation z S on every coordinate. It may be traced, and
        is not checked then.
      strategy: of C, see `optimal_strategy`.

    Raises:
      ValueError: when `clip_norm` is not positive or `noise_multiplier` is negative.

    Guarantees:
      Over rounds, a coordinate's noise has covariance (z S)^2 C^-1 C^-T (test:
      `tests/privacy/test_correlated_noise.py::test_the_covariance_of_the_noise_is_that_of_the_strategy`).
    """
    from jax_privacy.clipping import clip_pytree
    from jax_privacy.matrix_factorization import toeplitz
    from jax_privacy.noise_addition import matrix_factorization_privatizer

    if not clip_norm > 0.0:
        raise ValueError(f"clip_norm={clip_norm} must be positive.")
    if not isinstance(noise_multiplier, jax.Array) and noise_multiplier < 0.0:
        raise ValueError(f"noise_multiplier={noise_multiplier} must not be negative.")
    noising = toeplitz.inverse_as_streaming_matrix(jnp.asarray(strategy, jnp.float32))

    def add_noise(key: jax.Array, state: PyTree, total: PyTree) -> tuple[PyTree, PyTree]:
        # The privatizer carries a key from call to call; here each round's comes from its number instead.
        privatizer = matrix_factorization_privatizer(noising, stddev=clip_norm * noise_multiplier, prng_key=key)
        with jax.default_matmul_precision("highest"):
            noisy, (_, after) = privatizer.update(total, (key, state))
        return after, noisy

    return CorrelatedMechanism(lambda update: clip_pytree(update, clip_norm)[0], noising.init_multiply, add_noise)
