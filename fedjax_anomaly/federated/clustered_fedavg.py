"""One federated round as one pure function: clustered FedAvg, of which FedAvg is the case of one cluster."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_anomaly import trees
from fedjax_anomaly.federated.algorithm import (
    Aggregator,
    Clustering,
    Cohort,
    FederatedAlgorithm,
    FederatedState,
    RoundInfo,
    SampleCohort,
    TrainClient,
    WeightedSum,
    full_participation,
)
from fedjax_anomaly.federated.parallel import ClientMap, client_map
from fedjax_anomaly.types import ClientData, PyTree


def clustered_fedavg(
    init_model: Callable[[jax.Array], PyTree],
    train_client: TrainClient,
    clustering: Clustering,
    aggregator: Aggregator,
    server_optimizer: optax.GradientTransformation,
    *,
    sample_cohort: SampleCohort | None = None,
    map_clients: ClientMap | None = None,
) -> FederatedAlgorithm:
    """Sample a cohort, assign clusters, train every client from its cluster's model, sum, step the server.

    The server treats the negative mean update as a gradient, so that `optax.sgd(1.0)` is FedAvg, with momentum FedAvgM,
    and `optax.adam` and `optax.yogi` are FedAdam and FedYogi. A cluster without a participant keeps its model.

    Args:
      init_model: key -> parameters of one model.
      train_client: local training.
      clustering: one model for all, or K.
      aggregator: sums updates; in the clear, or clipped and noised.
      server_optimizer: any optax optimizer.
      sample_cohort: (key, round) -> the round's clients; None takes every client in every round.
      map_clients: the map over clients; None chooses by the platform.

    Guarantees:
      Equal to a plain loop in NumPy over clients and clusters (test:
      `tests/federated/test_clustered_fedavg.py::test_a_round_equals_a_plain_loop_in_numpy`).

    References:
      McMahan et al. 2017, algorithm 1. Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2. Ghosh et al.
      2020, algorithm 1.
    """
    map_clients = map_clients or client_map()
    num_clusters = clustering.num_clusters

    def init(key: jax.Array, data: ClientData) -> FederatedState:
        key_params, key_clustering = jax.random.split(key)
        params = clustering.init_params(key_params, init_model)
        return FederatedState(
            round=jnp.zeros((), jnp.int32),
            params=params,
            server_optimizer=jax.vmap(server_optimizer.init)(params),
            aggregator=jax.vmap(aggregator.init)(params),
            clustering=clustering.init(key_clustering, data),
        )

    def draw(key: jax.Array, round: jax.Array) -> Cohort:
        assert sample_cohort is not None
        key_cohort, *_ = jax.random.split(key, 3)
        return sample_cohort(key_cohort, round)

    def round(key: jax.Array, state: FederatedState, data: ClientData) -> tuple[FederatedState, RoundInfo]:
        key_cohort, key_train, key_aggregate = jax.random.split(key, 3)
        if sample_cohort is None:  # Nothing is copied.
            cohort, cohort_data = full_participation(len(data.starts))(key_cohort, state.round), data
        else:
            cohort = sample_cohort(key_cohort, state.round)
            cohort_data = of_cohort(jax.tree.map(jnp.asarray, data), cohort)
        return train_and_step(key_train, key_aggregate, state, cohort, cohort_data)

    def round_of_cohort(
        key: jax.Array, state: FederatedState, cohort: Cohort, cohort_data: ClientData
    ) -> tuple[FederatedState, RoundInfo]:
        _, key_train, key_aggregate = jax.random.split(key, 3)
        return train_and_step(key_train, key_aggregate, state, cohort, cohort_data)

    def train_and_step(
        key_train: jax.Array, key_aggregate: jax.Array, state: FederatedState, cohort: Cohort, cohort_data: ClientData
    ) -> tuple[FederatedState, RoundInfo]:
        cluster = clustering.assign(state.clustering, state.params, cohort_data, cohort.client)

        def train_one(client: jax.Array, cluster: jax.Array, own: ClientData) -> tuple[PyTree, ClientReport]:
            start = jax.tree.map(lambda leaf: leaf[cluster], state.params)
            update = train_client(jax.random.fold_in(key_train, client), start, own)
            return update.delta, ClientReport(update.weight, update.loss, optax.tree.norm(update.delta))

        clients = (cohort.client, cluster, cohort_data)
        keys = jax.random.split(key_aggregate, num_clusters)
        if (streamed := aggregator.streamed) is None:
            deltas, reports = map_clients(train_one, clients)
            weights = jax.nn.one_hot(cluster, num_clusters, axis=0) * reports.weight[None]
            aggregator_state, summed = jax.vmap(aggregator.aggregate, in_axes=(0, 0, None, 0))(
                keys, state.aggregator, deltas, weights
            )
        else:

            def contribute(*of_client: Any) -> tuple[WeightedSum, ClientReport]:
                delta, report = train_one(*of_client)
                return streamed.contribution(delta, report.weight), report

            shapes = jax.eval_shape(jax.vmap(streamed.contribution), state.params, jnp.zeros(num_clusters))
            sums, reports = map_clients.sums(contribute, clients, cluster, shapes)
            aggregator_state, summed = jax.vmap(streamed.finish)(keys, state.aggregator, sums)
        params, optimizer_state = jax.vmap(_server_step(server_optimizer))(
            state.params, state.server_optimizer, summed.total, summed.weight
        )
        reported = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), aggregator.report(aggregator_state))
        info = _round_info(reports, jax.nn.one_hot(cluster, num_clusters, axis=0), reported)
        return FederatedState(state.round + 1, params, optimizer_state, aggregator_state, state.clustering), info

    def assign(state: FederatedState, data: ClientData) -> jax.Array:
        return clustering.assign(state.clustering, state.params, data, jnp.arange(len(data.starts)))

    return FederatedAlgorithm(init, round, assign, None if sample_cohort is None else draw, round_of_cohort)


def of_cohort(data: ClientData, cohort: Cohort) -> ClientData:
    """The data of a cohort, which may lead with further axes. Empty places have no windows."""
    chosen = jax.tree.map(lambda leaf: leaf[cohort.client], data)
    return chosen._replace(mask=chosen.mask & cohort.active[..., None])


def _server_step(optimizer: optax.GradientTransformation) -> Callable[..., tuple[PyTree, PyTree]]:
    def step(params: PyTree, optimizer_state: PyTree, total: PyTree, weight: jax.Array) -> tuple[PyTree, PyTree]:
        divisor = jnp.where(weight > 0.0, weight, 1.0)
        pseudo_gradient = jax.tree.map(lambda leaf: -leaf / divisor, total)
        updates, new_state = optimizer.update(pseudo_gradient, optimizer_state, params)
        new = optax.apply_updates(params, updates), new_state
        return trees.where(weight > 0.0, new, (params, optimizer_state))

    return step


class ClientReport(NamedTuple):
    """What is told of each client's training; leads with S.

    Attributes:
      weight: see `ClientUpdate`.
      loss: see `ClientUpdate`.
      update_norm: L2 norm of the update.
    """

    weight: jax.Array
    loss: jax.Array
    update_norm: jax.Array


def _round_info(reports: ClientReport, membership: jax.Array, aggregation: dict[str, jax.Array]) -> RoundInfo:
    took_part = (reports.weight > 0.0).astype(jnp.float32)
    count = jnp.maximum(jnp.sum(took_part), 1.0)
    return RoundInfo(
        train_loss=jnp.sum(reports.loss * reports.weight) / jnp.maximum(jnp.sum(reports.weight), 1.0),
        update_norm=jnp.sum(reports.update_norm * took_part) / count,
        num_participants=jnp.sum(took_part).astype(jnp.int32),
        cluster_sizes=jnp.sum(membership * took_part[None], axis=1).astype(jnp.int32),
        aggregation=aggregation,
    )
