"""Point-wise detection metrics. A metric that is undefined (no anomalous row, say) is None."""

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.data.table import NORMAL, Categorical

Metrics = dict[str, float | None]


def detection_metrics(
    label: Bool[np.ndarray, " L"], alarm: Bool[np.ndarray, " L"], score: Float[np.ndarray, " L"]
) -> Metrics:
    """Accuracy, precision, recall, F1 and false-positive rate of alarms; AUROC and AUPRC of scores.

    AUPRC is average precision. Precision is None without an alarm, recall without an anomalous row.
    """
    from sklearn import metrics  # Slow to import, and not needed before the first round.

    positives, negatives = int(label.sum()), int((~label).sum())
    alarms, hits = int(alarm.sum()), int((alarm & label).sum())
    both = positives > 0 and negatives > 0
    return {
        "accuracy": float((alarm == label).mean()) if len(label) else None,
        "precision": hits / alarms if alarms else None,
        "recall": hits / positives if positives else None,
        "f1": 2.0 * hits / (alarms + positives) if positives else None,
        "fpr": (alarms - hits) / negatives if negatives else None,
        "auroc": float(metrics.roc_auc_score(label, score)) if both else None,
        "auprc": float(metrics.average_precision_score(label, score)) if positives else None,
    }


def recall_per_attack(attack: Categorical, alarm: Bool[np.ndarray, " L"]) -> dict[str, float]:
    """The share of each attack's rows that raised an alarm, by attack name."""
    rows = np.bincount(attack.codes, minlength=len(attack.names))
    hits = np.bincount(attack.codes, weights=alarm, minlength=len(attack.names))
    return {name: float(hit / n) for name, n, hit in zip(attack.names, rows, hits, strict=True) if n and name != NORMAL}


def oracle_f1(label: Bool[np.ndarray, " L"], score: Float[np.ndarray, " L"]) -> float | None:
    """The best F1 that any one threshold reaches in hindsight. It uses the labels: an upper bound, not a result."""
    if not label.any():
        return None
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(label, score)
    total = precision + recall
    return float(np.max(2.0 * precision * recall / np.where(total > 0.0, total, 1.0)))
