"""The file of scores, read back by another reader."""

import csv
import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.data.clients import federate
from fedjax_anomaly.data.table import Table
from fedjax_anomaly.detection.evaluate import ScoredRows
from fedjax_anomaly.experiment.scores import write_scores
from tests import fleet

SOURCES = np.array(["b", 'a, "first"', "b", 'a, "first"', "b"] * 20)


def timed(table: Table) -> Table:
    return dataclasses.replace(table, time=60.0 * np.arange(len(table)))


def written(tmp_path, data, *, labelled=True):
    """The lines of the file, and the federation and scores that they come from; client 1 holds the first source."""
    data = dataclasses.replace(data, labelled=labelled)
    owner = (SOURCES == "b").astype(int) if data.train.source is None else 1 - data.train.source.codes
    federation = federate(
        data,
        owner,
        owner,
        window_length=1,
        window_stride=1,
        scoring_stride=1,
        validation_fraction=0.2,
        seed=0,
    )
    rows = federation.test.row
    score = np.random.default_rng(0).lognormal(size=len(rows)).astype(np.float32)
    thresholds = np.array([np.sort(score)[50], 1.0 / 3.0])
    scored = ScoredRows(score, federation.test.client, data.test.attack.take(rows), data.test.label[rows])
    write_scores(tmp_path / "scores.csv", federation, scored, thresholds)
    with (tmp_path / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file)), rows, scored, thresholds


@pytest.mark.parametrize("labelled", [True, False])
def test_every_test_row_has_its_line(tmp_path, labelled):
    attack = ["normal", "flood", "normal", "normal", "scan"] * 20
    tables = [timed(fleet.table(100, seed=seed, source=SOURCES.tolist(), attack=attack)) for seed in (0, 1)]
    lines, rows, scored, thresholds = written(tmp_path, fleet.dataset(*tables, "capture"), labelled=labelled)
    assert list(lines[0]) == ["client", "row", "time", "score", "threshold", "alarm"] + ["attack"] * labelled
    assert [line["client"] for line in lines] == SOURCES[rows].tolist()
    before = [int(np.sum(SOURCES[:row] == SOURCES[row])) for row in rows]
    assert [int(line["row"]) for line in lines] == before
    assert [float(line["time"]) for line in lines] == (60.0 * rows).tolist()
    assert [float(line["score"]) for line in lines] == scored.score.tolist()
    assert [float(line["threshold"]) for line in lines] == thresholds[scored.client].tolist()
    alarms = [float(line["score"]) > float(line["threshold"]) for line in lines]
    assert [line["alarm"] for line in lines] == ["01"[alarm] for alarm in alarms]
    if labelled:
        assert [line["attack"] for line in lines] == np.array(attack)[rows].tolist()


def test_without_sources_and_times_rows_are_those_of_the_table(tmp_path):
    tables = [fleet.table(100, seed=seed) for seed in (0, 1)]
    lines, rows, scored, _ = written(tmp_path, fleet.dataset(*tables))
    assert "time" not in lines[0]
    assert [int(line["row"]) for line in lines] == rows.tolist()
    assert [line["client"] for line in lines] == [str(client) for client in scored.client]
