"""The discrete Gaussian on the integers, sampled in compiled code from a table that is exact but for 2^-96."""

import decimal
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

NOISE_STD = 2800
"""Of the noise that is sampled, in steps of the grid; users scale the grid to their noise, never the noise."""

LARGEST = 2**15 - 1
"""The largest magnitude that is sampled: 11.7 standard deviations, beyond which lies a probability below 2^-100."""

TOTAL_VARIATION = 2.0**-96
"""Bound on the total-variation distance between one sample and the discrete Gaussian."""

_WORDS = 3
_ONE = 2 ** (32 * _WORDS)
_PRECISION = 256


class AliasTable(NamedTuple):
    """Walker's alias method over the magnitudes 0 to `LARGEST`, with probabilities in units of 2^-(15 + 96).

    Attributes:
      threshold: UInt32[3, 2^15]; a draw of 96 bits below it keeps its magnitude. Most significant word first.
      alias: Int32[2^15], the magnitude that the draw takes otherwise.
    """

    threshold: np.ndarray
    alias: np.ndarray


def sample(key: jax.Array, shape: tuple[int, ...]) -> Int[jax.Array, "..."]:
    """Independent draws from the discrete Gaussian, `P(x) ~ exp(-x^2 / (2 NOISE_STD^2))` for every integer x.

    Guarantees:
      Integers only decide the draw, so that its distribution is that of the table, given uniform bits (test:
      `tests/privacy/test_discrete_gaussian.py::test_samples_are_discrete_gaussian`); the table is within
      `TOTAL_VARIATION` of the discrete Gaussian (test:
      `tests/privacy/test_discrete_gaussian.py::test_the_table_is_within_the_stated_distance_of_the_pmf`).

    References:
      Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential Privacy", definition 1.
      Walker 1977, "An Efficient Method for Generating Discrete Random Variables with General Distributions".
    """
    table = alias_table()
    first, *draw = jax.random.bits(key, (1 + _WORDS, *shape), jnp.uint32)
    column = (first & jnp.uint32(LARGEST)).astype(jnp.int32)
    below = jnp.zeros(shape, bool)
    for word, threshold in zip(reversed(draw), reversed(table.threshold), strict=True):
        limit = jnp.asarray(threshold)[column]
        below = (word < limit) | ((word == limit) & below)
    magnitude = jnp.where(below, column, jnp.asarray(table.alias)[column])
    return jnp.where(first >> 31 == 1, -magnitude, magnitude)


@functools.cache
def alias_table() -> AliasTable:
    """The table of `NOISE_STD`, made in exact integer arithmetic."""
    size = LARGEST + 1
    left = _masses()
    threshold, alias = [_ONE - 1] * size, list(range(size))
    small = [x for x in range(size) if left[x] < _ONE]
    large = [x for x in range(size) if left[x] >= _ONE]
    while small:
        low, high = small.pop(), large[-1]
        threshold[low], alias[low] = left[low], high
        left[high] -= _ONE - left[low]
        if left[high] < _ONE:
            small.append(large.pop())
    words = [[(value >> (32 * i)) % 2**32 for value in threshold] for i in reversed(range(_WORDS))]
    return AliasTable(np.array(words, np.uint32), np.array(alias, np.int32))


def _masses() -> list[int]:
    """The probability of each magnitude in units of 2^-(15 + 96); they add up to 1 exactly."""
    with decimal.localcontext(prec=100):
        # P(x + 1) / P(x) = ratio^(2 x + 1), in fixed point of 256 bits.
        ratio = (decimal.Decimal(-1) / (2 * NOISE_STD**2)).exp()
        step, squared = int(ratio * 2**_PRECISION), int(ratio * ratio * 2**_PRECISION)
    relative = [2**_PRECISION]
    for _ in range(LARGEST):
        relative.append(relative[-1] * step >> _PRECISION)
        step = step * squared >> _PRECISION
    both_signs = [relative[0], *(2 * value for value in relative[1:])]
    total, capacity = sum(both_signs), (LARGEST + 1) * _ONE
    masses = [(2 * value * capacity + total) // (2 * total) for value in both_signs]
    masses[1] += capacity - sum(masses)
    return masses
