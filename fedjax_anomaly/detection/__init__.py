"""Scores, thresholds that never see a label, and honest metrics."""

from fedjax_anomaly.detection.anomaly_score import mean_score, pvalue_score
from fedjax_anomaly.detection.evaluate import ScoredRows, evaluate
from fedjax_anomaly.detection.metrics import detection_metrics, oracle_f1, recall_per_attack
from fedjax_anomaly.detection.scoring import row_errors
from fedjax_anomaly.detection.threshold import client_thresholds, conformal_threshold, quantile_threshold

__all__ = [
    "ScoredRows",
    "client_thresholds",
    "conformal_threshold",
    "detection_metrics",
    "evaluate",
    "mean_score",
    "oracle_f1",
    "pvalue_score",
    "quantile_threshold",
    "recall_per_attack",
    "row_errors",
]
