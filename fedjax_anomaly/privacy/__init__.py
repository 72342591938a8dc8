"""Differential privacy: mechanisms and their accounting."""

from fedjax_anomaly.privacy.accounting import ClientLevelRelease, noise_to_clip_ratio
from fedjax_anomaly.privacy.mechanisms import PrivacyMechanism, gaussian

__all__ = ["ClientLevelRelease", "PrivacyMechanism", "gaussian", "noise_to_clip_ratio"]
