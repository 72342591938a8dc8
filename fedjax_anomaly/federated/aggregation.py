"""How updates become a sum: in the clear, clipped and noised, or private before they get here."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_anomaly import trees
from fedjax_anomaly.federated.algorithm import Aggregator, WeightedSum
from fedjax_anomaly.privacy.correlated_noise import CorrelatedMechanism
from fedjax_anomaly.privacy.mechanisms import PrivacyMechanism
from fedjax_anomaly.types import PyTree


def weighted_sum() -> Aggregator:
    """The plain weighted sum of FedAvg: total = sum_c weight_c update_c, weight = sum_c weight_c."""

    def aggregate(key: jax.Array, state: PyTree, updates: PyTree, weights: jax.Array) -> tuple[PyTree, WeightedSum]:
        return state, WeightedSum(trees.weighted_sum(updates, weights), jnp.sum(weights))

    return Aggregator(lambda params: (), aggregate)


def private(inner: Aggregator, mechanism: PrivacyMechanism, divisor: float) -> Aggregator:
    """Client-level differential privacy around an aggregator: every update clipped, noise added to the sum.

    Every participating client counts the same, whatever its size, and the weight returned is a public constant: the
    number of participants and the sizes of clusters are private too.

    Args:
      inner: sums the clipped updates.
      mechanism: clips one update and adds noise to the sum.
      divisor: the public constant, the expected number of participants of one cluster.

    Guarantees:
      Adding or removing one client changes the sum by at most `mechanism.sensitivity` in L2 norm before noise (test:
      `tests/federated/test_aggregation.py::test_one_client_moves_the_private_sum_by_at_most_the_sensitivity`).
      Elements of an update that are not finite count as zero.

    References:
      McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models", algorithm 1.
    """
    check_divisor(divisor)

    def aggregate(key: jax.Array, state: PyTree, updates: PyTree, weights: jax.Array) -> tuple[PyTree, WeightedSum]:
        key_inner, key_noise = jax.random.split(key)
        state, summed = _clipped_sum(inner, mechanism.clip, key_inner, state, updates, weights)
        return state, WeightedSum(mechanism.add_noise(key_noise, summed.total), jnp.asarray(divisor, weights.dtype))

    return Aggregator(inner.init, aggregate, inner.report)


def private_over_rounds(inner: Aggregator, mechanism: CorrelatedMechanism, divisor: float) -> Aggregator:
    """Like `private`, with noise that depends on the noise of the rounds before, which is part of the state.

    The guarantee is that of `privacy.CorrelatedRelease`, for clients that take turns: see `cyclic_cohort`.

    Args:
      inner: sums the clipped updates.
      mechanism: clips one update and adds noise to the sum.
      divisor: the public constant, the expected number of participants of one cluster.

    Guarantees:
      The noise goes on where it was after a stop (test:
      `tests/experiment/test_central_privacy.py::test_a_stopped_run_goes_on_bit_for_bit`).

    References:
      Kairouz et al. 2021, "Practical and Private (Deep) Learning without Sampling or Shuffling", algorithm 1.
    """
    check_divisor(divisor)

    def init(params: PyTree) -> tuple[PyTree, PyTree]:
        return inner.init(params), mechanism.init_noise(params)

    def aggregate(
        key: jax.Array, state: tuple[PyTree, PyTree], updates: PyTree, weights: jax.Array
    ) -> tuple[tuple[PyTree, PyTree], WeightedSum]:
        key_inner, key_noise = jax.random.split(key)
        inner_state, summed = _clipped_sum(inner, mechanism.clip, key_inner, state[0], updates, weights)
        noise_state, noisy = mechanism.add_noise(key_noise, state[1], summed.total)
        return (inner_state, noise_state), WeightedSum(noisy, jnp.asarray(divisor, weights.dtype))

    return Aggregator(init, aggregate, lambda state: inner.report(state[0]))


def _clipped_sum(
    inner: Aggregator,
    clip: Callable[[PyTree], PyTree],
    key: jax.Array,
    state: PyTree,
    updates: PyTree,
    weights: jax.Array,
) -> tuple[PyTree, WeightedSum]:
    """The sum of the clipped updates of all that take part, each of weight 1."""
    participates = (weights > 0.0).astype(weights.dtype)
    return inner.aggregate(key, state, jax.vmap(clip)(updates), participates)


def divided_by(inner: Aggregator, divisor: float) -> Aggregator:
    """The sum of updates that are private already, over a public constant; every participant counts the same.

    Args:
      inner: sums the updates.
      divisor: the public constant, the expected number of participants of one cluster.

    Raises:
      ValueError: when `divisor` is not positive.
    """
    check_divisor(divisor)

    def aggregate(key: jax.Array, state: PyTree, updates: PyTree, weights: jax.Array) -> tuple[PyTree, WeightedSum]:
        state, summed = inner.aggregate(key, state, updates, (weights > 0.0).astype(weights.dtype))
        return state, WeightedSum(summed.total, jnp.asarray(divisor, weights.dtype))

    return Aggregator(inner.init, aggregate, inner.report)


def check_divisor(divisor: float) -> None:
    """Raises ValueError for a divisor that is not positive."""
    if divisor <= 0:
        raise ValueError(f"divisor={divisor} must be positive.")
