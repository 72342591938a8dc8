"""Utility against epsilon: what is run, and what the table and the curve say of it."""

import argparse
import re
from pathlib import Path

import privacy_utility
import pytest
from carry_out import Finished


def arguments(folder: Path, **changes) -> argparse.Namespace:
    settings = {"datasets": "unsw_nb15,nsl_kdd", "epsilons": "inf,8,2", "data_dir": folder, "num_seeds": None}
    return argparse.Namespace(**{"output_dir": folder / "out", "quick": False} | settings | changes)


def finished(folder: Path) -> list[Finished]:
    """Two seeds each; the AUROC is 0.9 without privacy, 0.89 at 8 and 0.83 at 2, the F1 half of it."""
    auroc = {"inf": 0.9, "8": 0.89, "2": 0.83}
    done = []
    for run in privacy_utility.plan(arguments(folder, datasets="unsw_nb15", num_seeds=2)):
        value = auroc[run.method.key]
        summaries = {
            name: {"mean": scale * value, "std": 0.01, "values": [scale * value - 0.01, scale * value + 0.01]}
            for name, scale in (("auroc", 1.0), ("f1", 0.5))
        }
        ledger = {"epsilon": run.config.dp_epsilon, "epsilon_rdp": 9.0, "noise_multiplier": 5.0}
        members = ({"privacy": ledger if run.config.dp_epsilon else None},) * 2
        done.append(Finished(run, {"settings": [{"test": summaries}]}, members))
    return done


def test_private_runs_take_the_private_preset_and_differ_in_epsilon_only(tmp_path):
    runs = privacy_utility.plan(arguments(tmp_path))
    assert [(run.config.dataset, run.config.dp_epsilon) for run in runs] == [
        (name, epsilon) for name in ("unsw_nb15", "nsl_kdd") for epsilon in (0.0, 8.0, 2.0)
    ]
    assert [run.config.dp_unit for run in runs] == 2 * ["none", "example", "example"]
    assert {run.config.num_seeds for run in runs} == {5}
    assert {run.config.num_clients for run in runs} == {20}
    assert len({run.folder for run in runs}) == 6


def test_what_privacy_costs_is_said_seed_by_seed(tmp_path):
    rows = privacy_utility.rows_of(finished(tmp_path))
    assert [row["epsilon"] for row in rows] == [None, 8.0, 2.0]
    assert rows[0]["cost"] == {}
    assert rows[2]["cost"]["auroc"]["mean_difference"] == pytest.approx(0.07)
    assert rows[2]["cost"]["f1"]["mean_difference"] == pytest.approx(0.035)


def test_everything_is_written(tmp_path):
    given = arguments(tmp_path)
    privacy_utility.write(given, finished(tmp_path)[:1])
    assert not (given.output_dir / "privacy_utility.png").exists(), "there is no curve without a private run"
    privacy_utility.write(given, finished(tmp_path))
    text = (given.output_dir / "privacy_utility.md").read_text()
    assert re.search(r"\| unsw_nb15 \| 8 \| 9.00 \| 0.8900 ± 0.0100 \| 0.4450 ± 0.0100 \| 0.0100 \[", text)
    assert (given.output_dir / "privacy_utility.json").exists()
    assert (given.output_dir / "privacy_utility.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'smd' is not one of unsw_nb15, nsl_kdd, kddcup99"):
        privacy_utility.plan(arguments(tmp_path, datasets="smd"))
