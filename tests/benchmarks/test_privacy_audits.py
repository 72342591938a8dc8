"""Privacy, claimed and attacked: what is audited, and what the tables say of it."""

import argparse
import dataclasses
import json

import privacy_audits
import table1
from carry_out import Finished
from comparison import OURS, PRIVATE

from fedjax_anomaly.auditing import AuditSettings


def plan(folder, **changes):
    given = {"datasets": "", "data_dir": folder, "output_dir": folder / "out", "quick": False}
    return privacy_audits.plan(argparse.Namespace(**given | changes))


def audit(formal) -> dict:
    leak = {"median_relative_error": 0.25, "least_relative_error": 0.125, "misfit": 1.0, "relative_errors": [0.25] * 4}
    membership = {"auc": 0.5625, "auc_low": 0.5, "auc_high": 0.625}
    return {
        "formal": formal,
        "canaries": {
            "epsilon_lower_bound": 1.5,
            "epsilon_ceiling": 3.25,
            "num_rounds": 15,
            "contradicts_claim": False,
        },
        "membership": {"trained": membership, "untrained": membership | {"auc": 0.5}},
        "leakage": {
            "plain": leak,
            "clipped and noised": leak | {"median_relative_error": 0.75},
            "secure sum": leak | {"median_relative_error": 0.5, "misfit": 3.0},
        },
        "seconds": 1.0,
    }


def test_one_seed_of_the_tables_runs_is_audited_and_private_ones_where_there_is_a_preset(tmp_path):
    runs = plan(tmp_path)
    assert {(run.config.dataset, run.method.key) for run in runs} == {
        *((name, OURS) for name in privacy_audits.DATASETS),
        *((name, PRIVATE) for name in ("nsl_kdd", "kddcup99", "unsw_nb15")),
    }
    assert {run.config.num_seeds for run in runs} == {1}
    assert {(run.config.dp_unit, run.config.dp_epsilon) for run in runs if run.method.key == PRIVATE} == {
        ("example", 8.0)
    }
    assert [run.config.dataset for run in plan(tmp_path, data_dir=None)] == ["telemetry"]


def test_the_tables_say_what_the_attacks_came_to(tmp_path):
    private, ours = plan(tmp_path, datasets="nsl_kdd")
    rows = [
        privacy_audits.row_of(ours, audit(None)),
        privacy_audits.row_of(private, audit({"epsilon": 7.99, "delta": 1e-5, "unit": "example"})),
    ]
    given = argparse.Namespace(output_dir=tmp_path / "out", quick=False)
    privacy_audits.write(given, rows)
    page = (given.output_dir / "privacy_audits.md").read_text()
    auc = "0.562 [0.500, 0.625] | 0.500"
    plain = f"| none | at least 1.50 of 3.25 | {auc} | 0.250 | 0.500 (search failed) of 4 clients |"
    noised = f"| 7.99 at 1e-05 | at least 1.50 of 3.25 | {auc} | 0.750 | – |"
    assert plain in page
    assert noised in page
    table1.write(given, [Finished(ours, problem="failed: no")], wanted=1)
    (row,) = json.loads((given.output_dir / "table1.json").read_text())["rows"]
    assert row["audit"]["empirical_epsilon"] == 1.5
    shown = table1.privacy(row | {"privacy": "none"})
    assert shown == "none; attacked: at least 1.50, AUC 0.562, error 0.25"
    assert table1.audits(given.output_dir / "privacy_audits.json", smoke_test=True) == {}


def test_a_run_is_trained_and_audited_once(tmp_path, monkeypatch):
    _, run = plan(tmp_path, datasets="nsl_kdd")
    settings, calls, outcomes = AuditSettings(), [], iter([None, {}])

    def train(config, dataset, **keywords):
        calls.append("train")
        run.folder.mkdir(parents=True, exist_ok=True)
        result = next(outcomes)
        if result is not None:
            (run.folder / "result.json").touch()
        return argparse.Namespace(result=result)

    def attack(folder, settings, dataset, **keywords):
        calls.append("audit")
        found = {"settings": dataclasses.asdict(settings)}
        (folder / "audit").mkdir(exist_ok=True)
        (folder / "audit" / "audit.json").write_text(json.dumps(found))
        return found

    monkeypatch.setattr(privacy_audits, "load_dataset", lambda config: None)
    monkeypatch.setattr(privacy_audits, "run_experiment", train)
    monkeypatch.setattr(privacy_audits, "audit_run", attack)

    def audited(settings=settings):
        return privacy_audits.audited(run, settings, say=lambda line: None)

    assert audited() is None, "it was interrupted"
    assert audited()["settings"]["num_canaries"] == audited()["settings"]["num_canaries"] == 200
    assert calls == ["train", "train", "audit"]
    assert audited(dataclasses.replace(settings, num_canaries=9))["settings"]["num_canaries"] == 9
    assert calls[3:] == ["audit"]
