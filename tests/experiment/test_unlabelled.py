"""Data of which nothing is known: the run is the same, and what needs labels is left out."""

import dataclasses
import json

import numpy as np
import pytest

from fedjax_anomaly.data.table import Categorical
from fedjax_anomaly.experiment import build, run_experiment, run_many
from fedjax_anomaly.reporting.logbook import read_metrics
from tests.experiment.conftest import dense


@pytest.fixture(scope="module")
def unlabelled(small_dataset):
    """The training rows are those of the labelled data set; of the test rows nothing is known."""
    nothing = Categorical(np.zeros(len(small_dataset.test), np.int32), ("normal",))
    test = dataclasses.replace(small_dataset.test, attack=nothing)
    return dataclasses.replace(small_dataset, test=test, labelled=False)


def test_what_needs_labels_is_left_out_and_the_rest_is_the_same(small_dataset, unlabelled, small_config, tmp_path):
    known = run_experiment(dense(small_config), small_dataset)
    unknown = run_experiment(dataclasses.replace(dense(small_config), output_dir=str(tmp_path / "unknown")), unlabelled)
    result = json.loads((unknown.output_dir / "result.json").read_text())
    assert result == unknown.result
    assert result["test"] is result["oracle"] is result["dataset"]["anomaly_fraction"] is None
    assert result["alarms"] == known.result["alarms"]
    assert result["clusters"] == known.result["clusters"]
    metrics = {"test_accuracy", "test_auroc", "test_f1"}
    for labelled, plain in zip(read_metrics(known.output_dir), read_metrics(unknown.output_dir), strict=True):
        assert not metrics & set(plain)
        assert plain | {"round_seconds": labelled["round_seconds"]} == {
            name: value for name, value in labelled.items() if name not in metrics
        }
    figures = {path.stem for path in (unknown.output_dir / "figures").iterdir()}
    assert figures == {"training", "scores", "partition", "clusters"}
    page = (unknown.output_dir / "report.html").read_text()
    assert "The test rows carry no labels" in page
    assert f"<dt>rows with an alarm</dt><dd>{result['alarms']['alarm_rows']:,}</dd>" in page


def test_alarms_are_the_rows_above_the_threshold_of_their_client(small_dataset, small_config):
    config = dataclasses.replace(small_config, method="no_model", num_clusters="1", threshold_scope="client")
    outcome = run_experiment(config, small_dataset)
    alarms, test = outcome.result["alarms"], outcome.result["test"]
    lines = [line.split(",") for line in (outcome.output_dir / "scores.csv").read_text().splitlines()[1:]]
    client = np.array([line[0].strip('"') for line in lines])
    score, threshold = (np.array([float(line[column]) for line in lines]) for column in (3, 4))
    assert len(np.unique(threshold)) == 4
    assert alarms["threshold_rule"] == test["threshold_rule"]
    assert alarms["test_rows"] == 800
    assert alarms["alarm_rows"] == np.sum(score > threshold) > 0
    assert alarms["alarm_rate"] == pytest.approx(np.mean(score > threshold))
    assert outcome.result["dataset"]["client_names"] == ["api", "cache", "db", "queue"]
    for record, name in zip(alarms["per_client"], outcome.result["dataset"]["client_names"], strict=True):
        own = client == name
        (limit,) = np.unique(threshold[own])
        assert record["threshold"] == limit
        assert (record["rows"], record["alarm_rows"]) == (own.sum(), np.sum(score[own] > limit))
        assert record["alarm_rate"] == pytest.approx(np.mean(score[own] > limit))


def test_many_seeds_are_summarized_by_their_alarms(unlabelled, small_config):
    config = dataclasses.replace(dense(small_config), num_seeds=2, num_clusters="1", sweep="learning_rate=0.01,0.05")
    outcome = run_many(dataclasses.replace(config, num_rounds=2), unlabelled)
    result = json.loads((outcome.output_dir / "result.json").read_text())
    assert result["paired"] is None
    for setting in result["settings"]:
        assert setting["test"] is setting["oracle"] is None
        folders = [
            outcome.output_dir / "members" / f"learning_rate-{setting['setting']['learning_rate']:g}-seed-{seed}"
            for seed in (0, 1)
        ]
        own = [json.loads((folder / "result.json").read_text())["alarms"]["alarm_rate"] for folder in folders]
        assert setting["alarms"]["alarm_rate"]["values"] == own
        np.testing.assert_allclose(setting["alarms"]["alarm_rate"]["mean"], np.mean(own))


def test_a_method_that_learns_from_labels_needs_them(unlabelled, small_config):
    config = dataclasses.replace(small_config, method="linear_svm", num_clusters="1")
    with pytest.raises(ValueError, match="method=linear_svm learns from attack labels, but 'telemetry' has none"):
        build(config, unlabelled)
