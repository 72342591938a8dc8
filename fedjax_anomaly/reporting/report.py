"""One self-contained page that says what a run was, what it reached and what it cost."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedjax_anomaly.reporting import page
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.page import byte_count, count, number

_METRICS = {
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
        _headline(result.get("test"), result.get("oracle"), result.get("alarms")),
        _dataset(result["dataset"]),
        *_breakdowns(result.get("test")),
        _cost(result["timing"], result["latency_ms"], result["communication"]),
        _privacy(result.get("privacy")),
        _clusters(result.get("clusters")),
        *_figures(figures),
        page.section(
            "Configuration and environment",
            page.collapsed("Configuration", page.json_block(config)),
            page.collapsed("Environment", page.json_block(environment)),
        ),
    ]
    write_atomically(path, page.page(title, [section for section in sections if section]).encode())


def _headline(
    test: Mapping[str, Any] | None, oracle: Mapping[str, Any] | None, alarms: Mapping[str, Any] | None
) -> str:
    if test is None:
        parts = [page.paragraph("The test rows carry no labels.")]
        if alarms is not None:
            raised = f"{alarms['alarm_rows']:,} of {alarms['test_rows']:,} raised an alarm, {alarms['alarm_rate']:.2%}."
            parts += [page.paragraph(raised), page.paragraph(f"Threshold: {alarms['threshold_rule']}.")]
        return page.section("Detection on the test rows", *parts)
    parts = [
        page.table(list(_METRICS.values()), [[number(test.get(name)) for name in _METRICS]], kind="headline"),
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


def _dataset(dataset: Mapping[str, Any]) -> str:
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
    columns = {kind: kind, "rows": "rows", "anomalous_rows": "anomalous rows", "threshold": "threshold", **_METRICS}
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


def _figures(figures: Sequence[ReportFigure]) -> list[str]:
    if not figures:
        return []
    return [page.section("Figures", *(page.picture(figure.title, figure.caption, figure.path) for figure in figures))]
