"""Client-level differential privacy whose clip norm follows the updates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from fedjax_anomaly.federated.algorithm import Aggregator, WeightedSum
from fedjax_anomaly.privacy.adaptive_clipping import AdaptiveClip, split_noise
from fedjax_anomaly.types import PyTree


class AdaptiveState(NamedTuple):
    """What one round hands to the next.

    Attributes:
      inner: state of the aggregator that sums.
      clip_norm: of the next round.
      last_clip_norm: of the round that was.
      share_within: noisy share of its updates that were within it.
    """

    inner: PyTree
    clip_norm: Float[jax.Array, ""]
    last_clip_norm: Float[jax.Array, ""]
    share_within: Float[jax.Array, ""]


def adaptively_private(
    inner: Aggregator, clip: AdaptiveClip, noise_multiplier: float | jax.Array, divisor: float
) -> Aggregator:
    """Like `private`, with a clip norm that follows a quantile of the norms of the updates.

    A client sends its update clipped and in units of the clip norm, and one number more: one half where the update was
    within the clip norm, minus one half where not. Both go through the inner aggregator, so that under a secure sum the
    server sees no client's; both get noise, and together cost what one sum of `noise_multiplier` costs.

    Args:
      inner: sums; no value that it gets is larger than 1.
      clip: how the clip norm moves; each cluster has its own.
      noise_multiplier: z of the pair; it may be traced, and is not checked then.
      divisor: public constant, the expected number of participants of one cluster.

    Raises:
      ValueError: when `divisor` is not positive or `noise_multiplier` is negative.

    Guarantees:
      Adding or removing one client changes what is noised by at most 1 / z in units of the noise (test:
      `tests/federated/test_adaptive_clipping.py::test_one_client_moves_the_pair_by_at_most_the_noise_over_z`).
      The clip norm reaches the quantile (test: `...::test_the_clip_norm_reaches_the_quantile`).

    References:
      Andrew et al. 2021, "Differentially Private Learning with Adaptive Clipping", algorithm 1.
    """
    # Importing jax-privacy takes seconds; runs without privacy do not need it.
    from jax_privacy.clipping import clip_pytree

    if divisor <= 0:
        raise ValueError(f"divisor={divisor} must be positive.")
    if not isinstance(noise_multiplier, jax.Array) and noise_multiplier < 0.0:
        raise ValueError(f"noise_multiplier={noise_multiplier} must not be negative.")
    noise = split_noise(noise_multiplier, divisor)

    def init(params: PyTree) -> AdaptiveState:
        norm = jnp.float32(clip.initial_norm)
        return AdaptiveState(inner.init((params, jnp.zeros(()))), norm, norm, jnp.zeros(()))

    def aggregate(
        key: jax.Array, state: AdaptiveState, updates: PyTree, weights: jax.Array
    ) -> tuple[AdaptiveState, WeightedSum]:
        key_inner, key_update, key_count = jax.random.split(key, 3)
        in_units, norms = jax.vmap(lambda update: clip_pytree(update, state.clip_norm, rescale_to_unit_norm=True))(
            updates
        )
        within = jnp.where(norms <= state.clip_norm, 0.5, -0.5)
        participates = (weights > 0.0).astype(weights.dtype)
        inner_state, summed = inner.aggregate(key_inner, state.inner, (in_units, within), participates)
        total, count = summed.total
        drawn = optax.tree.random_like(key_update, total, sampler=jax.random.normal)
        total = optax.tree.add_scale(total, noise.update_multiplier, drawn)
        count = count + noise.count_std * jax.random.normal(key_count)
        share_within = count / divisor + 0.5
        after = AdaptiveState(inner_state, clip.next_norm(state.clip_norm, share_within), state.clip_norm, share_within)
        return after, WeightedSum(optax.tree.scale(state.clip_norm, total), jnp.asarray(divisor, weights.dtype))

    def report(state: AdaptiveState) -> dict[str, jax.Array]:
        # Clusters are added up, so each gives its part of the mean.
        own = {"clip_norm": state.last_clip_norm, "share_within_clip_norm": state.share_within}
        return inner.report(state.inner) | {name: value / value.size for name, value in own.items()}

    return Aggregator(init, aggregate, report)
