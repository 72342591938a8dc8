import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from fedjax_anomaly import federated
from fedjax_anomaly.types import ClientData
from tests.federated import models
from tests.fleet import client_data


def grouped_clients() -> tuple[ClientData, np.ndarray]:
    """Six clients of two groups, whose rows lie around -2 and around 2."""
    data = client_data([8] * 6)
    group = np.array([0, 1, 1, 0, 1, 0])
    return data._replace(series=0.1 * data.series + (4.0 * group - 2.0)[:, None, None].astype(np.float32)), group


@pytest.mark.parametrize("num_clusters", [2, None])
def test_similar_clients_share_a_cluster(num_clusters):
    data, group = grouped_clients()
    assignment = federated.similarity_assignment(federated.data_summaries(data), num_clusters, seed=0)
    assert adjusted_rand_score(group, assignment) == 1.0


@pytest.mark.parametrize("num_groups", [2, 3, 5])
def test_the_number_of_clusters_is_found_without_labels(num_groups):
    summaries, group = make_blobs(40, 6, centers=10.0 * np.eye(6)[:num_groups], random_state=1)
    assert adjusted_rand_score(group, federated.similarity_assignment(summaries, None, seed=0)) == 1.0


def test_clients_without_structure_share_one_model():
    summaries = np.random.default_rng(0).normal(size=(20, 30))
    assert federated.similarity_assignment(summaries, None, seed=0).tolist() == [0] * 20


def test_clusters_are_numbered_by_their_first_client():
    assignment = federated.similarity_assignment(np.array([[9.0], [0.0], [9.1], [5.0]]), 3, seed=0)
    assert assignment.tolist() == [0, 1, 0, 2]


def test_more_clusters_than_clients_are_refused():
    with pytest.raises(ValueError, match="num_clusters=5 must lie between 1 and num_clients=4"):
        federated.similarity_assignment(np.zeros((4, 2)), 5, seed=0)


def test_summaries_are_the_moments_of_the_rows_at_which_windows_begin():
    data = client_data([5, 8])
    summaries = federated.data_summaries(data)
    for client, size in enumerate([5, 8]):
        rows = data.series[client, :size]
        np.testing.assert_allclose(summaries[client], np.concatenate([rows.mean(0), rows.std(0)]), atol=1e-5)


@pytest.mark.parametrize("num_devices", [1, 4])
def test_ifca_takes_the_model_with_the_least_loss(num_devices):
    data, group = grouped_clients()
    over_devices = federated.client_map(mesh=federated.clients_mesh(jax.devices()[:num_devices]))
    clustering = federated.ifca(models.loss, 2, window_length=4, max_windows=5, map_clients=over_devices)
    params = {"center": jnp.array([[2.0] * 3, [-2.0] * 3]), "scale": jnp.ones(2)}
    assigned = clustering.assign((), params, jax.tree.map(jnp.asarray, data), jnp.arange(6))
    np.testing.assert_array_equal(assigned, 1 - group)


def test_ifca_starts_from_different_models():
    params = federated.ifca(models.loss, 2, window_length=4).init_params(jax.random.key(0), models.init)
    assert (params["center"][0] != params["center"][1]).any()


def test_an_assignment_for_other_clients_is_refused():
    with pytest.raises(ValueError, match="for 3 clients, but the data has 2"):
        federated.fixed(np.zeros(3, int)).init(jax.random.key(0), client_data([4, 4]))
