"""This library against other federated simulators on the same work, side by side on the CPU.

Each contestant runs in a process and an environment of its own. All of them get the same initial weights, the same
cohorts and the same batches in the same order, and must end at the same parameters. They take turns: a repetition lets
one after the other run some rounds while the others wait, and medians are over repetitions.

Workloads: W1 is 20 clients with 512 windows of 16 x 41, LSTMs of 64, batch 64, one epoch of plain SGD, FedAvg. W1_dp
adds client-level privacy: clipping and Gaussian noise. W2 draws 40 of 200 clients with 128 windows each. W3 is a small
model: 256 windows of 8 x 22, LSTMs of 16, batch 32. Beside W1 the machine's float32 matrix product is measured.

Writes peers.md and peers.json into --output_dir. A rival that cannot be installed or fails stands in the tables with
the reason. --quick is a smoke test.
"""

import argparse
import dataclasses
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import harness
from contest import report
from contest.compare import Entry, Pythons, compare, first_rounds
from contest.contestants import MATRIX_PRODUCTS, OURS, RIVALS, Contestant
from workloads import W1, WORKLOADS, Workload

from fedjax_anomaly.reporting.atomic import write_atomically

MATMULS_PER_ROUND = 8
"""About as long as a round."""

T = TypeVar("T")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_arguments(parser)
    names = ",".join(rival.name for rival in RIVALS)
    parser.add_argument("--rivals", default=names, help=f"some of {names}")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="some of " + ",".join(WORKLOADS))
    parser.add_argument("--environments", type=Path, help="folder of the rivals' environments, made once")
    parser.add_argument("--repetitions", type=int, help="of every workload; 7, or 1 with --quick")
    return parser.parse_args()


def chosen(argument: str, names: str, known: Mapping[str, T]) -> list[T]:
    """What a comma-separated list names.

    Raises:
      ValueError: for a name that is unknown.
    """
    listed = [name for name in names.split(",") if name]
    for name in listed:
        if name not in known:
            raise ValueError(f"{argument}={names!r}: {name!r} is not one of {', '.join(known)}.")
    return [known[name] for name in listed]


def entries_of(workload: Workload, rivals: list[Contestant]) -> list[Entry]:
    """Who takes turns on a workload."""
    rounds = workload.rounds_per_repetition
    entries = [Entry(each.name, each, workload, rounds) for each in (OURS, *rivals)]
    if workload.name == "W1":
        products = MATMULS_PER_ROUND * rounds
        entries += [Entry(each.name, each, workload, products, trains=False) for each in MATRIX_PRODUCTS]
    if workload.name == "W1_dp":
        plain = dataclasses.replace(workload, name="W1", clip_norm=None)
        entries.append(Entry(report.WITHOUT_PRIVACY, OURS, plain, rounds))
    return entries


def smaller(workload: Workload) -> Workload:
    """Two batches for each client, and single rounds."""
    return dataclasses.replace(workload, num_windows=2 * workload.batch_size, rounds_per_repetition=1)


def main() -> None:
    arguments = parse()
    # Ends by an exception, which ends the contestants.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    folder = arguments.output_dir.resolve()
    rivals = chosen("rivals", arguments.rivals, {rival.name: rival for rival in RIVALS})
    workloads = chosen("workloads", arguments.workloads, WORKLOADS)
    repetitions, later_starts = (1, 1) if arguments.quick else (7, 3)
    repetitions = arguments.repetitions or repetitions
    pythons = Pythons(arguments.environments or folder / "environments")
    results = []
    for workload in workloads:
        if arguments.quick:
            workload = smaller(workload)
        print(workload.name, flush=True)
        results += compare(workload.name, entries_of(workload, rivals), pythons, repetitions, folder)
    print("first rounds", flush=True)
    first = smaller(W1) if arguments.quick else W1
    starters = [Entry(each.name, each, first, 1) for each in (OURS, *rivals)]
    starts = first_rounds(starters, pythons, later_starts, folder)
    rows, ratios = report.rows_of(results, starts), report.ratios_of(results, starts)
    text = report.page(rows, ratios, [OURS, *rivals], " ".join(["python", *sys.argv]), arguments.quick)
    write_atomically(folder / "peers.md", text.encode())
    print(text)
    print(harness.write_results(folder, "peers", rows, ratios))


if __name__ == "__main__":
    main()
