"""Members of one compiled run are the runs themselves."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, build_members, run_many, train_ensemble
from fedjax_anomaly.experiment.training import train
from tests import fleet
from tests.experiment.conftest import SMALL as SMALL_LSTM

SMALL = dataclasses.replace(SMALL_LSTM, model="dense_autoencoder")
"""What is tested here is the same for every model, and this one compiles faster."""


def assert_close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "lstm_autoencoder"},
        {"member_batch_size": 1},
        {"num_clusters": "2", "clustering": "ifca"},
        {"method": "local_only"},
    ],
    ids=["lstm", "one by one", "ifca", "local only"],
)
def test_a_member_ends_as_if_it_were_run_by_itself(small_dataset, settings):
    config = dataclasses.replace(SMALL, num_seeds=2, **({"num_clusters": "1"} | settings))
    together = train_ensemble(build_members(config, small_dataset))
    for member, end in zip(config.members(), together, strict=True):
        assert_close(end.state.params, jax.device_get(train(build(member, small_dataset)).state.params))
    assert [int(end.state.round) for end in together] == [4, 4]


def test_swept_settings_and_privacy_noise_are_those_of_their_member(small_dataset):
    config = dataclasses.replace(
        SMALL, num_clusters="1", dp_unit="client", dp_noise_multiplier=1.0, sweep="dp_noise_multiplier=0.5,2"
    )
    little, much = train_ensemble(build_members(config, small_dataset))
    last = config.members()[1]
    assert last.dp_noise_multiplier == 2.0
    alone = jax.device_get(train(build(last, small_dataset)).state.params)
    assert_close(much.state.params, alone)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_close(little.state.params, alone)


def test_members_have_their_own_partitions_and_one_layout():
    # The rare protocol has 10 rows in all, so that it is common enough for some seeds' training rows only.
    rows = fleet.table(600, protocols=("tcp", "udp"))
    protocol = rows.categorical[0].strings().astype("<U4")
    protocol[:11] = "icmp"
    rows = dataclasses.replace(rows, categorical=(type(rows.categorical[0]).from_strings(protocol),))
    config = dataclasses.replace(
        SMALL, num_seeds=6, num_clusters="1", num_clients=2, partition="iid", window_length=0, min_category_count=10
    )
    experiments = build_members(config, fleet.dataset(rows, fleet.table(50)))
    assert len({e.federation.encoder.layout for e in experiments}) == 1
    assert "icmp" in experiments[0].federation.encoder.vocabularies[0]
    assert not np.array_equal(*(e.federation.train_client for e in experiments[:2]))


def test_many_seeds_are_summarized_and_kept(small_dataset, small_config):
    config = dataclasses.replace(
        SMALL,
        output_dir=small_config.output_dir,
        num_seeds=2,
        num_clusters="1",
        sweep="learning_rate=0.01,0.05",
    )
    outcome = run_many(config, small_dataset)
    result = json.loads((outcome.output_dir / "result.json").read_text())
    assert result == outcome.result
    assert [setting["setting"]["learning_rate"] for setting in result["settings"]] == [0.01, 0.05]
    folders = sorted(path.name for path in (outcome.output_dir / "members").iterdir())
    assert folders[0] == "learning_rate-0.01-seed-0"
    assert len(folders) == 4
    own = [
        json.loads((outcome.output_dir / "members" / f"learning_rate-0.05-seed-{seed}" / "result.json").read_text())
        for seed in (0, 1)
    ]
    f1 = result["settings"][1]["test"]["f1"]
    assert f1["values"] == [member["test"]["f1"] for member in own]
    np.testing.assert_allclose(f1["mean"], np.mean(f1["values"]))
    assert result["settings"][1]["test"]["time_order"]["event_recall"]["mean"] is not None
    assert {test["metric"] for test in result["paired"]} == {"f1", "auroc"}
    assert {path.name for path in (outcome.output_dir / "figures").iterdir()} == {"seeds.png", "curves.png"}
    assert f"{f1['mean']:.4f} ± {f1['std']:.4f}" in (outcome.output_dir / "report.html").read_text()


def test_an_interrupted_ensemble_resumes_to_the_same_states(small_dataset, small_config, tmp_path):
    config = dataclasses.replace(SMALL, output_dir=small_config.output_dir, num_seeds=2, num_clusters="1")
    stopped = run_many(config, small_dataset, stop_requested=lambda: True)
    assert stopped.result is None
    assert stopped.rounds_done == 2
    resumed = run_many(dataclasses.replace(config, resume=True), small_dataset)
    whole = run_many(dataclasses.replace(config, output_dir=str(tmp_path / "whole")), small_dataset)
    assert resumed.result["settings"][0]["test"] == whole.result["settings"][0]["test"]


def test_a_classical_method_is_summarized_over_seeds(small_dataset, small_config):
    config = dataclasses.replace(small_config, num_seeds=2, num_clusters="1", method="kmeans")
    outcome = run_many(config, small_dataset)
    assert outcome.result["settings"][0]["test"]["auroc"]["std"] is not None
    assert [path.name for path in (outcome.output_dir / "figures").iterdir()] == ["seeds.png"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sweep": "hidden_size=8,16"}, "what can be swept is learning_rate, proximal_mu, dp_noise_multiplier"),
        ({"sweep": "learning_rate=fast"}, "is not NAME=VALUE,VALUE with numbers as values"),
        ({"sweep": "learning_rate=0.1,-1"}, "learning_rate=-1.0 must be positive"),
        ({"sweep": "learning_rate=0.1,0.2", "method": "pca"}, "of a method that trains in rounds"),
        ({"num_seeds": 0}, "num_seeds=0 must be at least 1"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)
