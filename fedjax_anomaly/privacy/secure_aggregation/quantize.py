"""Fixed-point numbers modulo 2^32: what secure aggregation adds up instead of floats."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt

Rounding = Literal["nearest", "toward_zero", "stochastic"]
"""`nearest` errs least, `toward_zero` never makes a vector longer, `stochastic` is unbiased."""

_LARGEST_SUM = 2**31 - 1
_LEAST_STEPS = 2**8


class FixedPoint(NamedTuple):
    """An encoding of floats of bounded size as integers modulo 2^32, such that their sum over all clients fits.

    Attributes:
      clip: the largest magnitude of one value, exactly representable in float32.
      scale: steps per unit, a power of two, so that scaling a float32 is exact.
      max_code: the largest magnitude of one client's integer.
    """

    clip: float
    scale: float
    max_code: int


def fixed_point(clip: float, num_clients: int) -> FixedPoint:
    """The finest encoding for which the sum of `num_clients` values cannot overflow.

    Args:
      clip: public bound on the magnitude of one client's value.
      num_clients: public bound on the number of values in a sum.

    Returns:
      The encoding with the largest power of two as scale for which `num_clients * max_code < 2^31`.

    Raises:
      ValueError: when `clip` is not positive and finite, or so many clients leave a value fewer than 256 steps.
    """
    if not 0.0 < clip < np.inf:
        raise ValueError(f"clip={clip} must be positive and finite.")
    if num_clients < 1:
        raise ValueError(f"num_clients={num_clients} must be at least 1.")
    bound = float(np.float32(clip))
    largest_code = _LARGEST_SUM // num_clients
    if largest_code < _LEAST_STEPS:
        raise ValueError(
            f"num_clients={num_clients} leave one client's value {largest_code} of the 2^31 steps of a sum, fewer than "
            f"{_LEAST_STEPS}; give smaller cohorts by --clients_per_round."
        )
    scale = 2.0 ** np.floor(np.log2(largest_code / bound))
    if np.ceil(bound * scale) > largest_code:  # the logarithm was rounded up
        scale /= 2.0
    return FixedPoint(bound, float(scale), int(np.ceil(bound * scale)))


def encode(
    fixed: FixedPoint, values: Float[jax.Array, "*n"], rounding: Rounding, key: jax.Array
) -> tuple[UInt[jax.Array, "*n"], Int[jax.Array, ""]]:
    """Clips, scales and rounds float32 values.

    Args:
      fixed: the encoding.
      values: of one client, or of many.
      rounding: see `Rounding`.
      key: for stochastic rounding, otherwise unused.

    Returns:
      Two's complement integers, and how many values were clipped. NaN becomes zero and counts as clipped.

    Guarantees:
      An encoded value is off by at most half a step (`nearest`) or less than a step (test:
      `tests/privacy/secure_aggregation/test_quantize.py::test_a_value_is_off_by_at_most_the_stated_share_of_a_step`).
      Stochastic rounding is unbiased to 2^-32 of a step (test:
      `tests/privacy/secure_aggregation/test_quantize.py::test_stochastic_rounding_is_unbiased`).

    References:
      Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", section 3 (stochastic rounding).
    """
    fits = jnp.abs(values) <= fixed.clip  # False for NaN
    clipped = jnp.clip(jnp.where(jnp.isnan(values), 0.0, values), -fixed.clip, fixed.clip)
    steps = clipped * jnp.float32(fixed.scale)
    codes = rounded(steps, rounding, key).astype(jnp.int32)
    return jax.lax.bitcast_convert_type(codes, jnp.uint32), jnp.sum(~fits, dtype=jnp.int32)


def rounded(steps: Float[jax.Array, "*n"], rounding: Rounding, key: jax.Array) -> Float[jax.Array, "*n"]:
    """Whole numbers of steps; the key is for stochastic rounding, otherwise unused."""
    if rounding == "nearest":
        return jnp.round(steps)
    if rounding == "toward_zero":
        return jnp.trunc(steps)
    if rounding != "stochastic":
        raise ValueError(f"rounding={rounding!r} is unknown; the choices are nearest, toward_zero, stochastic.")
    below = jnp.floor(steps)
    # The fraction is exact in float32; so is its comparison with 32 random bits.
    threshold = ((steps - below) * jnp.float32(2.0**32)).astype(jnp.uint32)
    return below + (jax.random.bits(key, steps.shape) < threshold).astype(steps.dtype)


def decode(
    fixed: FixedPoint, total: UInt[jax.Array, "*n"], num_summed: Int[jax.Array, ""]
) -> tuple[Float[jax.Array, "*n"], Int[jax.Array, ""]]:
    """Reads a sum modulo 2^32 back as floats.

    Args:
      fixed: the encoding of the values that were summed.
      total: their sum.
      num_summed: how many they were.

    Returns:
      float32 values, and how many are larger than any sum of so many encoded values: none, unless the sum overflowed
      or a mask is still on it.

    Guarantees:
      Off by at most half a step (`nearest`) or a step for each summed value, plus one rounding to float32 (test:
      `tests/federated/test_secure_sum.py::test_the_float_sum_is_within_the_stated_bound`).
    """
    signed = jax.lax.bitcast_convert_type(total, jnp.int32)
    largest = num_summed.astype(jnp.int32) * fixed.max_code
    outside = (signed > largest) | (signed < -largest)
    return signed.astype(jnp.float32) * jnp.float32(1.0 / fixed.scale), jnp.sum(outside, dtype=jnp.int32)
