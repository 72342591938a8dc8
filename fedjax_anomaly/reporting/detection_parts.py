"""The parts of a page that say what a detector found."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedjax_anomaly.reporting import page
from fedjax_anomaly.reporting.page import ReportFigure, count, duration, number

METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "fpr": "FPR",
    "auroc": "AUROC",
    "auprc": "AUPRC",
}
"""The names of a result's metrics on a page."""

METRICS_NOTE = (
    "A row is positive when it is anomalous. FPR: share of normal rows that raised an alarm. AUROC and AUPRC do not "
    "depend on the threshold."
)

INFLATED_NOTE = (
    "The point-adjusted F1 counts every row of an event as found when a single alarm falls into it, so that even "
    "random alarms score high; it stands here for comparison with published figures only."
)


def detection(
    test: Mapping[str, Any],
    oracle: Mapping[str, Any] | None,
    figures: Sequence[ReportFigure],
    client_names: Sequence[str] | None = None,
) -> str:
    """Metrics on the test rows, their figures, and what they are made up of.

    Args:
      test: of a result.
      oracle: of a result.
      figures: of the run; those of detection are shown.
      client_names: shown in place of the clients' numbers where they are known.
    """
    return page.section(
        "Detection on the test rows",
        page.tiles({label: number(test.get(name)) for name, label in METRICS.items()}),
        page.paragraph(f"Threshold: {test['threshold_rule']}. No test row and no test label had a part in it."),
        page.note(METRICS_NOTE),
        _client_means({"AUROC": test.get("auroc_client_mean"), "AUPRC": test.get("auprc_client_mean")}),
        "" if oracle is None else _oracle(oracle),
        _events(test, test["time_order"]) if test.get("time_order") else "",
        page.pictures(figures, "detection"),
        *_breakdowns(test, client_names),
    )


def _client_means(means: Mapping[str, float | None]) -> str:
    known = [f"{name} {number(value)}" for name, value in means.items() if value is not None]
    if not known:
        return ""
    return page.note(f"Mean over the clients that have normal and anomalous rows: {', '.join(known)}.")


def _oracle(oracle: Mapping[str, Any]) -> str:
    return page.note(
        f"Oracle F1, in hindsight: {number(oracle.get('f1'))}, at the threshold that the test labels would choose "
        "themselves. It bounds what any threshold could reach with these scores, cannot be had in use, and is never "
        "the headline."
    )


def _events(test: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Events and intervals, for rows in time order."""
    found = number(metrics.get("event_recall"), "{:.1%}")
    events = {
        "Events with an alarm inside": f"{found} of {count(metrics.get('num_events'))}",
        "Delay of the first alarm, mean": duration(metrics.get("detection_delay_seconds_mean")),
        "Delay of the first alarm, median": duration(metrics.get("detection_delay_seconds_median")),
        "False alarms per day and client": number(metrics.get("false_alarms_per_day"), "{:.2f}"),
    }
    scores = {
        "VUS-PR": number(metrics.get("vus_pr")),
        "Affiliation precision": number(metrics.get("affiliation_precision")),
        "Affiliation recall": number(metrics.get("affiliation_recall")),
        "F1, row by row": number(test.get("f1")),
        "F1, point-adjusted (inflated)": number(metrics.get("point_adjusted_f1_inflated")),
    }
    return (
        page.heading("Events in time")
        + page.columns(page.facts(events), page.facts(scores))
        + page.note(
            "Delays are counted from the start of an event, over the events that were found. A false alarm is an "
            "episode of alarms that touches no event. VUS-PR and affiliation forgive alarms that lie close to an "
            f"event. {INFLATED_NOTE}"
        )
    )


def alarms(found: Mapping[str, Any], figures: Sequence[ReportFigure], client_names: Sequence[str] | None = None) -> str:
    """What can be said without labels: how often the alarm was raised, and where.

    Args:
      found: `alarms` of a result.
      figures: of the run; those of detection are shown.
      client_names: shown in place of the clients' numbers where they are known.
    """
    headline = {
        "rows with an alarm": count(found.get("alarm_rows")),
        "test rows": count(found.get("test_rows")),
        "share": number(found.get("alarm_rate"), "{:.2%}"),
    }
    columns = {"client": "{}", "threshold": "{:.4g}", "rows": "{:,}", "alarm_rows": "{:,}", "alarm_rate": "{:.2%}"}
    clients = _with_names(found["per_client"], client_names)
    clients.sort(key=lambda record: -(record["alarm_rate"] or 0.0))
    lines = [[number(record.get(name), pattern) for name, pattern in columns.items()] for record in clients]
    names = ["client", "threshold", "rows", "rows with an alarm", "share"]
    return page.section(
        "Alarms on the test rows",
        page.tiles(headline),
        page.paragraph(f"Threshold: {number(found.get('threshold_rule'))}."),
        page.pictures(figures, "detection"),
        page.heading("Alarms per client, most frequent first"),
        page.table(names, lines, words=1),
    )


def _breakdowns(test: Mapping[str, Any], client_names: Sequence[str] | None) -> list[str]:
    """Recall per attack, metrics per cluster and per client, which open on a click."""
    parts = []
    if test.get("per_attack"):
        recalls = sorted(test["per_attack"].items(), key=lambda item: (item[1] is None, -(item[1] or 0.0), item[0]))
        rows = [[name, number(recall)] for name, recall in recalls]
        parts.append(
            page.collapsed(f"Recall per attack ({len(rows)})", page.table(["attack", "recall"], rows, words=1))
        )
    clusters, clients = test.get("per_cluster"), test.get("per_client")
    if clusters:
        parts.append(page.collapsed(f"Metrics per cluster ({len(clusters)})", _metrics_table("cluster", clusters)))
    if clients:
        named = _with_names(clients, client_names)
        parts.append(page.collapsed(f"Metrics per client ({len(clients)})", _metrics_table("client", named)))
    return parts


def _with_names(records: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> list[dict[str, Any]]:
    """The records of clients, called by their names where they have any."""
    return [{**record, "client": names[record["client"]] if names else record["client"]} for record in records]


def _metrics_table(kind: str, records: Sequence[Mapping[str, Any]]) -> str:
    """A table with a line per record; columns that no record has are left out."""
    columns = {kind: kind, "rows": "rows", "anomalous_rows": "anomalous rows", "threshold": "threshold", **METRICS}
    columns = {key: label for key, label in columns.items() if any(key in record for record in records)}
    patterns = {kind: "{}", "rows": "{:,}", "anomalous_rows": "{:,}", "threshold": "{:.4g}"}
    rows = [[number(record.get(key), patterns.get(key, "{:.4f}")) for key in columns] for record in records]
    return page.table(list(columns.values()), rows, words=1)
