"""Rounds per second on a GPU, against a PyTorch loop over the clients with cuDNN's LSTM, and where a round's time goes.

Needs JAX and PyTorch with CUDA in one environment. All start from the same weights, do the same batches in the same
order, and must end at the same parameters, as in `peers.py`; each is a process of its own, they take turns, and medians
are over repetitions. The first lines of a table multiply in float32; TF32 and bfloat16 end elsewhere by their rounding.

Workloads: W1 to W3 of `peers.py`, and W5, where a cohort of 100 of 1,000 clients with 512 windows each of 32 x 41
trains LSTMs of 128.
"""

import argparse
import collections
import dataclasses
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
from contest.compare import Entry, Pythons, Result, compare
from contest.contestants import Contestant
from harness import add_arguments, markdown_table, write_results
from jax.profiler import ProfileData
from throughput import compiled_run
from workloads import W1, WORKLOADS, Workload, client_data

W5 = Workload("W5", 1_000, 100, 512, 32, 41, 128, 8, 64)
ROUNDS = {"W1": 5, "W2": 5, "W3": 10, "W5": 1}
"""Of one repetition; PyTorch's take seconds."""

OURS, PYTORCH = "ours", "PyTorch loop"
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""The processes share the device's memory."""
FLOAT32 = SHARED | {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "ALLOW_TF32": "0"}
TF32 = SHARED | {"ALLOW_TF32": "1"}


def entries_of(workload: Workload, *, all_of_ours: bool) -> list[Entry]:
    """Who takes turns on a workload; the first is the reference of the parameters."""

    def entry(label: str, module: str, variables: dict[str, str], task: Workload = workload) -> Entry:
        contestant = Contestant(module, label, "", None, variables)
        trains = variables.get("ALLOW_TF32") == "0"
        return Entry(label, contestant, task, task.rounds_per_repetition, trains)

    bfloat16 = dataclasses.replace(workload, name=f"{workload.name}_bfloat16", matmul_dtype="bfloat16")
    variants = [
        entry("ours, steps by XLA", "ours_by_xla", FLOAT32 | {"LONGEST_UNROLLED": str(workload.window_length)}),
        entry("ours, scan by XLA", "ours_by_xla", FLOAT32 | {"LONGEST_UNROLLED": "0"}),
        entry("ours, bfloat16", "ours", TF32, bfloat16),
    ]
    return [
        entry(OURS, "ours", FLOAT32),
        entry(PYTORCH, "torch_cuda", FLOAT32),
        entry(f"{OURS}, TF32", "ours", TF32),
        entry(f"{PYTORCH}, TF32", "torch_cuda", TF32),
        *(variants if all_of_ours else []),
    ]


def ratios_of(name: str, results: list[Result]) -> dict[str, float]:
    """How many times as fast as PyTorch, within each repetition, in float32 and in TF32."""
    seconds = {result.contestant: result.seconds for result in results if result.seconds and not result.failure}
    return {
        f"{name}_vs_pytorch_loop{suffix.replace(', ', '_').lower()}": statistics.median(
            theirs / own for theirs, own in zip(seconds[PYTORCH + suffix], seconds[OURS + suffix], strict=True)
        )
        for suffix in ("", ", TF32")
        if PYTORCH + suffix in seconds and OURS + suffix in seconds
    }


def kernels_of_a_round(rounds: int = 5) -> list[dict[str, Any]]:
    """Where the device's time of a round of W1 goes, by kinds of kernels."""
    call = compiled_run(client_data(W1), rounds, None, None)
    jax.block_until_ready(call())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        [trace] = Path(folder).rglob("*.xplane.pb")
        profile = ProfileData.from_file(str(trace))
    microseconds: collections.Counter[str] = collections.Counter()
    launches: collections.Counter[str] = collections.Counter()
    for plane in profile.planes:
        for line in plane.lines:
            if "GPU" in plane.name and line.name.startswith("Stream"):
                for event in line.events:
                    microseconds[_kind(event.name)] += event.duration_ns / 1e3
                    launches[_kind(event.name)] += 1
    return [
        {"kernels": kind, "launches per round": launches[kind] / rounds, "microseconds per round": total / rounds}
        for kind, total in microseconds.most_common()
    ]


def _kind(name: str) -> str:
    lower = name.lower()
    if "lstm" in lower or lower.startswith(("_forward", "_backward")):
        return "the LSTM's steps"
    if any(part in lower for part in ("gemm", "cutlass", "cublas", "xmma", "dot")):
        return "other matrix products"
    return "copies" if lower.startswith("mem") else "element by element, sums, gathering"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--workloads", default=",".join(ROUNDS), help="some of " + ",".join(ROUNDS))
    arguments = parser.parse_args()
    os.environ |= SHARED
    if jax.default_backend() != "gpu":
        sys.exit("accelerator.py: JAX sees no GPU here; peers.py compares on CPU.")
    folder = arguments.output_dir.resolve()
    kernels = kernels_of_a_round()
    print(markdown_table(kernels), flush=True)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for name in arguments.workloads.split(","):
        workload = dataclasses.replace((WORKLOADS | {"W5": W5})[name], rounds_per_repetition=ROUNDS[name])
        entries = entries_of(workload, all_of_ours=name == "W1")
        results = compare(name, entries, Pythons(folder), 1 if arguments.quick else 5, folder)
        for result in results:
            speed = 1.0 / statistics.median(result.seconds) if result.seconds else None
            row = {"workload": name, "contestant": result.contestant, "rounds per second": speed}
            rows.append(row | {"parameter difference": result.difference, "failure": result.failure})
        ratios |= ratios_of(name, results)
        print(write_results(folder, "accelerator", [*kernels, *rows], ratios))
    print(markdown_table(rows))
    print(markdown_table([{"ratio": name, "value": value} for name, value in ratios.items()]))


if __name__ == "__main__":
    main()
