"""What secure aggregation costs: time of a compiled round, and bytes and work of one client in the protocol.

Rounds are those of W1 (see `workloads.py`): in the clear, by SecAgg and by SecAgg+, interleaved; each run's parameters
are checked against those in the clear. In a compiled round the simulation computes the masks of all clients, with
JAX's threefry. What one client itself would do in a round is timed apart, with the protocol's own cryptography, in
federations of 20, 200 and 1,000 clients, and its messages are counted as the bytes they are.
"""

import os
import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from harness import markdown_table, parse_arguments, write_results
from workloads import W1, algorithm, client_data, model_and_training

from fedjax_anomaly import federated, trees
from fedjax_anomaly.federated.parallel import everywhere, place_clients
from fedjax_anomaly.privacy.secure_aggregation import client_seconds, client_traffic, mask_graph
from fedjax_anomaly.privacy.secure_aggregation.graph import Protocol
from fedjax_anomaly.types import ClientData

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
IN_THE_CLEAR = "in the clear"


def compiled_run(
    data: ClientData, rounds: int, aggregator: federated.Aggregator, mesh: jax.sharding.Mesh
) -> Callable[[], Any]:
    """`rounds` rounds as one compiled call; returns the parameters and what the aggregator reported."""
    fedavg = algorithm(W1, federated.client_map(None, mesh), aggregator)
    key = jax.random.key(0)
    placed = place_clients(data, mesh)
    run = jax.jit(lambda state: federated.run(fedavg, key, state, placed, rounds), donate_argnums=0)
    start = jax.device_put(fedavg.init(key, placed), everywhere(mesh))

    def call() -> Any:
        # The run is given its state to overwrite, so it gets a copy.
        state, (info, _) = run(jax.tree.map(jnp.copy, start))
        return state.params, info.aggregation

    return call


def time_rounds(rounds: int, repetitions: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of whole rounds."""
    data, mesh = client_data(W1), federated.clients_mesh()
    aggregators = {IN_THE_CLEAR: federated.weighted_sum()}
    aggregators |= {
        name: federated.secure_sum(name, max_weight=W1.num_windows, clip=4.0, mesh=mesh) for name in PROTOCOLS
    }
    calls = {name: compiled_run(data, rounds, aggregator, mesh) for name, aggregator in aggregators.items()}
    first_seconds, params = {}, {}
    for name, call in calls.items():
        begin = time.perf_counter()
        params[name], reported = jax.device_get(jax.block_until_ready(call()))
        first_seconds[name] = time.perf_counter() - begin
        assert not np.any(reported.get("clipped_values", 0))
    for name in PROTOCOLS:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params[name], params[IN_THE_CLEAR])
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append((time.perf_counter() - begin) / rounds)
    rows = [
        {
            "what": "round at W1",
            "sums": name,
            "seconds per round": statistics.median(seconds[name]),
            "fastest": min(seconds[name]),
            "slowest": max(seconds[name]),
            "compile and first call, seconds": first_seconds[name],
        }
        for name in calls
    ]
    ratios = {
        f"{name}_vs_in_the_clear": statistics.median(
            own / clear for own, clear in zip(seconds[name], seconds[IN_THE_CLEAR], strict=True)
        )
        for name in PROTOCOLS
    }
    return rows, ratios


def time_protocol(federation_sizes: tuple[int, ...], repetitions: int) -> list[dict[str, Any]]:
    """A row for each protocol and number of clients: one client's messages and work, without dropouts."""
    model, _ = model_and_training(W1)
    num_values = trees.num_elements(jax.eval_shape(model.init, jax.random.key(0))) + 1
    rows = []
    for num_clients in federation_sizes:
        for protocol in PROTOCOLS:
            graph = mask_graph(protocol, num_clients)
            up, down = client_traffic(graph.num_neighbours, num_values)
            timed = [client_seconds(graph, num_values, secrets.token_bytes) for _ in range(repetitions)]
            rows.append(
                {
                    "what": "one client",
                    "sums": protocol,
                    "clients": num_clients,
                    "neighbours": graph.num_neighbours,
                    "threshold": graph.threshold,
                    "kB up": sum(up.values()) / 1e3,
                    "of it besides the vector": (sum(up.values()) - up["vector"]) / 1e3,
                    "kB down, the model aside": sum(down.values()) / 1e3,
                    "milliseconds": 1e3 * statistics.median(sum(one) for one in timed),
                }
            )
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    rounds, repetitions = (1, 1) if arguments.quick else (5, 7)
    sizes = (20, 200) if arguments.quick else (20, 200, 1000)
    round_rows, ratios = time_rounds(rounds, repetitions)
    client_rows = time_protocol(sizes, repetitions)
    for rows in (round_rows, client_rows):
        print(markdown_table(rows), end="\n\n")
    print(", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    print(write_results(arguments.output_dir, "secure_aggregation", [*round_rows, *client_rows], ratios))


if __name__ == "__main__":
    main()
