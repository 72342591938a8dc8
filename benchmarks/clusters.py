"""Does clustering by similarity of data find the simulator's latent groups? Adjusted Rand index over seeds.

For every seed a fleet of 20 services in four groups is simulated, one service a client, and clustered before any
training: with the number of clusters picked without labels, and with the true number given.
"""

import statistics

from harness import markdown_table, parse_arguments, write_results
from sklearn.metrics import adjusted_rand_score

from fedjax_anomaly import data, federated
from fedjax_anomaly.experiment.outcome import latent_groups


def agreement(seed: int) -> dict[str, float]:
    """The adjusted Rand index of one fleet, and how many clusters were picked."""
    dataset = data.load("telemetry", seed=seed)
    train_client, test_client = data.partition(dataset, "natural", num_clients=20, seed=seed)
    fleet = data.federate(
        dataset,
        train_client,
        test_client,
        window_length=16,
        window_stride=4,
        scoring_stride=16,
        validation_fraction=0.1,
        seed=seed,
    )
    groups = latent_groups(fleet)
    assert groups is not None
    summaries = federated.data_summaries(fleet.train)
    picked = federated.similarity_assignment(summaries, None, seed=seed)
    given = federated.similarity_assignment(summaries, 4, seed=seed)
    return {
        "seed": seed,
        "clusters picked": int(picked.max()) + 1,
        "adjusted Rand index, picked": float(adjusted_rand_score(groups, picked)),
        "adjusted Rand index, 4 given": float(adjusted_rand_score(groups, given)),
    }


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    rows = [agreement(seed) for seed in range(2 if arguments.quick else 20)]
    print(markdown_table(rows))
    means = {
        "adjusted_rand_index_picked_mean": statistics.mean(row["adjusted Rand index, picked"] for row in rows),
        "adjusted_rand_index_given_mean": statistics.mean(row["adjusted Rand index, 4 given"] for row in rows),
        "share_of_seeds_with_four_clusters": statistics.mean(row["clusters picked"] == 4 for row in rows),
    }
    print(means)
    print(write_results(arguments.output_dir, "clusters", rows, means))


if __name__ == "__main__":
    main()
