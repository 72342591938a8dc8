"""How updates become a sum: in the clear, clipped and noised, or private before they get here."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_anomaly import trees
from fedjax_anomaly.federated.algorithm import Aggregator, StreamedSum, WeightedSum
from fedjax_anomaly.privacy.correlated_noise import CorrelatedMechanism
from fedjax_anomaly.privacy.mechanisms import PrivacyMechanism
from fedjax_anomaly.types import PyTree


def weighted_sum() -> Aggregator:
    """The plain weighted sum of FedAvg: total = sum_c weight_c update_c, weight = sum_c weight_c."""

    def aggregate(key: jax.Array, state: PyTree, updates: PyTree, weights: jax.Array) -> tuple[PyTree, WeightedSum]:
        return state, WeightedSum(trees.weighted_sum(updates, weights), jnp.sum(weights))

    streamed = StreamedSum(
        lambda update, weight: WeightedSum(trees.scale_used(update, weight), weight),
        lambda key, state, summed: (state, summed),
    )
    return Aggregator(lambda params: (), aggregate, streamed=streamed)


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

    def add_noise(key: jax.Array, state: PyTree, summed: WeightedSum) -> tuple[PyTree, WeightedSum]:
        return state, _over(divisor, mechanism.add_noise(key, summed.total), summed.weight)

    return _around(inner, mechanism.clip, add_noise)


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

    def add_noise(
        key: jax.Array, state: tuple[PyTree, PyTree], summed: WeightedSum
    ) -> tuple[tuple[PyTree, PyTree], WeightedSum]:
        noise_state, noisy = mechanism.add_noise(key, state[1], summed.total)
        return (state[0], noise_state), _over(divisor, noisy, summed.weight)

    return _around(_with_state(inner, mechanism.init_noise), mechanism.clip, add_noise)


def divided_by(inner: Aggregator, divisor: float) -> Aggregator:
    """The sum of updates that are private already, over a public constant; every participant counts the same.

    Args:
      inner: sums the updates.
      divisor: the public constant, the expected number of participants of one cluster.

    Raises:
      ValueError: when `divisor` is not positive.
    """
    check_divisor(divisor)

    def divide(key: jax.Array, state: PyTree, summed: WeightedSum) -> tuple[PyTree, WeightedSum]:
        return state, _over(divisor, summed.total, summed.weight)

    return _around(inner, lambda update: update, divide)


def _around(
    inner: Aggregator,
    before: Callable[[PyTree], PyTree],
    after: Callable[[jax.Array, PyTree, WeightedSum], tuple[PyTree, WeightedSum]],
) -> Aggregator:
    """Changes every update before it is summed, with weight 1 for all that take part, and the sum after it."""

    def one(update: PyTree, weight: jax.Array) -> tuple[PyTree, jax.Array]:
        return before(update), (weight > 0.0).astype(weight.dtype)

    def aggregate(key: jax.Array, state: PyTree, updates: PyTree, weights: jax.Array) -> tuple[PyTree, WeightedSum]:
        key_inner, key_after = jax.random.split(key)
        return after(key_after, *inner.aggregate(key_inner, state, *jax.vmap(one)(updates, weights)))

    if (parts := inner.streamed) is None:
        return Aggregator(inner.init, aggregate, inner.report)

    def finish(key: jax.Array, state: PyTree, summed: WeightedSum) -> tuple[PyTree, WeightedSum]:
        key_inner, key_after = jax.random.split(key)
        return after(key_after, *parts.finish(key_inner, state, summed))

    streamed = StreamedSum(lambda update, weight: parts.contribution(*one(update, weight)), finish)
    return Aggregator(inner.init, aggregate, inner.report, streamed)


def _with_state(inner: Aggregator, init: Callable[[PyTree], PyTree]) -> Aggregator:
    """Carries a second state beside the aggregator's own."""

    def lifted(function: Callable[..., tuple[PyTree, WeightedSum]]) -> Callable[..., tuple[PyTree, WeightedSum]]:
        def on_own_state(key: jax.Array, state: tuple[PyTree, PyTree], *rest: Any) -> tuple[PyTree, WeightedSum]:
            own, summed = function(key, state[0], *rest)
            return (own, state[1]), summed

        return on_own_state

    parts = inner.streamed
    return Aggregator(
        lambda params: (inner.init(params), init(params)),
        lifted(inner.aggregate),
        lambda state: inner.report(state[0]),
        parts and StreamedSum(parts.contribution, lifted(parts.finish)),
    )


def _over(divisor: float, total: PyTree, weight: jax.Array) -> WeightedSum:
    return WeightedSum(total, jnp.asarray(divisor, weight.dtype))


def check_divisor(divisor: float) -> None:
    """Raises ValueError for a divisor that is not positive."""
    if divisor <= 0:
        raise ValueError(f"divisor={divisor} must be positive.")
