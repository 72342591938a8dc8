"""The map over clients: in sequence where one client should stay in the cache, at once where the device is wide."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from fedjax_anomaly.types import ClientData, PyTree

CLIENTS_AXIS = "clients"


def default_client_batch_size() -> int:
    """How many clients to train at once on each device: 1 on CPU, all (0) on an accelerator.

    On CPU a plain vmap over clients was measured slower than one client at a time, whose working set fits the cache
    (`benchmarks/throughput.py`).
    """
    return 1 if jax.default_backend() == "cpu" else 0


def clients_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, `clients`, over the devices given, or all there are."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (CLIENTS_AXIS,))


@dataclasses.dataclass(frozen=True)
class ClientMap:
    """The map over clients, whose results are kept side by side or added up; see `client_map`.

    Attributes:
      batch_size: clients trained at once on each device; 0 is all.
      mesh: a mesh with the axis `clients`; each device maps over its share. None uses one device.
    """

    batch_size: int
    mesh: Mesh | None

    def __call__(self, function: Callable[..., PyTree], arguments: tuple[Any, ...]) -> PyTree:
        """Returns the results of a function of one client, which lead with S as its arguments do."""

        def local_map(*arguments: Any) -> PyTree:
            if self.batch_size == 0:
                return jax.vmap(function)(*arguments)
            batch_size = None if self.batch_size == 1 else self.batch_size
            return jax.lax.map(lambda x: function(*x), arguments, batch_size=batch_size)

        results = self._on_devices(local_map, arguments, PartitionSpec(CLIENTS_AXIS))
        return _first_clients(results, _length(arguments))

    def sums(
        self,
        function: Callable[..., tuple[PyTree, PyTree]],
        arguments: tuple[Any, ...],
        group: Int[jax.Array, " S"],
        shapes: PyTree,
    ) -> tuple[PyTree, PyTree]:
        """Adds results up in groups as they come, so that no more than `batch_size` of them exist at a time.

        Args:
          function: of one client -> (what is added up, what is kept). It adds zero where the client's mask is cleared.
          arguments: lead with S.
          group: to whose sum each client adds.
          shapes: of the sums; every leaf leads with K.

        Returns:
          The sums, which lead with K, and what is kept, which leads with S.

        Guarantees:
          The sums are those of the results of `__call__`, up to float rounding (test:
          `tests/federated/test_parallel.py::test_sums_are_those_of_the_map`).
        """

        def add_client(totals: PyTree, of_client: tuple[jax.Array, tuple[Any, ...]]) -> tuple[PyTree, PyTree]:
            own_group, own = of_client
            part, kept = function(*own)
            added = jax.tree.map(lambda total, leaf: total[own_group] + leaf, totals, part)
            return jax.tree.map(
                partial(jax.lax.dynamic_update_index_in_dim, index=own_group, axis=0), totals, added
            ), kept

        def add_block(totals: PyTree, of_block: tuple[jax.Array, tuple[Any, ...]]) -> tuple[PyTree, PyTree]:
            own_groups, own = of_block
            parts, kept = jax.vmap(function)(*own)
            membership = jax.nn.one_hot(own_groups, _length(totals), axis=0)
            return jax.tree.map(lambda total, leaf: total + jnp.tensordot(membership, leaf, 1), totals, parts), kept

        def local_sums(*clients: Any) -> tuple[PyTree, PyTree]:
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            count, size = _length(clients), self.batch_size or _length(clients)
            if size == 1:
                totals, kept = jax.lax.scan(add_client, zeros, (clients[0], clients[1:]))
            else:
                blocks = jax.tree.map(lambda leaf: _pad_clients(leaf, -count % size), clients)
                blocks = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), blocks)
                totals, kept = jax.lax.scan(add_block, zeros, (blocks[0], blocks[1:]))
                kept = _first_clients(jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), kept), count)
            return (totals if self._num_devices == 1 else jax.lax.psum(totals, CLIENTS_AXIS)), kept

        sums, kept = self._on_devices(local_sums, (group, *arguments), (PartitionSpec(), PartitionSpec(CLIENTS_AXIS)))
        return sums, _first_clients(kept, len(group))

    @property
    def _num_devices(self) -> int:
        return 1 if self.mesh is None else self.mesh.size

    def _on_devices(self, local: Callable[..., PyTree], clients: tuple[Any, ...], out_specs: Any) -> PyTree:
        """Each device works on its share of the clients; empty ones make the shares even."""
        if self.mesh is None or self._num_devices == 1:
            return local(*clients)
        padded = jax.tree.map(lambda leaf: _pad_clients(leaf, -_length(clients) % self._num_devices), clients)
        return jax.shard_map(
            local, mesh=self.mesh, in_specs=PartitionSpec(CLIENTS_AXIS), out_specs=out_specs, check_vma=False
        )(*padded)


def client_map(batch_size: int | None = None, mesh: Mesh | None = None) -> ClientMap:
    """Builds the map over clients.

    Args:
      batch_size: clients trained at once on each device; 0 is all, None chooses by the platform.
      mesh: a mesh with the axis `clients`; each device maps over its share. None uses one device.

    Raises:
      ValueError: when `batch_size` is negative.

    Guarantees:
      The results do not depend on `batch_size` or on the number of devices beyond float rounding (test:
      `tests/federated/test_parallel.py::test_a_round_is_the_same_on_one_and_on_four_devices`).
    """
    if batch_size is None:
        batch_size = default_client_batch_size()
    if batch_size < 0:
        raise ValueError(f"client_batch_size={batch_size} must be at least 0 (0 trains all clients at once).")
    return ClientMap(batch_size, mesh)


def _length(tree: PyTree) -> int:
    """Of the leading axis of every leaf."""
    return len(jax.tree.leaves(tree)[0])


def _first_clients(results: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[:count], results)


def _pad_clients(leaf: jax.Array, count: int) -> jax.Array:
    """Appends copies of the first client; masks are cleared, so that a padding client takes no step."""
    if count == 0:
        return leaf
    filler = jnp.zeros_like(leaf[:1]) if leaf.dtype == jnp.bool_ else leaf[:1]
    return jnp.concatenate([leaf, jnp.repeat(filler, count, axis=0)])


def place_clients(data: ClientData, mesh: Mesh | None) -> ClientData:
    """Puts the clients' data on the devices: sharded where the clients divide evenly, replicated otherwise."""
    if mesh is None:
        return jax.device_put(data)
    even = len(data.starts) % mesh.size == 0
    return place(data, NamedSharding(mesh, PartitionSpec(CLIENTS_AXIS)) if even else everywhere(mesh))


def everywhere(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def place(arrays: PyTree, sharding: NamedSharding) -> PyTree:
    """Puts arrays of the host on the devices of all processes; each process has them whole and sends its own share."""
    if sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index]), arrays
    )
