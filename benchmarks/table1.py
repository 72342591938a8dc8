"""Table 1 of the paper on every data set, with every baseline, many seeds and intervals.

Writes table1.md, table1.csv, table1.json and table1.png into --output_dir, anew after every run; the runs themselves
are in its `runs` folder. Stopped with Ctrl-C, the same command goes on where it stopped. --quick is a smoke test: few
rows, few rounds, two seeds, and a part of the methods on all data sets but the first; its figures mean nothing. Where
privacy_audits.py has written into the same --output_dir, the column "privacy" also says what its attacks came to.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import carry_out
import comparison
from comparison import QUICK_METHODS, SMOKE_TEST
from comparison_rows import Row, csv_table, rows_of_table
from harness import machine, write_results
from table1_figure import table1_figure

from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.figures import style

PAPER = {
    "centralized": {"accuracy": 0.942, "f1": 0.91, "latency_p50_ms": 480},
    "local only": {"accuracy": 0.864, "f1": 0.82, "latency_p50_ms": 60},
    "federated": {"accuracy": 0.927, "f1": 0.89, "latency_p50_ms": 105},
}
"""The paper's own figures; it names neither interval nor data set for them."""

_Column = tuple[str, Callable[[Row], str]]


def metric(name: str, digits: int = 3, scale: float = 1.0) -> Callable[[Row], str]:
    """The cell of a metric: its mean and, over several seeds, its interval."""

    def cell(row: Row) -> str:
        summary = row[name]
        if summary is None:
            return "–"
        mean, low, high = (
            None if summary[part] is None else f"{scale * summary[part]:.{digits}f}" for part in ("mean", "low", "high")
        )
        return f"{mean}" if low is None else f"{mean} [{low}, {high}]"

    return cell


MAIN: list[_Column] = [
    ("accuracy", metric("accuracy")),
    ("F1", metric("f1")),
    ("AUROC", metric("auroc")),
    ("latency, ms", metric("latency_p50_ms", 2)),
    ("sent, MB", metric("communication_bytes", 1, 1e-6)),
    ("privacy", lambda row: privacy(row)),
]
DETECTION: list[_Column] = [
    ("precision", metric("precision")),
    ("recall", metric("recall")),
    ("FPR", metric("fpr")),
    ("AUPRC", metric("auprc")),
    ("AUROC, mean of clients", metric("auroc_client_mean")),
    ("AUPRC, mean of clients", metric("auprc_client_mean")),
]
TIME_ORDER: list[_Column] = [
    ("VUS-PR", metric("vus_pr")),
    ("affiliation precision", metric("affiliation_precision")),
    ("affiliation recall", metric("affiliation_recall")),
    ("event recall", metric("event_recall")),
    ("detection delay, s", metric("detection_delay_seconds_mean", 0)),
    ("false alarms a day", metric("false_alarms_per_day", 1)),
    ("point-adjusted F1 (inflated)", metric("point_adjusted_f1_inflated")),
]
TRAINING: list[_Column] = [
    ("rounds to converge", metric("convergence_round", 1)),
    ("seconds to converge", metric("convergence_seconds", 1)),
    ("seconds of all rounds", lambda row: f"{row['training_seconds']:.1f}"),
]


def privacy(row: Row) -> str:
    """The formal guarantee and, where the method was audited, what the attacks came to."""
    if row.get("audit") is None:
        return str(row["privacy"])
    audit = row["audit"]
    return (
        f"{row['privacy']}; attacked: at least {audit['empirical_epsilon']:.2f}, "
        f"AUC {audit['membership_auc']['auc']:.3f}, error {audit['leak_update']['median']:.2f}"
    )


def audits(path: Path, smoke_test: bool) -> dict[tuple[str, str], dict[str, Any]]:
    """The audits of privacy_audits.py by data set and method; none where there are none of the same kind."""
    found = json.loads(path.read_text())["rows"] if path.exists() else []
    return {(row["dataset"], row["method"]): row for row in found if row["smoke_test"] == smoke_test}


def _difference(name: str) -> list[_Column]:
    def part(read: Callable[[dict[str, Any]], str]) -> Callable[[Row], str]:
        return lambda row: read(row["paired"][name]) if row["paired"][name] else "–"

    def interval(test: dict[str, Any]) -> str:
        mean = f"{test['mean_difference']:+.3f}"
        return mean if test["low"] is None else f"{mean} [{test['low']:+.3f}, {test['high']:+.3f}]"

    label = {"f1": "F1", "auroc": "AUROC"}[name]
    return [
        (f"{label} difference", part(interval)),
        ("p", part(lambda test: f"{test['p_value']:.4f}")),
        ("wins", part(lambda test: f"{test['wins']} of {test['num_pairs']}")),
    ]


def grid(rows: Sequence[Row], columns: Sequence[_Column]) -> list[str]:
    """A Markdown table; a row that has no result says why."""
    lines = ["| method | " + " | ".join(name for name, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        problem = [row["problem"].replace("|", "/"), *[""] * (len(columns) - 1)]
        cells = [cell(row) for _, cell in columns] if row["status"] == "done" else problem
        lines.append(f"| {row['label']} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _paper_lines(columns: Sequence[_Column]) -> list[str]:
    """The paper's own figures as further rows of the main table."""
    shown = {"accuracy": "accuracy", "F1": "f1", "latency, ms": "latency_p50_ms"}
    return [
        f"| *the paper's figure: {name}* | "
        + " | ".join(f"*{figures[shown[column]]:g}*" if column in shown else "–" for column, _ in columns)
        + " |"
        for name, figures in PAPER.items()
    ]


def dataset_section(rows: Sequence[Row]) -> list[str]:
    """All tables of one data set."""
    done = [row for row in rows if row["status"] == "done"]
    first = done[0] if done else rows[0]
    lines = [f"## {first['dataset']}", "", *(line for note in first["notes"] for line in (f"Note: {note}", ""))]
    if first["heterogeneity"]:
        lines += [
            f"Heterogeneity of the {first['num_clients']} clients: mean pairwise distance "
            f"{first['heterogeneity']['mean_pairwise_distance']:.3f}, of clients drawn alike "
            f"{first['heterogeneity']['iid_reference']:.3f}.",
            "",
        ]
    rules = dict.fromkeys(row["threshold_rule"] for row in done)
    lines += [f"Thresholds: {'; '.join(rules)}.", ""] if rules else []
    lines += [*grid(rows, MAIN)[:-1], *_paper_lines(MAIN), ""]
    if done:
        lines += ["More of detection; AUROC and AUPRC are of all clients' rows together, where not said otherwise:", ""]
        lines += grid(done, DETECTION)
    if first["row_order"] == "time":
        lines += ["Events and intervals:", "", *grid(done, TIME_ORDER)]
    if trained := [row for row in done if row["training_seconds"] is not None]:
        lines += ["Convergence and training, in seconds of all seeds side by side:", "", *grid(trained, TRAINING)]
    if compared := [row for row in done if row["paired"]]:
        columns = _difference("f1") + _difference("auroc")
        lines += ["The federated, clustered method less the other one, by seed:", "", *grid(compared, columns)]
    return lines


def markdown(rows: Sequence[Row], wanted: int) -> str:
    """The whole page."""
    quick, seeds = rows[0]["smoke_test"], rows[0]["num_seeds"]
    partial = f" (so far: {len(rows)} of {wanted} runs)" if len(rows) < wanted else ""
    hardware = machine()
    lines = [
        f"# Table 1{f': {SMOKE_TEST}' if quick else ''}{partial}",
        "",
        f"Mean over {seeds} seeds [95 % bootstrap interval of the mean]; with so few seeds intervals are too narrow. "
        "Latency: one event through the detector, median. Sent: all bytes of the run over all clients; a centralized "
        "or classical method sends the raw training rows once. Thresholds never see a label. Machine: "
        f"{hardware['cores']} cores, {hardware['processor']}, {hardware['device']}.",
        "",
        f"p: two-sided sign-flip test over seeds. With {seeds} seeds no p-value below {2.0 / 2**seeds:g} is possible. "
        "The paper's own figures stand beside for comparison; they are of other hardware, and of no data set in "
        "particular.",
        "",
    ]
    if any(row.get("audit") for row in rows):
        lines += [
            "Privacy: the formal guarantee; attacked: the epsilon that canaries disprove at 95 % confidence, the AUC "
            "of membership inference (0.5 is guessing), and the error of a window rebuilt from one update of one step, "
            "with the run's noise if any (0 is exact, 1 the mean of normal windows). Attacks are on one seed: "
            "privacy_audits.md.",
            "",
        ]
    if quick:
        lines += [f"Left out to be quick, on all data sets but the first: all but {', '.join(QUICK_METHODS)}.", ""]
    for name in dict.fromkeys(row["dataset"] for row in rows):
        lines += dataset_section([row for row in rows if row["dataset"] == name])
    return "\n".join(lines).rstrip() + "\n"


def write(arguments: argparse.Namespace, finished: Sequence[carry_out.Finished], wanted: int) -> None:
    """Writes the table in all its forms."""
    folder = arguments.output_dir
    attacked = audits(folder / "privacy_audits.json", arguments.quick)
    rows = [row | {"audit": attacked.get((row["dataset"], row["method"]))} for row in rows_of_table(finished)]
    write_atomically(folder / "table1.md", markdown(rows, wanted).encode())
    write_atomically(folder / "table1.csv", csv_table(rows).encode())
    write_results(folder, "table1", rows, {})
    style.save(table1_figure(rows, SMOKE_TEST if arguments.quick else ""), folder / "table1.png")


def main() -> int:
    arguments = carry_out.start(str(__doc__))
    status = carry_out.run_script(
        arguments, comparison.METHODS, lambda finished, wanted: write(arguments, finished, wanted)
    )
    print(f"the table: {arguments.output_dir / 'table1.md'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
