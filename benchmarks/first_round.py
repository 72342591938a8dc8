"""Where the time and the memory go between the start of a process and the end of its first round of W1.

Fresh processes one after the other: the first finds no compiled program on disk, the later ones do.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORKER = "--worker"


class Stages:
    """Seconds of the clock and of all cores since the stage before, and the memory at its end."""

    def __init__(self) -> None:
        self.done: dict[str, dict[str, float]] = {}
        # What Python itself took counts for the first stage.
        self._clock, self._cores = time.perf_counter(), 0.0

    def end(self, name: str) -> None:
        """Ends the stage."""
        clock, cores = time.perf_counter(), time.process_time()
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        self.done[name] = {
            "seconds": clock - self._clock,
            "cpu_seconds": cores - self._cores,
            "peak_memory_mb": kilobytes / 1e3,
        }
        self._clock, self._cores = time.perf_counter(), time.process_time()


def work() -> None:
    """Runs one round and prints its stages."""
    stages = Stages()
    import jax

    stages.end("import JAX")
    for name in ("flax.linen", "optax"):
        importlib.import_module(name)
    stages.end("import Flax and Optax")
    from workloads import KEY, W1, algorithm, client_data

    from fedjax_anomaly import federated
    from fedjax_anomaly.compiler_options import compiler_options
    from fedjax_anomaly.federated.parallel import everywhere, place_clients

    stages.end("import this package")
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    mesh = federated.clients_mesh()
    data = place_clients(client_data(W1), mesh)
    fedavg, key = algorithm(W1, federated.client_map(mesh=mesh)), jax.random.key(KEY)
    stages.end("devices and data")
    initial = jax.jit(fedavg.init).lower(key, data)
    stages.end("initial weights: trace and lower")
    program = initial.compile()
    stages.end("initial weights: compile, or read")
    state = jax.block_until_ready(jax.device_put(program(key, data), everywhere(mesh)))
    run = jax.jit(
        lambda state: federated.run(fedavg, key, state, data, 1)[0],
        donate_argnums=0,
        compiler_options=compiler_options(),
    )
    round = run.lower(state)
    stages.end("round: trace and lower")
    program = round.compile()
    stages.end("round: compile, or read")
    jax.block_until_ready(program(state))
    stages.end("first round")
    print(json.dumps(stages.done))


def start(cache: str) -> dict[str, dict[str, float]]:
    """The stages of a fresh process, and all together."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, WORKER], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - begin
    stages = json.loads(done.stdout)
    return stages | {
        "all, with starting and ending Python": {
            "seconds": seconds,
            "cpu_seconds": sum(stage["cpu_seconds"] for stage in stages.values()),
            "peak_memory_mb": max(stage["peak_memory_mb"] for stage in stages.values()),
        }
    }


def main() -> None:
    # Imports JAX, which a worker is to do itself.
    from harness import markdown_table, parse_arguments, write_results

    arguments = parse_arguments(__doc__ or "")
    repetitions = 1 if arguments.quick else 5
    firsts, laters = [], []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as cache:
            firsts.append(start(cache))
            laters.append(start(cache))
    rows: list[dict[str, Any]] = []
    for stage in firsts[0]:
        row: dict[str, Any] = {"stage": stage}
        for name, starts in {"first start": firsts, "later start": laters}.items():
            for figure in ("seconds", "cpu_seconds", "peak_memory_mb"):
                row[f"{name}, {figure.replace('_', ' ')}"] = statistics.median(each[stage][figure] for each in starts)
        rows.append(row)
    everything = "all, with starting and ending Python"
    ratios = {
        "first_vs_later_start": statistics.median(
            first[everything]["seconds"] / later[everything]["seconds"]
            for first, later in zip(firsts, laters, strict=True)
        )
    }
    print(markdown_table(rows))
    print(write_results(arguments.output_dir, "first_round", rows, ratios))


if __name__ == "__main__":
    if WORKER in sys.argv:
        work()
    else:
        main()
