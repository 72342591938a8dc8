"""Stochastic rounding of a vector to integers that keeps a bound on its L2 norm."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from fedjax_anomaly.privacy.secure_aggregation.quantize import rounded

_LOG_INVERSE_BETA = 2.0
_TRIES = 8
_BLOCK = 32
_SLACK = 2.0**-14
"""Norms are compared in float32, where a sum of squares by blocks of 32 is off by less than 2^-15 of itself."""


def rounded_norm_bound(norm: Float[jax.Array, ""] | float, dimension: int) -> Float[jax.Array, ""] | float:
    """The L2 norm that a rounded vector has at most, in steps.

    Args:
      norm: bound on the L2 norm of the vector before it is rounded.
      dimension: d, its length.

    Returns:
      The square root of `min(c^2 + d / 4 + sqrt(2 log(1 / beta)) (c + sqrt(d) / 2), (c + sqrt(d))^2)` with
      `beta = e^-2`, larger by 2^-13 to allow for float32.

    References:
      Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
      Aggregation", section 4.2 and theorem 1, with `gamma = 1`.
    """
    return _squared_bound(norm, dimension) ** 0.5 * (1.0 + _SLACK)


def conditionally_rounded(
    key: jax.Array, steps: Float[jax.Array, " d"], norm: Float[jax.Array, ""]
) -> Int[jax.Array, " d"]:
    """Rounds each element up or down at random, without bias, until the result is short enough.

    After 8 tries, which all fail with a probability of at most e^-16, it rounds toward zero. A vector that is longer
    than `norm` to begin with may find no way to be short enough, and is replaced by zeros.

    Args:
      key: of this vector.
      steps: the vector, in steps, of a norm of at most `norm`.
      norm: see `rounded_norm_bound`.

    Guarantees:
      The result is never longer than `rounded_norm_bound(norm, d)`, whatever the vector (test:
      `tests/privacy/test_conditional_rounding.py::test_the_norm_bound_holds_whatever_is_rounded`).
      Unbiased but for the rare condition (test:
      `tests/privacy/test_conditional_rounding.py::test_rounding_is_unbiased`).

    References:
      Kairouz, Liu and Steinke 2021, algorithm 1 and definition 22 (conditional randomized rounding).
    """
    limit = _squared_bound(norm, len(steps)) * (1.0 + _SLACK)

    def attempt(number: jax.Array) -> jax.Array:
        return rounded(steps, "stochastic", jax.random.fold_in(key, number))

    def too_long(codes: jax.Array) -> jax.Array:
        return ~(_squared_norm(codes) <= limit)

    _, codes = jax.lax.while_loop(
        lambda carry: (carry[0] < _TRIES) & too_long(carry[1]),
        lambda carry: (carry[0] + 1, attempt(carry[0])),
        (jnp.ones((), jnp.int32), attempt(jnp.zeros((), jnp.int32))),
    )
    codes = jnp.where(too_long(codes), jnp.trunc(steps), codes)
    return jnp.where(too_long(codes), 0.0, codes).astype(jnp.int32)


def _squared_bound(norm: jax.Array | float, dimension: int) -> jax.Array | float:
    longest = norm + dimension**0.5
    likely = norm * norm + dimension / 4.0 + (2.0 * _LOG_INVERSE_BETA) ** 0.5 * (norm + dimension**0.5 / 2.0)
    return jnp.minimum(likely, longest * longest) if isinstance(norm, jax.Array) else min(likely, longest * longest)


def _squared_norm(vector: Float[jax.Array, " d"]) -> Float[jax.Array, ""]:
    """Sums squares in blocks of blocks, so that the rounding error stays that of a few short sums."""
    squares = jnp.square(vector)
    while squares.size > 1:
        squares = jnp.sum(jnp.pad(squares, (0, -squares.size % _BLOCK)).reshape(-1, _BLOCK), axis=1)
    return squares[0]
