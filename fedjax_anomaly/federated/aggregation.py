"""How updates become a sum: in the clear, or clipped and noised."""

import jax
import jax.numpy as jnp

from fedjax_anomaly import trees
from fedjax_anomaly.federated.algorithm import Aggregator, WeightedSum
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
    if divisor <= 0:
        raise ValueError(f"divisor={divisor} must be positive.")

    def aggregate(key: jax.Array, state: PyTree, updates: PyTree, weights: jax.Array) -> tuple[PyTree, WeightedSum]:
        key_inner, key_noise = jax.random.split(key)
        clipped = jax.vmap(mechanism.clip)(updates)
        participates = (weights > 0.0).astype(weights.dtype)
        state, summed = inner.aggregate(key_inner, state, clipped, participates)
        return state, WeightedSum(mechanism.add_noise(key_noise, summed.total), jnp.asarray(divisor, weights.dtype))

    return Aggregator(inner.init, aggregate, inner.report)
