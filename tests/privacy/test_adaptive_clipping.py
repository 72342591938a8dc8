import dataclasses
import math

import dp_accounting
import jax.numpy as jnp
import pytest

from fedjax_anomaly.privacy import AdaptiveClip, ClientLevelRelease
from fedjax_anomaly.privacy.adaptive_clipping import split_noise


@pytest.mark.parametrize(("noise_multiplier", "clients_per_sum", "count_std"), [(1.2, 200.0, 10.0), (3.0, 20.0, 3.0)])
def test_the_pair_costs_what_one_sum_costs(noise_multiplier, clients_per_sum, count_std):
    """Composed by dp-accounting from its two mechanisms; a count of plus or minus one half has sensitivity 1/2."""
    split = split_noise(noise_multiplier, clients_per_sum)
    assert float(split.count_std) == pytest.approx(count_std)

    def epsilon(update_multiplier: float, count_std: float) -> float:
        spent = dp_accounting.pld.PLDAccountant()
        for multiplier in (update_multiplier, count_std / 0.5):
            spent.compose(dp_accounting.GaussianDpEvent(multiplier))
        return spent.get_epsilon(1e-5)

    whole = ClientLevelRelease(1, 20, 20, "full").epsilon(noise_multiplier, 1e-5)
    update_multiplier = float(split.update_multiplier)
    assert epsilon(update_multiplier, count_std) == pytest.approx(whole, rel=1e-3)
    # Without the larger noise on the updates, which pays for the count, the pair costs more.
    assert epsilon(noise_multiplier, count_std) > 1.001 * whole


def test_the_norm_moves_by_the_formula():
    clip = AdaptiveClip(2.0, quantile=0.25, learning_rate=0.4)
    assert float(clip.next_norm(jnp.float32(2.0), jnp.float32(0.75))) == pytest.approx(2.0 * math.exp(-0.2))
    assert float(clip.next_norm(jnp.float32(2.0), jnp.float32(0.25))) == 2.0


@pytest.mark.parametrize(("name", "value"), [("initial_norm", 0.0), ("quantile", 1.0), ("learning_rate", -1.0)])
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"clip_\\w+={value} must"):
        dataclasses.replace(AdaptiveClip(1.0), **{name: value})
