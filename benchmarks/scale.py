"""Rounds per second and memory over the number of clients, and over the number of devices and of rounds per call.

Workload: W3 (see `workloads.py`) with 64 windows a client and a cohort of 200 drawn anew for each round. Every
contestant is a process of its own, or two, so that its peak of memory is its own; they take turns, one compiled call of
rounds each, and what is compared are medians of the ratios within a turn. A process that waits uses no core.

From what was measured follows an estimate for a million clients on 64 devices, see `estimate`.
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
from harness import free_port, markdown_table, parse_arguments, write_results
from workloads import WORKLOADS, algorithm, client_data

from fedjax_anomaly import distributed, federated, trees
from fedjax_anomaly.federated.parallel import everywhere, place, place_clients

WORKER = "--worker="
READY = "ready"
ONE_DEVICE = "1 device"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """What one process runs.

    Attributes:
      clients: of the federation.
      where: they are kept, `host` or `device`.
      cohort: clients of a round.
      devices: host devices that the cohort is divided over.
      rounds: of a compiled call.
      processes: that share the devices evenly.
    """

    clients: int
    where: str = "host"
    cohort: int = 200
    devices: int = os.cpu_count() or 1
    rounds: int = 5
    processes: int = 1


@dataclasses.dataclass(frozen=True)
class Pieces:
    """What the estimate is made of.

    Attributes:
      cohort: clients that one device trained in a round.
      round_seconds: that the round took it, with the clients on the device.
      gather_seconds: for a host to draw, gather and send such a cohort.
      client_bytes: of host memory that a client's data take.
      parameter_bytes: of the model, which all devices sum up in each round.
    """

    cohort: int
    round_seconds: float
    gather_seconds: float
    client_bytes: float
    parameter_bytes: int


def estimate(
    pieces: Pieces,
    num_clients: int = 10**6,
    num_devices: int = 64,
    devices_per_host: int = 8,
    link_bytes_per_second: float = 25e9 / 8,
    hop_seconds: float = 50e-6,
) -> dict[str, Any]:
    """What many devices like the one measured would reach, each with a cohort as large as that one had.

    round = max(training, gathering) + sum. Training takes what it took. A host's thread gathers for all of its
    devices, one after the other, while they train. The sum is a ring: each device sends 2 (D - 1) / D of the parameters
    over its link, in 2 (D - 1) steps, and no link is measured here: its speed and the time of a step are arguments.
    """
    steps = 2 * (num_devices - 1)
    gather = pieces.gather_seconds * devices_per_host
    total = steps / num_devices * pieces.parameter_bytes / link_bytes_per_second + steps * hop_seconds
    round_seconds = max(pieces.round_seconds, gather) + total
    cohort = pieces.cohort * num_devices
    return {
        "estimate": f"{num_clients} clients, {num_devices} devices, {num_devices // devices_per_host} hosts",
        "cohort": cohort,
        "training, s": pieces.round_seconds,
        "gathering meanwhile, s": gather,
        "sum of the updates, s": total,
        "rounds per second": 1.0 / round_seconds,
        "clients trained per second": cohort / round_seconds,
        "all clients once, s": num_clients / cohort * round_seconds,
        "memory of each host for the clients, GB": num_clients * pieces.client_bytes / 1e9,
    }


def contestants(quick: bool) -> dict[str, Contestant]:
    """By name; the first is what the others are compared with."""
    cores = os.cpu_count() or 1
    shared = 2 * max(1, cores // 2)
    few = 1000
    scaled = (few, 2000) if quick else (few, 10_000, 100_000)
    return {
        "clients on the devices": Contestant(few, "device"),
        **{f"{clients} clients on the host": Contestant(clients) for clients in scaled},
        ONE_DEVICE: Contestant(few, "device", devices=1),
        "2 processes, clients on the devices": Contestant(few, "device", devices=shared, processes=2),
        "2 processes, clients on the host": Contestant(few, devices=shared, processes=2),
        f"{cores} devices, a cohort {cores} times as large": Contestant(
            max(few, 400 * cores), "device", cohort=200 * cores
        ),
        "1 round per call": Contestant(few, "device", rounds=1),
        "20 rounds per call": Contestant(few, "device", rounds=20),
    }


def work(contestant: Contestant, address: str, process_id: int) -> None:
    """Runs one compiled call for each line of standard input, and answers with its seconds; then with its pieces."""
    jax.config.update("jax_num_cpu_devices", contestant.devices // contestant.processes)
    with distributed.joined(address, contestant.processes, process_id):
        _work(contestant)


def _work(contestant: Contestant) -> None:
    workload = dataclasses.replace(
        WORKLOADS["W3"], num_clients=contestant.clients, cohort_size=contestant.cohort, num_windows=64
    )
    data = client_data(workload)
    mesh = federated.clients_mesh()
    fedavg = algorithm(workload, federated.client_map(None, mesh))
    key = jax.random.key(0)
    on_host, rounds = contestant.where == "host", contestant.rounds
    context: Any
    if on_host:
        context = federated.cohorts_ahead(fedavg, key, data, 0, rounds, mesh)
    else:
        context = contextlib.nullcontext(itertools.repeat(place_clients(data, mesh)))

    def of_rounds(state: federated.FederatedState, own: Any) -> federated.FederatedState:
        if on_host:
            return federated.run_cohorts(fedavg, key, state, own)[0]
        return federated.run(fedavg, key, state, own, rounds)[0]

    run = jax.jit(of_rounds, donate_argnums=0, out_shardings=everywhere(mesh))
    state = place(jax.device_get(fedavg.init(jax.random.key(1), data)), everywhere(mesh))
    distributed.meet()
    with context as inputs:
        state = jax.block_until_ready(run(state, next(inputs)))
        print(READY, flush=True)
        for _ in sys.stdin:
            begin = time.perf_counter()
            state = jax.block_until_ready(run(state, next(inputs)))
            print(time.perf_counter() - begin, flush=True)
        peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        gather_seconds = _seconds_of_calls(inputs) / rounds if on_host else None
    pieces = {
        "peak_bytes": peak_bytes,
        "data_bytes": sum(leaf.nbytes for leaf in data),
        "gather_seconds": gather_seconds,
        "parameter_bytes": trees.num_bytes(state.params),
    }
    print(json.dumps(pieces), flush=True)


def _seconds_of_calls(inputs: Iterator[Any], count: int = 4) -> float:
    """For what one call needs, where nothing is done beside it; the first was there before the clock ran."""
    next(inputs)
    begin = time.perf_counter()
    for _ in range(count):
        jax.block_until_ready(next(inputs))
    return (time.perf_counter() - begin) / count


class Running:
    """The processes of one contestant."""

    def __init__(self, contestant: Contestant) -> None:
        address = f"localhost:{free_port()}" if contestant.processes > 1 else ""
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, WORKER + json.dumps([dataclasses.asdict(contestant), address, process_id])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for process_id in range(contestant.processes)
        ]
        for process in self._processes:
            assert process.stdout
            # Gloo has a line of its own to print before.
            assert any(line == f"{READY}\n" for line in process.stdout), f"{contestant} did not start"

    def call(self) -> float:
        """Seconds of one compiled call, which ends with the last process."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        return max(float(process.stdout.readline()) for process in self._processes if process.stdout)

    def end(self) -> dict[str, Any]:
        """The pieces; the memory is that of all processes together."""
        for process in self._processes:
            assert process.stdin
            process.stdin.close()  # All at once, since they end together.
        ends = [json.loads(process.stdout.read()) for process in self._processes if process.stdout]
        assert not any(process.wait() for process in self._processes), "a process did not end well"
        return ends[0] | {name: sum(end[name] for end in ends) for name in ("peak_bytes", "data_bytes")}


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    chosen = contestants(arguments.quick)
    running = {name: Running(contestant) for name, contestant in chosen.items()}
    turns = [{name: own.call() for name, own in running.items()} for _ in range(2 if arguments.quick else 9)]
    pieces = {name: own.end() for name, own in running.items()}
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
                "peak memory, MB": pieces[name]["peak_bytes"] / 1e6,
                "of it the clients' data, MB": pieces[name]["data_bytes"] / 1e6,
            }
        )
    estimated = estimate(_measured(chosen, turns, pieces))
    print(f"{markdown_table(rows)}\n\n{markdown_table([estimated])}")
    print(write_results(arguments.output_dir, "scale", [*rows, estimated], ratios))


def _measured(
    chosen: dict[str, Contestant], turns: list[dict[str, float]], pieces: dict[str, dict[str, Any]]
) -> Pieces:
    """The largest federation on the host tells what gathering takes."""
    alone = chosen[ONE_DEVICE]
    largest = max((name for name in chosen if chosen[name].where == "host"), key=lambda name: chosen[name].clients)
    assert chosen[largest].cohort == alone.cohort
    return Pieces(
        alone.cohort,
        statistics.median(turn[ONE_DEVICE] for turn in turns) / alone.rounds,
        pieces[largest]["gather_seconds"],
        pieces[largest]["data_bytes"] / chosen[largest].clients,
        pieces[largest]["parameter_bytes"],
    )


if __name__ == "__main__":
    if sys.argv[-1].startswith(WORKER):
        fields, address, process_id = json.loads(sys.argv[-1].removeprefix(WORKER))
        work(Contestant(**fields), address, process_id)
    else:
        main()
