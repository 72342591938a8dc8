import dataclasses

import numpy as np
import optax
import pytest

from fedjax_anomaly.auditing import canary_audit
from fedjax_anomaly.experiment.build import build
from fedjax_anomaly.privacy import mechanisms
from tests.experiment.conftest import SMALL

CONFIG = dataclasses.replace(SMALL, model="dense_autoencoder", num_rounds=2, num_clusters="1", client_optimizer="sgd")
EXAMPLE = dataclasses.replace(CONFIG, dp_unit="example", dp_epsilon=1.0)
CLIENT = dataclasses.replace(CONFIG, dp_unit="client", dp_epsilon=1.0, num_rounds=1)
SHARES = {"dp_trust": "distributed", "secure_aggregation": "secagg"}
EXAMPLE_SHARES = dataclasses.replace(
    EXAMPLE, **SHARES, num_rounds=1, local_steps=1, dp_sampling_rate=1.0, batch_size=64, hidden_size=32
)


def audit(config, dataset):
    return canary_audit(build(config, dataset), num_canaries=96)


def test_without_noise_the_bound_is_far_above_zero(small_dataset):
    found = audit(CONFIG, small_dataset)
    assert found.epsilon_lower_bound > 1.0
    assert not found.contradicts


@pytest.mark.parametrize(
    ("config", "unit", "heard"),
    [
        (dataclasses.replace(EXAMPLE, num_rounds=1), "window", "each client's update"),
        pytest.param(CLIENT, "client", "the released sums", marks=pytest.mark.slow),
        pytest.param(
            dataclasses.replace(CLIENT, dp_trust="local"), "client", "each client's update", marks=pytest.mark.slow
        ),
        (dataclasses.replace(CLIENT, **SHARES), "client", "the released sums"),
    ],
)
def test_with_noise_the_bound_is_at_most_the_claim(config, unit, heard, small_dataset):
    found = audit(config, small_dataset)
    assert found.unit == unit
    assert found.heard.startswith(heard)
    assert found.epsilon_lower_bound <= found.epsilon_claimed <= 1.0
    assert len(found.scores.score) == 96


@pytest.mark.parametrize(
    ("config", "left_out"),
    [
        (EXAMPLE, "noise"),
        (EXAMPLE, "clip"),
        (EXAMPLE_SHARES, "noise"),
        (dataclasses.replace(CLIENT, dp_trust="local"), "noise"),
    ],
)
def test_the_claim_is_contradicted_when_noise_or_clip_is_left_out(config, left_out, small_dataset, monkeypatch):
    gaussian = mechanisms.gaussian

    def broken(clip_norm, noise_multiplier):
        whole = gaussian(clip_norm, noise_multiplier)
        if left_out == "noise":
            return whole._replace(add_noise=lambda key, total: total)
        return whole._replace(clip=lambda update: optax.tree.scale(1.0, update))

    monkeypatch.setattr(mechanisms, "gaussian", broken)
    assert audit(config, small_dataset).contradicts


@pytest.mark.parametrize("halved", [False, True])
def test_shares_of_half_the_noise_let_canaries_stand_out_further_than_the_accounted_noise_does(halved, small_dataset):
    """Scores are Gaussians of deviation 1; in and out differ by at most the clip norm over the noise, here 1 / 0.5."""
    experiment = build(dataclasses.replace(EXAMPLE_SHARES, dp_epsilon=0.0, dp_noise_multiplier=0.5), small_dataset)
    share = experiment.privacy.noise_share * (0.5 if halved else 1.0)
    broken = dataclasses.replace(experiment, privacy=dataclasses.replace(experiment.privacy, noise_share=share))
    score, included = canary_audit(broken, num_canaries=96).scores
    apart = score[included].mean() - score[~included].mean()
    error = np.sqrt(1.0 / included.sum() + 1.0 / (~included).sum())
    assert (apart - 2.0 * error > 2.0) == halved
