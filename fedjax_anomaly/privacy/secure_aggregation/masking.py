"""Masks inside a compiled round: what clients send, and what the server takes off their sum.

What is simulated: every client's vector is masked exactly as in the protocol (`protocol.py`), with one mask for each
neighbour and one of its own, in uint32 arithmetic modulo 2^32. In place of the key agreement, the seed of a pair is
`fold_in(fold_in(key, smaller), larger)` of the round's key and the numbers of the two places, and the stream cipher is
JAX's threefry (`expand`). A pair's mask is computed once, where in the protocol both clients compute it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p
from jaxtyping import Bool, Int, PRNGKeyArray, UInt

from fedjax_anomaly.privacy.secure_aggregation.graph import MaskGraph, complete_threshold


class Ring(NamedTuple):
    """The clients of one sum on a ring; neighbours are at most `reach` positions apart.

    Attributes:
      key: of the masks of this sum; no other sum may have it.
      place: the place at each position; the clients that take part come first, in random order.
      size: n, how many take part.
      reach: so many positions on either side are neighbours.
      threshold: neighbours whose shares are needed to rebuild a seed.
    """

    key: PRNGKeyArray
    place: Int[jax.Array, " S"]
    size: Int[jax.Array, ""]
    reach: Int[jax.Array, ""]
    threshold: Int[jax.Array, ""]


def ring(key: PRNGKeyArray, enrolled: Bool[jax.Array, " S"], graph: MaskGraph) -> Ring:
    """Lays the clients that take part on a ring.

    Args:
      key: of this sum.
      enrolled: the places whose clients agree on masks; the others are as if they were not there.
      graph: for all S places; with fewer clients than its neighbours the graph is complete.
    """
    key_order, key_masks = jax.random.split(key)
    order = jnp.argsort(jnp.where(enrolled, jax.random.uniform(key_order, enrolled.shape), 2.0))
    size = jnp.sum(enrolled, dtype=jnp.int32)
    neighbours = jnp.minimum(graph.num_neighbours, jnp.maximum(size - 1, 0))
    complete = neighbours == size - 1
    threshold = jnp.where(complete, complete_threshold(neighbours), graph.threshold)
    return Ring(key_masks, order.astype(jnp.int32), size, (neighbours + 1) // 2, threshold.astype(jnp.int32))


def mask(around: Ring, codes: UInt[jax.Array, "S P"]) -> UInt[jax.Array, "S P"]:
    """What the clients that take part send: their vectors with the masks of all pairs, and one of their own, on them.

    Args:
      around: who masks with whom.
      codes: encoded vectors, by place.

    Returns:
      Masked vectors, by position on the ring; those past the last client are to be left out.

    Guarantees:
      A masked vector is uniformly distributed modulo 2^32, whatever it hides (test:
      `tests/federated/test_secure_sum.py::test_what_the_server_receives_is_uniform`).

    References:
      Bonawitz et al. 2017, figure 4, round 2.
    """
    num_values = codes.shape[1]
    own = jax.vmap(lambda place: _self_mask(around, place, num_values))(around.place)

    def add(offset: jax.Array, masked: jax.Array) -> jax.Array:
        pair_masks = _pair_masks(around, offset + 1, num_values)[2]
        behind = (jnp.arange(len(codes)) - offset - 1) % jnp.maximum(around.size, 1)
        return masked + pair_masks - pair_masks[behind]

    return jax.lax.fori_loop(0, around.reach, add, codes[around.place] + own)


def unmask(around: Ring, total: UInt[jax.Array, " P"], sent: Bool[jax.Array, " S"]) -> UInt[jax.Array, " P"]:
    """What the server takes off the sum of the masked vectors it received, with the seeds it has rebuilt.

    Args:
      around: who masked with whom.
      total: of the masked vectors that were sent.
      sent: by position on the ring, whether the vector arrived; False past the last client.

    Returns:
      The sum of the vectors that were sent: without their own masks, and without those they share with clients that
      dropped out.

    References:
      Bonawitz et al. 2017, figure 4, round 4.
    """
    num_values = total.shape[0]

    def without_own(position: jax.Array, total: jax.Array) -> jax.Array:
        own = _self_mask(around, around.place[position], num_values)
        return total - jnp.where(sent[position], own, 0)

    def without_dropped(offset: jax.Array, total: jax.Array) -> jax.Array:
        partner, valid, pair_masks = _pair_masks(around, offset + 1, num_values)
        left = valid & sent & ~sent[partner]
        taken = valid & ~sent & sent[partner]
        return total - jnp.sum(jnp.where(left[:, None], pair_masks, 0) - jnp.where(taken[:, None], pair_masks, 0), 0)

    total = jax.lax.fori_loop(0, around.size, without_own, total)
    any_dropped = jnp.sum(sent, dtype=jnp.int32) < around.size
    return jax.lax.fori_loop(0, jnp.where(any_dropped, around.reach, 0), without_dropped, total)


def recoverable(around: Ring, sent: Bool[jax.Array, " S"]) -> Bool[jax.Array, ""]:
    """Whether every seed can be rebuilt: each client that takes part has enough neighbours left to give its shares.

    A single client has no neighbours and no masks to share: its sum is its own vector, and counts as recoverable.
    """

    def count(offset: jax.Array, left: jax.Array) -> jax.Array:
        partner, valid = _partners(around, offset + 1)
        left = left + (valid & sent[partner]).astype(jnp.int32)
        return left.at[partner].add((valid & sent).astype(jnp.int32))

    left = jax.lax.fori_loop(0, around.reach, count, jnp.zeros(sent.shape, jnp.int32))
    inside = jnp.arange(len(sent)) < around.size
    return (around.size < 2) | jnp.all(~inside | (left >= around.threshold))


def num_links(around: Ring) -> Int[jax.Array, ""]:
    """How many pairs of clients share a mask."""
    return jax.lax.fori_loop(
        0,
        around.reach,
        lambda offset, count: count + jnp.sum(_partners(around, offset + 1)[1], dtype=jnp.int32),
        jnp.zeros((), jnp.int32),
    )


def _partners(around: Ring, offset: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Int[S] and Bool[S]: the position `offset` further on, and whether the pair counts; each pair counts once."""
    position = jnp.arange(len(around.place))
    partner = (position + offset) % jnp.maximum(around.size, 1)
    first_of_opposites = (2 * offset < around.size) | ((2 * offset == around.size) & (position < partner))
    return partner, (position < around.size) & first_of_opposites


def _pair_masks(around: Ring, offset: jax.Array, num_values: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Int[S], Bool[S] and UInt32[S, P]: partners, which pairs count, and what the first of each pair adds."""
    partner, valid = _partners(around, offset)
    own, other = around.place, around.place[partner]

    def signed_mask(own: jax.Array, other: jax.Array, valid: jax.Array) -> jax.Array:
        seed = jax.random.fold_in(jax.random.fold_in(around.key, jnp.minimum(own, other)), jnp.maximum(own, other))
        bits = expand(seed, num_values)
        return jnp.where(valid, jnp.where(own < other, bits, -bits), 0)

    return partner, valid, jax.vmap(signed_mask)(own, other, valid)


def _self_mask(around: Ring, place: jax.Array, num_values: int) -> jax.Array:
    """UInt32[P]; the seed is that of a pair of the place with itself."""
    seed = jax.random.fold_in(jax.random.fold_in(around.key, place), place)
    return expand(seed, num_values)


def expand(seed: PRNGKeyArray, num_values: int) -> UInt[jax.Array, " P"]:
    """The mask of a seed: both 32-bit words of each threefry block, of which `jax.random.bits` would keep one.

    Args:
      seed: a key.
      num_values: P.
    """
    first, second = jax.random.key_data(seed)[:2]
    counter = jnp.arange((num_values + 1) // 2, dtype=jnp.uint32)
    words = threefry2x32_p.bind(first, second, counter, jnp.zeros_like(counter))
    return jnp.stack(words, axis=-1).reshape(-1)[:num_values]
