"""Which model a client shares: one for all, one per group of similar data, or the one that fits it best."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from fedjax_anomaly import trees
from fedjax_anomaly.federated.algorithm import Clustering
from fedjax_anomaly.federated.local_training import Loss, gather_windows
from fedjax_anomaly.federated.parallel import ClientMap, client_map
from fedjax_anomaly.types import ClientData, PyTree

_HARTIGAN_BOUND = 10.0


def fixed(assignment: np.ndarray | jax.Array, num_clusters: int | None = None) -> Clustering:
    """A given assignment: all zeros is FedAvg, one cluster per client is local-only training.

    The models of all clusters start from the same parameters.

    Args:
      assignment: Int[C], the cluster of each client; traced only together with a number of clusters.
      num_clusters: K; None takes the largest cluster number plus one.
    """
    if num_clusters is None:
        num_clusters = int(np.max(assignment)) + 1

    def init_params(key: jax.Array, init: Callable[[jax.Array], PyTree]) -> PyTree:
        return trees.stack(init(key), num_clusters)

    def init(key: jax.Array, data: ClientData) -> PyTree:
        if len(data.starts) != len(assignment):
            raise ValueError(f"the clustering is for {len(assignment)} clients, but the data has {len(data.starts)}.")
        return jnp.asarray(assignment, jnp.int32)

    def assign(state: PyTree, params: PyTree, data: ClientData, client: jax.Array) -> jax.Array:
        return state[client]

    return Clustering(num_clusters, init_params, init, assign)


def single(num_clients: int) -> Clustering:
    """One model for all clients: FedAvg."""
    return fixed(np.zeros(num_clients, np.int32), 1)


def ifca(
    loss: Loss,
    num_clusters: int,
    *,
    window_length: int,
    max_windows: int = 256,
    map_clients: ClientMap | None = None,
) -> Clustering:
    """Every round, every client takes the model with the least loss on its own windows.

    The models start from different parameters.

    Args:
      loss: of each window of a batch.
      num_clusters: K.
      window_length: T.
      max_windows: windows of a client that are tried, evenly spaced over its own.
      map_clients: the map over clients, as for their training; None chooses by the platform.

    References:
      Ghosh et al. 2020, "An Efficient Framework for Clustered Federated Learning", algorithm 1.
    """

    map_clients = map_clients or client_map()

    def init_params(key: jax.Array, init: Callable[[jax.Array], PyTree]) -> PyTree:
        return jax.vmap(init)(jax.random.split(key, num_clusters))

    def assign(state: PyTree, params: PyTree, data: ClientData, client: jax.Array) -> jax.Array:
        def best(one: ClientData) -> jax.Array:
            count = jnp.sum(one.mask.astype(jnp.int32))
            chosen = jnp.arange(max_windows) * count // max_windows
            windows = gather_windows(one.series, one.starts[chosen], window_length)
            losses = jax.lax.map(lambda model: jnp.mean(loss(model, windows)), params)
            return jnp.argmin(losses).astype(jnp.int32)

        return map_clients(best, (data,))

    return Clustering(num_clusters, init_params, lambda key, data: (), assign)


def data_summaries(data: ClientData) -> Float[np.ndarray, "C 2F"]:
    """A small fixed-size summary of each client's encoded training rows: mean and deviation of every feature.

    Rows count as often as windows begin at them. What a client would send is `2 F` floats.
    """
    weights = np.zeros(data.series.shape[:2], np.float64)
    for client, (starts, mask) in enumerate(zip(data.starts, data.mask, strict=True)):
        np.add.at(weights[client], np.asarray(starts)[np.asarray(mask)], 1.0)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    series = np.asarray(data.series, np.float64)
    mean = np.einsum("cl,clf->cf", weights, series)
    square = np.einsum("cl,clf->cf", weights, np.square(series))
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0.0))
    return np.concatenate([mean, deviation], axis=1).astype(np.float32)


def similarity_assignment(
    summaries: Float[np.ndarray, "C D"], num_clusters: int | None, *, seed: int
) -> Int[np.ndarray, " C"]:
    """Clusters clients by the similarity of their data before any update is combined: k-means on their summaries.

    Without a number of clusters it takes the largest K up to C / 2 that Hartigan's rule accepts: going from K - 1 to K
    clusters must cut the within-cluster sum of squares W so much that (W[K-1] / W[K] - 1)(C - K) exceeds 10. Clients
    without structure get one cluster.

    Args:
      summaries: one per client.
      num_clusters: K; None picks it without labels.
      seed: of the k-means initialisation.

    Returns:
      The cluster of each client, numbered in the order of their first client.

    Raises:
      ValueError: when there are more clusters than clients.

    References:
      Hartigan 1975, "Clustering Algorithms", chapter 4.
    """
    num_clients = len(summaries)
    if num_clusters is None:
        fits = [_kmeans(summaries, k, seed) for k in range(1, num_clients // 2 + 1)]
        chosen = 1
        for k in range(2, len(fits) + 1):
            before, after = fits[k - 2].inertia_, fits[k - 1].inertia_
            if (before - after) * (num_clients - k) > _HARTIGAN_BOUND * after:
                chosen = k
        return _numbered_by_first_client(fits[chosen - 1].labels_ if fits else np.zeros(num_clients, int))
    if not 1 <= num_clusters <= num_clients:
        raise ValueError(f"num_clusters={num_clusters} must lie between 1 and num_clients={num_clients}.")
    if num_clusters == 1:
        return np.zeros(num_clients, np.int32)
    return _numbered_by_first_client(_kmeans(summaries, num_clusters, seed).labels_)


def _kmeans(summaries: np.ndarray, num_clusters: int, seed: int) -> Any:
    from sklearn.cluster import KMeans  # Slow to import, and needed for more than one cluster only.

    return KMeans(num_clusters, n_init=10, random_state=seed).fit(summaries)


def _numbered_by_first_client(labels: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int32)
