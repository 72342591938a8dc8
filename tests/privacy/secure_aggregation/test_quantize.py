"""Fixed-point numbers modulo 2^32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_anomaly.privacy.secure_aggregation import quantize

KEY = 0


@given(clip=st.floats(1e-6, 1e9), num_clients=st.integers(1, 2**20))
def test_the_sum_of_the_largest_values_fits_and_of_twice_the_scale_does_not(clip, num_clients):
    fixed = quantize.fixed_point(clip, num_clients)
    assert fixed.max_code == np.ceil(fixed.clip * fixed.scale)
    assert num_clients * fixed.max_code < 2**31
    assert np.log2(fixed.scale) == int(np.log2(fixed.scale))
    assert fixed.clip == np.float32(clip)
    assert num_clients * np.ceil(2.0 * fixed.scale * fixed.clip) >= 2**31


@pytest.mark.parametrize(("rounding", "bound"), [("nearest", 0.5), ("toward_zero", 1.0), ("stochastic", 1.0)])
def test_a_value_is_off_by_at_most_the_stated_share_of_a_step(rounding, bound):
    fixed = quantize.fixed_point(3.0, 1000)
    values = np.concatenate([np.linspace(-3.0, 3.0, 4001), [0.0, 1e-30, -1e-30, 3.0, -3.0]]).astype(np.float32)
    codes, clipped = quantize.encode(fixed, jnp.asarray(values), rounding, jax.random.key(KEY))
    assert codes.dtype == jnp.uint32
    assert clipped == 0
    steps = np.asarray(codes).view(np.int32) - values.astype(np.float64) * fixed.scale
    assert np.abs(steps).max() <= bound
    assert np.abs(steps).max() > 0.9 * bound
    if rounding == "toward_zero":
        assert (np.abs(np.asarray(codes).view(np.int32)) <= np.abs(values.astype(np.float64)) * fixed.scale).all()


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.floats(-8.0, 8.0, width=32), min_size=3, max_size=3))
def test_what_is_encoded_is_decoded(values):
    fixed = quantize.fixed_point(8.0, 4)
    codes, _ = quantize.encode(fixed, jnp.asarray(values, jnp.float32), "nearest", jax.random.key(KEY))
    decoded, outside = quantize.decode(fixed, codes, jnp.int32(1))
    np.testing.assert_allclose(decoded, values, atol=0.5 / fixed.scale, rtol=2.0**-23)
    assert outside == 0


def test_stochastic_rounding_is_unbiased():
    """The mean of 40,000 roundings of a fraction is the fraction; rounding to the nearest is off by all of it."""
    fixed = quantize.FixedPoint(4.0, 8.0, 32)
    for value in (0.3 / 8, -0.3 / 8, 2.9 / 8, -1.1 / 8):
        values = jnp.full(40_000, value, jnp.float32)
        codes, _ = quantize.encode(fixed, values, "stochastic", jax.random.key(1))
        steps = np.asarray(codes).view(np.int32)
        assert set(steps.tolist()) == {int(np.floor(8 * value)), int(np.ceil(8 * value))}
        # Standard error: sqrt(p (1 - p) / 40,000) is at most 0.0025; five of them.
        assert abs(steps.mean() - 8 * value) < 0.0125
        nearest, _ = quantize.encode(fixed, values[:1], "nearest", jax.random.key(1))
        assert abs(np.asarray(nearest).view(np.int32)[0] - 8 * value) > 0.09


def test_whole_steps_are_never_rounded():
    fixed = quantize.FixedPoint(4.0, 8.0, 32)
    values = jnp.arange(-32.0, 33.0) / 8.0
    for rounding in ("nearest", "toward_zero", "stochastic"):
        codes, _ = quantize.encode(fixed, values, rounding, jax.random.key(2))
        np.testing.assert_array_equal(np.asarray(codes).view(np.int32), np.arange(-32, 33))


def test_values_that_do_not_fit_are_clipped_and_counted():
    fixed = quantize.fixed_point(2.0, 10)
    values = jnp.array([2.0, 2.0000005, -5.0, np.inf, -np.inf, np.nan, 0.5], jnp.float32)
    codes, clipped = quantize.encode(fixed, values, "nearest", jax.random.key(KEY))
    decoded, _ = quantize.decode(fixed, codes, jnp.int32(1))
    np.testing.assert_array_equal(decoded, [2.0, 2.0, -2.0, 2.0, -2.0, 0.0, 0.5])
    assert clipped == 5


def test_an_overflow_of_the_sum_is_detected():
    """Ten of the largest values fit; an eleventh that nobody counted, or a mask left on, is seen."""
    fixed = quantize.fixed_point(1.0, 10)
    largest = np.full(3, fixed.max_code, np.uint32)
    ten, eleven = ((number * largest).astype(np.uint32) for number in (10, 11))
    decoded, outside = quantize.decode(fixed, jnp.asarray(ten), jnp.int32(10))
    np.testing.assert_allclose(decoded, 10.0, rtol=1e-6)
    assert outside == 0
    assert quantize.decode(fixed, jnp.asarray(eleven), jnp.int32(10))[1] == 3
    assert quantize.decode(fixed, jnp.asarray(-eleven), jnp.int32(10))[1] == 3
    garbage = np.random.default_rng(0).integers(0, 2**32, 1000, dtype=np.uint32)
    # The range of ten values of at most 2^27 is 10 / 16 of all residues.
    assert fixed.max_code == 2**27
    assert int(quantize.decode(fixed, jnp.asarray(garbage), jnp.int32(10))[1]) == pytest.approx(375, abs=60)


@pytest.mark.parametrize(
    ("clip", "num_clients", "message"),
    [
        (0.0, 2, "clip=0.0 must be positive and finite"),
        (np.inf, 2, "clip=inf must be positive and finite"),
        (1.0, 0, "num_clients=0 must be at least 1"),
        (1.0, 2**24, "num_clients=16777216 leave one client's value 127 of the 2.31 steps of a sum, fewer than 256"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(clip, num_clients, message):
    with pytest.raises(ValueError, match=message):
        quantize.fixed_point(clip, num_clients)


def test_an_unknown_rounding_is_refused():
    with pytest.raises(ValueError, match="rounding='up' is unknown; the choices are nearest, toward_zero, stochastic"):
        quantize.encode(quantize.fixed_point(1.0, 2), jnp.ones(1), "up", jax.random.key(KEY))
