import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedjax_anomaly.privacy.mechanisms import gaussian


def norm(tree):
    return np.sqrt(sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(tree)))


def test_a_long_update_is_scaled_to_the_clip_norm_over_all_leaves():
    update = {"a": jnp.full((3,), 2.0), "b": jnp.full((2, 2), 2.0)}
    clipped = gaussian(1.5, 1.0).clip(update)
    # Seven elements of 2: norm 2 sqrt 7, so every element becomes 2 * 1.5 / (2 sqrt 7).
    np.testing.assert_allclose(clipped["a"], 1.5 / np.sqrt(7.0), rtol=1e-6)
    np.testing.assert_allclose(norm(clipped), 1.5, rtol=1e-6)


def test_a_short_update_is_left_alone():
    update = {"a": jnp.array([0.3, 0.4])}
    np.testing.assert_array_equal(gaussian(1.0, 1.0).clip(update)["a"], update["a"])


def test_elements_that_are_not_finite_count_as_zero():
    clipped = gaussian(1.0, 1.0).clip({"a": jnp.array([np.nan, np.inf, 0.5])})
    np.testing.assert_allclose(clipped["a"], [0.0, 0.0, 0.5])


def test_noise_is_gaussian_with_the_deviation_it_promises():
    mechanism = gaussian(0.5, 3.0)
    zeros = {"a": jnp.zeros(20_000), "b": jnp.zeros((100, 200))}
    noisy = mechanism.add_noise(jax.random.key(0), zeros)
    assert mechanism.noise_std == 1.5
    for leaf in jax.tree.leaves(noisy):
        sample = np.asarray(leaf).ravel()
        # Kolmogorov-Smirnov: the right scale passes, a scale that is 10 % off fails.
        assert stats.kstest(sample / 1.5, "norm").pvalue > 1e-3
        assert stats.kstest(sample / 1.35, "norm").pvalue < 1e-6
    assert abs(np.corrcoef(np.asarray(noisy["a"]), np.asarray(noisy["b"]).ravel())[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("clip_norm", "noise_multiplier", "message"),
    [(0.0, 1.0, "clip_norm=0.0 must be positive"), (1.0, -1.0, "noise_multiplier=-1.0 must not be negative")],
)
def test_values_out_of_range_are_refused(clip_norm, noise_multiplier, message):
    with pytest.raises(ValueError, match=message):
        gaussian(clip_norm, noise_multiplier)
