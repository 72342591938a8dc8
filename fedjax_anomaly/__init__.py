"""Federated sequential anomaly detection in JAX."""

from fedjax_anomaly import data, detection, federated, models, privacy
from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import run_experiment

__all__ = ["Config", "data", "detection", "federated", "models", "privacy", "run_experiment"]
