"""What ten seeds in one compiled program cost, as a multiple of one seed: of whole commands, and of their rounds alone.

A command is `python -m fedjax_anomaly.train` in a process of its own, from its start to the written report, compilation
included. Both use all cores: one seed divides its clients over them, ten seeds divide themselves. The commands are
interleaved.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import add_arguments, markdown_table, write_results

NUM_SEEDS = 10


def cost(num_seeds: int, hidden_size: int) -> tuple[float, float]:
    """Seconds of a whole command, and seconds of a round of all its seeds."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {"num_seeds": num_seeds, "hidden_size": hidden_size, "output_dir": folder}
        command = [sys.executable, "-m", "fedjax_anomaly.train", *(f"--{name}={flags[name]}" for name in flags)]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        log = next(Path(folder).rglob("metrics.jsonl")).read_text().splitlines()
    return seconds, float(np.median([json.loads(line)["round_seconds"] for line in log]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--hidden_sizes", type=int, nargs="+", default=[16, 64], help="units of the LSTMs")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    rows, ratios = [], {}
    for hidden_size in arguments.hidden_sizes[:1] if arguments.quick else arguments.hidden_sizes:
        repeats = range(1 if arguments.quick else 3)
        pairs = np.array([[cost(num_seeds, hidden_size) for num_seeds in (1, NUM_SEEDS)] for _ in repeats])
        one, many = np.median(pairs, axis=0)
        command_ratio, round_ratio = np.median(pairs[:, 1] / pairs[:, 0], axis=0)
        rows.append(
            {
                "hidden size": hidden_size,
                "one seed, s": float(one[0]),
                f"{NUM_SEEDS} seeds, s": float(many[0]),
                "ratio": float(command_ratio),
                "one seed, s a round": float(one[1]),
                f"{NUM_SEEDS} seeds, s a round": float(many[1]),
                "ratio of rounds": float(round_ratio),
            }
        )
        ratios[f"ten_seeds_vs_one_seed_h{hidden_size}"] = float(command_ratio)
        ratios[f"ten_seeds_vs_one_seed_rounds_h{hidden_size}"] = float(round_ratio)
    print(markdown_table(rows))
    print(write_results(arguments.output_dir, "many_seeds", rows, ratios))


if __name__ == "__main__":
    main()
