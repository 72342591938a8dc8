"""Differential privacy: mechanisms and their accounting; secure aggregation."""

from fedjax_anomaly.privacy import secure_aggregation
from fedjax_anomaly.privacy.accounting import ClientLevelRelease, noise_to_clip_ratio
from fedjax_anomaly.privacy.adaptive_clipping import AdaptiveClip
from fedjax_anomaly.privacy.correlated_noise import CorrelatedRelease, correlated_gaussian, optimal_strategy
from fedjax_anomaly.privacy.distributed_accounting import DistributedRelease
from fedjax_anomaly.privacy.example_accounting import ExampleLevelRelease, sampling_rate
from fedjax_anomaly.privacy.local_accounting import LocalRelease
from fedjax_anomaly.privacy.mechanisms import PrivacyMechanism, gaussian

__all__ = [
    "AdaptiveClip",
    "ClientLevelRelease",
    "CorrelatedRelease",
    "DistributedRelease",
    "ExampleLevelRelease",
    "LocalRelease",
    "PrivacyMechanism",
    "correlated_gaussian",
    "gaussian",
    "noise_to_clip_ratio",
    "optimal_strategy",
    "sampling_rate",
    "secure_aggregation",
]
