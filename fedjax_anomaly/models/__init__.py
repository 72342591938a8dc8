"""Models as pure functions of their parameters."""

from fedjax_anomaly.models.autoencoder import Autoencoder
from fedjax_anomaly.models.dense_autoencoder import dense_autoencoder
from fedjax_anomaly.models.lstm_autoencoder import features_of_columns, lstm_autoencoder

__all__ = ["Autoencoder", "dense_autoencoder", "features_of_columns", "lstm_autoencoder"]
