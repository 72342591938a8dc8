import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_anomaly import federated
from fedjax_anomaly.federated.parallel import place_clients
from tests.federated import models
from tests.fleet import client_data


def run(sizes, *, batch_size, devices):
    data = client_data(sizes)
    mesh = federated.clients_mesh(jax.devices()[:devices])
    train = federated.local_training(models.loss, optax.sgd(0.05, momentum=0.9), window_length=4, batch_size=4)
    method = federated.clustered_fedavg(
        models.init,
        train,
        federated.fixed(np.arange(len(sizes)) % 2),
        federated.weighted_sum(),
        optax.sgd(1.0),
        map_clients=federated.client_map(batch_size, mesh),
    )
    placed = place_clients(data, mesh)
    state = jax.device_put(
        method.init(jax.random.key(0), placed), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    )
    final, (info, _) = jax.jit(lambda s, d: federated.run(method, jax.random.key(1), s, d, 3))(state, placed)
    return jax.device_get((final.params, info))


def assert_close(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), left, right)


@pytest.mark.parametrize("sizes", [[6, 5, 8, 7], [6, 5, 8, 7, 3, 4]], ids=["even", "uneven"])
def test_a_round_is_the_same_on_one_and_on_four_devices(sizes):
    assert jax.device_count() == 4
    assert_close(run(sizes, batch_size=1, devices=1), run(sizes, batch_size=1, devices=4))


@pytest.mark.parametrize("batch_size", [0, 3])
def test_the_batch_of_clients_changes_nothing(batch_size):
    sizes = [6, 5, 8, 7]
    assert_close(run(sizes, batch_size=1, devices=1), run(sizes, batch_size=batch_size, devices=1))


def test_clients_are_spread_over_the_devices_where_they_divide_evenly():
    mesh = federated.clients_mesh()
    spread = place_clients(client_data([4] * 8), mesh)
    assert {shard.data.shape[0] for shard in spread.series.addressable_shards} == {2}
    whole = place_clients(client_data([4] * 6), mesh)
    assert {shard.data.shape[0] for shard in whole.series.addressable_shards} == {6}


def test_padding_clients_are_cut_off_again():
    mapped = federated.client_map(1, federated.clients_mesh())(
        lambda x, m: x + 1.0, (jnp.arange(6.0), jnp.ones(6, bool))
    )
    np.testing.assert_array_equal(mapped, np.arange(1.0, 7.0))


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("batch_size", [0, 1, 2])
def test_sums_are_those_of_the_map(batch_size, devices):
    """Six clients in three groups, one of them empty; padding clients have a cleared mask."""
    mapped = federated.client_map(batch_size, federated.clients_mesh(jax.devices()[:devices]))
    group, values = jnp.array([0, 2, 2, 0, 2, 2]), jnp.arange(12.0).reshape(6, 2)
    arguments = (values, jnp.ones(6, bool))
    sums, kept = mapped.sums(
        lambda x, real: (jnp.where(real, 2.0 * x, 0.0), -x[0]), arguments, group, jnp.zeros((3, 2))
    )
    np.testing.assert_allclose(sums, [[12.0, 16.0], [0.0, 0.0], [2 * (2 + 4 + 8 + 10), 2 * (3 + 5 + 9 + 11)]])
    np.testing.assert_array_equal(kept, -values[:, 0])


def test_a_negative_batch_is_refused():
    with pytest.raises(ValueError, match="client_batch_size=-2"):
        federated.client_map(-2)
