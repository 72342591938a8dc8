"""The detector's model: an LSTM autoencoder of windows, or of the feature groups of a single row."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fedjax_anomaly.models.autoencoder import Autoencoder, autoencoder, check_sizes
from fedjax_anomaly.models.lstm import LSTM
from fedjax_anomaly.models.products import Dense, MatmulDtype
from fedjax_anomaly.types import FeatureLayout, PyTree

LatentPer = Literal["step", "window"]


class LSTMAutoencoder(nn.Module):
    """Encoder LSTM, latent, decoder LSTM, linear output.

    Attributes:
      num_outputs: F, width of the reconstruction.
      hidden_size: H, of every LSTM.
      latent_size: Z.
      num_layers: LSTMs stacked in the encoder and in the decoder.
      latent_per: "step" gives every time step a latent of its own, decoded in order; "window" gives the whole
        sequence one latent, repeated at every step of the decoder.
      matmul_dtype: of the operands of all matrix products.
    """

    num_outputs: int
    hidden_size: int
    latent_size: int
    num_layers: int = 1
    latent_per: LatentPer = "step"
    matmul_dtype: MatmulDtype = "float32"

    @nn.compact
    def __call__(self, sequence: Float[jax.Array, "B T F"]) -> Float[jax.Array, "B T F"]:
        """Reconstructs a batch of sequences."""
        length = sequence.shape[1]
        states = self._lstm(jnp.swapaxes(sequence, 0, 1), length, "encoder")
        seen = states[-1:] if self.latent_per == "window" else states
        latent = self._dense(seen, self.latent_size, "latent")
        outputs = self._dense(self._lstm(latent, length, "decoder"), self.num_outputs, "output")
        return jnp.swapaxes(outputs, 0, 1)

    def _lstm(self, sequence: jax.Array, length: int, name: str) -> jax.Array:
        for layer in range(self.num_layers):
            lstm: Any = LSTM(self.hidden_size, self.matmul_dtype, name=f"{name}_{layer}")
            sequence = lstm(sequence, length)
        return sequence

    def _dense(self, sequence: jax.Array, width: int, name: str) -> jax.Array:
        """On rows: over two leading axes XLA's product for the gradient is several times slower on CPU."""
        rows = Dense(width, self.matmul_dtype, name=name)(sequence.reshape(-1, sequence.shape[-1]))
        return rows.reshape(*sequence.shape[:-1], width)


def lstm_autoencoder(
    layout: FeatureLayout,
    *,
    hidden_size: int = 64,
    latent_size: int = 8,
    num_layers: int = 1,
    latent_per: LatentPer = "step",
    feature_groups: tuple[tuple[int, ...], ...] | None = None,
    input_masking: float = 0.0,
    matmul_dtype: MatmulDtype = "float32",
) -> Autoencoder:
    """Builds the model.

    Without `feature_groups` the time steps of the LSTMs are the rows of a window. With them a window is one row and the
    time steps are its groups of features: step g shows the LSTM the features of group g and zeros elsewhere, and the
    features of group g are reconstructed by step g of the decoder.

    Args:
      layout: of the encoded rows.
      hidden_size: H.
      latent_size: Z.
      num_layers: LSTMs stacked in the encoder and in the decoder.
      latent_per: a latent per time step, or one per window.
      feature_groups: encoded features of each group; together they hold every feature once.
      input_masking: see `autoencoder`.
      matmul_dtype: of the operands of all matrix products; sums, parameters, states and gradients are float32.

    References:
      Malhotra et al. 2016, "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection", section 2.
    """
    check_sizes(hidden_size=hidden_size, latent_size=latent_size, num_layers=num_layers)
    module: Any = LSTMAutoencoder(layout.num_features, hidden_size, latent_size, num_layers, latent_per, matmul_dtype)
    masks = None if feature_groups is None else group_masks(layout, feature_groups)
    length = 1 if masks is None else len(masks)

    def init(key: jax.Array) -> PyTree:
        return module.init(key, jnp.zeros((1, length, layout.num_features), jnp.float32))

    def reconstruct(params: PyTree, windows: jax.Array) -> jax.Array:
        if masks is None:
            return module.apply(params, windows)
        steps = windows * masks[None]
        return jnp.sum(module.apply(params, steps) * masks[None], axis=1, keepdims=True)

    return autoencoder(layout, init, reconstruct, input_masking=input_masking)


def group_masks(layout: FeatureLayout, feature_groups: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Float[G, F], 1 where a feature belongs to the group.

    Raises:
      ValueError: unless every feature belongs to one group.
    """
    masks = np.zeros((len(feature_groups), layout.num_features), np.float32)
    for g, features in enumerate(feature_groups):
        masks[g, list(features)] = 1.0
    if not (masks.sum(axis=0) == 1.0).all():
        raise ValueError("feature_groups must hold every encoded feature exactly once.")
    return masks


def features_of_columns(
    layout: FeatureLayout, column_names: tuple[str, ...], column_groups: tuple[tuple[str, ...], ...]
) -> tuple[tuple[int, ...], ...]:
    """Turns groups of column names into groups of encoded features, for `lstm_autoencoder`.

    Raises:
      ValueError: when a group names a column that does not exist.
    """
    slices = dict(zip(column_names, layout.column_slices(), strict=True))
    unknown = [name for group in column_groups for name in group if name not in slices]
    if unknown:
        raise ValueError(f"feature groups name columns that do not exist: {', '.join(unknown)}.")
    return tuple(
        tuple(f for name in group for f in range(slices[name].start, slices[name].stop)) for group in column_groups
    )
