import dataclasses

import optax
import pytest

from fedjax_anomaly.auditing import canary_audit
from fedjax_anomaly.experiment.build import build
from fedjax_anomaly.privacy import mechanisms
from tests.experiment.conftest import SMALL

CONFIG = dataclasses.replace(SMALL, model="dense_autoencoder", num_rounds=2, num_clusters="1", client_optimizer="sgd")
EXAMPLE = dataclasses.replace(CONFIG, dp_unit="example", dp_epsilon=1.0)


def audit(config, dataset):
    return canary_audit(build(config, dataset), num_canaries=96)


def test_without_noise_the_bound_is_far_above_zero(small_dataset):
    found = audit(CONFIG, small_dataset)
    assert found.epsilon_lower_bound > 1.0
    assert not found.contradicts


@pytest.mark.parametrize("unit", ["example", "client"])
def test_with_noise_the_bound_is_at_most_the_claim(unit, small_dataset):
    found = audit(dataclasses.replace(EXAMPLE, dp_unit=unit, num_rounds=1), small_dataset)
    assert found.unit == {"example": "window", "client": "client"}[unit]
    assert found.epsilon_lower_bound <= found.epsilon_claimed <= 1.0
    assert len(found.scores.score) == 96


@pytest.mark.parametrize("left_out", ["noise", "clip"])
def test_the_claim_is_contradicted_when_noise_or_clip_is_left_out(left_out, small_dataset, monkeypatch):
    gaussian = mechanisms.gaussian

    def broken(clip_norm, noise_multiplier):
        whole = gaussian(clip_norm, noise_multiplier)
        if left_out == "noise":
            return whole._replace(add_noise=lambda key, total: total)
        return whole._replace(clip=lambda update: optax.tree.scale(1.0, update))

    monkeypatch.setattr(mechanisms, "gaussian", broken)
    assert audit(EXAMPLE, small_dataset).contradicts
