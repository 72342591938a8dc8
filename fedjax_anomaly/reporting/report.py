"""One self-contained page that says what a run was, what it reached and what it cost."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedjax_anomaly.reporting import page
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.page import byte_count, count, number

METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "fpr": "FPR",
    "auroc": "AUROC",
    "auprc": "AUPRC",
}

_ROW_ORDERS = {
    "time": "consecutive samples in time",
    "capture": "in the order of capture, without time stamps",
    "none": "without meaning; no window mixes rows",
}


@dataclasses.dataclass(frozen=True)
class ReportFigure:
    """A figure on the page.

    Attributes:
      title: shown above it, and read out in its place.
      caption: shown below it.
      path: of its PNG file.
    """

    title: str
    caption: str
    path: Path


def write_report(
    path: str | Path,
    *,
    title: str,
    result: Mapping[str, Any],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    figures: Sequence[ReportFigure],
) -> None:
    """Writes the page: no script, nothing fetched, readable in light, in dark and on paper.

    Args:
      path: of the HTML file.
      title: the page's heading.
      result: the content of `result.json`; a value of None is undefined and shown as a dash.
      config: the settings of the run.
      environment: versions, device and the like.
      figures: in the order in which they are shown.

    Raises:
      ValueError: when a figure's file is not a PNG.

    Guarantees:
      Text from data cannot become markup (test: `tests/reporting/test_report.py::test_hostile_names_stay_text`).
      The page refers to nothing outside of itself (test:
      `tests/reporting/test_report.py::test_the_page_refers_to_nothing_outside_of_itself`).
    """
    sections = [
        _warnings(result),
        _headline(result.get("test"), result.get("oracle"), result.get("alarms") or {}),
        _time_order(result.get("test")),
        _dataset(result["dataset"], result.get("heterogeneity")),
        *_breakdowns(result.get("test")),
        _cost(result["timing"], result["latency_ms"], result["communication"]),
        _privacy(result.get("privacy")),
        _clusters(result.get("clusters")),
        *figures_section(figures),
        page.section(
            "Configuration and environment",
            page.collapsed("Configuration", page.json_block(config)),
            page.collapsed("Environment", page.json_block(environment)),
        ),
    ]
    write_atomically(path, page.page(title, [section for section in sections if section]).encode())


def _headline(test: Mapping[str, Any] | None, oracle: Mapping[str, Any] | None, alarms: Mapping[str, Any]) -> str:
    if test is None:
        return _alarms(alarms)
    parts = [
        page.table(list(METRICS.values()), [[number(test.get(name)) for name in METRICS]], kind="headline"),
        page.paragraph(f"Threshold: {test['threshold_rule']}. No test row and no test label had a part in it."),
        page.note(
            "A row is positive when it is anomalous. FPR: share of normal rows that raised an alarm. AUROC and AUPRC "
            "do not depend on the threshold."
        ),
    ]
    if oracle is not None:
        parts.append(
            page.note(
                f"Oracle F1, in hindsight: {number(oracle.get('f1'))}, at the threshold that the test labels would "
                "choose themselves. It bounds what any threshold could reach with these scores, cannot be had in use, "
                "and is never the headline."
            )
        )
    return page.section("Detection on the test rows", *parts)


def _warnings(result: Mapping[str, Any]) -> str:
    """What a reader must know before the figures; nothing where there is nothing to warn of."""
    warnings = []
    method, privacy = result.get("method") or {}, result.get("privacy")
    if method.get("saw_attack_labels"):
        warnings.append(f"{method['name']} saw attack labels in training; it is no detector of unknown attacks.")
    if privacy is not None and (privacy.get("noise_to_clip_ratio") or 0.0) > 1.0:
        warnings.append(
            f"The noise on a mean update is about {privacy['noise_to_clip_ratio']:.0f} times the clip norm, so that "
            "the model is unlikely to have learned anything."
        )
    timing = result["timing"]
    if timing.get("rounds_per_second") is not None and timing.get("convergence_round") is None:
        warnings.append("The loss on held-out rows did not decrease.")
    return page.section("Warnings", page.bullets(warnings)) if warnings else ""


def _time_order(test: Mapping[str, Any] | None) -> str:
    """Events and intervals, for rows in time order."""
    metrics = (test or {}).get("time_order")
    if not metrics:
        return ""
    names = {
        "VUS-PR": number(metrics["vus_pr"]),
        "Affiliation precision": number(metrics["affiliation_precision"]),
        "Affiliation recall": number(metrics["affiliation_recall"]),
        "Events with an alarm inside": f"{number(metrics['event_recall'], '{:.1%}')} of {count(metrics['num_events'])}",
        "Delay of the first alarm, mean": number(metrics["detection_delay_seconds_mean"], "{:,.0f} s"),
        "False alarms per day and client": number(metrics["false_alarms_per_day"], "{:.2f}"),
        "Point-adjusted F1, inflated": number(metrics["point_adjusted_f1_inflated"]),
    }
    return page.section(
        "Events in time",
        page.facts(names),
        page.note(
            "A false alarm is an episode of alarms that touches no event. The point-adjusted F1 counts a whole event "
            "as found by a single alarm, so that even random alarms score high; it stands here for comparison with "
            f"published figures only. The plain F1 is {number((test or {}).get('f1'))}."
        ),
    )


def _alarms(alarms: Mapping[str, Any]) -> str:
    """What can be said without labels."""
    rows, raised = count(alarms.get("test_rows")), count(alarms.get("alarm_rows"))
    clients = alarms.get("per_client", [])
    columns = {"client": "{}", "threshold": "{:.4g}", "rows": "{:,}", "alarm_rows": "{:,}", "alarm_rate": "{:.2%}"}
    lines = [[number(record.get(name), pattern) for name, pattern in columns.items()] for record in clients]
    table = page.table([name.replace("_", " ") for name in columns], lines, words=1)
    return page.section(
        "Alarms on the test rows",
        page.paragraph(f"{raised} of {rows} raised an alarm, {number(alarms.get('alarm_rate'), '{:.2%}')}."),
        page.paragraph(f"Threshold: {number(alarms.get('threshold_rule'))}."),
        page.paragraph("The test rows carry no labels. Nothing can be said of how many alarms are right."),
        page.collapsed(f"{len(clients)} clients", table),
    )


def _dataset(dataset: Mapping[str, Any], heterogeneity: Mapping[str, Any] | None) -> str:
    order = dataset.get("row_order")
    names = {
        "Name": number(dataset.get("name")),
        "Clients": count(dataset.get("num_clients")),
        "Encoded features": count(dataset.get("num_features")),
        "Rows per window": count(dataset.get("window_length")),
        "Training windows, normal rows only": count(dataset.get("train_windows")),
        "Test windows": count(dataset.get("test_windows")),
        "Test rows": count(dataset.get("test_rows")),
        "Anomalous share of the test rows": number(dataset.get("anomaly_fraction"), "{:.2%}"),
        "Order of the rows": _ROW_ORDERS.get(str(order), number(order)),
    }
    notes = [page.paragraph(note) for note in dataset.get("notes", [])]
    if heterogeneity is not None and heterogeneity["mean_pairwise_distance"] is not None:
        names |= {
            "Mean distance between clients": f"{heterogeneity['mean_pairwise_distance']:.3f} (clients drawn at random: "
            f"{heterogeneity['iid_reference']:.3f})",
            "Largest distance between clients": number(heterogeneity["max_pairwise_distance"], "{:.3f}"),
            "Inequality of the clients' sizes (Gini)": number(heterogeneity["size_gini"], "{:.3f}"),
        }
        notes.append(page.note(f"Distance: {heterogeneity['measure']}."))
    return page.section("Data set", page.facts(names), *notes)


def _breakdowns(test: Mapping[str, Any] | None) -> list[str]:
    """Recall per attack; metrics per client and per cluster, which open on a click."""
    if test is None:
        return []
    sections = []
    if test.get("per_attack"):
        recalls = sorted(test["per_attack"].items(), key=lambda item: (item[1] is None, -(item[1] or 0.0), item[0]))
        rows = [[name, number(recall)] for name, recall in recalls]
        sections.append(page.section("Recall per attack", page.table(["attack", "recall"], rows, words=1)))
    parts = [
        page.collapsed(f"{len(test[key])} {kind}s", _metrics_table(kind, test[key]))
        for kind, key in (("cluster", "per_cluster"), ("client", "per_client"))
        if test.get(key)
    ]
    if parts:
        sections.append(page.section("Detection per cluster and per client", *parts))
    return sections


def _metrics_table(kind: str, records: Sequence[Mapping[str, Any]]) -> str:
    """A table with a line per record; columns that no record has are left out."""
    columns = {kind: kind, "rows": "rows", "anomalous_rows": "anomalous rows", "threshold": "threshold", **METRICS}
    columns = {key: label for key, label in columns.items() if any(key in record for record in records)}
    patterns = {kind: "{}", "rows": "{:,}", "anomalous_rows": "{:,}", "threshold": "{:.4g}"}
    rows = [[number(record.get(key), patterns.get(key, "{:.4f}")) for key in columns] for record in records]
    return page.table(list(columns.values()), rows, words=1)


def _cost(timing: Mapping[str, Any], latency_ms: Mapping[str, Any], communication: Mapping[str, Any]) -> str:
    converged = timing.get("convergence_round")
    names = {
        "Compilation": number(timing.get("compile_seconds"), "{:.2f} s"),
        "Rounds per second": number(timing.get("rounds_per_second"), "{:,.2f}"),
        "Whole run": number(timing.get("total_seconds"), "{:,.1f} s"),
        "Convergence": "not reached"
        if converged is None
        else f"round {converged}, after {number(timing.get('convergence_seconds'), '{:,.2f} s')} of rounds",
        "Latency of one event (p50, p95, p99)": ", ".join(
            number(latency_ms.get(name), "{:.3f} ms") for name in ("p50", "p95", "p99")
        ),
        "Sent by all clients, per round": byte_count(communication.get("up_bytes_per_round")),
        "Sent to all clients, per round": byte_count(communication.get("down_bytes_per_round")),
        "Sent once, before the first round": byte_count(communication.get("setup_bytes")),
        "Sent in all": byte_count(communication.get("total_bytes")),
        "For comparison: all training rows sent to a centre": byte_count(communication.get("raw_data_bytes")),
    }
    return page.section("Time, latency and communication", page.facts(names))


def _privacy(privacy: Mapping[str, Any] | None) -> str:
    if privacy is None:
        return page.section("Privacy", page.paragraph("No differential privacy."))
    unit = privacy.get("unit_in_words") or f"one {privacy['unit']}"
    epsilon, delta = privacy.get("epsilon"), number(privacy.get("delta"), "{:g}")
    guarantee = (
        f"Differential privacy with ε = {epsilon:.3g} at δ = {delta}. "
        if epsilon is not None
        else f"No finite ε at δ = {delta}: the noise is too small for a guarantee. "
    )
    names = {
        "Noise multiplier": number(privacy.get("noise_multiplier"), "{:.4g}"),
        "Clip norm": number(privacy.get("clip_norm"), "{:.4g}"),
        "Noise on the mean update, in clip norms": number(privacy.get("noise_to_clip_ratio"), "{:.3g}"),
        "Sampling": number(privacy.get("sampling")),
        "Accountant": number(privacy.get("accountant")),
        "Trust": number(privacy.get("trust")),
    }
    parts = [page.paragraph(f"{guarantee}The unit of protection is {unit}."), page.facts(names)]
    if privacy.get("not_covered"):
        parts += [page.paragraph("The guarantee does not cover:"), page.bullets(privacy["not_covered"])]
    return page.section("Privacy", *parts)


def _clusters(clusters: Mapping[str, Any] | None) -> str:
    if clusters is None:
        return ""
    sizes, assignment = clusters["sizes"], clusters["assignment"]
    if len(sizes) == 1:
        return page.section("Clusters", page.paragraph("All clients share one model."))
    members = [", ".join(str(c) for c, k in enumerate(assignment) if k == cluster) for cluster in range(len(sizes))]
    pairs = zip(members, sizes, strict=True)
    rows = [[str(cluster), who or page.DASH, count(size)] for cluster, (who, size) in enumerate(pairs)]
    parts = [page.table(["cluster", "clients", "number of clients"], rows, words=2)]
    agreement = clusters.get("adjusted_rand_index")
    if agreement is not None:
        parts.append(page.paragraph(f"Adjusted Rand index against the true groups: {agreement:.3f} (1 is the same)."))
    return page.section("Clusters", *parts)


def figures_section(figures: Sequence[ReportFigure]) -> list[str]:
    """The figures under one heading; nothing where there are none."""
    if not figures:
        return []
    return [page.section("Figures", *(page.picture(figure.title, figure.caption, figure.path) for figure in figures))]
