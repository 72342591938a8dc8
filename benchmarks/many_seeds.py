"""What ten seeds in one compiled program cost, as a multiple of one seed: seconds per round, compilation apart.

Both run on all cores: one seed divides its clients over them, ten seeds divide themselves. The runs are interleaved.
"""

import dataclasses
import os

import jax
import numpy as np
from harness import markdown_table, parse_arguments, write_results

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, build_members, train, train_ensemble

NUM_SEEDS = 10
HIDDEN_SIZES = (16, 64)


def seconds_per_round(config: Config) -> float:
    """Of all members together; the median over chunks of rounds."""
    if config.num_seeds == 1:
        return float(np.median(train(build(config)).round_seconds))
    return float(np.median(train_ensemble(build_members(config))[0].round_seconds))


def main() -> None:
    arguments = parse_arguments(str(__doc__))
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    repeats, hidden_sizes = (1, HIDDEN_SIZES[:1]) if arguments.quick else (3, HIDDEN_SIZES)
    rows, ratios = [], {}
    for hidden_size in hidden_sizes:
        one = Config(
            num_clients=20, hidden_size=hidden_size, num_rounds=6 if arguments.quick else 15, rounds_per_report=3
        )
        many = dataclasses.replace(one, num_seeds=NUM_SEEDS)
        seconds = np.array([[seconds_per_round(config) for config in (one, many)] for _ in range(repeats)])
        ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
        rows.append(
            {
                "hidden size": hidden_size,
                "one seed, s per round": float(np.median(seconds[:, 0])),
                f"{NUM_SEEDS} seeds, s per round": float(np.median(seconds[:, 1])),
                "ratio": ratio,
                "clients trained per second": NUM_SEEDS * one.num_clients / float(np.median(seconds[:, 1])),
            }
        )
        ratios[f"ten_seeds_vs_one_seed_h{hidden_size}"] = ratio
    print(markdown_table(rows))
    print(write_results(arguments.output_dir, "many_seeds", rows, ratios))


if __name__ == "__main__":
    main()
