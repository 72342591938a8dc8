"""The detector's model without recurrence: a window is flattened and goes through dense layers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from fedjax_anomaly.models.autoencoder import Autoencoder, autoencoder, check_sizes
from fedjax_anomaly.models.products import Dense, MatmulDtype
from fedjax_anomaly.types import FeatureLayout, PyTree


class DenseAutoencoder(nn.Module):
    """Dense layers to a linear latent and back, with tanh between them and a linear output.

    Attributes:
      hidden_size: H, of every hidden layer.
      latent_size: Z.
      num_layers: hidden layers in the encoder and in the decoder.
      matmul_dtype: of the operands of all matrix products.
    """

    hidden_size: int
    latent_size: int
    num_layers: int = 1
    matmul_dtype: MatmulDtype = "float32"

    @nn.compact
    def __call__(self, windows: Float[jax.Array, "B T F"]) -> Float[jax.Array, "B T F"]:
        """Reconstructs a batch of windows."""
        flat = windows.reshape(windows.shape[0], -1)
        latent = Dense(self.latent_size, self.matmul_dtype, name="latent")(self._hidden(flat, "encoder"))
        output = Dense(flat.shape[-1], self.matmul_dtype, name="output")(self._hidden(latent, "decoder"))
        return output.reshape(windows.shape)

    def _hidden(self, values: jax.Array, name: str) -> jax.Array:
        for layer in range(self.num_layers):
            values = nn.tanh(Dense(self.hidden_size, self.matmul_dtype, name=f"{name}_{layer}")(values))
        return values


def dense_autoencoder(
    layout: FeatureLayout,
    *,
    window_length: int,
    hidden_size: int = 64,
    latent_size: int = 8,
    num_layers: int = 1,
    input_masking: float = 0.0,
    matmul_dtype: MatmulDtype = "float32",
) -> Autoencoder:
    """Builds the model for windows of one length; a record without order is a window of one row.

    Args:
      layout: of the encoded rows.
      window_length: T; the parameters fit windows of this length only.
      hidden_size: H.
      latent_size: Z, one latent for the whole window.
      num_layers: hidden layers in the encoder and in the decoder.
      input_masking: see `autoencoder`.
      matmul_dtype: of the operands of all matrix products; sums, parameters and gradients are float32.

    Guarantees:
      Equal to the same layers in NumPy (test:
      `tests/models/test_dense_autoencoder.py::test_the_model_equals_plain_dense_layers_in_numpy`).

    References:
      Zhang et al. 2021, "Federated Learning for Internet of Things: A Federated Learning Framework for On-device
      Anomaly Data Detection" (FedDetect), whose detector is a dense autoencoder with tanh.
    """
    check_sizes(window_length=window_length, hidden_size=hidden_size, latent_size=latent_size, num_layers=num_layers)
    module: Any = DenseAutoencoder(hidden_size, latent_size, num_layers, matmul_dtype)

    def init(key: jax.Array) -> PyTree:
        return module.init(key, jnp.zeros((1, window_length, layout.num_features), jnp.float32))

    def reconstruct(params: PyTree, windows: jax.Array) -> jax.Array:
        return module.apply(params, windows)

    return autoencoder(layout, init, reconstruct, input_masking=input_masking)
