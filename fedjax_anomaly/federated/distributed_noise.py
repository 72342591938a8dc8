"""Distributed differential privacy: each client adds its share of the noise before the secure sum."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Float, Int

from fedjax_anomaly.federated.aggregation import check_divisor
from fedjax_anomaly.federated.algorithm import Aggregator, WeightedSum
from fedjax_anomaly.federated.secure_sum import SecureSumState, flat_updates, masked_sum, one_at_a_time
from fedjax_anomaly.privacy import discrete_gaussian
from fedjax_anomaly.privacy.conditional_rounding import conditionally_rounded
from fedjax_anomaly.privacy.discrete_gaussian import LARGEST, NOISE_STD
from fedjax_anomaly.privacy.distributed_accounting import least_noise_multiplier
from fedjax_anomaly.privacy.mechanisms import gaussian
from fedjax_anomaly.privacy.secure_aggregation import masking
from fedjax_anomaly.privacy.secure_aggregation.graph import Protocol
from fedjax_anomaly.types import PyTree

_LARGEST_SUM = float(2**31 - 128)
"""The largest float32 below 2^31."""


def distributed_noise(
    protocol: Protocol,
    clip_norm: float,
    noise_multiplier: float | jax.Array,
    divisor: float,
    *,
    mesh: Mesh | None = None,
) -> Aggregator:
    """The secure sum of clipped updates by the distributed discrete Gaussian mechanism.

    Each of the n clients of a sum clips its update, scales it to a grid, rounds it at random with its L2 norm kept,
    adds integer noise, and masks the result. A client's noise is discrete Gaussian of `discrete_gaussian.NOISE_STD`
    steps; the grid is such that the n shares add up to a standard deviation of `noise_multiplier * clip_norm`.

    There is no rotation before rounding: it is there to make the elements of an update alike, so that they fit few
    bits, and 32 bits hold them as they are. Clients do not drop out, for their share of the noise would be missing.

    Args:
      protocol: of the secure sum.
      clip_norm: bound S on the L2 norm of one update.
      noise_multiplier: z; may be traced, and is not checked then.
      divisor: the public constant that is the sum's weight, the expected number of participants of one cluster.
      mesh: see `secure_sum`.

    Raises:
      ValueError: when a setting is out of range; when aggregated, for so little noise that the sum could overflow.

    Guarantees:
      The noise on the sum has the standard deviation that was promised (test:
      `tests/federated/test_distributed_noise.py::test_the_noise_of_the_sum_is_what_was_promised`), and one client's
      update moves the sum by no more than what is accounted, `privacy.DistributedRelease` (test:
      `tests/federated/test_distributed_noise.py::test_one_client_moves_the_sum_by_at_most_what_is_accounted`). A sum
      that could overflow is counted in `overflowed_values`.

    References:
      Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
      Aggregation", algorithms 1 and 2.
    """
    clip = gaussian(clip_norm, 0.0).clip
    check_divisor(divisor)

    def one_sum(
        key: jax.Array, updates: PyTree, weights: jax.Array, noise_multiplier: jax.Array
    ) -> tuple[SecureSumState, WeightedSum]:
        key_shares, key_masks = jax.random.split(key)
        enrolled = weights > 0.0
        num_shares = jnp.maximum(jnp.sum(enrolled, dtype=jnp.float32), 1.0)
        clip_in_steps = jnp.sqrt(num_shares) * NOISE_STD / noise_multiplier
        scale = clip_in_steps / clip_norm
        vectors, unravel = flat_updates(jax.vmap(clip)(updates), enrolled.astype(weights.dtype))

        keys = jax.vmap(lambda place: jax.random.fold_in(key_shares, place))(jnp.arange(len(weights)))
        codes = jax.vmap(lambda key, vector: noisy_codes(key, vector * scale, clip_in_steps))(keys, vectors)
        codes = jax.lax.bitcast_convert_type(codes, jnp.uint32)
        total, around, _ = masked_sum(key_masks, codes, enrolled, protocol, mesh=mesh)
        noisy = jax.lax.bitcast_convert_type(total, jnp.int32).astype(jnp.float32)

        largest = num_shares * (clip_in_steps + (1.0 + LARGEST))
        fits = (largest <= _LARGEST_SUM) & (jnp.abs(noisy) <= largest)
        zero = jnp.zeros((), jnp.int32)
        state = SecureSumState(
            clipped_values=zero,
            overflowed_values=jnp.sum(~fits, dtype=jnp.int32),
            dropped_clients=zero,
            withheld_sums=zero,
            bare_sums=(around.size == 1).astype(jnp.int32),
            mask_pairs=masking.num_links(around),
        )
        return state, WeightedSum(unravel(noisy / scale), jnp.asarray(divisor, weights.dtype))

    aggregator = one_at_a_time(one_sum, jnp.asarray(noise_multiplier, jnp.float32))

    def aggregate(key: jax.Array, state: PyTree, updates: PyTree, weights: jax.Array) -> tuple[PyTree, WeightedSum]:
        _check_noise(noise_multiplier, len(weights))
        return aggregator.aggregate(key, state, updates, weights)

    return aggregator._replace(aggregate=aggregate)


def noisy_codes(key: jax.Array, steps: Float[jax.Array, " P"], norm: Float[jax.Array, ""]) -> Int[jax.Array, " P"]:
    """What one client hands to the masks: its update in whole steps, with its share of the noise.

    Args:
      key: of this client in this round.
      steps: the clipped update, in steps.
      norm: the clip norm in steps.
    """
    key_round, key_noise = jax.random.split(key)
    return conditionally_rounded(key_round, steps, norm) + discrete_gaussian.sample(key_noise, steps.shape)


def _check_noise(noise_multiplier: float | jax.Array, num_places: int) -> None:
    least = least_noise_multiplier(num_places)
    if not isinstance(noise_multiplier, jax.Array) and not noise_multiplier >= least:
        raise ValueError(
            f"noise_multiplier={noise_multiplier} is less than the {least:.3g} for which {num_places} clients' values "
            "fit a sum of 32 bits; give more noise, or smaller cohorts by --clients_per_round."
        )
