"""Scores, thresholds that never see a label, and honest metrics."""

from fedjax_anomaly.detection.anomaly_score import mean_score, pvalue_score
from fedjax_anomaly.detection.evaluate import ScoredRows, evaluate
from fedjax_anomaly.detection.metrics import detection_metrics, oracle_f1, recall_per_attack
from fedjax_anomaly.detection.private_threshold import PrivateQuantile
from fedjax_anomaly.detection.scoring import ending_row_errors, row_errors
from fedjax_anomaly.detection.statistics import bootstrap_interval, paired_test, summary
from fedjax_anomaly.detection.threshold import client_thresholds, conformal_threshold, quantile_threshold
from fedjax_anomaly.detection.time_order import time_order_metrics

__all__ = [
    "PrivateQuantile",
    "ScoredRows",
    "bootstrap_interval",
    "client_thresholds",
    "conformal_threshold",
    "detection_metrics",
    "ending_row_errors",
    "evaluate",
    "mean_score",
    "oracle_f1",
    "paired_test",
    "pvalue_score",
    "quantile_threshold",
    "recall_per_attack",
    "row_errors",
    "summary",
    "time_order_metrics",
]
