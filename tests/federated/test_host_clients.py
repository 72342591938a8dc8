import itertools

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_anomaly import federated
from fedjax_anomaly.federated.parallel import place_clients
from fedjax_anomaly.privacy import gaussian
from tests.federated import models
from tests.fleet import client_data

SIZES = [6, 5, 8, 7, 3, 4, 9]
NUM_ROUNDS, CHUNK = 5, 2


def noisy_algorithm(mesh, sample_cohort):
    """Clusters, clipping, noise and momentum: each depends on which client holds a place, or on the round."""
    train = federated.local_training(models.loss, optax.sgd(0.05, momentum=0.9), window_length=4, batch_size=4)
    return federated.clustered_fedavg(
        models.init,
        train,
        federated.fixed(np.arange(len(SIZES)) % 2),
        federated.private(federated.weighted_sum(), gaussian(0.1, 1.0), 2.0),
        optax.sgd(1.0, momentum=0.9),
        sample_cohort=sample_cohort,
        map_clients=federated.client_map(1, mesh),
    )


@pytest.mark.parametrize(
    "sample_cohort",
    [
        federated.fixed_size_cohort(len(SIZES), 4),
        federated.cyclic_cohort(np.random.default_rng(0).permutation(len(SIZES)), 3),
    ],
    ids=["fixed_size, places divide evenly", "cyclic, they do not, and one stays empty"],
)
def test_clients_on_the_host_end_at_the_same_bits(sample_cohort):
    data, key = client_data(SIZES), jax.random.key(1)
    mesh = federated.clients_mesh(jax.devices()[:2])
    method = noisy_algorithm(mesh, sample_cohort)
    start = jax.device_put(method.init(jax.random.key(0), data), NamedSharding(mesh, PartitionSpec()))
    resident = jax.jit(lambda state, own: federated.run(method, key, state, own, NUM_ROUNDS))
    expected, (info, _) = resident(start, place_clients(data, mesh))
    streamed = jax.jit(lambda state, own: federated.run_cohorts(method, key, state, own, stop_round=NUM_ROUNDS))
    state, losses = start, []
    with federated.cohorts_ahead(method, key, data, 0, CHUNK, mesh) as chunks:
        for cohorts in itertools.islice(chunks, -(-NUM_ROUNDS // CHUNK)):
            assert cohorts.data.series.shape == (CHUNK, *cohorts.cohort.client.shape[1:], *data.series.shape[1:])
            state, (report, _) = streamed(state, cohorts)
            losses.append(report.train_loss)
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    np.testing.assert_array_equal(np.concatenate(losses)[:NUM_ROUNDS], info.train_loss)


def test_the_next_chunk_is_loaded_while_the_caller_is_busy_and_no_more_than_that():
    touched = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            touched.append(index)
            return np.asarray(super().__getitem__(index))

    data = client_data(SIZES)
    data = data._replace(series=data.series.view(Watched))
    method = noisy_algorithm(None, federated.fixed_size_cohort(len(SIZES), 2))
    with federated.cohorts_ahead(method, jax.random.key(1), data, 0, CHUNK) as chunks:
        next(chunks)
    assert len(touched) == 2  # The thread is waited for at the end, and has loaded one chunk more than was asked for.
    next_rounds = method.draw(jax.random.fold_in(jax.random.key(1), CHUNK), CHUNK)
    np.testing.assert_array_equal(touched[1][0], next_rounds.client)


def test_all_clients_in_every_round_are_refused():
    method = noisy_algorithm(None, None)
    with (
        pytest.raises(ValueError, match="every client takes part"),
        federated.cohorts_ahead(method, jax.random.key(1), client_data(SIZES), 0, CHUNK),
    ):
        pass
