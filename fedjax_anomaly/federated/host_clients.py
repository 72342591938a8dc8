"""Clients that stay on the host: a chunk's cohorts reach the device while the device is at work on the one before."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_anomaly.federated.algorithm import Cohort, FederatedAlgorithm, FederatedState, RoundInfo, scan_rounds
from fedjax_anomaly.federated.clustered_fedavg import of_cohort
from fedjax_anomaly.federated.parallel import CLIENTS_AXIS, everywhere, place
from fedjax_anomaly.types import ClientData


class Cohorts(NamedTuple):
    """The clients of R rounds and their data.

    Attributes:
      cohort: every leaf is [R, S].
      data: every leaf leads with R and S.
    """

    cohort: Cohort
    data: ClientData


@contextlib.contextmanager
def cohorts_ahead(
    algorithm: FederatedAlgorithm,
    key: jax.Array,
    data: ClientData,
    first_round: int,
    chunk_rounds: int,
    mesh: Mesh | None = None,
) -> Iterator[Iterator[Cohorts]]:
    """Yields the cohorts of one chunk of rounds after the other, without end.

    A thread draws, gathers and sends the next chunk while the caller is busy with the last one, so that two chunks of
    cohorts are on the devices, whatever the number of clients.

    Args:
      algorithm: one that draws cohorts.
      key: the root key of the run, as for `run`.
      data: of all clients, NumPy arrays; they may be memory-mapped.
      first_round: the number of the first chunk's first round.
      chunk_rounds: R.
      mesh: the devices that each cohort is divided over; None uses one.

    Raises:
      ValueError: when every client takes part in every round, so that there is nothing to choose.

    Guarantees:
      The cohorts are those of `run` (test:
      `tests/federated/test_host_clients.py::test_clients_on_the_host_end_at_the_same_bits`).
    """
    if algorithm.draw is None:
        raise ValueError(
            "every client takes part in every round, so that all of them are needed on the device; draw a smaller "
            "cohort (clients_per_round), or keep the clients there."
        )
    draw = _draw_on_the_host(algorithm.draw, key)

    def load(first: int) -> Cohorts:
        cohort = draw(np.arange(first, first + chunk_rounds, dtype=np.int32))
        return _gather(data, cohort, mesh)

    def chunks(thread: ThreadPoolExecutor) -> Iterator[Cohorts]:
        pending = thread.submit(load, first_round)
        for first in itertools.count(first_round + chunk_rounds, chunk_rounds):
            ready = pending.result()
            pending = thread.submit(load, first)
            yield ready

    with ThreadPoolExecutor(1, "cohorts") as thread:
        yield chunks(thread)


def run_cohorts(
    algorithm: FederatedAlgorithm,
    key: jax.Array,
    state: FederatedState,
    cohorts: Cohorts,
    observe: Callable[[FederatedState], Any] = lambda state: None,
    stop_round: jax.Array | int | None = None,
) -> tuple[FederatedState, tuple[RoundInfo, Any]]:
    """Like `run`, on one chunk's cohorts in place of all clients.

    Args:
      algorithm: see `run`.
      key: see `run`.
      state: at the first of the chunk's rounds.
      cohorts: from `cohorts_ahead`.
      observe: see `run`.
      stop_round: see `run`.
    """

    def round(key: jax.Array, state: FederatedState, own: Cohorts) -> tuple[FederatedState, RoundInfo]:
        return algorithm.round_of_cohort(key, state, own.cohort, own.data)

    return scan_rounds(round, key, state, cohorts, len(cohorts.cohort.client), observe, stop_round)


def _draw_on_the_host(draw: Callable[[jax.Array, jax.Array], Cohort], key: jax.Array) -> Callable[[np.ndarray], Cohort]:
    """Rounds -> their cohorts, drawn by the CPU: an accelerator would do it only after the chunk that it is at."""
    cpu = jax.local_devices(backend="cpu")[0]
    root = jax.device_put(key, cpu)
    compiled = jax.jit(jax.vmap(lambda number: draw(jax.random.fold_in(root, number), number)))

    def drawn(rounds: np.ndarray) -> Cohort:
        return jax.device_get(compiled(jax.device_put(rounds, cpu)))

    return drawn


def _gather(data: ClientData, cohort: Cohort, mesh: Mesh | None) -> Cohorts:
    """Puts cohorts on the devices: divided where their places divide evenly, whole on each otherwise.

    Of a cohort that is divided, a process reads only the clients of its own devices.
    """
    if mesh is None:
        return jax.device_put(Cohorts(cohort, of_cohort(data, cohort)))
    whole, num_places = everywhere(mesh), cohort.client.shape[1]
    if num_places % mesh.size:
        return place(Cohorts(cohort, of_cohort(data, cohort)), whole)
    divided = NamedSharding(mesh, PartitionSpec(None, CLIENTS_AXIS))
    shares = [
        jax.device_put(of_cohort(data, Cohort(*(leaf[own] for leaf in cohort))), device)
        for device, own in divided.addressable_devices_indices_map(cohort.client.shape).items()
    ]

    def joined(*parts: jax.Array) -> jax.Array:
        shape = cohort.client.shape + parts[0].shape[2:]
        return jax.make_array_from_single_device_arrays(shape, divided, list(parts))

    return Cohorts(place(cohort, whole), jax.tree.map(joined, *shares))
