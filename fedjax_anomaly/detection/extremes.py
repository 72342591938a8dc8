"""The tail of a distribution from the peaks over a level: the generalised Pareto distribution, fitted and extrapolated.

Beyond a high level, the excesses of almost any distribution follow P(Y > y) = (1 + shape y / scale)^(-1 / shape), so
that the score exceeded once in a million can be told from a thousand scores (Pickands, Balkema and de Haan).
"""

from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

_NEGATIVE = 16
_POSITIVE = 24
_REFINEMENTS = 24
_EXPONENTIAL = 1e-4
_LEAST = 1e-7
_GOLDEN = 0.6180339887498949


class Tail(NamedTuple):
    """A generalised Pareto distribution of excesses.

    Attributes:
      shape: 0 is the exponential distribution; above it tails are heavy, below it they end.
      scale: positive, in units of the scores.
    """

    shape: Float[Array, ""]
    scale: Float[Array, ""]


def fit_tail(
    excesses: Float[Array, " M"],
    valid: Bool[Array, " M"],
    censored: Float[Array, " M"],
    weight: Float[Array, ""],
) -> Tail:
    """The generalised Pareto distribution of the greatest likelihood.

    The likelihood is maximised in one dimension, theta = shape / scale, as for a given theta the best shape is a mean
    of log(1 + theta y): over a fixed grid, and by golden section about its best point. Shapes below -1/2 are not
    looked at, where the likelihood has no regular maximum.

    Args:
      excesses: of scores over the level, at least 0; the rest is not looked at.
      valid: which of them count.
      censored: further excesses of which only a lower bound is known, at least 0; 0 says nothing.
      weight: how often each of these was seen; it may be a fraction.

    Returns:
      The fit; without a positive excess, the exponential distribution of the least positive scale.

    Guarantees:
      As likely as the best of `scipy.stats.genpareto.fit`, censored ones included (tests:
      `tests/detection/test_extremes.py`).

    References:
      Grimshaw 1993, "Computing Maximum Likelihood Estimates for the Generalized Pareto Distribution", section 2.
    """
    count = jnp.maximum(jnp.sum(valid), 1).astype(excesses.dtype)
    observed = jnp.where(valid, excesses, 0.0)
    unit = jnp.maximum((jnp.sum(observed) + weight * jnp.sum(censored)) / count, jnp.finfo(excesses.dtype).tiny)
    y, bound = observed / unit, censored / unit
    greatest = jnp.maximum(jnp.maximum(jnp.max(y), jnp.max(bound)), 1.0)

    def best_for(theta: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The best shape and scale for this theta, and their log likelihood per excess."""
        own = jnp.sum(jnp.log1p(theta * y)) / count
        shape = own + weight * jnp.sum(jnp.log1p(theta * bound)) / count
        flat = jnp.abs(theta) < _EXPONENTIAL
        scale = jnp.where(flat, 1.0, shape / jnp.where(flat, 1.0, theta))
        return shape, scale, jnp.where(shape < -0.5, -jnp.inf, -jnp.log(scale) - own - 1.0)

    grid = jnp.concatenate(
        [
            -(1.0 - jnp.geomspace(1e-3, 1.0, _NEGATIVE, dtype=y.dtype)) / greatest,
            jnp.geomspace(1e-2, 1e2, _POSITIVE, dtype=y.dtype),
        ]
    )
    best = jnp.argmax(jax.vmap(best_for)(grid)[2])
    low, high = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, len(grid) - 1)]

    def narrow(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        is_left = best_for(left)[2] > best_for(right)[2]
        return jnp.where(is_left, low, left), jnp.where(is_left, right, high)

    low, high = jax.lax.fori_loop(0, _REFINEMENTS, narrow, (low, high))
    shape, scale, _ = best_for((low + high) / 2.0)
    return Tail(jnp.where(jnp.abs(low + high) < 2.0 * _EXPONENTIAL, 0.0, shape), scale * unit)


def fit_tail_on_host(excesses: Float[np.ndarray, " M"], censored_at: float = 0.0, num_censored: int = 0) -> Tail:
    """`fit_tail` of any number of excesses, compiled for few.

    Args:
      excesses: of scores over the level.
      censored_at: the lower bound of all censored ones.
      num_censored: how many there are.
    """
    places = 1 << max(len(excesses), 32).bit_length()
    padded = np.zeros(places, np.float32)
    padded[: len(excesses)] = excesses
    censored = np.zeros(places, np.float32)
    censored[0] = censored_at
    tail = _compiled_fit(padded, np.arange(places) < len(excesses), censored, np.float32(num_censored))
    return jax.tree.map(np.float64, tail)


def tail_quantile(tail: Tail, ratio: Any, xp: ModuleType = jnp) -> Any:
    """The excess that is exceeded with a given probability among excesses.

    Args:
      tail: of the excesses.
      ratio: the probability, in (0, 1], of any shape.
      xp: `jax.numpy`, or `numpy` for arrays on the host, of which nothing is compiled.
    """
    flat = abs(tail.shape) < _EXPONENTIAL
    shape = xp.where(flat, 1.0, tail.shape)
    surprise = -xp.log(ratio)
    return tail.scale * xp.where(flat, surprise, xp.expm1(shape * surprise) / shape)


def tail_probability(tail: Tail, excess: Any, xp: ModuleType = jnp) -> Any:
    """The probability that an excess is greater than a given one; the inverse of `tail_quantile`."""
    flat = abs(tail.shape) < _EXPONENTIAL
    shape = xp.where(flat, 1.0, tail.shape)
    y = xp.maximum(excess, 0.0) / tail.scale
    inside = xp.maximum(shape * y, -1.0 + _LEAST)
    return xp.exp(-xp.where(flat, y, xp.log1p(inside) / shape))


_compiled_fit = jax.jit(fit_tail)
