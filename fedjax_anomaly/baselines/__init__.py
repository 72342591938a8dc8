"""Detectors that the federated model is compared with, on the same encoded windows."""

from fedjax_anomaly.baselines.classical import SAW_ATTACK_LABELS, ClassicalMethod, fit, row_scores

__all__ = ["SAW_ATTACK_LABELS", "ClassicalMethod", "fit", "row_scores"]
