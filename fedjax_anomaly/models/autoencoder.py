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
      loss: (parameters, windows [B, T, F], key or None) -> mean error of each window [B]. With a key it is the loss of
        training, for which some inputs may be masked; without one nothing is random.
    """

    init: Callable[[jax.Array], PyTree]
    reconstruct: Callable[[PyTree, jax.Array], jax.Array]
    column_errors: Callable[[PyTree, jax.Array], jax.Array]
    loss: Callable[..., jax.Array]


def autoencoder(
    layout: FeatureLayout,
    init: Callable[[jax.Array], PyTree],
    reconstruct: Callable[[PyTree, jax.Array], jax.Array],
    *,
    input_masking: float = 0.0,
) -> Autoencoder:
    """Gives a reconstruction its column errors and its loss.

    Args:
      layout: of the encoded rows.
      init: see `Autoencoder`.
      reconstruct: see `Autoencoder`.
      input_masking: the probability with which each encoded value of a window is hidden (set to zero, the mean of a
        standardised column) from the model in training; all of them are to be reconstructed, so that the model learns
        what the columns say about each other and not merely to copy them. In [0, 1).

    Guarantees:
      The training loss is the error on the whole window of a reconstruction that saw the masked one; column errors and
      the loss without a key are those of whole inputs (tests: `tests/models/test_input_masking.py`).

    References:
      Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders", section 2.3.
    """
    if not 0.0 <= input_masking < 1.0:
        raise ValueError(f"input_masking={input_masking} must lie in [0, 1).")

    def errors(params: PyTree, windows: jax.Array) -> jax.Array:
        return column_errors(layout, windows, reconstruct(params, windows))

    def loss(params: PyTree, windows: jax.Array, key: jax.Array | None = None) -> jax.Array:
        seen = windows
        if key is not None and input_masking > 0.0:
            seen = jnp.where(jax.random.bernoulli(key, input_masking, windows.shape), 0.0, windows)
        return jnp.mean(column_errors(layout, windows, reconstruct(params, seen)), axis=(1, 2))

    return Autoencoder(init, reconstruct, errors, loss)


def check_sizes(**sizes: int) -> None:
    """Raises ValueError for a size below one, by its name."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1.")
