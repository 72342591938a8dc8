import dataclasses
import json

import jax
import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, run_experiment
from fedjax_anomaly.experiment.outcome import calibrate, convergence_round, score_test_rows
from fedjax_anomaly.live.bundle import read_bundle
from fedjax_anomaly.reporting import figures
from fedjax_anomaly.reporting.figures import style
from fedjax_anomaly.reporting.logbook import read_metrics
from tests import fleet
from tests.experiment.conftest import SMALL, dense


@pytest.fixture(scope="module")
def outcome(small_dataset, tmp_path_factory):
    config = dataclasses.replace(
        SMALL, num_rounds=12, rounds_per_report=6, output_dir=str(tmp_path_factory.mktemp("run") / "out")
    )
    announced: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", style.save)
        return run_experiment(config, small_dataset, announce=announced.extend), announced


def test_the_result_has_every_key_of_the_format(outcome):
    result = json.loads((outcome[0].output_dir / "result.json").read_text())
    assert result == outcome[0].result
    keys = {
        "dataset": "name num_clients client_names num_features train_windows test_windows anomaly_fraction row_order",
        "alarms": "threshold_rule test_rows alarm_rows alarm_rate per_client",
        "test": "accuracy precision recall f1 fpr auroc auprc threshold_rule per_attack per_client per_cluster "
        "time_order auroc_client_mean auprc_client_mean",
        "oracle": "f1",
        "timing": "compile_seconds rounds_per_second total_seconds convergence_round convergence_seconds",
        "latency_ms": "p50 p95 p99",
        "communication": "up_bytes_per_round down_bytes_per_round total_bytes raw_data_bytes server_sees",
        "clusters": "assignment sizes",
    }
    for part, names in keys.items():
        assert set(names.split()) <= set(result[part])
    assert result["privacy"] is None


def test_the_run_detects_and_finds_the_groups(outcome):
    result = outcome[0].result
    assert result["test"]["auroc"] > 0.95
    assert result["test"]["per_attack"]["spike"] == result["test"]["recall"]
    assert result["clusters"]["adjusted_rand_index"] == 1.0
    assert result["clusters"]["sizes"] == [2, 2]
    assert result["dataset"]["anomaly_fraction"] == pytest.approx(0.1)


def test_bytes_are_those_of_the_model(outcome):
    # LSTM of 8 on 3 features: 4 * 8 * (3 + 8 + 1); latent 8 * 2 + 2; LSTM of 8 on 2: 4 * 8 * (2 + 8 + 1); output
    # 8 * 3 + 3: 781 parameters of 4 bytes, from and to 4 clients in 12 rounds.
    parameters = 4 * 8 * 12 + 18 + 4 * 8 * 11 + 27
    communication = outcome[0].result["communication"]
    assert communication["up_bytes_per_round"] == communication["down_bytes_per_round"] == 4 * 4 * parameters
    assert communication["total_bytes"] == 12 * 2 * 4 * 4 * parameters + communication["setup_bytes"]
    assert communication["secure_aggregation"] is None
    assert communication["server_sees"] == "each client's update, and its number of windows"
    # Float64 count, sums and squares of 3 columns per client, and 2 * 3 float32 summaries.
    assert communication["setup_bytes"] == 4 * 8 * 7 + 4 * 4 * 6


def test_everything_a_run_writes_is_there(outcome):
    directory = outcome[0].output_dir
    names = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    figures = {f"figures/{name}.png" for name in ("training", "scores", "stretch", "attacks", "partition", "clusters")}
    assert figures | {"config.json", "environment.json", "metrics.jsonl", "report.html", "checkpoints/12"} <= names
    assert len(read_metrics(directory)) == 12
    assert json.loads((directory / "environment.json").read_text())["versions"]["jax"]


def test_a_run_leaves_its_detector(outcome):
    bundle = read_bundle(outcome[0].output_dir)
    assert bundle.client_names == tuple(outcome[0].result["dataset"]["client_names"])
    assert bundle.cluster.tolist() == outcome[0].result["clusters"]["assignment"]
    jax.tree.map(np.testing.assert_array_equal, bundle.params, jax.device_get(outcome[0].state.params))
    np.testing.assert_array_equal(bundle.step_seconds, np.full(4, 60.0))
    # The thresholds are those of other scores of the same rows: near the run's own, and not the same.
    own = [client["threshold"] for client in outcome[0].result["alarms"]["per_client"]]
    np.testing.assert_allclose(bundle.thresholds, own, rtol=1.0)
    assert not np.array_equal(bundle.thresholds, own)


def test_the_stored_config_reproduces_the_run(outcome, small_dataset, tmp_path):
    first = outcome[0]
    config = Config.from_json((first.output_dir / "config.json").read_text())
    again = run_experiment(dataclasses.replace(config, output_dir=str(tmp_path / "again")), small_dataset)
    for part in ("dataset", "test", "oracle", "communication", "clusters"):
        assert again.result[part] == first.result[part]


def test_the_announcement_says_what_will_run(outcome):
    assert any("4 clients (natural)" in line for line in outcome[1])
    assert any("12 rounds of 4 clients" in line and "2 model(s)" in line for line in outcome[1])


def test_a_private_run_states_its_guarantee(small_dataset, private_config):
    announced: list[str] = []
    outcome = run_experiment(private_config, small_dataset, announce=announced.extend)
    privacy = outcome.result["privacy"]
    assert {"unit", "epsilon", "delta", "noise_multiplier", "clip_norm", "sampling", "accountant", "trust"} <= set(
        privacy
    )
    assert privacy["unit"] == "client"
    assert privacy["sampling"] == "poisson"
    assert 0.0 < privacy["epsilon"] < 100.0
    assert any("unit one client with everything that it holds" in line for line in announced)
    assert any("times the clip norm" in line for line in announced)
    assert json.loads((outcome.output_dir / "privacy.json").read_text()) == privacy
    assert privacy["delta"] == 1e-3
    assert privacy["epsilon"] <= privacy["epsilon_rdp"]
    (mechanism,) = privacy["mechanisms"]
    assert (mechanism["sums"], mechanism["sampling_rate"]) == (4, 0.75)
    assert "with each of 4 clients with probability 0.75" in mechanism["in_words"]


def test_a_calibrated_run_spends_what_it_was_given(small_dataset, small_config):
    config = dataclasses.replace(small_config, dp_unit="client", dp_epsilon=1.0)
    experiment = build(config, small_dataset)
    assert experiment.privacy.release.sampling == "full"
    spent = experiment.privacy.release.epsilon(experiment.privacy.noise_multiplier, config.dp_delta)
    assert 0.99 < spent <= 1.0


DENSE = {"model": "dense_autoencoder"}
"""Compiles faster, for what does not depend on the model."""


@pytest.mark.parametrize(
    "settings",
    [
        DENSE | {"clustering": "ifca", "num_clusters": "2"},
        DENSE | {"score": "pvalue", "threshold": "conformal", "threshold_scope": "cluster"},
        DENSE | {"clients_per_round": 2, "server_optimizer": "fedavgm", "proximal_mu": 0.1},
        {"latent_per": "window", "num_layers": 2, "partition": "dirichlet", "num_clusters": "1"},
    ],
    ids=["ifca", "pvalue", "cohort", "dirichlet"],
)
def test_other_settings_run_to_the_end(small_dataset, small_config, settings):
    config = dataclasses.replace(small_config, min_client_windows=4, **settings)
    result = run_experiment(config, small_dataset).result
    assert result["test"]["auroc"] > 0.5


@pytest.mark.usefixtures("optax_promotion")
def test_rows_without_order_are_trained_by_their_feature_groups(small_dataset, small_config):
    data = dataclasses.replace(small_dataset, row_order="none", feature_groups=(("requests",), ("latency", "errors")))
    config = dataclasses.replace(dense(small_config), window_length=0, client_optimizer="adam", partition="iid")
    outcome = run_experiment(config, data)
    assert outcome.result["dataset"]["window_length"] == 1
    assert not (outcome.output_dir / "figures" / "stretch.png").exists()


def test_an_output_folder_that_holds_another_run_is_refused(small_dataset, outcome):
    config = Config.from_json((outcome[0].output_dir / "config.json").read_text())
    before = sorted(outcome[0].output_dir.rglob("*"))
    with pytest.raises(ValueError, match="is not empty, it may hold another run; give --resume"):
        run_experiment(config, small_dataset)
    assert sorted(outcome[0].output_dir.rglob("*")) == before


def test_a_checkpoint_of_another_configuration_is_refused(small_dataset, outcome):
    config = Config.from_json((outcome[0].output_dir / "config.json").read_text())
    changed = dataclasses.replace(config, latent_size=3, resume=True)
    with pytest.raises(ValueError, match=r"another configuration \(latent_size 2 -> 3\)"):
        run_experiment(changed, small_dataset)


def test_resuming_where_there_is_no_run_is_refused(small_dataset, small_config):
    with pytest.raises(FileNotFoundError, match="holds no run to resume"):
        run_experiment(dataclasses.replace(small_config, resume=True), small_dataset)
    with pytest.raises(ValueError, match="give its folder as --output_dir"):
        run_experiment(dataclasses.replace(small_config, resume=True, output_dir=""), small_dataset)


def test_an_interrupted_run_resumes_to_the_same_result(small_dataset, small_config, tmp_path):
    whole = run_experiment(dense(small_config), small_dataset)
    parted = dataclasses.replace(dense(small_config), output_dir=str(tmp_path / "parted"))
    stopped = run_experiment(parted, small_dataset, stop_requested=lambda: True)
    assert stopped.result is None
    resumed = run_experiment(dataclasses.replace(parted, resume=True), small_dataset)
    assert resumed.result["test"] == whole.result["test"]
    pairs = zip(read_metrics(resumed.output_dir), read_metrics(whole.output_dir), strict=True)
    assert all(a | {"round_seconds": 0.0} == b | {"round_seconds": 0.0} for a, b in pairs)


def test_convergence_is_the_first_round_that_stays_within_one_percent():
    # From 10 to 0: the bound is 0.1; round 3 is below it, round 4 is not, from round 5 on all are.
    assert convergence_round([10.0, 1.0, 0.05, 0.2, 0.09, 0.0]) == 5
    assert convergence_round([1.0, 2.0]) is None
    assert convergence_round([1.0]) is None
    assert convergence_round([float(x) for x in np.linspace(5.0, 0.0, 3)]) == 3


def test_metrics_of_time_order_see_the_events_of_each_service(outcome):
    # Every one of the four services has one spike of 20 minutes in its test rows.
    metrics = outcome[0].result["test"]["time_order"]
    assert metrics["num_events"] == 4
    assert metrics["event_recall"] == 1.0
    assert metrics["vus_pr"] > 0.9


def test_raw_data_would_cost_four_bytes_a_cell(outcome):
    # Four services of 400 training rows, 3 of them anomalous, in three columns.
    assert outcome[0].result["communication"]["raw_data_bytes"] == 4 * 4 * (400 - 3) * 3


def test_the_mean_over_clients_is_that_of_their_own_metrics(outcome):
    test = outcome[0].result["test"]
    for name in ("auroc", "auprc"):
        expected = np.mean([client[name] for client in test["per_client"]])
        np.testing.assert_allclose(test[f"{name}_client_mean"], expected)


def test_smoothing_sees_rows_of_the_past_only(small_dataset, small_config):
    experiment = build(dataclasses.replace(small_config, score_smoothing=3), small_dataset)
    plain = build(small_config, small_dataset)
    state = jax.jit(plain.algorithm.init)(jax.random.key(0), plain.federation.train)
    smooth, raw = (score_test_rows(e, calibrate(e, state)) for e in (experiment, plain))
    for client in range(4):
        own, before = (rows.score[rows.client == client] for rows in (smooth, raw))
        expected = [before[max(0, i - 2) : i + 1].mean() for i in range(len(before))]
        np.testing.assert_allclose(own, expected, rtol=1e-5)


def test_no_number_of_clients_takes_one_per_source(small_dataset, small_config):
    outcome = run_experiment(dataclasses.replace(dense(small_config), num_clients=0, num_rounds=1), small_dataset)
    assert outcome.result["dataset"]["num_clients"] == 4
    assert Config.from_json((outcome.output_dir / "config.json").read_text()).num_clients == 4


def test_without_sources_there_are_twenty_clients_and_no_more_in_a_cohort(small_config):
    data = fleet.dataset(fleet.table(800), fleet.table(50))
    config = dataclasses.replace(small_config, num_clients=0, window_length=0, partition="iid")
    assert build(config, data).config.num_clients == 20
    with pytest.raises(ValueError, match="clients_per_round=21 must be at most num_clients=20"):
        build(dataclasses.replace(config, clients_per_round=21), data)


def test_a_client_with_too_few_rows_is_named(small_dataset, small_config):
    few = dataclasses.replace(small_config, min_client_windows=199, window_stride=2)
    with pytest.raises(ValueError, match="leaves the client of source api with 397 normal training rows, fewer than"):
        build(few, small_dataset)
    with pytest.raises(ValueError, match="client api has [0-9]+ normal training windows of 4 rows, fewer than the 198"):
        build(dataclasses.replace(few, min_client_windows=198), small_dataset)


def test_scores_of_rows_without_order_are_not_smoothed(small_config):
    config = dataclasses.replace(small_config, score_smoothing=4)
    with pytest.raises(ValueError, match="score_smoothing=4 would average rows of 'tiny'"):
        build(config, fleet.dataset(fleet.table(100), fleet.table(50)))
