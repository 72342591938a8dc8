"""Mechanisms of differential privacy: bound what one client adds to a sum, and add noise to the sum."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from fedjax_anomaly.types import PyTree


class PrivacyMechanism(NamedTuple):
    """Clipping and noise that belong together.

    Attributes:
      clip: one client's update -> the clipped update.
      add_noise: (key, SUM of clipped updates) -> noisy sum.
      sensitivity: L2 change of that sum, before noise, when one client is added or removed.
      noise_std: standard deviation of the noise on every coordinate of the sum.
    """

    clip: Callable[[PyTree], PyTree]
    add_noise: Callable[[jax.Array, PyTree], PyTree]
    sensitivity: float
    noise_std: float | jax.Array


def gaussian(clip_norm: float, noise_multiplier: float | jax.Array) -> PrivacyMechanism:
    """The Gaussian mechanism on a sum of updates, each clipped to an L2 norm.

    Args:
      clip_norm: bound S on the L2 norm of one update over all its leaves.
      noise_multiplier: z; the noise on every coordinate of the sum has standard deviation z S. It may be traced,
        and is not checked then.

    Raises:
      ValueError: when `clip_norm` is not positive or `noise_multiplier` is negative.

    References:
      Dwork and Roth 2014, "The Algorithmic Foundations of Differential Privacy", appendix A.
    """
    # Importing jax-privacy takes seconds; runs without privacy do not need it.
    from jax_privacy.clipping import clip_pytree

    if not clip_norm > 0.0:
        raise ValueError(f"clip_norm={clip_norm} must be positive.")
    if not isinstance(noise_multiplier, jax.Array) and noise_multiplier < 0.0:
        raise ValueError(f"noise_multiplier={noise_multiplier} must not be negative.")
    noise_std = clip_norm * noise_multiplier

    def clip(update: PyTree) -> PyTree:
        return clip_pytree(update, clip_norm)[0]

    def add_noise(key: jax.Array, total: PyTree) -> PyTree:
        noise = optax.tree.random_like(key, total, sampler=jax.random.normal)
        return optax.tree.add_scale(total, noise_std, noise)

    return PrivacyMechanism(clip, add_noise, clip_norm, noise_std)
