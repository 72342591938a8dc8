import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fedjax_anomaly.auditing import Prior, gradient_inverter, matched_errors
from fedjax_anomaly.models import lstm_autoencoder
from fedjax_anomaly.types import FeatureLayout

LENGTH, FEATURES = 4, 3
PRIOR = Prior(np.zeros(LENGTH * FEATURES), np.ones(LENGTH * FEATURES))
MODEL = lstm_autoencoder(FeatureLayout(FEATURES), hidden_size=6, latent_size=2)
PARAMS = MODEL.init(jax.random.key(0))


def window_gradient(flat):
    window = flat.reshape(1, LENGTH, FEATURES)
    return ravel_pytree(jax.grad(lambda params: MODEL.loss(params, window)[0])(PARAMS))[0]


def observed(windows, noise_std):
    clean = np.mean([window_gradient(jnp.asarray(window, jnp.float32)) for window in windows], axis=0)
    return clean + noise_std * np.random.default_rng(1).normal(size=clean.shape)


WINDOWS = np.random.default_rng(0).normal(size=(2, LENGTH * FEATURES))


@pytest.fixture(scope="module")
def invert():
    return gradient_inverter(window_gradient, PRIOR, num_windows=2, max_restarts=10)


def test_windows_are_found_in_their_mean_gradient(invert):
    found = invert(observed(WINDOWS, 1e-7), 1e-7, 0)
    errors, _ = matched_errors(WINDOWS, found.windows, PRIOR.mean)
    assert found.misfit < 2.0
    assert errors.max() < 0.01


def test_noise_that_drowns_the_gradient_leaves_the_mean(invert):
    found = invert(observed(WINDOWS, 1.0), 1.0, 0)
    assert found.misfit == pytest.approx(1.0, abs=0.3)
    np.testing.assert_allclose(found.windows, np.tile(PRIOR.mean, (2, 1)), atol=0.5)


def test_errors_are_relative_to_the_guess_and_do_not_depend_on_the_order():
    true = np.array([[3.0, 4.0], [0.0, 2.0]])
    errors, matched = matched_errors(true, np.array([[0.0, 2.0], [3.0, 3.0]]), np.zeros(2))
    np.testing.assert_allclose(errors, [1.0 / 5.0, 0.0])
    np.testing.assert_array_equal(matched, [[3.0, 3.0], [0.0, 2.0]])
