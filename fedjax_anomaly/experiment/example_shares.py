"""Example-level privacy whose noise is divided among the clients of a secure sum."""

import math

import numpy as np
from jax.sharding import Mesh

from fedjax_anomaly.config import Config
from fedjax_anomaly.federated.algorithm import Aggregator
from fedjax_anomaly.federated.secure_sum import secure_sum
from fedjax_anomaly.privacy.secure_aggregation.quantize import fixed_point

_LEAST_STEPS = 64
"""Of a client's noise on the grid of the secure sum; from a few on, rounding says nothing."""

_TAIL = 10.0
"""Standard deviations beyond which no noise is drawn, but for a chance of 1e-23 for each value."""


def noise_share(config: Config, assignment: np.ndarray) -> float:
    """The noise of one client in units of the noise on the sum.

    The shares of all but one client of the smallest sum are enough, so that a client that takes off its own noise
    finds no less than what is accounted.

    Args:
      config: the settings.
      assignment: Int[C], who shares a model.

    Raises:
      ValueError: for a sum of fewer than three clients.
    """
    if config.dp_unit != "example" or config.trust != "distributed":
        return 1.0
    smallest = int(np.bincount(assignment).min())
    if smallest < 3:
        raise ValueError(
            f"dp_trust=distributed divides the noise among the clients that share a model, at least 3, but one model "
            f"has {smallest}; give more --num_clients, a smaller --num_clusters, or leave --dp_trust out."
        )
    return 1.0 / math.sqrt(smallest - 1.0)


def secure_gradient_sum(config: Config, max_windows: int, mesh: Mesh | None) -> Aggregator:
    """The secure sum of single noisy gradient steps.

    A client's update times its windows is `learning_rate / q` times its noisy gradient sum. The bound of the encoding
    leaves room for all its windows and for the noise, so that nothing is clipped; if it were, a client's noise would be
    missing, and the run stops as for an overflow.

    Args:
      config: the settings.
      max_windows: the most training windows that a client has.
      mesh: see `federated.secure_sum`.
    """
    assert config.secure_aggregation != "none"
    max_weight, clip = _bounds(config, max_windows)
    aggregator = secure_sum(config.secure_aggregation, max_weight=max_weight, clip=clip, mesh=mesh)

    def report(state):  # noqa: ANN001, ANN202
        counts = aggregator.report(state)
        return counts | {"overflowed_values": counts["overflowed_values"] + counts["clipped_values"]}

    return aggregator._replace(report=report)


def check_share(config: Config, noise_multiplier: float, share: float, max_windows: int) -> None:
    """Refuses noise that the grid of the secure sum cannot hold.

    Args:
      config: the settings.
      noise_multiplier: z, of the sum.
      share: from `noise_share`.
      max_windows: the most training windows that a client has.

    Raises:
      ValueError: when a client's noise is coarse beside the grid, or may be beyond the bound of the encoding.
    """
    if config.dp_unit != "example" or config.trust != "distributed":
        return
    max_weight, clip = _bounds(config, max_windows)
    own = noise_multiplier * share
    unit = config.learning_rate * config.clip_norm / config.dp_sampling_rate
    steps = own * unit * fixed_point(clip * max_weight, config.num_clients).scale
    if steps < _LEAST_STEPS or _TAIL * own > max_weight:
        raise ValueError(
            f"a noise multiplier of {noise_multiplier:.3g} gives each client noise of {own:.3g} clip norms, which is "
            f"{steps:.3g} steps of the secure sum and must be at least {_LEAST_STEPS}, and at most a {_TAIL:.0f}th of "
            f"{max_weight:.0f}, the bound on a client's windows; give another --dp_epsilon, or leave --dp_trust out."
        )


def _bounds(config: Config, max_windows: int) -> tuple[float, float]:
    """The public bounds of the secure sum: on a client's windows, and on the elements of its update."""
    max_weight = 2.0 ** math.ceil(math.log2(max_windows))
    return max_weight, 2.0 * config.learning_rate * config.clip_norm / config.dp_sampling_rate


def trust_in_words(sees: str) -> str:
    """Who sees what in the clear.

    Args:
      sees: what the server does.
    """
    return (
        "distributed: each client adds its share of the noise to its gradients before it masks them, so that the "
        f"server sees {sees}; the other clients of the sum are trusted to add their shares, all but one of which are "
        "enough"
    )
