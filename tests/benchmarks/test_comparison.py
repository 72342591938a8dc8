"""The comparison of Table 1 and Figure 1: what is run, what is found again, and what the tables say of it."""

import argparse
import csv
import dataclasses
import io
import json
from pathlib import Path

import carry_out
import comparison
import figure1
import numpy as np
import pytest
import table1
from carry_out import Finished
from comparison import METHODS, OURS, PRIVATE, QUICK_METHODS, Run
from comparison_rows import csv_table, rows_of_table

from fedjax_anomaly.data.table import Categorical
from fedjax_anomaly.experiment import Diverged
from fedjax_anomaly.reporting.logbook import read_metrics
from tests import fleet
from tests.experiment.conftest import SMALL


def runs_of(folder: Path, *keys: str, **settings) -> list[Run]:
    chosen = [method for method in METHODS if method.key in keys]
    return [
        Run(
            method,
            dataclasses.replace(
                SMALL, num_seeds=2, **method.settings | settings, output_dir=str(folder / "runs" / method.key)
            ),
            quick=False,
        )
        for method in reversed(chosen)
    ]


@pytest.fixture
def rows_at_hand(monkeypatch, small_dataset):
    """Gives every run the small data set, or another one."""

    def give(dataset=small_dataset):
        monkeypatch.setattr(carry_out, "_rows", lambda *name: dataset)

    give()
    return give


@pytest.fixture(scope="module")
def trained(small_dataset, tmp_path_factory):
    """A folder with a trained run that was interrupted once, and a member's records from before that."""
    folder = tmp_path_factory.mktemp("comparison")
    asked = iter([False, True])  # Before the run, and after its first chunk of two rounds.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carry_out, "_rows", lambda *name: small_dataset)
        runs = runs_of(folder, OURS)
        assert carry_out_quietly(runs, stop_requested=lambda: next(asked)) == []
        before = read_metrics(runs[0].folder / "members" / "seed-1")
        carry_out_quietly(runs)
    return folder, before


def carry_out_quietly(runs, **keywords) -> list[Finished]:
    return list(carry_out.carry_out(runs, say=lambda line: None, **keywords))


def test_all_forms_of_the_table_say_what_the_seeds_reached(rows_at_hand, trained):
    folder, _ = trained
    runs = runs_of(folder, OURS, "pca", "no_model")
    arguments = argparse.Namespace(output_dir=folder, quick=False)
    finished = carry_out_quietly(runs)
    table1.write(arguments, finished, wanted=4)
    own = {
        (run.method.key, seed): json.loads((run.folder / "members" / f"seed-{seed}" / "result.json").read_text())
        for run in runs
        for seed in (0, 1)
    }
    by_json = {row["method"]: row for row in json.loads((folder / "table1.json").read_text())["rows"]}
    by_csv = {row["method"]: row for row in csv.DictReader(io.StringIO((folder / "table1.csv").read_text()))}
    page = (folder / "table1.md").read_text()
    assert list(by_json) == list(by_csv) == [OURS, "pca", "no_model"]
    assert "(so far: 3 of 4 runs)" in page
    for key, label in ((run.method.key, run.method.label) for run in runs):
        f1 = [own[key, seed]["test"]["f1"] for seed in (0, 1)]
        assert by_json[key]["f1"]["values"] == f1
        np.testing.assert_allclose(float(by_csv[key]["f1_mean"]), np.mean(f1))
        cells = next(line for line in page.splitlines() if line.startswith(f"| {label} |")).split(" | ")
        assert cells[2].startswith(f"{np.mean(f1):.3f} [")
        more = [line for line in page.splitlines() if line.startswith(f"| {label} |")][1].split(" | ")
        by_client = np.mean([own[key, seed]["test"]["auroc_client_mean"] for seed in (0, 1)])
        assert more[5].startswith(f"{by_client:.3f} [")
    difference = np.mean([own[OURS, s]["test"]["f1"] - own["pca", s]["test"]["f1"] for s in (0, 1)])
    np.testing.assert_allclose(by_json["pca"]["paired"]["f1"]["mean_difference"], difference)
    seconds = sum(record["round_seconds"] for record in read_metrics(runs[-1].folder / "members" / "seed-0"))
    np.testing.assert_allclose(float(by_csv[OURS]["training_seconds"]), seconds)
    assert by_csv["pca"]["training_seconds"] == ""
    assert (folder / "table1.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_is_read_and_not_run_again(rows_at_hand, tmp_path, monkeypatch):
    runs = runs_of(tmp_path, "pca", "no_model")
    before = rows_of_table(carry_out_quietly(runs))
    monkeypatch.setattr(carry_out, "run_many", lambda *inputs, **keywords: pytest.fail("it is run again"))
    assert rows_of_table(carry_out_quietly(runs)) == before


def test_an_interrupted_run_goes_on_from_its_checkpoint(trained):
    folder, before = trained
    (finished,) = carry_out_quietly(runs_of(folder, OURS))
    assert [record["round"] for record in before] == [1, 2]
    assert finished.history[1][:2] == before  # With their measured seconds, which no second training would repeat.
    assert [record["round"] for record in finished.history[1]] == [1, 2, 3, 4]


def test_a_run_that_ended_before_its_first_checkpoint_is_begun_anew(rows_at_hand, tmp_path):
    runs = runs_of(tmp_path, "no_model")
    runs[0].folder.mkdir(parents=True)
    (runs[0].folder / "config.json").write_text(runs[0].config.to_json())
    (finished,) = carry_out_quietly(runs)
    assert finished.result is not None


def test_a_run_of_other_settings_is_not_overwritten(rows_at_hand, tmp_path):
    carry_out_quietly(runs_of(tmp_path, "no_model"))
    (other,) = runs_of(tmp_path, "no_model", threshold_quantile=0.9)
    with pytest.raises(ValueError, match=r"no_model holds a run of other settings \(threshold_quantile 0.95 -> 0.9\)"):
        comparison.check_folder(other)


def test_a_method_that_the_data_rule_out_is_named(rows_at_hand, small_dataset, tmp_path):
    normal = Categorical.from_strings(["normal"] * len(small_dataset.train))
    train = dataclasses.replace(small_dataset.train, attack=normal)
    rows_at_hand(dataclasses.replace(small_dataset, train=train))
    finished = carry_out_quietly(runs_of(tmp_path, "linear_svm", "no_model"))
    rows = rows_of_table(finished)
    assert [row["status"] for row in rows] == ["not possible", "done"]
    assert not any(one.failed for one in finished)
    reason = "not possible: no attacks among the training rows"
    assert f"| linear SVM (saw attack labels) | {reason} |" in table1.markdown(rows, wanted=2)
    assert next(csv.DictReader(io.StringIO(csv_table(rows))))["problem"] == reason


@pytest.mark.parametrize("error", [Diverged("the loss is not finite"), ValueError("no"), KeyError("no")])
def test_a_crashed_run_loses_no_other_and_fails_the_script(rows_at_hand, tmp_path, monkeypatch, capsys, error):
    runs = runs_of(tmp_path, "pca", "no_model")
    run_many = carry_out.run_many

    def crash(config, *inputs, **keywords):
        if config.method == "no_model":
            raise error
        return run_many(config, *inputs, **keywords)

    monkeypatch.setattr(carry_out, "run_many", crash)
    monkeypatch.setattr(carry_out, "plan", lambda *inputs: runs)
    kept: list[list[Finished]] = []
    status = carry_out.run_script(argparse.Namespace(), METHODS, lambda finished, wanted: kept.append(list(finished)))
    assert status == 1
    assert [one.failed for one in kept[-1]] == [True, False]
    assert f"| failed: {type(error).__name__}: " in table1.markdown(rows_of_table(kept[-1]), wanted=2)
    assert "no_model failed; the same command tries it again" in capsys.readouterr().err


def test_measured_heterogeneity_is_shown(rows_at_hand, tmp_path):
    (finished,) = carry_out_quietly(runs_of(tmp_path, "no_model"))
    measured = [
        member | {"heterogeneity": {"mean_pairwise_distance": distance, "iid_reference": 0.1}}
        for member, distance in zip(finished.members, (0.5, 0.75), strict=True)
    ]
    rows = rows_of_table([dataclasses.replace(finished, members=tuple(measured))])
    assert "mean pairwise distance 0.625, of clients drawn alike 0.100" in table1.markdown(rows, wanted=1)
    unmeasured = [{key: part for key, part in m.items() if key != "heterogeneity"} for m in finished.members]
    rows = rows_of_table([dataclasses.replace(finished, members=tuple(unmeasured))])
    assert "eterogeneity" not in table1.markdown(rows, wanted=1)


def test_the_latency_of_a_round_is_its_time_by_seed_and_that_of_an_event(trained, tmp_path):
    finished = carry_out_quietly(runs_of(trained[0], OURS))
    rows = figure1.points(finished[0])
    assert [point["round"] for point in rows] == [2, 4]
    member = finished[0].members[0], finished[0].members[1]
    event = np.mean([one["latency_ms"]["p50"] for one in member])
    seconds = [record["round_seconds"] for record in finished[0].history[0]][1::2]
    np.testing.assert_allclose([p["system_latency_ms"] for p in rows], [1e3 * s / 2 + event for s in seconds])
    figure1.write(argparse.Namespace(output_dir=tmp_path, quick=True), finished)
    assert "SMOKE TEST" in (tmp_path / "figure1.md").read_text().splitlines()[0]
    shown = list(csv.DictReader(io.StringIO((tmp_path / "figure1.csv").read_text())))
    assert [float(point["accuracy_mean"]) for point in shown] == [point["accuracy"]["mean"] for point in rows]


def arguments_of(tmp_path, **given) -> argparse.Namespace:
    values = {"datasets": "", "data_dir": None, "num_seeds": None, "quick": False, "output_dir": tmp_path}
    return argparse.Namespace(**values | given)


def test_the_plan_is_data_set_by_data_set_on_their_presets(tmp_path):
    runs = comparison.plan(arguments_of(tmp_path, data_dir=tmp_path, datasets="smd,nsl_kdd"))
    others = len(METHODS) - 1  # There is no private preset of SMD.
    assert [run.config.dataset for run in runs] == ["smd"] * others + ["nsl_kdd"] * len(METHODS)
    assert runs[0].method.key == "no_model"
    assert {run.config.num_seeds for run in runs} == {5}
    assert {(run.config.window_length, run.config.difference_columns) for run in runs[:others]} == {(32, True)}
    assert {(run.config.partition, run.config.dp_epsilon, run.config.learning_rate) for run in runs[others:]} == {
        ("dirichlet", 0.0, 0.003),
        ("dirichlet", 8.0, 1.0),
    }
    assert len({run.folder for run in runs}) == len(runs)


def test_a_quick_plan_runs_every_method_once_and_says_so_in_its_settings(tmp_path):
    runs = comparison.plan(arguments_of(tmp_path, data_dir=tmp_path, datasets="smd,nsl_kdd", quick=True))
    own = {name: [run.method.key for run in runs if run.config.dataset == name] for name in ("smd", "nsl_kdd")}
    assert set(own["smd"]) == {method.key for method in METHODS} - {PRIVATE}
    assert set(own["nsl_kdd"]) == set(QUICK_METHODS)
    assert {run.config.num_rounds for run in runs} == {4}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"datasets": "mnist"}, "'mnist' is unknown; choose from nsl_kdd, kddcup99"),
        ({"datasets": "smd"}, "smd is read from raw files; give --data_dir=FOLDER"),
        ({"num_seeds": 0}, "num_seeds=0 must be at least 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        comparison.plan(arguments_of(tmp_path, **given))


def test_without_raw_files_only_the_simulation_is_planned(tmp_path):
    assert {run.config.dataset for run in comparison.plan(arguments_of(tmp_path))} == {"telemetry"}


@pytest.mark.parametrize("row_order", ["none", "time"])
def test_a_thinned_table_keeps_rows_of_the_whole_span_or_whole_beginnings(monkeypatch, row_order):
    monkeypatch.setattr(carry_out, "_QUICK_ROWS", 6)
    table = fleet.table(30, source=["a", "b", "c"] * 10)
    thinned = carry_out.thinned(fleet.dataset(table, table, row_order))
    # Every fifth row; or the first two rows of each of three sources, which take turns.
    kept = {"none": [0, 5, 10, 15, 20, 25], "time": [0, 1, 2, 3, 4, 5]}[row_order]
    np.testing.assert_array_equal(thinned.train.numeric, table.numeric[kept])
