"""Example-level differential privacy from the settings to the statement."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, run_experiment, run_many, train
from fedjax_anomaly.experiment.ensemble import build_members, train_ensemble
from fedjax_anomaly.experiment.privacy_ledger import statement, write_ledger
from tests.experiment.conftest import SMALL

PRIVATE = dataclasses.replace(
    SMALL,
    model="dense_autoencoder",
    num_clusters="1",
    dp_unit="example",
    dp_noise_multiplier=0.8,
    num_rounds=4,
    batch_size=8,
    min_client_windows=4,
)


def of(directory, **settings) -> Config:
    return dataclasses.replace(PRIVATE, output_dir=str(directory / "run"), **settings)


@pytest.fixture(scope="module")
def outcome(small_dataset, tmp_path_factory):
    """A private run whose noise is calibrated, and what was announced of it."""
    announced: list[str] = []
    config = of(tmp_path_factory.mktemp("private"), dp_noise_multiplier=0.0, dp_epsilon=6.0, partition="quantity")
    return run_experiment(config, small_dataset, announce=announced.extend), announced


def test_a_calibrated_run_spends_what_it_was_given_and_no_client_more(outcome):
    privacy = outcome[0].result["privacy"]
    assert privacy["unit"] == "example"
    assert 5.9 < privacy["epsilon"] <= 6.0
    assert privacy["epsilon"] <= privacy["epsilon_rdp"]
    assert privacy["delta"] == 1e-5
    assert max(client["epsilon"] for client in privacy["per_client"]) == privacy["epsilon"]


def test_every_client_is_stated_with_its_own_rate_and_steps(outcome):
    result = outcome[0].result
    clients = result["privacy"]["per_client"]
    assert len({client["windows"] for client in clients}) == 4
    assert sum(client["windows"] for client in clients) == result["dataset"]["train_windows"]
    for client in clients:
        assert client["steps"] == 4 * math.ceil(client["windows"] / 8)
        assert client["sampling_rate"] == pytest.approx(8 / client["windows"], rel=1e-6)


def test_the_ledger_is_the_statement_of_the_result(outcome):
    directory = outcome[0].output_dir
    ledger = json.loads((directory / "privacy.json").read_text())
    assert ledger == json.loads((directory / "result.json").read_text())["privacy"]
    assert ledger["noise_std"] == ledger["noise_multiplier"] * ledger["clip_norm"]
    (mechanism,) = ledger["mechanisms"]
    assert mechanism["sums"] == max(client["steps"] for client in ledger["per_client"])


def test_what_is_protected_and_what_is_not_is_said_in_words(outcome):
    run, announced = outcome
    report = (run.output_dir / "report.html").read_text()
    words = (
        "one training window of 4 records, without overlap",
        "nobody needs to be trusted with the rows",
        "the sums and the counts of categories that the encoding is fitted on",
        "the held-out scores that set the thresholds",
        "the losses in the log",
    )
    for text in words:
        assert text in report
        assert any(text in line for line in announced)
    assert "standard deviation" in report
    assert "seed stays secret" in report


def test_the_resolved_config_shows_the_delta_that_was_used(outcome):
    stored = json.loads((outcome[0].output_dir / "config.json").read_text())
    assert stored["dp_delta"] == 1e-5
    assert Config(dp_unit="client", dp_epsilon=1.0).dp_delta == 1e-3
    assert Config(dp_unit="example", dp_epsilon=1.0, dp_delta=1e-7).dp_delta == 1e-7
    assert Config(dp_delta=1e-7).dp_delta == Config().dp_delta == 0.0


def test_a_record_lies_in_one_window_only(small_dataset, tmp_path):
    """Also where a client's windows are drawn from several runs of rows."""
    data = build(of(tmp_path), small_dataset).train
    for starts, mask in zip(data.starts, data.mask, strict=True):
        rows = (starts[mask][:, None] + np.arange(4)).ravel()
        assert len(set(rows.tolist())) == len(rows)
    overlapping = build(dataclasses.replace(of(tmp_path), dp_unit="none", dp_noise_multiplier=0.0), small_dataset).train
    rows = (overlapping.starts[0][overlapping.mask[0]][:, None] + np.arange(4)).ravel()
    assert len(set(rows.tolist())) < len(rows)


def test_a_resumed_private_run_is_bit_identical(small_dataset, tmp_path):
    experiment = build(of(tmp_path), small_dataset)
    whole = train(experiment)
    kept = tmp_path / "checkpoints"
    first = train(experiment, checkpoint_dir=kept, stop_requested=lambda: True)
    assert first.interrupted
    resumed = train(experiment, checkpoint_dir=kept, resume=True)
    jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)


def test_swept_noise_is_that_of_its_member(small_dataset, tmp_path):
    config = of(tmp_path, sweep="dp_noise_multiplier=0.5,2", num_rounds=2)
    little, much = train_ensemble(build_members(config, small_dataset))
    alone = jax.device_get(train(build(config.members()[1], small_dataset)).state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), much.state.params, alone)
    assert any(
        np.abs(a - b).max() > 0.1 for a, b in zip(*map(jax.tree.leaves, (little.state.params, alone)), strict=True)
    )


def test_every_seed_has_its_own_ledger(small_dataset, tmp_path):
    announced: list[str] = []
    outcome = run_many(of(tmp_path, num_seeds=2, num_rounds=2), small_dataset, announce=announced.extend)
    ledgers = [json.loads(path.read_text()) for path in sorted(outcome.output_dir.glob("members/*/privacy.json"))]
    assert [ledger["unit"] for ledger in ledgers] == ["example", "example"]
    assert any("unit one training window of 4 records" in line for line in announced)
    assert "one training window of 4 records" in (outcome.output_dir / "report.html").read_text()


@pytest.mark.parametrize(("method", "trust"), [("centralized", "central: "), ("local_only", "local: ")])
def test_methods_without_a_federation_account_their_own_steps_and_trust(small_dataset, tmp_path, method, trust):
    experiment = build(of(tmp_path, method=method, num_rounds=2), small_dataset)
    sizes = experiment.privacy.release.num_windows
    assert len(sizes) == (1 if method == "centralized" else 4)
    assert sum(sizes) == experiment.federation.train.mask.sum()
    assert statement(experiment, 2)["trust"].startswith(trust)


def test_a_run_without_privacy_has_no_ledger(tmp_path):
    write_ledger(tmp_path / "privacy.json", None)
    assert not (tmp_path / "privacy.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_stride": 1}, "window_stride=1 puts one record into up to 4 windows of 4 rows"),
        ({"window_stride": 3}, "window_stride=3 puts one record into up to 2 windows"),
        ({"difference_columns": True}, "difference_columns=True puts one record into its own row and the next one"),
    ],
)
def test_a_record_in_several_windows_is_refused(small_dataset, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        build(of(tmp_path, **settings), small_dataset)
