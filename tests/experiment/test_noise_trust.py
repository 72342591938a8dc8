"""Whole runs whose clients add the noise of client-level privacy themselves."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from fedjax_anomaly import trees
from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import build, build_members, train_ensemble
from fedjax_anomaly.experiment.privacy_ledger import announcement, statement
from fedjax_anomaly.experiment.secure import server_sees
from fedjax_anomaly.privacy import DistributedRelease, LocalRelease
from tests.experiment.conftest import SMALL

DENSE = dataclasses.replace(
    SMALL,
    model="dense_autoencoder",
    num_clusters="1",
    num_rounds=2,
    rounds_per_report=2,
    dp_unit="client",
    dp_noise_multiplier=3.0,
)
DISTRIBUTED = dataclasses.replace(DENSE, dp_trust="distributed", secure_aggregation="secagg")

TARGET = {"dp_epsilon": 8.0, "dp_noise_multiplier": 0.0}


def test_a_distributed_run_says_who_is_trusted_and_states_its_epsilon(small_dataset):
    """Two models of two clients each: the noise of a sum is divided in two."""
    experiment = build(dataclasses.replace(DISTRIBUTED, num_clusters="2", **TARGET), small_dataset)
    privacy = statement(experiment, rounds_done=2)
    parameters = trees.num_elements(jax.eval_shape(experiment.model.init, jax.random.key(0)))
    release = DistributedRelease(2, 2, parameters, "full")
    assert privacy["noise_multiplier"] == release.calibrate(8.0, 1e-3)
    assert privacy["epsilon"] == release.epsilon(privacy["noise_multiplier"], 1e-3) <= 8.0
    assert privacy["trust"].startswith("distributed: each client clips its update and adds its share of the noise befo")
    assert "the server sees the noisy sum of the clipped updates" in privacy["trust"]
    assert privacy["unit_in_words"].endswith("that it takes part is public")
    assert [m["mechanism"] for m in privacy["mechanisms"]] == ["distributed discrete gaussian"]
    assert "the noise is drawn as integers" in privacy["assumes"][1]
    assert any("the losses and the norms of updates" in line for line in privacy["not_covered"])
    assert any(line.startswith("trust: distributed") for line in announcement([experiment]))


def test_a_local_run_says_that_nobody_needs_to_be_trusted(small_dataset):
    experiment = build(dataclasses.replace(DENSE, dp_trust="local"), small_dataset)
    privacy = statement(experiment, rounds_done=1)
    # Half of it has gone by; what is accounted is what was done.
    assert privacy["epsilon"] == LocalRelease(1, "full").epsilon(3.0, 1e-3)
    assert privacy["trust"].startswith("local: each client clips its update and adds all of the noise to it")
    assert "the losses in the log" in privacy["not_covered"]
    assert server_sees(experiment.config) == "each client's noisy update"
    # Four independent shares on a mean of 4: 3 / 2 times the root of the parameters.
    parameters = trees.num_elements(jax.eval_shape(experiment.model.init, jax.random.key(0)))
    assert experiment.privacy.noise_to_clip_ratio == pytest.approx(1.5 * np.sqrt(parameters))


@pytest.mark.parametrize(("base", "shares"), [(DISTRIBUTED, 1.0), (DENSE, 4.0)])
def test_seeds_side_by_side_have_the_noise_that_was_planned(small_dataset, base, shares):
    """All of it in the sum, or as much in each of four updates; over 4, in two rounds."""
    trust = "local" if base is DENSE else "distributed"
    config = dataclasses.replace(base, dp_trust=trust, dp_noise_multiplier=50.0, num_seeds=2)
    for trained in train_ensemble(build_members(config, small_dataset)):
        drawn = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(trained.state.params)])
        expected = 50.0 * np.sqrt(2.0 * shares) / 4.0
        assert drawn.std() == pytest.approx(expected, rel=5.0 / np.sqrt(2.0 * len(drawn)))


def test_a_cohort_is_charged_for_every_round(small_dataset):
    cohort = dataclasses.replace(DENSE, dp_trust="local", clients_per_round=2)
    everyone = dataclasses.replace(cohort, clients_per_round=0)
    spent = [build(c, small_dataset).privacy.release.epsilon(3.0, 1e-3) for c in (cohort, everyone)]
    assert spent[0] == spent[1]
    config = dataclasses.replace(DISTRIBUTED, clients_per_round=3)
    assert build(config, small_dataset).privacy.release.clients_per_sum == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dp_unit": "none", "dp_epsilon": 0.0}, "dp_trust=distributed has no effect with dp_unit=none"),
        ({"secure_aggregation": "none"}, "which only a secure sum hides; give --secure_aggregation=secagg"),
        ({"dp_trust": "local"}, "dp_trust=local leaves a secure sum nothing to hide, at more noise than --dp_trust"),
        ({"dp_mechanism": "correlated", "client_sampling": "cyclic"}, "dp_mechanism=correlated is accounted for noise"),
        (
            {"clip_quantile": 0.5},
            "clip_quantile=0.5 is accounted for noise that the server adds, not for dp_trust=dist",
        ),
        ({"client_sampling": "cyclic"}, "client_sampling=cyclic is accounted for noise that the server adds"),
        ({"clustering": "ifca", "num_clusters": "2"}, "clustering=ifca shows the server in every round which model"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    defaults = {"dp_unit": "client", "dp_trust": "distributed", "secure_aggregation": "secagg", "dp_epsilon": 1.0}
    with pytest.raises(ValueError, match=re.escape(message)):
        Config(**(defaults | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"clients_per_round": 3, "client_sampling": "poisson"},
            "whose number client_sampling=poisson leaves to chance",
        ),
        ({"clients_per_round": 3, "num_clusters": "2"}, "whose number a cohort drawn over 2 clusters leaves to chance"),
        (
            {"dp_noise_multiplier": 1e-6},
            "a noise multiplier of 1e-06 is less than the 1.04e-05 for which the values of",
        ),
    ],
)
def test_noise_that_cannot_be_accounted_for_is_refused(small_dataset, settings, message):
    config = dataclasses.replace(DISTRIBUTED, **settings)
    with pytest.raises(ValueError, match=message):
        build(config, small_dataset)
