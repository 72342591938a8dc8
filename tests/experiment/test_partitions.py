"""Every way for clients to differ, through the run that a user starts."""

import dataclasses
import json

import numpy as np
import pytest

from fedjax_anomaly.data.table import Categorical
from fedjax_anomaly.experiment import build, run_experiment, run_many


def of(config, partition, **settings):
    return dataclasses.replace(config, partition=partition, method="no_model", num_clusters="1", **settings)


@pytest.fixture
def attacked_dataset(small_dataset):
    """Two clients divide the time: spikes of the training rows are at the first of them, drops at the second."""

    def named(table, spikes, drops):
        names = np.full((4, len(table) // 4), "normal", dtype="<U8")
        names[:, spikes], names[:, drops] = "spike", "drop"
        return dataclasses.replace(table, attack=Categorical.from_strings(names.reshape(-1)))

    return dataclasses.replace(
        small_dataset,
        train=named(small_dataset.train, np.r_[100:103], np.r_[300:305]),
        test=named(small_dataset.test, np.r_[120:140, 20:40], np.r_[60:70, 160:170]),
    )


def test_a_client_of_shards_holds_few_sources(small_dataset, small_config):
    # Four sources with equally many normal rows: one of four shards is a source, two of eight are one or two.
    for shards_per_client, most in ((1, 1), (2, 2)):
        config = of(small_config, "shards", shards_per_client=shards_per_client)
        client = build(config, small_dataset).federation.train_client
        held = [len(np.unique(small_dataset.train.source.codes[client == c])) for c in range(4)]
        assert max(held) == most
    result = run_experiment(of(small_config, "shards"), small_dataset).result
    assert result["heterogeneity"]["mean_pairwise_distance"] > 2.0 * result["heterogeneity"]["iid_reference"]
    assert result["heterogeneity"]["size_gini"] < 0.01


def test_a_feature_shift_is_measured_told_and_undone_by_a_clients_own_encoding(small_dataset, small_config):
    def result(partition, scope):
        config = of(small_config, partition, encoding_scope=scope, shift_strength=2.0)
        folder = f"{config.output_dir}-{partition}-{scope}"
        return run_experiment(dataclasses.replace(config, output_dir=folder), small_dataset).result

    results = [result("iid", "global"), result("feature_shift", "global"), result("feature_shift", "client")]
    iid, shifted, own = (one["heterogeneity"]["mean_pairwise_distance"] for one in results)
    assert own == shifted > 1.2 * iid
    assert results[0]["dataset"]["notes"] == []
    assert "deviation of 2 in the logarithm" in results[1]["dataset"]["notes"][-1]
    assert results[2]["test"]["auroc"] > results[1]["test"]["auroc"]


def test_the_differences_of_a_shifted_column_are_shifted_with_it(small_dataset, small_config):
    config = of(small_config, "feature_shift", difference_columns=True)
    shifted, still = (
        build(dataclasses.replace(config, shift_strength=strength), small_dataset).federation for strength in (1.0, 0.0)
    )
    for client in range(4):
        own, before = (f.dataset.train.numeric[f.train_client == client] for f in (shifted, still))
        gains = np.linalg.norm(own, axis=0) / np.linalg.norm(before, axis=0)
        np.testing.assert_allclose(gains[:3], gains[3:], rtol=1e-5)
        assert np.abs(np.log(gains)).max() > 0.1


def test_a_tolerated_attack_is_normal_at_its_client_and_counts_elsewhere(attacked_dataset, small_config):
    outcome = run_experiment(of(small_config, "concept_shift", num_clients=2), attacked_dataset)
    result = outcome.result
    # Spikes of the first half and drops of the second are tolerated: 20 and 10 rows of each of four services.
    assert "(32 training and 120 test rows): spike at client 0; drop at client 1." in result["dataset"]["notes"][-1]
    clients = result["test"]["per_client"]
    assert [client["anomalous_rows"] for client in clients] == [4 * 10, 4 * 20]
    assert set(result["test"]["per_attack"]) == {"drop", "spike"}
    federation = build(of(small_config, "concept_shift", num_clients=2), attacked_dataset).federation
    assert not federation.dataset.train.label.any()
    assert json.loads((outcome.output_dir / "result.json").read_text()) == result


def test_without_attacks_to_train_on_a_concept_shift_is_refused(small_dataset, small_config):
    normal = Categorical.from_strings(["normal"] * len(small_dataset.train))
    quiet = dataclasses.replace(small_dataset, train=dataclasses.replace(small_dataset.train, attack=normal))
    with pytest.raises(ValueError, match="partition=concept_shift needs clients that tolerate different attacks"):
        build(of(small_config, "concept_shift"), quiet)


def test_heterogeneity_is_summarized_over_seeds(small_dataset, small_config):
    outcome = run_many(of(small_config, "natural", num_seeds=2), small_dataset)
    summary = outcome.result["settings"][0]["heterogeneity"]
    assert set(summary) == {"mean_pairwise_distance", "max_pairwise_distance", "iid_reference", "size_gini"}
    assert summary["mean_pairwise_distance"]["mean"] > summary["iid_reference"]["mean"]
