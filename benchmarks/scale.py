"""Rounds per second and memory over the number of clients, and over the number of devices and of rounds per call.

Workload: W3 (see `workloads.py`) with 64 windows a client and a cohort of 200 drawn anew for each round. Every
contestant is a process of its own, so that its peak of memory is its own; they take turns, one compiled call of rounds
each, and what is compared are medians of the ratios within a turn. A process that waits uses no core.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
from harness import markdown_table, parse_arguments, write_results
from jax.sharding import NamedSharding, PartitionSpec
from workloads import WORKLOADS, algorithm, client_data

from fedjax_anomaly import federated
from fedjax_anomaly.federated.parallel import place_clients

WORKER = "--worker="


@dataclasses.dataclass(frozen=True)
class Contestant:
    """What one process runs.

    Attributes:
      clients: of the federation.
      where: they are kept, `host` or `device`.
      cohort: clients of a round.
      devices: host devices that the cohort is divided over.
      rounds: of a compiled call.
    """

    clients: int
    where: str = "host"
    cohort: int = 200
    devices: int = os.cpu_count() or 1
    rounds: int = 5


def contestants(quick: bool) -> dict[str, Contestant]:
    """By name; the first is what the others are compared with."""
    cores = os.cpu_count() or 1
    few = 1000
    scaled = (few, 2000) if quick else (few, 10_000, 100_000)
    return {
        "clients on the devices": Contestant(few, "device"),
        **{f"{clients} clients on the host": Contestant(clients) for clients in scaled},
        "1 device": Contestant(few, "device", devices=1),
        f"{cores} devices, a cohort {cores} times as large": Contestant(
            max(few, 400 * cores), "device", cohort=200 * cores
        ),
        "1 round per call": Contestant(few, "device", rounds=1),
        "20 rounds per call": Contestant(few, "device", rounds=20),
    }


def work(contestant: Contestant) -> None:
    """Runs one compiled call for each line of standard input, and answers with its seconds; then with its memory."""
    jax.config.update("jax_num_cpu_devices", contestant.devices)
    workload = dataclasses.replace(
        WORKLOADS["W3"], num_clients=contestant.clients, cohort_size=contestant.cohort, num_windows=64
    )
    data = client_data(workload)
    mesh = federated.clients_mesh()
    fedavg = algorithm(workload, federated.client_map(None, mesh))
    key = jax.random.key(0)
    inputs: Iterator[Any]
    if contestant.where == "host":
        run = jax.jit(lambda state, own: federated.run_cohorts(fedavg, key, state, own)[0], donate_argnums=0)
        context: Any = federated.cohorts_ahead(fedavg, key, data, 0, contestant.rounds, mesh)
    else:
        rounds = contestant.rounds
        run = jax.jit(lambda state, own: federated.run(fedavg, key, state, own, rounds)[0], donate_argnums=0)
        context = contextlib.nullcontext(itertools.repeat(place_clients(data, mesh)))
    state = jax.device_put(fedavg.init(jax.random.key(1), data), NamedSharding(mesh, PartitionSpec()))
    with context as inputs:
        state = jax.block_until_ready(run(state, next(inputs)))
        print("ready", flush=True)
        for _ in sys.stdin:
            begin = time.perf_counter()
            state = jax.block_until_ready(run(state, next(inputs)))
            print(time.perf_counter() - begin, flush=True)
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_bytes": peak_bytes, "data_bytes": sum(leaf.nbytes for leaf in data)}), flush=True)


def _start(contestant: Contestant) -> subprocess.Popen:
    command = [sys.executable, __file__, WORKER + json.dumps(dataclasses.asdict(contestant))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "ready\n", f"{contestant} did not start"
    return process


def _call(process: subprocess.Popen) -> float:
    assert process.stdin and process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    chosen = contestants(arguments.quick)
    processes = {name: _start(contestant) for name, contestant in chosen.items()}
    turns = [{name: _call(process) for name, process in processes.items()} for _ in range(2 if arguments.quick else 9)]
    memory = {name: json.loads(process.communicate()[0]) for name, process in processes.items()}
    first = next(iter(chosen))
    rows, ratios = [], {}
    for name, contestant in chosen.items():
        seconds = [turn[name] / contestant.rounds for turn in turns]
        base = [turn[first] / chosen[first].rounds for turn in turns]
        ratios[f"{name} vs {first}"] = statistics.median(b / s for b, s in zip(base, seconds, strict=True))
        rows.append(
            {
                "contestant": name,
                "rounds per second": 1.0 / statistics.median(seconds),
                "fastest": 1.0 / min(seconds),
                "slowest": 1.0 / max(seconds),
                "against the first": ratios[f"{name} vs {first}"],
                "peak memory, MB": memory[name]["peak_bytes"] / 1e6,
                "of it the clients' data, MB": memory[name]["data_bytes"] / 1e6,
            }
        )
    print(markdown_table(rows))
    print(write_results(arguments.output_dir, "scale", rows, ratios))


if __name__ == "__main__":
    if sys.argv[-1].startswith(WORKER):
        work(Contestant(**json.loads(sys.argv[-1].removeprefix(WORKER))))
    else:
        main()
