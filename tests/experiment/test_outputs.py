"""The scores of single rows, and runs on rows without labels."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from fedjax_anomaly.experiment import run_experiment, run_many
from tests.experiment.conftest import SERVICES


def read_scores(directory) -> list[dict[str, str]]:
    with (directory / "scores.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def unlabelled(small_dataset):
    return dataclasses.replace(small_dataset, labelled=False)


def test_the_scores_are_those_of_the_metrics(small_dataset, small_config):
    outcome = run_experiment(small_config, small_dataset)
    lines = read_scores(outcome.output_dir)
    test, table = outcome.result["test"], small_dataset.test
    assert [line["client"] for line in lines] == table.source.strings().tolist()
    assert [int(line["row"]) for line in lines] == [*range(200)] * 4
    np.testing.assert_array_equal([float(line["time"]) for line in lines], table.time)
    assert [line["attack"] for line in lines] == table.attack.strings().tolist()
    alarm = np.array([line["alarm"] == "1" for line in lines])
    score, threshold = (np.array([float(line[name]) for line in lines], np.float32) for name in ("score", "threshold"))
    np.testing.assert_array_equal(alarm, score > threshold)
    assert test["accuracy"] == pytest.approx((alarm == table.label).mean())
    assert test["recall"] == pytest.approx(alarm[table.label].mean())
    alarms = outcome.result["alarms"]
    assert alarms["alarm_rows"] == alarm.sum()
    assert alarms["test_rows"] == 800
    by_client = alarm.reshape(4, 200)
    assert [record["alarm_rows"] for record in alarms["per_client"]] == by_client.sum(axis=1).tolist()
    assert [record["alarm_rate"] for record in alarms["per_client"]] == pytest.approx(by_client.mean(axis=1))
    assert alarms["threshold_rule"] == test["threshold_rule"]


def test_rows_without_labels_are_scored_and_not_judged(unlabelled, small_dataset, small_config, tmp_path):
    outcome = run_experiment(small_config, unlabelled)
    judged = run_experiment(dataclasses.replace(small_config, output_dir=str(tmp_path / "judged")), small_dataset)
    result = json.loads((outcome.output_dir / "result.json").read_text())
    assert result["test"] is None
    assert result["oracle"] is None
    assert result["dataset"]["anomaly_fraction"] is None
    assert result["alarms"] == judged.result["alarms"]
    lines = read_scores(outcome.output_dir)
    assert {line["client"] for line in lines} == set(SERVICES)
    assert [line["score"] for line in lines] == [line["score"] for line in read_scores(judged.output_dir)]
    assert "attack" not in lines[0]
    assert "test_auroc" not in (outcome.output_dir / "metrics.jsonl").read_text()
    page = (outcome.output_dir / "report.html").read_text()
    assert f"<dt>rows with an alarm</dt><dd>{result['alarms']['alarm_rows']:,}</dd>" in page


def test_many_seeds_without_labels_are_summarized_by_their_alarms(unlabelled, small_config):
    config = dataclasses.replace(small_config, num_seeds=2, num_clusters="1", sweep="learning_rate=0.01,0.05")
    result = run_many(config, unlabelled).result
    for setting in result["settings"]:
        assert "test" not in setting
        assert len(setting["alarms"]["alarm_rate"]["values"]) == 2
    assert result["paired"] is None
