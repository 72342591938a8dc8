"""Test metrics of a detector: overall, per attack, per client, per cluster."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fedjax_anomaly.data.table import Categorical
from fedjax_anomaly.detection.metrics import detection_metrics, oracle_f1, recall_per_attack


@dataclasses.dataclass(frozen=True)
class ScoredRows:
    """Test rows with their scores; one entry per row of the test table that was scored.

    Attributes:
      score: Float[L].
      client: the client of each row.
      attack: the attack name of each row.
      label: True where anomalous.
    """

    score: Float[np.ndarray, " L"]
    client: Int[np.ndarray, " L"]
    attack: Categorical
    label: Bool[np.ndarray, " L"]

    def alarms(self, thresholds: Float[np.ndarray, " C"]) -> Bool[np.ndarray, " L"]:
        """True where a row's score exceeds its client's threshold."""
        return self.score > thresholds[self.client]


def alarm_rates(rows: ScoredRows, thresholds: Float[np.ndarray, " C"]) -> dict[str, Any]:
    """Computes the `alarms` part of a result, which needs no label.

    Args:
      rows: scored test rows.
      thresholds: per client.

    Returns:
      Rows, rows with an alarm and their share, in all and per client; the share is None for a client without rows.
    """
    alarm = rows.alarms(thresholds)
    counts = np.bincount(rows.client, minlength=len(thresholds)).tolist()
    alarms = np.bincount(rows.client[alarm], minlength=len(thresholds)).tolist()
    return {
        "test_rows": len(alarm),
        "alarm_rows": sum(alarms),
        "alarm_rate": sum(alarms) / len(alarm),
        "per_client": [
            {
                "client": c,
                "threshold": float(thresholds[c]),
                "rows": counts[c],
                "alarm_rows": alarms[c],
                "alarm_rate": alarms[c] / counts[c] if counts[c] else None,
            }
            for c in range(len(thresholds))
        ],
    }


def evaluate(
    rows: ScoredRows, thresholds: Float[np.ndarray, " C"], cluster: Int[np.ndarray, " C"]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Computes the `test` and `oracle` parts of a result.

    Args:
      rows: scored test rows.
      thresholds: per client.
      cluster: of each client.

    Returns:
      (`test`, `oracle`). `auroc_client_mean` and `auprc_client_mean` are means over the clients that have normal and
      anomalous rows, as the field reports machines that are judged one by one. `oracle` holds what needs the test
      labels to choose and is never a headline.
    """
    alarm = rows.alarms(thresholds)

    def part(chosen: np.ndarray) -> dict[str, Any]:
        return {
            "rows": int(chosen.sum()),
            "anomalous_rows": int(rows.label[chosen].sum()),
            **detection_metrics(rows.label[chosen], alarm[chosen], rows.score[chosen]),
        }

    test: dict[str, Any] = detection_metrics(rows.label, alarm, rows.score)
    test["per_attack"] = recall_per_attack(rows.attack, alarm)
    test["per_client"] = [
        {"client": c, "threshold": float(thresholds[c]), **part(rows.client == c)} for c in range(len(cluster))
    ]
    for name in ("auroc", "auprc"):
        own = [record[name] for record in test["per_client"] if record["auroc"] is not None]
        test[f"{name}_client_mean"] = float(np.mean(own)) if own else None
    test["per_cluster"] = [{"cluster": int(k), **part(cluster[rows.client] == k)} for k in np.unique(cluster)]
    return test, {"f1": oracle_f1(rows.label, rows.score)}
