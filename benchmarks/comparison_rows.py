"""From the runs of the comparison to the rows of its table: every metric over seeds, and paired tests."""

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from carry_out import IMPOSSIBLE, Finished
from comparison import METHODS, OURS

from fedjax_anomaly.baselines import SAW_ATTACK_LABELS
from fedjax_anomaly.detection import paired_test

Row = dict[str, Any]

METRICS: dict[str, tuple[str, ...]] = {
    **{
        name: ("test", name)
        for name in (
            "accuracy",
            "f1",
            "auroc",
            "auprc",
            "precision",
            "recall",
            "fpr",
            "auroc_client_mean",
            "auprc_client_mean",
        )
    },
    "oracle_f1": ("oracle", "f1"),
    "latency_p50_ms": ("latency_ms", "p50"),
    "communication_bytes": ("communication", "total_bytes"),
    **{
        name: ("test", "time_order", name)
        for name in (
            "vus_pr",
            "affiliation_precision",
            "affiliation_recall",
            "event_recall",
            "detection_delay_seconds_mean",
            "false_alarms_per_day",
            "point_adjusted_f1_inflated",
        )
    },
    "convergence_round": ("timing", "convergence_round"),
    "convergence_seconds": ("timing", "convergence_seconds"),
}
"""Where each metric stands in a `result.json`; each is a summary over seeds, or None where it is undefined."""

SUMMARY = ("mean", "std", "low", "high")
PAIRED = ("f1", "auroc")
_TEST = ("mean_difference", "low", "high", "p_value", "wins", "num_pairs")


def rows_of_table(finished: Sequence[Finished]) -> list[Row]:
    """One row for each run, each data set's in the order of the table, with paired tests against the federated one."""
    rows = [row(one) for one in in_table_order(finished)]
    ours = {row["dataset"]: row for row in rows if row["method"] == OURS}
    for one in rows:
        one["paired"] = _paired(ours.get(one["dataset"]), one)
    return rows


def in_table_order(finished: Sequence[Finished]) -> list[Finished]:
    """Data sets in the order in which they were run, the methods of each as in `METHODS`."""
    datasets = list(dict.fromkeys(one.run.config.dataset for one in finished))
    keys = [method.key for method in METHODS]
    return sorted(finished, key=lambda one: (datasets.index(one.run.config.dataset), keys.index(one.run.method.key)))


def row(finished: Finished) -> Row:
    """What one run says, without the tests."""
    run, members = finished.run, finished.members
    status = "done" if finished.result else "not possible" if finished.problem == IMPOSSIBLE else "failed"
    return {
        "dataset": run.config.dataset,
        "method": run.method.key,
        "label": run.method.label,
        "status": status,
        "problem": finished.problem,
        "smoke_test": run.quick,
        "num_seeds": run.config.num_seeds,
        "saw_attack_labels": run.config.method in SAW_ATTACK_LABELS,
        "row_order": members[0]["dataset"]["row_order"] if members else None,
        "num_clients": members[0]["dataset"]["num_clients"] if members else None,
        "threshold_rule": finished.result["threshold_rule"] if finished.result else None,
        "notes": members[0]["dataset"]["notes"] if members else [],
        "heterogeneity": _heterogeneity(members),
        "privacy": _privacy(members),
        **{name: _summary(finished.result, path) for name, path in METRICS.items()},
        "training_seconds": sum(record["round_seconds"] for record in finished.history[0])
        if finished.history and finished.history[0]
        else None,
    }


def _summary(result: dict[str, Any] | None, path: Sequence[str]) -> dict[str, Any] | None:
    part: Any = result and result["settings"][0]
    for name in path:
        part = part and part.get(name)
    return part


def _privacy(members: Sequence[dict[str, Any]]) -> str | None:
    if not members:
        return None
    privacy = members[0]["privacy"]
    if privacy is None:
        return "none"
    epsilon = "infinite" if privacy["epsilon"] is None else f"{privacy['epsilon']:.2f}"
    return f"epsilon {epsilon} at delta {privacy['delta']:g}, per {privacy['unit']}"


def _heterogeneity(members: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Means over seeds, where the results measure it."""
    measured = [member["heterogeneity"] for member in members if member.get("heterogeneity")]
    if not measured:
        return None
    return {
        name: float(np.mean([own[name] for own in measured])) for name in ("mean_pairwise_distance", "iid_reference")
    }


def _paired(ours: Row | None, other: Row) -> dict[str, Any] | None:
    """The federated method less the other one, seed by seed."""
    if ours is None or other["method"] == OURS:
        return None
    pairs = {name: (ours[name], other[name]) for name in PAIRED}
    return {name: paired_test(a["values"], b["values"]) if a and b else None for name, (a, b) in pairs.items()}


def csv_table(rows: Sequence[Row]) -> str:
    """The rows as CSV: of every metric its mean, deviation and interval, and the paired tests."""
    plain = ("dataset", "method", "label", "status", "problem", "smoke_test", "num_seeds", "num_clients", "privacy")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            *plain,
            "training_seconds",
            *(f"{name}_{part}" for name in METRICS for part in SUMMARY),
            *(f"paired_{name}_{part}" for name in PAIRED for part in _TEST),
        ]
    )
    for one in rows:
        paired = one["paired"] or {}
        writer.writerow(
            [
                *(one[name] for name in plain),
                one["training_seconds"],
                *((one[name] or {}).get(part) for name in METRICS for part in SUMMARY),
                *((paired.get(name) or {}).get(part) for name in PAIRED for part in _TEST),
            ]
        )
    return file.getvalue()
