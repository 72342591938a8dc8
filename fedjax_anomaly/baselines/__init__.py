"""Detectors that the federated model is compared with, on the same encoded windows."""

from fedjax_anomaly.baselines.classical import SAW_ATTACK_LABELS, ClassicalMethod, fit, row_scores
from fedjax_anomaly.baselines.windows import NoAttacksError

__all__ = ["SAW_ATTACK_LABELS", "ClassicalMethod", "NoAttacksError", "fit", "row_scores"]
