"""Differential privacy: mechanisms and their accounting; secure aggregation."""

from fedjax_anomaly.privacy import secure_aggregation
from fedjax_anomaly.privacy.accounting import ClientLevelRelease, noise_to_clip_ratio
from fedjax_anomaly.privacy.example_accounting import ExampleLevelRelease, sampling_rate
from fedjax_anomaly.privacy.mechanisms import PrivacyMechanism, gaussian

__all__ = [
    "ClientLevelRelease",
    "ExampleLevelRelease",
    "PrivacyMechanism",
    "gaussian",
    "noise_to_clip_ratio",
    "sampling_rate",
    "secure_aggregation",
]
