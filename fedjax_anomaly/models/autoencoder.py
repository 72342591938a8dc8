"""What every model of this folder is: an autoencoder of windows, as pure functions of its parameters."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_anomaly.models.reconstruction import column_errors
from fedjax_anomaly.types import FeatureLayout, PyTree


class Autoencoder(NamedTuple):
    """A model as pure functions of its parameters.

    Attributes:
      init: key -> parameters.
      reconstruct: (parameters, windows [B, T, F]) -> outputs [B, T, F]; logits for one-hot blocks.
      column_errors: (parameters, windows [B, T, F]) -> the error of each row's columns [B, T, P + Q].
      loss: (parameters, windows [B, T, F]) -> mean error of each window [B].
    """

    init: Callable[[jax.Array], PyTree]
    reconstruct: Callable[[PyTree, jax.Array], jax.Array]
    column_errors: Callable[[PyTree, jax.Array], jax.Array]
    loss: Callable[[PyTree, jax.Array], jax.Array]


def autoencoder(
    layout: FeatureLayout,
    init: Callable[[jax.Array], PyTree],
    reconstruct: Callable[[PyTree, jax.Array], jax.Array],
) -> Autoencoder:
    """Gives a reconstruction its column errors and its loss.

    Args:
      layout: of the encoded rows.
      init: see `Autoencoder`.
      reconstruct: see `Autoencoder`.
    """

    def errors(params: PyTree, windows: jax.Array) -> jax.Array:
        return column_errors(layout, windows, reconstruct(params, windows))

    def loss(params: PyTree, windows: jax.Array) -> jax.Array:
        return jnp.mean(errors(params, windows), axis=(1, 2))

    return Autoencoder(init, reconstruct, errors, loss)


def check_sizes(**sizes: int) -> None:
    """Raises ValueError for a size below one, by its name."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1.")
