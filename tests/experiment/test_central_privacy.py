"""Whole runs whose server clips adaptively or correlates its noise: what resumes, what is told, what is refused."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, build_members, train_ensemble
from fedjax_anomaly.experiment.privacy_ledger import statement
from fedjax_anomaly.experiment.training import train
from fedjax_anomaly.privacy import ClientLevelRelease
from tests.experiment.conftest import SMALL

CLIENT_LEVEL = dataclasses.replace(
    SMALL,
    model="dense_autoencoder",
    num_clusters="1",
    clients_per_round=2,
    client_sampling="cyclic",
    dp_unit="client",
    dp_noise_multiplier=1.0,
)
CORRELATED = dataclasses.replace(CLIENT_LEVEL, dp_mechanism="correlated")
ADAPTIVE = dataclasses.replace(CLIENT_LEVEL, client_sampling="poisson", clip_quantile=0.5)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            dataclasses.replace(ADAPTIVE, clients_per_round=4, secure_aggregation="secagg"),
            id="adaptive",
            marks=pytest.mark.slow,
        ),
        pytest.param(CORRELATED, id="correlated"),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(small_dataset, tmp_path, config):
    experiment, records = build(config, small_dataset), []
    whole = train(experiment, report=lambda progress: records.extend(progress.records))
    first = train(experiment, checkpoint_dir=tmp_path, stop_requested=lambda: True)
    assert (first.interrupted, int(first.state.round)) == (True, 2)
    resumed = train(experiment, checkpoint_dir=tmp_path, resume=True)
    jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)
    if config.dp_mechanism == "correlated":
        assert all((noise != 0.0).all() for noise in jax.tree.leaves(first.state.aggregator))
        return
    # Equation 2 of Andrew et al., from what was reported.
    assert records[0]["clip_norm"] == 1.0
    for before, after in itertools.pairwise(records):
        step = np.exp(-0.2 * (before["share_within_clip_norm"] - 0.5))
        assert after["clip_norm"] == pytest.approx(before["clip_norm"] * step, rel=1e-5) != 1.0


@pytest.mark.slow
def test_a_member_takes_turns_and_draws_noise_as_if_it_were_run_by_itself(small_dataset):
    config = dataclasses.replace(CORRELATED, num_seeds=2)
    together = train_ensemble(build_members(config, small_dataset))
    alone = train(build(config.members()[1], small_dataset))
    for a, b in zip(*map(jax.tree.leaves, (together[1].state, alone.state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_ledger_of_an_adaptive_run_has_both_mechanisms(small_dataset):
    ledger = statement(build(ADAPTIVE, small_dataset), 4)
    of_updates, of_count = ledger["mechanisms"]
    # z = 1 of 2 expected clients: the count's noise is z, so that 1 / 1 = 1 / u^2 + 1 / (2 * 1)^2 gives u^2 = 4 / 3.
    assert of_updates["noise_std"] == ledger["noise_std"] == pytest.approx((4 / 3) ** 0.5)
    assert of_count["noise_std"] == 1.0
    assert ledger["epsilon"] == ClientLevelRelease(4, 4, 2, "poisson").epsilon(1.0, 1e-3)
    assert "starts at 1 and moves toward the 0.5 quantile" in of_updates["in_words"]
    assert "costs what a multiplier of 1 on that sum alone would cost" in of_count["in_words"]


def test_the_ledger_of_a_correlated_run_has_its_sensitivity_and_turns(small_dataset):
    target = dataclasses.replace(CORRELATED, dp_noise_multiplier=0.0, dp_epsilon=2.0)
    ledger = statement(build(target, small_dataset), 4)
    (mechanism,) = ledger["mechanisms"]
    assert ledger["epsilon"] == pytest.approx(2.0, abs=0.01)
    assert ledger["accountant"] == "PLD, the place of one client emptied"
    assert (mechanism["sums"], mechanism["participations"], mechanism["bands"]) == (4, 2, 2)
    assert mechanism["sampling_rate"] is None
    # Turns of one client do not overlap in two bands: two columns of norm above 1.
    assert mechanism["sensitivity"] > 2**0.5
    assert f"moves by at most {mechanism['sensitivity']:.3g} clip norms" in mechanism["in_words"]
    assert "2 of 4 clients in a fixed order, each at most 2 times" in mechanism["in_words"]


def test_a_longer_run_does_not_go_on_with_the_noise_of_a_shorter_one():
    longer = dataclasses.replace(CORRELATED, num_rounds=8)
    assert longer.differences(CORRELATED) == ["num_rounds 4 -> 8"]
    independent = dataclasses.replace(CLIENT_LEVEL, num_rounds=8)
    assert independent.differences(CLIENT_LEVEL) == []


EXAMPLE = {"dp_unit": "example", "clients_per_round": 0}


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (CORRELATED, {"client_sampling": "poisson"}, "no valid accounting with client_sampling=poisson: a client may"),
        (CORRELATED, {"client_sampling": "fixed_size"}, "no valid accounting with client_sampling=fixed_size"),
        (CORRELATED, EXAMPLE, "dp_mechanism=correlated is for the sum of the clients' updates"),
        (CORRELATED, {"clip_quantile": 0.5}, "cancels noise over rounds only while it stays of one size"),
        (ADAPTIVE, EXAMPLE, "clip_quantile=0.5 is for the sum of the clients' updates and has no effect"),
        (ADAPTIVE, {"clip_quantile": 1.0}, r"clip_quantile=1.0 must lie in \(0, 1\)"),
        (CLIENT_LEVEL, {"clip_learning_rate": 0.1}, "clip_learning_rate=0.1 has no effect with a fixed clip_norm"),
    ],
)
def test_what_has_no_accounting_or_no_effect_is_refused(base: Config, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(base, **changes)


def test_correlated_noise_of_clients_in_every_round_is_refused(small_dataset):
    with pytest.raises(ValueError, match=r"would have no effect: where every client is in every round.*=cyclic"):
        build(dataclasses.replace(CORRELATED, clients_per_round=0), small_dataset)
