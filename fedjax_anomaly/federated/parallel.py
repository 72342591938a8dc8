"""The map over clients: in sequence where one client should stay in the cache, at once where the device is wide."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_anomaly.types import ClientData, PyTree

CLIENTS_AXIS = "clients"

ClientMap = Callable[[Callable[..., PyTree], tuple[Any, ...]], PyTree]
"""(function of one client, arguments that lead with S) -> results that lead with S."""


def default_client_batch_size() -> int:
    """How many clients to train at once on each device: 1 on CPU, all (0) on an accelerator.

    On CPU a plain vmap over clients was measured slower than one client at a time, whose working set fits the cache
    (`benchmarks/throughput.py`).
    """
    return 1 if jax.default_backend() == "cpu" else 0


def clients_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, `clients`, over the devices given, or all there are."""
    return Mesh(np.asarray(jax.devices() if devices is None else devices), (CLIENTS_AXIS,))


def client_map(batch_size: int | None = None, mesh: Mesh | None = None) -> ClientMap:
    """Builds the map over clients.

    Args:
      batch_size: clients trained at once on each device; 0 is all, None chooses by the platform.
      mesh: a mesh with the axis `clients`; each device maps over its share. None uses one device.

    Guarantees:
      The results do not depend on `batch_size` or on the number of devices beyond float rounding (test:
      `tests/federated/test_parallel.py::test_a_round_is_the_same_on_one_and_on_four_devices`).
    """
    if batch_size is None:
        batch_size = default_client_batch_size()
    if batch_size < 0:
        raise ValueError(f"client_batch_size={batch_size} must be at least 0 (0 trains all clients at once).")

    def local_map(function: Callable[..., PyTree], arguments: tuple[Any, ...]) -> PyTree:
        if batch_size == 0:
            return jax.vmap(function)(*arguments)
        if batch_size == 1:
            return jax.lax.map(lambda x: function(*x), arguments)
        return jax.lax.map(lambda x: function(*x), arguments, batch_size=batch_size)

    if mesh is None or mesh.size == 1:
        return local_map

    def sharded_map(function: Callable[..., PyTree], arguments: tuple[Any, ...]) -> PyTree:
        num_clients = len(jax.tree.leaves(arguments)[0])
        padded = jax.tree.map(lambda leaf: _pad_clients(leaf, -num_clients % mesh.size), arguments)
        mapped = jax.shard_map(
            lambda *shard: local_map(function, shard),
            mesh=mesh,
            in_specs=PartitionSpec(CLIENTS_AXIS),
            out_specs=PartitionSpec(CLIENTS_AXIS),
            check_vma=False,
        )(*padded)
        return jax.tree.map(lambda leaf: leaf[:num_clients], mapped)

    return sharded_map


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
    return jax.device_put(data, NamedSharding(mesh, PartitionSpec(CLIENTS_AXIS) if even else PartitionSpec()))
