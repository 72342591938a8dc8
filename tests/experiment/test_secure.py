"""Whole runs by secure aggregation: what they learn, what they cost, what they refuse."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, build_members, run_experiment, train_ensemble
from fedjax_anomaly.experiment.secure import secure_aggregator, secure_communication
from fedjax_anomaly.experiment.training import train
from fedjax_anomaly.privacy.secure_aggregation import client_traffic
from tests.experiment.conftest import SMALL

DENSE = dataclasses.replace(SMALL, model="dense_autoencoder", num_clusters="1", num_rounds=2, rounds_per_report=1)
"""What is tested here is the same for every model, and this one compiles faster. Of its two compiled calls the second
takes what the first left."""


def params_of(config, dataset):
    return jax.device_get(train(build(config, dataset)).state.params)


def assert_close(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def test_a_run_by_secure_aggregation_is_the_run_in_the_clear(small_dataset, tmp_path):
    """Two models of two clients each, under differential privacy, whose noise has the same keys in both."""
    clear = dataclasses.replace(DENSE, num_clusters="2", dp_unit="client", dp_noise_multiplier=1.0)
    announced: list[str] = []
    secure = run_experiment(
        dataclasses.replace(clear, secure_aggregation="secagg", output_dir=str(tmp_path / "run")),
        small_dataset,
        announce=announced.extend,
    )
    # A step is at most 4 clients * clip norm 1 / 2^29.
    assert_close(params_of(clear, small_dataset), secure.state.params, atol=1e-6)
    assert any(
        "secure aggregation (secagg): the server sees the sum of the clipped updates" in line for line in announced
    )

    parameters = sum(leaf[0].size for leaf in jax.tree.leaves(secure.state.params))
    cost = secure.result["communication"]
    one = client_traffic(1, parameters + 1)
    up, down = sum(one.up.values()), sum(one.down.values()) + 4 * parameters
    assert cost["up_bytes_per_round"] == 4 * up
    assert cost["down_bytes_per_round"] == 4 * down
    assert cost["total_bytes"] == 2 * 4 * (up + down) + cost["setup_bytes"]
    assert cost["secure_aggregation"]["up_bytes_per_client_round"] == up
    assert cost["secure_aggregation"]["down_bytes_per_client_round"] == down
    assert cost["secure_aggregation"]["message_bytes_up"] == one.up
    assert cost["secure_aggregation"]["mean_neighbours"] == 1.0
    assert cost["secure_aggregation"]["threshold"] == 1
    assert cost["secure_aggregation"]["clipped_values"] == cost["secure_aggregation"]["bare_sums"] == 0
    assert 0.0 < cost["secure_aggregation"]["client_seconds_per_round"] < 5.0
    assert cost["server_sees"].startswith("the sum of the clipped updates of the clients that share a model, and who")
    trust = secure.result["privacy"]["trust"]
    assert trust == f"central: the server sees {cost['server_sees']}, and adds the noise to the sum"
    page = (secure.output_dir / "report.html").read_text()
    assert "SecAgg, 1.0 neighbours" in page
    records = [json.loads(line) for line in (secure.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["mask_pairs"] for record in records] == [2, 2]


def test_members_of_a_compiled_run_are_summed_securely(small_dataset):
    config = dataclasses.replace(DENSE, num_seeds=2, secure_aggregation="secaggplus")
    together = train_ensemble(build_members(config, small_dataset))
    last = dataclasses.replace(config.members()[1], secure_aggregation="none")
    assert_close(together[1].state.params, params_of(last, small_dataset), rtol=1e-4, atol=1e-5)


def test_bounds_are_public_and_private_updates_are_never_lengthened():
    """Of 300 windows a power of two is told; under differential privacy 0.9 of a step is rounded to 0."""
    config = dataclasses.replace(DENSE, num_clients=2, secure_aggregation="secagg")
    stack = {"a": jnp.full((2, 4), 0.45 / 4.0)}

    def summed(aggregator, weights):
        return jax.jit(aggregator.aggregate)(jax.random.key(0), aggregator.init(None), stack, jnp.array(weights))

    for weight, clipped in ((512.0, 0), (513.0, 1)):
        state, _ = summed(secure_aggregator(config, 300, None), [weight, 1.0])
        assert state.clipped_values == clipped
    # 2^30 - 1 codes for 2^26 units leave 2^3 steps to a unit.
    private = dataclasses.replace(config, dp_unit="client", dp_noise_multiplier=1.0, clip_norm=2.0**26)
    assert not summed(secure_aggregator(private, 300, None), [1.0, 1.0])[1].total["a"].any()


def test_a_cohort_counts_the_clients_that_were_there():
    config = dataclasses.replace(
        DENSE, num_clients=4, clients_per_round=3, client_sampling="poisson", secure_aggregation="secagg"
    )
    history = [
        {"participants": participants, "mask_pairs": pairs, "clipped_values": clipped, "bare_sums": bare}
        for participants, pairs, clipped, bare in ((4, 6, 0, 0), (2, 1, 5, 0), (1, 0, 0, 1))
    ]
    cost = secure_communication(config, 9, 36, history)
    expected = [client_traffic(k, 10) for k, clients in ((3, 4), (1, 2), (0, 1)) for _ in range(clients)]
    assert cost["up_bytes"] == sum(sum(one.up.values()) for one in expected)
    assert cost["down_bytes"] == sum(sum(one.down.values()) for one in expected) + 7 * 36
    # Fourteen neighbours of seven clients; with two of at most three, any two shares rebuild a seed.
    assert cost["mean_neighbours"] == 2.0
    assert cost["threshold"] == 2
    assert (cost["clipped_values"], cost["bare_sums"]) == (5, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "local_only"}, "secure_aggregation=secagg has no effect with method=local_only"),
        ({"method": "centralized"}, "secure_aggregation=secagg has no effect with method=centralized"),
        ({"method": "pca"}, "secure_aggregation=secagg has no effect with method=pca"),
        ({"secagg_clip": 0.0}, "secagg_clip=0.0 must be positive"),
        ({"secagg_clip": 2.0, "secure_aggregation": "none"}, "secagg_clip=2.0 has no effect with secure_aggregation=n"),
        (
            {"secagg_clip": 2.0, "dp_unit": "client", "dp_epsilon": 1.0},
            "dp_unit=client; leave it out: clip_norm is the bound",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Config(**({"secure_aggregation": "secagg"} | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clients_per_round": 1}, "sums the updates of at least 2 clients in a round, but there is 1"),
        ({"clients_per_round": 3, "client_sampling": "cyclic"}, "at least 2 clients in a round, but there is 1"),
        ({"num_clusters": "3"}, r"cannot hide the update of client \d, which has a cluster of its own \(sizes \["),
    ],
)
def test_a_sum_of_a_single_client_is_refused(small_dataset, settings, message):
    with pytest.raises(ValueError, match=message):
        build(dataclasses.replace(DENSE, secure_aggregation="secagg", **settings), small_dataset)
