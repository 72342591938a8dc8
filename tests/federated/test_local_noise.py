"""What leaves a client under local differential privacy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_anomaly import federated
from fedjax_anomaly.federated.algorithm import ClientUpdate
from fedjax_anomaly.privacy.mechanisms import gaussian
from tests.federated import models
from tests.fleet import client_data

CLIP_NORM, NOISE_MULTIPLIER, SIZE = 0.5, 3.0, 20_000


def sent(mechanism):
    """What eight clients send, each of an update of its own direction and of norm 70 or so."""
    directions = np.random.default_rng(0).choice([-0.5, 0.5], size=(8, SIZE)).astype(np.float32)

    def train(key, params, direction):
        return ClientUpdate({"a": direction}, jnp.float32(9.0), jnp.float32(0.0))

    private = federated.locally_private(train, mechanism)

    def one(client):
        return private(jax.random.fold_in(jax.random.key(0), client), None, jnp.asarray(directions)[client])

    updates = jax.jit(jax.vmap(one))(jnp.arange(8))
    assert set(updates.weight.tolist()) == {1.0}
    return np.asarray(updates.delta["a"]), directions / np.linalg.norm(directions, axis=1, keepdims=True)


def check(mechanism):
    updates, directions = sent(mechanism)
    signal = np.sum(updates * directions, axis=1)
    noise = updates - CLIP_NORM * directions
    # One coordinate of noise is left along each direction.
    assert np.abs(signal - CLIP_NORM).max() < 4.0 * NOISE_MULTIPLIER * CLIP_NORM
    np.testing.assert_allclose(noise.std(axis=1), NOISE_MULTIPLIER * CLIP_NORM, rtol=0.025)
    assert np.abs(np.corrcoef(noise) - np.eye(8)).max() < 0.035


def test_every_client_sends_its_clipped_update_and_noise_of_its_own():
    """Five standard errors of a deviation and of a correlation over 20,000 coordinates; broken, it shows (controls)."""
    mechanism = gaussian(CLIP_NORM, NOISE_MULTIPLIER)
    check(mechanism)
    for broken in (
        gaussian(CLIP_NORM, NOISE_MULTIPLIER / 2.0),
        mechanism._replace(clip=lambda update: update),
        mechanism._replace(add_noise=lambda key, update: mechanism.add_noise(jax.random.key(1), update)),
    ):
        with pytest.raises(AssertionError):
            check(broken)


def test_the_round_sums_noisy_updates_over_a_public_constant():
    """Of six clients, five take part in each of 3 rounds; without local steps their noise is all there is."""
    data = client_data([4, 2, 6, 3, 5, 1])
    train = federated.local_training(models.loss, optax.sgd(0.0), window_length=4, batch_size=8)
    algorithm = federated.clustered_fedavg(
        models.init,
        federated.locally_private(train, gaussian(1.0, 2.0)),
        federated.single(6),
        federated.divided_by(federated.weighted_sum(), 4.0),
        optax.sgd(1.0),
        sample_cohort=federated.fixed_size_cohort(6, 5),
    )
    start = algorithm.init(jax.random.key(0), data)
    run = jax.jit(lambda key: federated.run(algorithm, key, start, data, 3))
    moved = []
    for key in range(40):
        state, _ = run(jax.random.key(key))
        moved += [np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (state.params, start.params)), strict=True)]
    drawn = np.concatenate(moved)
    # Fifteen shares of deviation 2, over 4.
    expected = 2.0 * np.sqrt(15.0) / 4.0
    assert drawn.std() == pytest.approx(expected, rel=5.0 / np.sqrt(2.0 * len(drawn)))
