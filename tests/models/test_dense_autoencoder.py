import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_anomaly.models.dense_autoencoder import dense_autoencoder
from fedjax_anomaly.types import FeatureLayout

LAYOUT = FeatureLayout(3, (2,))


def model(**sizes):
    return dense_autoencoder(LAYOUT, **({"window_length": 6, "hidden_size": 4, "latent_size": 2} | sizes))


def windows(count=3, length=6):
    return np.random.default_rng(0).normal(size=(count, length, 5)).astype(np.float32)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_model_equals_plain_dense_layers_in_numpy(num_layers):
    dense = model(num_layers=num_layers)
    # Biases that are not zero, so that a forgotten one shows.
    params = optax.tree.random_like(jax.random.key(1), dense.init(jax.random.key(0)), sampler=jax.random.normal)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]

    def layer(name, x):
        return x @ weights[name]["kernel"] + weights[name]["bias"]

    for window, output in zip(windows(), dense.reconstruct(params, jnp.asarray(windows())), strict=True):
        values = window.reshape(30)
        for i in range(num_layers):
            values = np.tanh(layer(f"encoder_{i}", values))
        values = layer("latent", values)
        assert values.shape == (2,)
        for i in range(num_layers):
            values = np.tanh(layer(f"decoder_{i}", values))
        np.testing.assert_allclose(output, layer("output", values).reshape(6, 5), rtol=2e-4, atol=1e-5)


def test_the_loss_is_the_mean_of_the_column_errors():
    dense = model()
    params = dense.init(jax.random.key(0))
    errors = np.asarray(dense.column_errors(params, jnp.asarray(windows())))
    assert errors.shape == (3, 6, 4)
    np.testing.assert_allclose(dense.loss(params, jnp.asarray(windows())), errors.mean(axis=(1, 2)), rtol=1e-6)


def test_numeric_errors_are_squared_differences():
    dense = model()
    params = dense.init(jax.random.key(0))
    difference = windows() - np.asarray(dense.reconstruct(params, jnp.asarray(windows())))
    errors = dense.column_errors(params, jnp.asarray(windows()))
    np.testing.assert_allclose(errors[..., :3], difference[..., :3] ** 2, rtol=1e-5)


def test_it_learns_rows_that_lie_on_a_line(optax_promotion):
    """One latent is enough to reconstruct what has one degree of freedom."""
    layout = FeatureLayout(3)
    dense = dense_autoencoder(layout, window_length=1, hidden_size=16, latent_size=1)
    place = jax.random.uniform(jax.random.key(1), (64, 1, 1), minval=-1.0)
    rows = place * jnp.array([[[1.0, -2.0, 0.5]]])
    params = dense.init(jax.random.key(0))
    optimizer = optax.adam(1e-2)

    def step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(lambda p: dense.loss(p, rows).mean())(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), loss

    _, losses = jax.lax.scan(step, (params, optimizer.init(params)), length=300)
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize("name", ["window_length", "hidden_size", "latent_size", "num_layers"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        model(**{name: 0})
