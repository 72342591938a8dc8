import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_anomaly.federated.local_training import gather_windows, local_training
from fedjax_anomaly.types import ClientData
from tests.federated import models
from tests.fleet import client_data


def one_client(size: int, **settings) -> ClientData:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), client_data([size], **settings))


def train(data, *, optimizer=None, batch_size=4, **settings):
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    function = local_training(models.loss, optimizer, window_length=4, batch_size=batch_size, **settings)
    return function(jax.random.key(1), models.init(jax.random.key(0)), data)


def test_gathered_windows_are_slices():
    series = np.arange(20.0, dtype=np.float32).reshape(10, 2)
    windows = gather_windows(jnp.asarray(series), jnp.array([0, 3, 6]), 4)
    np.testing.assert_array_equal(windows, np.stack([series[0:4], series[3:7], series[6:10]]))


def test_one_full_batch_is_one_gradient_step():
    data = one_client(6)
    start = models.init(jax.random.key(0))
    update = train(data, batch_size=6)
    center, scale = models.numpy_sgd_step(np.asarray(start["center"]), 1.0, np.asarray(data.series[:6]), 0.1)
    np.testing.assert_allclose(update.delta["center"], center - start["center"], atol=1e-6)
    np.testing.assert_allclose(update.delta["scale"], scale - 1.0, atol=1e-6)
    assert update.weight == 6.0


def test_every_epoch_visits_each_window_once():
    """With a loss that is linear in the parameters the sum of gradients does not depend on the order of batches."""
    data = one_client(12)

    def linear(params, windows, key):
        return jnp.sum(windows[:, 0] * params["center"][None], axis=-1)

    function = local_training(linear, optax.sgd(1.0), window_length=4, batch_size=4, local_epochs=3)
    update = function(jax.random.key(1), models.init(jax.random.key(0)), data)
    # Three epochs of three batches of four: every window's gradient counts 3 / 4 in all.
    np.testing.assert_allclose(update.delta["center"], -0.75 * data.series[:12].sum(axis=0), rtol=1e-5)


def test_the_order_of_batches_depends_on_the_key():
    function = local_training(models.loss, optax.sgd(0.1), window_length=4, batch_size=4)
    data, start = one_client(12), models.init(jax.random.key(0))
    deltas = [function(jax.random.key(seed), start, data).delta["center"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(deltas[0], deltas[1])
    assert (deltas[0] != deltas[2]).any()


def test_every_batch_of_every_epoch_has_a_loss_key_of_its_own():
    """Four keys for two epochs of two batches, given by the client's key."""
    seen = []

    def loss(params, windows, key):
        jax.debug.callback(lambda data: seen.append(tuple(data.tolist())), jax.random.key_data(key))
        return models.loss(params, windows)

    function = local_training(loss, optax.sgd(0.1), window_length=4, batch_size=4, local_epochs=2)
    keys = []
    for seed in (1, 1, 2):
        jax.block_until_ready(function(jax.random.key(seed), models.init(jax.random.key(0)), one_client(8)))
        jax.effects_barrier()
        keys.append(set(seen))
        seen.clear()
    assert len(keys[0]) == 4
    assert keys[0] == keys[1]
    assert not keys[0] & keys[2]


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("optimizer", [optax.sgd(0.1, momentum=0.9), optax.adam(0.1)])
def test_padding_changes_nothing(optimizer):
    """Also not with momentum, which a batch of padding would move on."""
    data = one_client(4)
    padded = ClientData(data.series, jnp.pad(data.starts, (0, 9)), jnp.pad(data.mask, (0, 9)))
    plain, with_padding = (train(d, optimizer=optimizer, local_epochs=3) for d in (data, padded))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), plain, with_padding)


def test_a_partial_batch_is_averaged_over_its_real_windows():
    data = one_client(5)
    update = train(data, batch_size=8)
    start = np.asarray(models.init(jax.random.key(0))["center"])
    center, _ = models.numpy_sgd_step(start, 1.0, np.asarray(data.series[:5]), 0.1)
    np.testing.assert_allclose(update.delta["center"], center - start, atol=1e-6)


def test_a_client_without_windows_adds_nothing():
    data = one_client(4)
    update = train(data._replace(mask=jnp.zeros(4, bool)))
    assert update.weight == 0.0
    assert update.loss == 0.0
    assert all((leaf == 0.0).all() for leaf in jax.tree.leaves(update.delta))


def test_the_loss_is_the_mean_over_windows_in_the_last_epoch():
    data, start = one_client(6), models.init(jax.random.key(0))
    update = train(data, optimizer=optax.sgd(0.0))
    expected = models.loss(start, gather_windows(data.series, data.starts, 4)).mean()
    np.testing.assert_allclose(update.loss, expected, rtol=1e-6)


def test_the_proximal_term_pulls_towards_the_start():
    """Two full-batch steps on a center only: the second one feels mu times the first step."""
    data = one_client(4)
    start = np.asarray(models.init(jax.random.key(0))["center"])
    rate, mu = 0.1, 2.0

    def loss(params, windows, key):
        return models.loss({"center": params["center"], "scale": jnp.ones(())}, windows)

    function = local_training(loss, optax.sgd(rate), window_length=4, batch_size=4, local_epochs=2, proximal_mu=mu)
    update = function(jax.random.key(1), {"center": jnp.asarray(start)}, data)
    mean = np.asarray(data.series[:4]).mean(axis=0)
    first = start + rate * (mean - start)
    second = first + rate * ((mean - first) - mu * (first - start))
    np.testing.assert_allclose(update.delta["center"], second - start, atol=1e-6)


def test_values_below_one_are_refused():
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        local_training(models.loss, optax.sgd(0.1), window_length=4, batch_size=0)
