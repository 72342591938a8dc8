import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_anomaly.models.lstm_autoencoder import features_of_columns, lstm_autoencoder
from fedjax_anomaly.types import FeatureLayout

LAYOUT = FeatureLayout(3, (2,))


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def numpy_lstm(weights, sequence):
    """Hochreiter and Schmidhuber's cell with a forget gate, one sequence [T, F] at a time."""
    h = c = np.zeros(len(weights["recurrent_kernel"]))
    outputs = []
    for x in sequence:
        sums = x @ weights["input_kernel"] + h @ weights["recurrent_kernel"] + weights["bias"]
        i, f, g, o = np.split(sums, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def dense(weights, x):
    return x @ weights["kernel"] + weights["bias"]


def random_params(model):
    """Parameters whose biases are not zero, so that a forgotten bias shows."""
    params = model.init(jax.random.key(0))
    return optax.tree.random_like(jax.random.key(1), params, sampler=jax.random.normal)


@pytest.mark.parametrize("latent_per", ["step", "window"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_model_equals_a_plain_lstm_in_numpy(latent_per, num_layers):
    model = lstm_autoencoder(LAYOUT, hidden_size=4, latent_size=2, latent_per=latent_per, num_layers=num_layers)
    params = random_params(model)
    windows = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]
    for window, output in zip(windows, model.reconstruct(params, jnp.asarray(windows)), strict=True):
        states = window
        for layer in range(num_layers):
            states = numpy_lstm(weights[f"encoder_{layer}"], states)
        latent = dense(weights["latent"], states)
        decoded = np.tile(latent[-1], (6, 1)) if latent_per == "window" else latent
        for layer in range(num_layers):
            decoded = numpy_lstm(weights[f"decoder_{layer}"], decoded)
        np.testing.assert_allclose(output, dense(weights["output"], decoded), rtol=2e-4, atol=1e-5)


def test_the_loss_is_the_mean_of_the_column_errors():
    model = lstm_autoencoder(LAYOUT, hidden_size=4, latent_size=2)
    params = model.init(jax.random.key(0))
    windows = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6, 5)), jnp.float32)
    errors = np.asarray(model.column_errors(params, windows))
    assert errors.shape == (3, 6, 4)
    np.testing.assert_allclose(model.loss(params, windows), errors.mean(axis=(1, 2)), rtol=1e-6)


def test_with_feature_groups_a_group_is_reconstructed_without_seeing_later_ones():
    model = lstm_autoencoder(
        LAYOUT, hidden_size=4, latent_size=2, latent_per="step", feature_groups=((0, 2), (1, 3, 4))
    )
    params = random_params(model)
    rows = np.random.default_rng(0).normal(size=(1, 1, 5)).astype(np.float32)
    changed = rows.copy()
    changed[..., [1, 3, 4]] += 1.0
    before, after = (np.asarray(model.reconstruct(params, jnp.asarray(x))) for x in (rows, changed))
    np.testing.assert_array_equal(before[..., [0, 2]], after[..., [0, 2]])
    assert (before[..., [1, 3, 4]] != after[..., [1, 3, 4]]).all()


@pytest.mark.parametrize("groups", [((0, 1), (2, 3)), ((0, 1, 2), (2, 3, 4))])
def test_groups_that_miss_or_repeat_a_feature_are_refused(groups):
    with pytest.raises(ValueError, match="every encoded feature exactly once"):
        lstm_autoencoder(LAYOUT, feature_groups=groups)


def test_column_groups_become_feature_groups():
    groups = features_of_columns(LAYOUT, ("a", "b", "c", "protocol"), (("a", "protocol"), ("c", "b")))
    assert groups == ((0, 3, 4), (2, 1))


def test_a_group_of_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="do not exist: city"):
        features_of_columns(LAYOUT, ("a", "b", "c", "protocol"), (("city",),))


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="latent_size=0 must be at least 1"):
        lstm_autoencoder(LAYOUT, latent_size=0)
