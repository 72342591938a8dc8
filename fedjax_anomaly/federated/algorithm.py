"""The types of a federated algorithm, and a run as a scan over its rounds."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jaxtyping import Bool, Float, Int

from fedjax_anomaly.types import ClientData, PyTree

_SHUFFLED_UP_TO = 4096


class ClientUpdate(NamedTuple):
    """What local training on one client yields; stacked over clients every leaf leads with S.

    Attributes:
      delta: new parameters minus those that the client started from.
      weight: the client's number of training windows; 0 for a client that did not take part.
      loss: mean training loss in the last local epoch.
    """

    delta: PyTree
    weight: Float[jax.Array, ""]
    loss: Float[jax.Array, ""]


TrainClient = Callable[[jax.Array, PyTree, ClientData], ClientUpdate]
"""(key, parameters, one client's data) -> its update."""


class WeightedSum(NamedTuple):
    """A sum of updates and the sum of their weights. The one division by the weight stands in the round."""

    total: PyTree
    weight: Float[jax.Array, ""]


class StreamedSum(NamedTuple):
    """An aggregator in two halves, so that clients can be added up one by one and no stack of updates exists.

    Attributes:
      contribution: (one client's update, its weight) -> what it adds to the sum; zero for a weight of zero.
      finish: (key, state, the sum of all contributions) -> (state, WeightedSum).
    """

    contribution: Callable[[PyTree, jax.Array], WeightedSum]
    finish: Callable[[jax.Array, PyTree, WeightedSum], tuple[PyTree, WeightedSum]]


class Aggregator(NamedTuple):
    """Combines updates into a sum and its weight, never a mean.

    Attributes:
      init: parameters -> state.
      aggregate: (key, state, updates [S, ...], weights [S]) -> (state, WeightedSum).
      report: state, of one sum or of many stacked -> counts of what happened in the last sum, by name; none where
        there is nothing to tell.
      streamed: the same as `aggregate`, one client after the other; None where updates are needed side by side.
    """

    init: Callable[[PyTree], PyTree]
    aggregate: Callable[[jax.Array, PyTree, PyTree, jax.Array], tuple[PyTree, WeightedSum]]
    report: Callable[[PyTree], dict[str, jax.Array]] = lambda state: {}
    streamed: StreamedSum | None = None


class Cohort(NamedTuple):
    """The clients of one round.

    Attributes:
      client: which client holds each of the S places.
      active: False for a place that stays empty this round.
    """

    client: Int[jax.Array, " S"]
    active: Bool[jax.Array, " S"]


SampleCohort = Callable[[jax.Array, jax.Array], Cohort]
"""(key of the round, its number) -> its clients."""


class Clustering(NamedTuple):
    """Assigns clients to one of K models.

    Attributes:
      num_clusters: K.
      init_params: (key, init of one model) -> parameters [K, ...].
      init: (key, data of all clients) -> state.
      assign: (state, parameters [K, ...], data [S, ...], client [S]) -> cluster [S].
    """

    num_clusters: int
    init_params: Callable[[jax.Array, Callable[[jax.Array], PyTree]], PyTree]
    init: Callable[[jax.Array, ClientData], PyTree]
    assign: Callable[[PyTree, PyTree, ClientData, jax.Array], jax.Array]


class FederatedState(NamedTuple):
    """Everything that a round hands to the next; no keys.

    Attributes:
      round: number of rounds done.
      params: the K models, every leaf leads with K.
      server_optimizer: optax state, every leaf leads with K.
      aggregator: the aggregator's state, every leaf leads with K.
      clustering: the clustering's state.
    """

    round: Int[jax.Array, ""]
    params: PyTree
    server_optimizer: PyTree
    aggregator: PyTree
    clustering: PyTree


class RoundInfo(NamedTuple):
    """What a round reports.

    Attributes:
      train_loss: weighted mean of the clients' losses.
      update_norm: mean L2 norm of the participating clients' updates, before any clipping.
      num_participants: clients that took part.
      cluster_sizes: how many of them were in each cluster.
      aggregation: what the aggregator reports, summed over clusters.
    """

    train_loss: Float[jax.Array, ""]
    update_norm: Float[jax.Array, ""]
    num_participants: Int[jax.Array, ""]
    cluster_sizes: Int[jax.Array, " K"]
    aggregation: dict[str, jax.Array]


class FederatedAlgorithm(NamedTuple):
    """A pair of pure functions, the assignment that they use, and the two halves of a round.

    Attributes:
      init: (key, data) -> state.
      round: (key, state, data) -> (state, RoundInfo).
      assign: (state, data of all clients) -> cluster [C], for evaluation.
      draw: (key, round number) -> the cohort that `round` draws from the same key; None where every client takes part.
      round_of_cohort: (key, state, cohort, its data) -> (state, RoundInfo), the rest of `round`.
    """

    init: Callable[[jax.Array, ClientData], FederatedState]
    round: Callable[[jax.Array, FederatedState, ClientData], tuple[FederatedState, RoundInfo]]
    assign: Callable[[FederatedState, ClientData], jax.Array]
    draw: SampleCohort | None
    round_of_cohort: Callable[[jax.Array, FederatedState, Cohort, ClientData], tuple[FederatedState, RoundInfo]]


def run(
    algorithm: FederatedAlgorithm,
    key: jax.Array,
    state: FederatedState,
    data: ClientData,
    num_rounds: int,
    observe: Callable[[FederatedState], Any] = lambda state: None,
    stop_round: jax.Array | int | None = None,
) -> tuple[FederatedState, tuple[RoundInfo, Any]]:
    """Runs rounds as one `lax.scan`.

    The key of round r is `fold_in(key, r)`, so a run that continues from a stored state is bit-identical to one that
    never stopped (test: `tests/federated/test_algorithm.py::test_two_halves_equal_the_whole_run_bit_for_bit`).

    Args:
      algorithm: what a round is.
      key: the root key of the run.
      state: from `algorithm.init`, or of an earlier run.
      data: of all clients.
      num_rounds: R, rounds to run, static.
      observe: called on the state after each round; its outputs are stacked over rounds.
      stop_round: rounds from this one on are skipped and report zeros, so that one compiled call of `num_rounds`
        rounds also serves for a shorter rest; None runs all.

    Returns:
      The state after the last round, and (RoundInfo, observations), every leaf leading with R.
    """

    def round(key: jax.Array, state: FederatedState, _: None) -> tuple[FederatedState, RoundInfo]:
        return algorithm.round(key, state, data)

    return scan_rounds(round, key, state, None, num_rounds, observe, stop_round)


def scan_rounds(
    round: Callable[[jax.Array, FederatedState, Any], tuple[FederatedState, RoundInfo]],
    key: jax.Array,
    state: FederatedState,
    inputs: Any,
    num_rounds: int,
    observe: Callable[[FederatedState], Any] = lambda state: None,
    stop_round: jax.Array | int | None = None,
) -> tuple[FederatedState, tuple[RoundInfo, Any]]:
    """Scans rounds, each with inputs of its own.

    Args:
      round: (key of the round, state, its inputs) -> (state, RoundInfo).
      key: see `run`.
      state: see `run`.
      inputs: of the rounds, every leaf leads with R; None where they have none.
      num_rounds: see `run`.
      observe: see `run`.
      stop_round: see `run`.
    """

    def step(state: FederatedState, own: Any) -> tuple[FederatedState, tuple[RoundInfo, Any]]:
        state, info = round(jax.random.fold_in(key, state.round), state, own)
        return state, (info, observe(state))

    if stop_round is None:
        return jax.lax.scan(step, state, inputs, length=num_rounds)

    def step_or_skip(state: FederatedState, own: Any) -> tuple[FederatedState, tuple[RoundInfo, Any]]:
        traced_step, (_, report) = _trace(step, state, own)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), report)
        return jax.lax.cond(state.round < stop_round, traced_step, lambda s, _: (s, zeros), state, own)

    return jax.lax.scan(step_or_skip, state, inputs, length=num_rounds)


def _trace(function: Callable[..., PyTree], *arguments: Any) -> tuple[Callable[..., PyTree], PyTree]:
    """The function as a program that need not be traced again, and the shapes of its results."""
    program, results = jax.make_jaxpr(function, return_shape=True)(*arguments)
    structure = jax.tree.structure(results)

    def traced(*arguments: Any) -> PyTree:
        return jax.tree.unflatten(structure, jaxpr_as_fun(program)(*jax.tree.leaves(arguments)))

    return traced, results


def full_participation(num_clients: int) -> SampleCohort:
    """Every client in every round."""
    return lambda key, round: Cohort(jnp.arange(num_clients), jnp.ones(num_clients, bool))


def fixed_size_cohort(num_clients: int, cohort_size: int) -> SampleCohort:
    """A uniform sample of exactly `cohort_size` clients without replacement.

    A small federation is shuffled; of a large one, whose shuffling would take longer than a round, few are drawn.

    Raises:
      ValueError: when the cohort is empty or larger than the federation.
    """
    _check_cohort_size(cohort_size, num_clients)

    def sample(key: jax.Array, round: jax.Array) -> Cohort:
        if num_clients <= _SHUFFLED_UP_TO:
            index = jax.random.choice(key, num_clients, (cohort_size,), replace=False)
        else:
            index = few_of_many(key, num_clients, cohort_size)
        return Cohort(index, jnp.ones(cohort_size, bool))

    return sample


def few_of_many(key: jax.Array, population: int, size: int) -> Int[jax.Array, " S"]:
    """A uniform subset in time and memory that do not depend on the population: Floyd's algorithm.

    The i-th draw is from the first `population - size + i + 1`; one that was drawn before is replaced by the last of
    these, which cannot have been.

    Guarantees:
      Every subset is equally likely (test: `tests/federated/test_algorithm.py::test_every_subset_is_equally_likely`).

    References:
      Bentley and Floyd 1987, "Programming pearls: a sample of brilliance".
    """
    last = jnp.arange(population - size, population)
    drawn = jax.random.randint(key, (size,), 0, last + 1)

    def add(i: jax.Array, chosen: jax.Array) -> jax.Array:
        return chosen.at[i].set(jnp.where(jnp.any(chosen == drawn[i]), last[i], drawn[i]))

    return jax.lax.fori_loop(0, size, add, jnp.full(size, -1, last.dtype))


def poisson_cohort(num_clients: int, expected_size: int) -> SampleCohort:
    """Every client joins independently with probability `expected_size / num_clients`.

    There is a place for each client, so that any cohort fits; empty places take no local steps.

    Raises:
      ValueError: when the expected cohort is empty or larger than the federation.
    """
    _check_cohort_size(expected_size, num_clients)

    def sample(key: jax.Array, round: jax.Array) -> Cohort:
        active = jax.random.bernoulli(key, expected_size / num_clients, (num_clients,))
        return Cohort(jnp.arange(num_clients), active)

    return sample


def cyclic_cohort(order: Int[jax.Array, " C"], cohort_size: int) -> SampleCohort:
    """Clients take turns: block r mod ceil(C / S) of a fixed order in round r.

    A client waits ceil(C / S) rounds between two turns, exactly. The last block may have empty places.

    Args:
      order: the clients in the order of their turns, each once.
      cohort_size: S.

    Raises:
      ValueError: when the cohort is empty or larger than the federation.
    """
    num_clients = len(order)
    _check_cohort_size(cohort_size, num_clients)
    num_blocks = math.ceil(num_clients / cohort_size)
    places = jnp.pad(order, (0, num_blocks * cohort_size - num_clients)).reshape(num_blocks, cohort_size)
    taken = (jnp.arange(num_blocks * cohort_size) < num_clients).reshape(num_blocks, cohort_size)

    def sample(key: jax.Array, round: jax.Array) -> Cohort:
        return Cohort(places[round % num_blocks], taken[round % num_blocks])

    return sample


def _check_cohort_size(cohort_size: int, num_clients: int) -> None:
    if not 1 <= cohort_size <= num_clients:
        raise ValueError(f"clients_per_round={cohort_size} must lie between 1 and num_clients={num_clients}.")
