"""The same run by every method: rounds of a federation, rounds without one, and classical baselines."""

import dataclasses
import functools
from typing import get_args

import jax
import numpy as np
import pytest

from fedjax_anomaly.baselines.centralized import pooled
from fedjax_anomaly.baselines.classical import SAW_ATTACK_LABELS, ClassicalMethod
from fedjax_anomaly.config import TRAINED_IN_ROUNDS, Config, Method
from fedjax_anomaly.experiment import build, run_experiment
from fedjax_anomaly.experiment.run import Outcome
from fedjax_anomaly.experiment.training import train
from tests.experiment.conftest import SMALL, dense
from tests.fleet import client_data

BYTES_OF_RAW_DATA = 4 * 4 * (400 - 3) * 3
"""Four services of 400 training rows, 3 of them anomalous, three columns of four bytes."""


def of(config: Config, method: str, **settings) -> Config:
    return dataclasses.replace(config, **({"method": method, "num_clusters": "1"} | settings))


def test_every_method_has_its_code():
    assert set(get_args(Method)) == set(TRAINED_IN_ROUNDS) | set(get_args(ClassicalMethod))


@pytest.fixture(scope="module")
def run_of(small_dataset, tmp_path_factory):
    """The run by a method, carried out once; of the models the one that compiles faster."""

    @functools.cache
    def run(method: str) -> Outcome:
        folder = tmp_path_factory.mktemp(method) / "run"
        return run_experiment(of(dense(SMALL), method, output_dir=str(folder)), small_dataset)

    return run


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_detects_on_the_same_rows_and_says_what_it_saw(run_of, method):
    outcome = run_of(method)
    result = outcome.result
    assert result["test"]["auroc"] > 0.5
    assert result["dataset"]["test_rows"] == 4 * 200
    assert result["latency_ms"]["p50"] > 0.0
    assert (
        result["method"]["saw_attack_labels"]
        == (method in SAW_ATTACK_LABELS)
        == (method.endswith("_svm") and method != "one_class_svm")
    )
    assert (outcome.state is None) == (method not in TRAINED_IN_ROUNDS)
    assert (outcome.output_dir / "report.html").exists()


def test_a_centralized_method_sends_the_data_and_a_local_one_nothing_but_the_encoding(run_of):
    costs = {method: run_of(method).result["communication"] for method in ("centralized", "pca", "local_only")}
    assert costs["centralized"]["total_bytes"] == costs["pca"]["total_bytes"] == BYTES_OF_RAW_DATA
    # Four clients, each a count, three totals and three sums of squares of 8 bytes.
    assert costs["local_only"]["total_bytes"] == 4 * 8 * 7
    assert costs["local_only"]["up_bytes_per_round"] == costs["centralized"]["up_bytes_per_round"] == 0


def test_a_client_alone_does_not_depend_on_the_others(small_dataset, small_config):
    config = of(dense(small_config), "local_only", num_rounds=2)
    experiment = build(config, small_dataset)
    series = np.array(experiment.train.series)
    series[1:] *= 2.0
    changed = dataclasses.replace(experiment, train=experiment.train._replace(series=series))
    one, other = (jax.device_get(train(e).state.params) for e in (experiment, changed))
    assert experiment.num_clusters == 4
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-6, atol=1e-7)
        assert not np.allclose(a[1], b[1])


def test_pooling_keeps_every_window_and_joins_none():
    data = client_data([5, 2, 7])
    one = pooled(data)

    def windows(clients):
        return [
            np.asarray(series[start : start + 4])
            for series, starts, mask in zip(*clients, strict=True)
            for start in starts[mask]
        ]

    assert one.starts.shape == one.mask.shape == (1, 14)
    assert one.mask.all()
    np.testing.assert_array_equal(windows(one), windows(data))


def test_a_plain_autoencoder_is_trained_by_the_same_rounds(run_of):
    result = run_of("federated").result
    assert result["method"]["model"] == "dense_autoencoder"
    assert result["test"]["auroc"] > 0.9


def test_matrix_products_take_the_dtype_that_is_set(small_dataset, small_config):
    windows = np.zeros((1, small_config.window_length, 3), np.float32)
    for dtype in ("float32", "bfloat16"):
        model = build(of(small_config, "federated", matmul_dtype=dtype), small_dataset).model
        program = jax.make_jaxpr(model.reconstruct)(jax.eval_shape(model.init, jax.random.key(0)), windows)
        assert ("bf16" in str(program)) == (dtype == "bfloat16")


def test_mean_plus_three_deviations_is_named_in_the_rule(small_dataset, small_config):
    result = run_experiment(of(small_config, "no_model", threshold="mean_3sigma"), small_dataset).result
    assert result["test"]["threshold_rule"].startswith("mean plus 3 standard deviations of held-out normal")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "pca", "dp_unit": "client", "dp_epsilon": 1.0}, "dp_unit=client has no effect with method=pca"),
        ({"method": "centralized", "clients_per_round": 3}, "clients_per_round=3 has no effect with method=centr"),
        ({"method": "local_only", "num_clusters": "auto"}, "num_clusters=auto has no effect with method=local_only"),
        ({"method": "kmeans", "score": "pvalue"}, "score=pvalue needs an error per column, which method=kmeans"),
    ],
)
def test_settings_that_a_method_does_not_use_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)
