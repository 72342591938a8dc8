import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.privacy import conditional_rounding
from fedjax_anomaly.privacy.conditional_rounding import conditionally_rounded, rounded_norm_bound

ROUND = jax.jit(jax.vmap(conditionally_rounded, in_axes=(0, None, None)))


def vectors(dimension: int, norm: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [np.ones(dimension), np.eye(1, dimension)[0], rng.normal(size=dimension), rng.exponential(size=dimension)]
    return [(norm / np.linalg.norm(shape) * shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(("dimension", "norm"), [(1, 3.5), (3000, 20.0), (3000, 1e4)])
def test_the_norm_bound_holds_whatever_is_rounded(dimension, norm):
    """Of vectors as long as they may be, longer ones, and ones that are no numbers; honest ones are not lost."""
    keys = jax.random.split(jax.random.key(0), 20)
    bound = rounded_norm_bound(norm, dimension)
    # Kairouz et al. 2021, with beta = e^-2 and steps of 1.
    likely = norm**2 + dimension / 4 + 2.0 * (norm + np.sqrt(dimension) / 2)
    assert bound == pytest.approx(min(np.sqrt(likely), norm + np.sqrt(dimension)), rel=1e-4)
    for vector in vectors(dimension, norm):
        rounded = np.asarray(ROUND(keys, vector, jnp.float32(norm)), np.float64)
        assert np.linalg.norm(rounded, axis=1).max() <= bound
        assert np.abs(rounded - vector).max() < 1.0
        for broken in (100.0 * vector, np.full_like(vector, np.nan)):
            assert np.linalg.norm(ROUND(keys, broken, jnp.float32(norm)), axis=1).max() <= bound


def test_rounding_is_unbiased():
    vector = vectors(50, 20.0)[2]
    rounded = np.asarray(ROUND(jax.random.split(jax.random.key(1), 20_000), vector, jnp.float32(20.0)))
    fraction = vector - np.floor(vector)
    error = (rounded.mean(axis=0) - vector) / np.sqrt(fraction * (1.0 - fraction) / 20_000)
    assert np.abs(error).max() < 4.5
    assert set(np.unique(rounded - np.floor(vector))) == {0.0, 1.0}


def test_without_luck_it_rounds_toward_zero_and_what_is_too_long_becomes_zero(monkeypatch):
    """With every element always rounded up, no try is short enough."""
    monkeypatch.setattr(conditional_rounding, "rounded", lambda steps, rounding, key: jnp.floor(steps) + 1.0)
    vector = jnp.full(400, 1.1)  # of norm 22; rounded up of norm 40, where 22^2 + 100 + 2 (22 + 10) = 648 are allowed
    unlucky = jax.jit(lambda vector: conditionally_rounded(jax.random.key(0), vector, jnp.float32(22.0)))
    assert set(unlucky(vector).tolist()) == {1}
    assert set(unlucky(3.0 * vector).tolist()) == {0}
