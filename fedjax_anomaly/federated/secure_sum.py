"""The weighted sum by secure aggregation: the server adds up masked integers and learns their sum only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float, Int, UInt

from fedjax_anomaly.federated.algorithm import Aggregator, WeightedSum
from fedjax_anomaly.federated.parallel import CLIENTS_AXIS
from fedjax_anomaly.privacy.secure_aggregation import masking, quantize
from fedjax_anomaly.privacy.secure_aggregation.graph import Protocol, mask_graph
from fedjax_anomaly.types import PyTree


class SecureSumState(NamedTuple):
    """What happened in the last sum.

    Attributes:
      clipped_values: values of the clients' vectors that were beyond the bound, or not a number.
      overflowed_values: values of the sum beyond what so many clients can add up to; none, unless something is broken.
      dropped_clients: clients that shared their seeds and sent no vector.
      withheld_sums: 1 when too many clients dropped out for the sum to be recovered.
      bare_sums: 1 when there was a single client, which no mask can hide.
      mask_pairs: pairs of clients that shared a mask.
    """

    clipped_values: Int[jax.Array, ""]
    overflowed_values: Int[jax.Array, ""]
    dropped_clients: Int[jax.Array, ""]
    withheld_sums: Int[jax.Array, ""]
    bare_sums: Int[jax.Array, ""]
    mask_pairs: Int[jax.Array, ""]


def secure_sum(
    protocol: Protocol,
    *,
    max_weight: float,
    clip: float,
    rounding: quantize.Rounding = "nearest",
    dropout_rate: float = 0.0,
    mesh: Mesh | None = None,
) -> Aggregator:
    """The weighted sum of FedAvg by SecAgg or SecAgg+, simulated exactly up to where its randomness comes from.

    Each client multiplies its update by its weight, encodes it and the weight as integers modulo 2^32, and masks them;
    the server sees masked vectors and learns their sum. Places of weight zero take no part: they agree on no masks and
    send nothing. See `privacy.secure_aggregation.masking` for what is simulated.

    Args:
      protocol: `secagg`, masks between all clients, or `secaggplus`, masks between neighbours.
      max_weight: public bound on a client's weight.
      clip: public bound on the elements of an update of the largest weight; elements of a weighted update beyond
        `clip * max_weight` are clipped and counted.
      rounding: of the encoding; `toward_zero` keeps the L2 sensitivity that `private` relies on.
      dropout_rate: chance that a client fails after it has shared its seeds and before it has sent its vector. A sum
        that cannot be recovered from the others is withheld: zero, of weight zero, and counted; `check_sums` then
        stops on the host.
      mesh: that of the map over clients; each device masks its share of the coordinates. None leaves it to the
        compiler.

    Raises:
      ValueError: when a bound is not positive or a rate not in [0, 1); when aggregated, for fewer than two places or
        so many that they leave a value too few steps.

    Guarantees:
      The sum is that of the encoded vectors, bit for bit (test:
      `tests/federated/test_secure_sum.py::test_masks_cancel_in_the_sum`). For S places it is within S / 2 steps
      (`nearest`) or S steps of the float sum, where a step is at most `S clip max_weight / 2^29`, and so is the weight
      with 1 for `clip` (test: `tests/federated/test_secure_sum.py::test_the_float_sum_is_within_the_stated_bound`).

    References:
      Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", figure 4.
      Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", section 3.
    """
    for name, value in {"max_weight": max_weight, "clip": clip}.items():
        if not value > 0.0:
            raise ValueError(f"{name}={value} must be positive.")
    if not 0.0 <= dropout_rate < 1.0:
        raise ValueError(f"dropout_rate={dropout_rate} must lie in [0, 1).")

    def one_sum(key: jax.Array, updates: PyTree, weights: jax.Array) -> tuple[SecureSumState, WeightedSum]:
        key_round, key_masks, key_drop = jax.random.split(key, 3)
        num_places = len(weights)
        values = quantize.fixed_point(clip * max_weight, num_places)
        counts = quantize.fixed_point(max_weight, num_places)
        vectors, unravel = flat_updates(updates, weights)
        codes, clipped = quantize.encode(values, vectors, rounding, key_round)
        weight_codes, heavy = quantize.encode(counts, jnp.maximum(weights, 0.0), "nearest", key_round)

        plain = jnp.concatenate([codes, weight_codes[:, None]], axis=1)
        stays = jax.random.bernoulli(key_drop, 1.0 - dropout_rate, (num_places,)) if dropout_rate else True
        total, around, sent = masked_sum(key_masks, plain, weights > 0.0, protocol, stays=stays, mesh=mesh)
        released = masking.recoverable(around, sent)
        num_sent = jnp.sum(sent, dtype=jnp.int32)
        total = jnp.where(released, total, 0)
        update, outside = quantize.decode(values, total[:-1], num_sent)
        weight, heavier = quantize.decode(counts, total[-1], num_sent)
        state = SecureSumState(
            clipped_values=clipped + heavy,
            overflowed_values=outside + heavier,
            dropped_clients=around.size - num_sent,
            withheld_sums=(~released).astype(jnp.int32),
            bare_sums=(around.size == 1).astype(jnp.int32),
            mask_pairs=masking.num_links(around),
        )
        return state, WeightedSum(unravel(update), weight)

    return one_at_a_time(one_sum)


def one_at_a_time(one_sum: Callable[..., tuple[SecureSumState, WeightedSum]], *settings: Any) -> Aggregator:
    """An aggregator of one secure sum.

    Sums of many clusters or members run one after the other, so that only one has its messages in memory.

    Args:
      one_sum: (key, updates [S, ...], weights [S], *settings) -> (state, WeightedSum).
      settings: numbers that may be traced.
    """

    def aggregate(
        key: jax.Array, state: SecureSumState, updates: PyTree, weights: jax.Array
    ) -> tuple[SecureSumState, WeightedSum]:
        # Keys cross that loop as numbers: JAX 0.10.2 takes typed keys that a vmapped loop goes over for reused ones.
        impl = jax.random.key_impl(key)
        in_turn = sequential_vmap(lambda data, *rest: one_sum(jax.random.wrap_key_data(data, impl=impl), *rest))
        return in_turn(jax.random.key_data(key), updates, weights, *settings)

    zero = jnp.zeros((), jnp.int32)
    return Aggregator(lambda params: SecureSumState(*[zero] * 6), aggregate, lambda state: state._asdict())


def masked_sum(
    key: jax.Array,
    codes: UInt[jax.Array, "S P"],
    enrolled: Bool[jax.Array, " S"],
    protocol: Protocol,
    *,
    stays: Bool[jax.Array, " S"] | bool = True,
    mesh: Mesh | None = None,
) -> tuple[UInt[jax.Array, " P"], masking.Ring, Bool[jax.Array, " S"]]:
    """Masks the vectors of the clients that take part and adds up what they send.

    Args:
      key: of the masks.
      codes: encoded vectors, by place.
      enrolled: the places that take part.
      protocol: who masks with whom.
      stays: by position on the ring, False for a client that fails after it has shared its seeds.
      mesh: see `secure_sum`.

    Returns:
      The sum of the vectors that were sent, the ring, and which of its positions sent.
    """
    num_places, num_values = codes.shape
    around = masking.ring(key, enrolled, mask_graph(protocol, num_places))
    sent = (jnp.arange(num_places) < around.size) & stays
    messages = masking.mask(around, _by_coordinate(codes, mesh))
    total = jnp.sum(jnp.where(sent[:, None], messages, 0), axis=0, dtype=jnp.uint32)
    return _everywhere(masking.unmask(around, total, sent), mesh)[:num_values], around, sent


def check_sums(records: Sequence[Mapping[str, Any]]) -> None:
    """Stops on the host when a secure sum went wrong; does nothing for other aggregators.

    Args:
      records: one per round: `round`, and as numbers what `RoundInfo.aggregation` has of it.

    Raises:
      ValueError: when so many clients dropped out that a sum was withheld.
      ArithmeticError: when a sum is larger than what its clients can add up to.
    """
    for record in records:
        if record.get("withheld_sums"):
            raise ValueError(
                f"in round {record['round']} {record['dropped_clients']} clients dropped out of secure aggregation and "
                f"{record['withheld_sums']} sum(s) could not be recovered: more than two thirds of a client's "
                "neighbours (for secaggplus, its threshold) must stay; nothing was revealed. Give a smaller "
                "dropout_rate, or run again with the clients that are left."
            )
        if record.get("overflowed_values"):
            raise ArithmeticError(
                f"in round {record['round']} {record['overflowed_values']} values of a secure sum are larger than its "
                "clients can add up to: masks did not cancel, or more values were summed than the encoding allows."
            )


def _by_coordinate(codes: UInt[jax.Array, "S P"], mesh: Mesh | None) -> UInt[jax.Array, "S Q"]:
    """Divides coordinates over the devices; zeros are appended so that they divide evenly."""
    if mesh is None or mesh.size == 1:
        return codes
    # Masks come in blocks of two words.
    padded = jnp.pad(codes, ((0, 0), (0, -codes.shape[1] % (2 * mesh.size))))
    return jax.lax.with_sharding_constraint(padded, NamedSharding(mesh, PartitionSpec(None, CLIENTS_AXIS)))


def _everywhere(total: UInt[jax.Array, " Q"], mesh: Mesh | None) -> UInt[jax.Array, " Q"]:
    """Gives every device the whole sum, so that the models made of it are not divided."""
    if mesh is None or mesh.size == 1:
        return total
    return jax.lax.with_sharding_constraint(total, NamedSharding(mesh, PartitionSpec()))


def flat_updates(updates: PyTree, weights: Float[jax.Array, " S"]) -> tuple[Float[jax.Array, "S P"], PyTree]:
    """The clients' weighted updates as vectors, and the function back from one vector; zeros where the weight is 0."""
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], updates))
    vectors = jax.vmap(lambda update: ravel_pytree(update)[0])(updates)
    used = (weights > 0.0)[:, None]
    return jnp.where(used, vectors * weights[:, None], 0.0), unravel
