"""Rounds per second of the compiled run: against a Python loop and a plain vmap, and with privacy and clusters.

Workload W1: 20 clients, 512 windows each of T = 16 rows of F = 41 features; encoder and decoder LSTM of 64; batch 64,
one local epoch of plain SGD at 0.01; all clients take part; FedAvg.

The first three do the same work from the same initial weights, and the script checks that they end at the same
parameters. The others are the compiled run with client-level clipping and noise, and with four clusters on top: by the
similarity of the clients' data, which is known before the first round, and by IFCA, where every client tries all four
models in every round. All run interleaved; compilation is timed apart, and every timing waits for its result.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import markdown_table, parse_arguments, write_results
from workloads import W1, WORKLOADS, Workload, algorithm, client_data, model_and_training

from fedjax_anomaly import federated
from fedjax_anomaly.compiler_options import compiler_options
from fedjax_anomaly.federated.parallel import everywhere, place_clients
from fedjax_anomaly.types import ClientData

NUM_CLUSTERS = 4


def compiled_run(
    data: ClientData,
    rounds: int,
    client_batch_size: int | None,
    mesh: Any,
    workload: Workload = W1,
    clustering: federated.algorithm.Clustering | None = None,
) -> Callable[[], Any]:
    """`rounds` rounds as one compiled call; returns the parameters, which lead with clusters."""
    fedavg = algorithm(workload, federated.client_map(client_batch_size, mesh), clustering=clustering)
    key = jax.random.key(0)
    placed = place_clients(data, mesh)
    run = jax.jit(
        lambda state: federated.run(fedavg, key, state, placed, rounds)[0],
        donate_argnums=0,
        compiler_options=compiler_options(),
    )

    start = fedavg.init(key, placed)
    if mesh is not None:
        start = jax.device_put(start, everywhere(mesh))

    def call() -> Any:
        # The run is given its state to overwrite, so it gets a copy.
        return run(jax.tree.map(jnp.copy, start)).params

    return call


def python_loop(data: ClientData, rounds: int) -> Callable[[], Any]:
    """What most simulators do: a compiled local training, called for one client after the other."""
    model, train_client = model_and_training(W1)
    train_client = jax.jit(train_client)
    key = jax.random.key(0)
    clients = [jax.tree.map(lambda leaf, c=c: jnp.asarray(leaf[c]), data) for c in range(W1.num_clients)]

    start = model.init(jax.random.split(key)[0])

    def call() -> Any:
        params = start
        for r in range(rounds):
            key_train = jax.random.split(jax.random.fold_in(key, r), 3)[1]
            updates = [train_client(jax.random.fold_in(key_train, c), params, own) for c, own in enumerate(clients)]
            weight = sum(update.weight for update in updates)
            total = jax.tree.map(
                lambda *leaves, updates=updates: sum(
                    update.weight * leaf for update, leaf in zip(updates, leaves, strict=True)
                ),
                *[update.delta for update in updates],
            )
            params = jax.tree.map(lambda leaf, delta, weight=weight: leaf + delta / weight, params, total)
        return jax.tree.map(lambda leaf: leaf[None], params)

    return call


def private_runs(data: ClientData, rounds: int, mesh: Any) -> dict[str, Callable[[], Any]]:
    """The compiled run with clipping and noise, and with clusters on top."""
    private = WORKLOADS["W1_dp"]
    assignment = federated.similarity_assignment(federated.data_summaries(data), NUM_CLUSTERS, seed=0)
    model, _ = model_and_training(private)
    clusterings = {
        "private": None,
        "private, clusters by data": federated.fixed(assignment, NUM_CLUSTERS),
        "private, clusters by IFCA": federated.ifca(
            model.loss,
            NUM_CLUSTERS,
            window_length=private.window_length,
            map_clients=federated.client_map(mesh=mesh),
        ),
    }
    return {
        name: compiled_run(data, rounds, None, mesh, private, clustering) for name, clustering in clusterings.items()
    }


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    rounds, repetitions = (2, 1) if arguments.quick else (5, 7)
    data, mesh = client_data(W1), federated.clients_mesh()
    contestants = {
        "compiled run": compiled_run(data, rounds, None, mesh),
        "plain vmap": compiled_run(data, rounds, 0, None),
        "Python loop": python_loop(data, rounds),
        **private_runs(data, rounds, mesh),
    }
    first_seconds, results = {}, {}
    for name, call in contestants.items():
        begin = time.perf_counter()
        results[name] = jax.device_get(jax.block_until_ready(call()))
        first_seconds[name] = time.perf_counter() - begin
    for name in ("plain vmap", "Python loop"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), results[name], results["compiled run"])
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, call in contestants.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - begin)
    rows = [
        {
            "contestant": name,
            "rounds per second": rounds / statistics.median(seconds[name]),
            "fastest": rounds / min(seconds[name]),
            "slowest": rounds / max(seconds[name]),
            "compile and first call, seconds": first_seconds[name],
        }
        for name in contestants
    ]
    times = {
        name: statistics.median(other / own for other, own in zip(taken, seconds["compiled run"], strict=True))
        for name, taken in seconds.items()
    }
    ratios = {
        "compiled_vs_python_loop": times["Python loop"],
        "compiled_vs_vmap": times["plain vmap"],
        "W1_dp_overhead": times["private"] - 1.0,
        "W1_dp_clusters_overhead": times["private, clusters by data"] - 1.0,
        "W1_dp_ifca_overhead": times["private, clusters by IFCA"] - 1.0,
    }
    print(markdown_table(rows))
    print(", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items()))
    print(write_results(arguments.output_dir, "throughput", rows, ratios))


if __name__ == "__main__":
    main()
