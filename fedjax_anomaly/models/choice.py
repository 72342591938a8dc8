"""The detector's model by its name."""

from typing import Any, Literal

from fedjax_anomaly.models.autoencoder import Autoencoder
from fedjax_anomaly.models.dense_autoencoder import dense_autoencoder
from fedjax_anomaly.models.lstm_autoencoder import lstm_autoencoder
from fedjax_anomaly.types import FeatureLayout

ModelName = Literal["lstm_autoencoder", "dense_autoencoder"]


def model_named(
    name: ModelName,
    layout: FeatureLayout,
    *,
    window_length: int,
    latent_per: Any = "step",
    feature_groups: tuple[tuple[int, ...], ...] | None = None,
    **sizes: Any,
) -> Autoencoder:
    """Builds a model; what only the other one has is not used.

    Args:
      name: which.
      layout: of the encoded rows.
      window_length: T.
      latent_per: see `lstm_autoencoder`.
      feature_groups: see `lstm_autoencoder`.
      sizes: what both have: `hidden_size`, `latent_size`, `num_layers`, `input_masking`, `matmul_dtype`.
    """
    if name == "dense_autoencoder":
        return dense_autoencoder(layout, window_length=window_length, **sizes)
    return lstm_autoencoder(layout, latent_per=latent_per, feature_groups=feature_groups, **sizes)
