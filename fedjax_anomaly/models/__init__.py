"""Models as pure functions of their parameters."""

from fedjax_anomaly.models.lstm_autoencoder import Autoencoder, features_of_columns, lstm_autoencoder

__all__ = ["Autoencoder", "features_of_columns", "lstm_autoencoder"]
