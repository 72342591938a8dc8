"""The comparison with other simulators: what they are given, and what is concluded from what they did."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contest.compare import Result, Start, relative_difference
from contest.contestants import OURS
from contest.environments import Environment, NotInstalled, install
from contest.process import ContestantFailed, ContestantProcess
from contest.report import MATMUL_GFLOP, page, ratios_of, rows_of
from contest.weights import to_torch_names
from peers import chosen
from workloads import KEY, W1, Workload, client_data, cohorts_and_batches

from fedjax_anomaly import federated, models
from fedjax_anomaly.types import FeatureLayout

SMALL = Workload("small", 5, 3, 8, 2, 3, 4, 2, 4)


def lstm(weights: dict, name: str, sequence: np.ndarray) -> np.ndarray:
    """`torch.nn.LSTM` by the formulas of its documentation."""
    w_in, w_own, bias = (weights[f"{name}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih"))
    state = cell = np.zeros((len(sequence), w_own.shape[1]))
    states = []
    for rows in sequence.swapaxes(0, 1):
        i, f, g, o = np.split(rows @ w_in.T + state @ w_own.T + bias, 4, axis=1)
        cell = cell / (1.0 + np.exp(-f)) + np.tanh(g) / (1.0 + np.exp(-i))
        state = np.tanh(cell) / (1.0 + np.exp(-o))
        states.append(state)
    return np.stack(states, axis=1)


def test_our_model_is_pytorchs_with_the_weights_under_its_names():
    model = models.lstm_autoencoder(FeatureLayout(3), hidden_size=4, latent_size=2)
    leaves, tree = jax.tree.flatten(model.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.unflatten(tree, [rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])
    windows = rng.normal(size=(2, 5, 3)).astype(np.float32)
    weights = to_torch_names(params)
    latent = lstm(weights, "encoder", windows) @ weights["latent.weight"].T + weights["latent.bias"]
    expected = lstm(weights, "decoder", latent) @ weights["output.weight"].T + weights["output.bias"]
    np.testing.assert_allclose(model.reconstruct(params, windows), expected, atol=1e-5)
    assert sum(value.size for value in weights.values()) == sum(leaf.size for leaf in leaves)


def test_rivals_get_the_cohorts_and_batches_of_our_run():
    # Steps of 0.3 towards the mean first row of a batch: the result tells who took part, and in which order.
    algorithm = federated.clustered_fedavg(
        lambda key: jnp.zeros(SMALL.num_features),
        federated.local_training(
            lambda params, windows, key: 0.5 * jnp.sum(jnp.square(windows[:, 0] - params[None]), axis=1),
            optax.sgd(0.3),
            window_length=SMALL.window_length,
            batch_size=SMALL.batch_size,
        ),
        federated.single(SMALL.num_clients),
        federated.weighted_sum(),
        optax.sgd(1.0),
        sample_cohort=federated.fixed_size_cohort(SMALL.num_clients, SMALL.cohort_size),
    )
    data = client_data(SMALL)
    key = jax.random.key(KEY)
    state, _ = federated.run(algorithm, key, algorithm.init(key, data), data, 3)
    params = np.zeros(SMALL.num_features)
    for cohort, batches in zip(*cohorts_and_batches(SMALL, 3), strict=True):
        ends = []
        for client, own in zip(cohort, batches, strict=True):
            local = params
            for batch in own:
                local = local + 0.3 * (data.series[client][batch].mean(axis=0) - local)
            ends.append(local)
        params = np.mean(ends, axis=0)
    np.testing.assert_allclose(state.params[0], params, atol=1e-6)


def results() -> list[Result]:
    return [
        Result("W1", "ours", (1.0, 2.0, 1.0), 500_000_000, 0.0),
        Result("W1", "flower", (3.0, 4.0, 5.0), 900_000_000, 1e-5),
        Result("W1", "pfl", (2.0, 4.0, 1.5), 400_000_000, 1e-5),
        Result("W1", "cheat", (0.1, 0.1, 0.1), 1_000, 0.5, failure="ends at other parameters"),
        Result("W1", "absent", failure="not installed"),
        Result("W1", "matmul_jax", (0.2, 0.1, 0.2)),
        Result("W1", "matmul_torch", (0.1, 0.2, 0.1)),
        Result("W1_dp", "ours", (1.1, 1.05, 1.2), 500_000_000, 0.0),
        Result("W1_dp", "ours_without_privacy", (1.0, 1.0, 1.0), 500_000_000, 0.0),
    ]


STARTS = [
    Start("ours", 9.0, (2.0, 3.0, 2.0), 400_000_000),
    Start("flower", 8.0, (7.0, 9.0, 8.0), 330_000_000),
    Start("absent", failure="no"),
]


def test_ratios_are_medians_over_repetitions_and_leave_out_who_failed():
    ratios = ratios_of(results(), STARTS)
    assert ratios == pytest.approx(
        {
            "W1_vs_fastest_rival": 2.0,  # pfl: 2, 2, 1.5.
            "W1_vs_flower": 3.0,  # 3, 2, 5.
            "W1_vs_pfl": 2.0,
            # The peak is a product in 0.1 s in every repetition, by one library or the other.
            "W1_share_of_matmul_peak": W1.gflop_per_round / 1.0 / (MATMUL_GFLOP / 0.1),
            "W1_dp_overhead": 0.1,  # 1.1, 1.05, 1.2.
            "W1_peak_memory_over_leanest_rival_mb": 100.0,
            "first_round_vs_fastest_rival": 4.0,
            "later_peak_memory_over_leanest_rival_mb": 70.0,
        }
    )
    assert ratios_of([], []) == {}


def test_who_failed_stands_in_the_tables_with_the_reason():
    rows = rows_of(results(), STARTS)
    assert {row["contestant"]: row["failure"] for row in rows if row["workload"] == "W1" and row["failure"]} == {
        "cheat": "ends at other parameters",
        "absent": "not installed",
    }
    text = page(rows, ratios_of(results(), STARTS), [OURS], "python peers.py", quick=False)
    assert "| absent | – | – | – | – | – | not installed | – |" in text
    assert "| ours | 1 | 1 | 0.5 | 500 | 0 | – | – |" in text


def test_other_parameters_are_told_from_rounding():
    initial = {"w": np.zeros(3), "b": np.zeros(1)}
    expected = {"w": np.array([0.0, 0.2, -0.1]), "b": np.array([0.1])}
    assert relative_difference({**expected, "b": np.array([0.1 + 5e-7])}, expected, initial) == 0.0
    moved = {**expected, "w": np.array([0.0, 0.2, -0.11])}
    assert relative_difference(moved, expected, initial) == pytest.approx(0.05, rel=1e-3)
    for broken in ({"w": expected["w"]}, {**expected, "b": np.array([np.nan])}, {**expected, "b": np.zeros(2)}):
        assert relative_difference(broken, expected, initial) == np.inf


def test_a_contestant_that_cannot_start_says_why(tmp_path):
    process = ContestantProcess(Path(sys.executable), "nobody", tmp_path, tmp_path / "nobody.log")
    with pytest.raises(ContestantFailed, match="No module named rivals.nobody"), process:
        process.run(1, 60.0)
    with pytest.raises(NotInstalled, match="needs Python 3.99 or newer"):
        install(Environment("future", ("numpy",), python=(3, 99)), tmp_path)
    with pytest.raises(ValueError, match="rivals='a,c': 'c' is not one of a, b"):
        chosen("rivals", "a,c", {"a": 1, "b": 2})
