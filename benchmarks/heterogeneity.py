"""How different are the clients that each partition makes? Measured on the training rows, nothing is trained.

Give --data_dir for the data sets whose raw files must be at hand; without it only the simulated one is measured.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path
from typing import Any, get_args

from harness import add_arguments, markdown_table, write_results

from fedjax_anomaly import data
from fedjax_anomaly.data.partition import Scheme

NUM_CLIENTS = {"telemetry": 20, "nsl_kdd": 20, "kddcup99": 20, "unsw_nb15": 20, "smd": 12, "nezha": 20}
MIN_NORMAL_ROWS = 32


def measure(dataset: data.Dataset, scheme: Scheme, num_clients: int, num_seeds: int) -> dict[str, Any]:
    """The figures of one scheme, means over seeds; None and the reason where it cannot be had of these rows."""
    found = []
    for seed in range(num_seeds):
        try:
            clients = data.partition(dataset, scheme, num_clients, seed=seed, min_normal_rows=MIN_NORMAL_ROWS)
            train = data.shift(dataset, scheme, *clients, seed=seed).train
        except ValueError as refusal:
            return {field.name: None for field in dataclasses.fields(data.Heterogeneity)} | {"refused": str(refusal)}
        found.append(dataclasses.asdict(data.heterogeneity(train, clients[0], seed=seed)))
    return {name: statistics.mean(one[name] for one in found) for name in found[0]} | {"refused": None}


def cell(row: dict[str, Any]) -> str:
    """The mean distance, and in parentheses what chance alone would show."""
    mean, chance = row["mean_pairwise_distance"], row["iid_reference"]
    return "-" if mean is None else f"{mean:.2f} ({chance:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--data_dir", type=Path, help="folder with the raw files of all data sets but telemetry")
    arguments = parser.parse_args()
    num_seeds = 1 if arguments.quick else 5
    rows = []
    table: list[dict[str, Any]] = [{"partition": scheme} for scheme in get_args(Scheme)]
    for name in NUM_CLIENTS if arguments.data_dir else ["telemetry"]:
        dataset = data.load(name, data_dir=None if name == "telemetry" else arguments.data_dir)
        for scheme, line in zip(get_args(Scheme), table, strict=True):
            figures = measure(dataset, scheme, NUM_CLIENTS[name], num_seeds)
            rows.append({"data set": name, "clients": NUM_CLIENTS[name], "partition": scheme} | figures)
            line[name] = cell(figures)
        print(f"{name}: done")
    print(markdown_table(table))
    print(write_results(arguments.output_dir, "heterogeneity", rows, {}))


if __name__ == "__main__":
    main()
