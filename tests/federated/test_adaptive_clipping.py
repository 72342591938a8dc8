"""The pair of a sum and a count, seen from outside: what one client moves, in units of the noise that is there."""

import math

import jax
import jax.numpy as jnp
import jax_privacy.clipping
import numpy as np
import pytest

from fedjax_anomaly.federated import adaptive_clipping, adaptively_private, secure_sum, weighted_sum
from fedjax_anomaly.privacy import AdaptiveClip
from fedjax_anomaly.privacy.adaptive_clipping import NoiseSplit, split_noise

NOISE_MULTIPLIER, DIVISOR = 1.5, 4.0
CLIP = AdaptiveClip(0.7)
PARAMS = {"a": jnp.zeros(3), "b": jnp.zeros(2)}


def moved_in_units_of_noise(scale: float) -> float:
    """What the last of four clients moves sum and count by, over the deviation of their noise, as one L2 norm."""
    rng = np.random.default_rng(0)
    updates = {name: jnp.asarray(rng.normal(size=(4, leaf.size)), jnp.float32) for name, leaf in PARAMS.items()}
    updates = {name: leaf.at[-1].multiply(scale) for name, leaf in updates.items()}
    aggregator = adaptively_private(weighted_sum(), CLIP, NOISE_MULTIPLIER, DIVISOR)

    def released(key: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The noisy sum in clip norms, and the noisy count."""
        weights = jnp.ones(4).at[-1].set(last)
        state, summed = aggregator.aggregate(key, aggregator.init(PARAMS), updates, weights)
        return jnp.concatenate(jax.tree.leaves(summed.total)) / CLIP.initial_norm, DIVISOR * state.share_within

    with_and_without = jax.vmap(jax.vmap(released, (None, 0)), (0, None))
    keys = jax.random.split(jax.random.key(1), 20_000)
    sums, counts = (np.asarray(x) for x in with_and_without(keys, jnp.array([1.0, 0.0])))
    # The noise is the same with and without the client, so that it cancels in the difference.
    sum_moved = np.linalg.norm(sums[0, 0] - sums[0, 1])
    count_moved = abs(counts[0, 0] - counts[0, 1])
    sum_std, count_std = sums[:, 0].std(axis=0).mean(), counts[:, 0].std()
    return math.hypot(sum_moved / sum_std, count_moved / max(count_std, 1e-9))


@pytest.mark.parametrize("scale", [0.1, 1e4])
def test_one_client_moves_the_pair_by_at_most_the_noise_over_z(scale):
    """Whatever the client sends, and the bound is reached. Over 20,000 draws a deviation has an error of 0.5 %."""
    moved = moved_in_units_of_noise(scale)
    assert moved <= 1.02 / NOISE_MULTIPLIER
    if scale > 1.0:
        assert moved >= 0.98 / NOISE_MULTIPLIER


def halved(noise_multiplier, clients_per_sum):
    return NoiseSplit(*(0.5 * deviation for deviation in split_noise(noise_multiplier, clients_per_sum)))


def without_noise_on_the_count(noise_multiplier, clients_per_sum):
    return split_noise(noise_multiplier, clients_per_sum)._replace(count_std=0.0)


@pytest.mark.parametrize("broken", [halved, without_noise_on_the_count])
def test_too_little_noise_is_found(monkeypatch, broken):
    monkeypatch.setattr(adaptive_clipping, "split_noise", broken)
    assert moved_in_units_of_noise(1e4) > 1.9 / NOISE_MULTIPLIER


def test_a_missing_clip_is_found(monkeypatch):
    def unclipped(update, clip_norm, rescale_to_unit_norm):
        return jax.tree.map(lambda leaf: leaf / clip_norm, update), jnp.zeros(())

    monkeypatch.setattr(jax_privacy.clipping, "clip_pytree", unclipped)
    assert moved_in_units_of_noise(1e4) > 100.0 / NOISE_MULTIPLIER


@pytest.mark.parametrize("quantile", [0.5, 0.8])
def test_the_clip_norm_reaches_the_quantile(quantile):
    """From far above and in spite of noise, the share of 500 updates that are within it is the quantile."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(500, 6))
    norms = np.exp(rng.normal(size=500))
    updates = jnp.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True) * norms[:, None], jnp.float32)
    aggregator = adaptively_private(weighted_sum(), AdaptiveClip(50.0, quantile), 1.0, 500.0)

    def step(state, key):
        state, _ = aggregator.aggregate(key, state, updates, jnp.ones(500))
        return state, aggregator.report(state)

    state, reported = jax.lax.scan(step, aggregator.init(jnp.zeros(6)), jax.random.split(jax.random.key(0), 150))
    # A count of deviation 25 in 500 moves the logarithm of the norm by 0.2 * 0.05 a round.
    assert np.mean(norms <= float(state.clip_norm)) == pytest.approx(quantile, abs=0.04)
    np.testing.assert_allclose(reported["clip_norm"][0], 50.0)
    assert np.mean(reported["share_within_clip_norm"][-50:]) == pytest.approx(quantile, abs=0.02)


def test_clusters_report_the_mean_of_their_clip_norms():
    aggregator = adaptively_private(weighted_sum(), CLIP, 1.0, 2.0)
    states = jax.vmap(aggregator.init)({"a": jnp.zeros((2, 3))})
    states = states._replace(last_clip_norm=jnp.array([1.0, 4.0]))
    assert jnp.sum(aggregator.report(states)["clip_norm"]) == 2.5


def test_the_count_goes_through_the_secure_sum():
    """The same noise on the same sums; a step of the fixed point is at most 5 / 2^29."""
    rng = np.random.default_rng(0)
    updates = {name: jnp.asarray(rng.normal(size=(5, leaf.size)), jnp.float32) for name, leaf in PARAMS.items()}
    secure = secure_sum("secagg", max_weight=1.0, clip=1.0, rounding="toward_zero")
    results = []
    for inner in (weighted_sum(), secure):
        aggregator = adaptively_private(inner, CLIP, NOISE_MULTIPLIER, DIVISOR)
        arguments = (jax.random.key(0), aggregator.init(PARAMS), updates, jnp.ones(5))
        results.append(jax.jit(aggregator.aggregate)(*arguments))
    (clear, clear_sum), (masked, masked_sum) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), clear_sum, masked_sum)
    assert clear.share_within == masked.share_within
    assert masked.inner.clipped_values == 0
