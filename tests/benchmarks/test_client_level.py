"""Client-level privacy at scale: what is run, and what the table says of it."""

import argparse

import client_level
import pytest


def plan(folder, **changes):
    return client_level.plan(
        argparse.Namespace(**{"output_dir": folder / "out", "data_dir": folder, "quick": False} | changes)
    )


def result(auroc: float, epsilon: float) -> dict:
    privacy = {"epsilon": epsilon, "noise_multiplier": 1.25} if epsilon else None
    test = {"auroc": auroc, "auprc": 0.5, "f1": 0.25}
    return {"privacy": privacy, "test": test, "dataset": {"num_clients": 2000}, "timing": {"total_seconds": 12.0}}


def test_two_thousand_clients_are_run_at_one_epsilon_but_for_the_named_differences(tmp_path):
    runs = {run.method.key: run.config for run in plan(tmp_path)}
    assert {(config.num_clients, config.num_rounds) for config in runs.values()} == {(2000, 300)}
    assert {config.clients_per_round for key, config in runs.items() if key != "no_model"} == {200}
    private = {key: config for key, config in runs.items() if config.dp_unit == "client"}
    assert set(runs) - set(private) == {"no_model", "no_privacy"}
    assert {key: config.dp_epsilon for key, config in private.items() if config.dp_epsilon != 8.0} == {"epsilon_4": 4.0}
    assert {config.dp_delta for config in private.values()} == {1e-4}  # Well below one over the clients.
    in_turns = {key for key, config in private.items() if config.client_sampling == "cyclic"}
    assert in_turns == {"turns", "turns_correlated"}
    assert runs["large"].clip_norm == runs["large_adaptive"].clip_norm == 10.0 * runs["epsilon_8"].clip_norm
    assert len({run.folder for run in plan(tmp_path, quick=True)}) == len(runs)


def test_the_table_and_the_ratios_are_those_of_the_runs(tmp_path):
    _, without, at_8, *_ = plan(tmp_path)
    rows = [client_level.row_of(without, result(0.8, 0.0)), client_level.row_of(at_8, result(0.6, 7.99))]
    assert client_level.ratios_of(rows)["auroc_epsilon_8_vs_no_privacy"] == pytest.approx(0.75)
    assert client_level.ratios_of(rows[1:]) == {}
    text = client_level.markdown(rows, quick=True)
    assert "SMOKE TEST" in text.splitlines()[0]
    assert "| no privacy | – | – | – | 0.800 | 0.250 | 12 |" in text
    assert "| epsilon 8 | 7.99 | 1.25 | – | 0.600 | 0.250 | 12 |" in text
