"""Figure 1 of the paper on every data set: detection accuracy and system latency across federated rounds.

Writes figure1.md, figure1.csv, figure1.json and figure1.png into --output_dir, anew after every run. The runs are those
of table1.py: given the same --output_dir, what the table has trained is read and not trained again. Stopped with
Ctrl-C, the same command goes on where it stopped. --quick is a smoke test, see table1.py.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from typing import Any

import carry_out
import numpy as np
from comparison import METHODS, OURS, SMOKE_TEST
from comparison_rows import in_table_order
from harness import markdown_table, write_results
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_anomaly.detection import summary
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.figures import style

SHOWN = {OURS: style.NORMAL, "centralized": style.ANOMALOUS, "local_only": style.AUROC}
"""The methods of the figure and their colours."""

LABELS = {method.key: method.label for method in METHODS}

CAPTION = (
    "Accuracy and F1 on a fixed sample of the test rows, at the threshold from held-out normal rows; they inform no "
    "choice. System latency of a round: its measured wall time, all seeds side by side, divided by their number, plus "
    "the median time of one event through the detector. A round of the centralized method is one pass over all rows. "
    "Everything runs on one machine, so that no time of a network is in it."
)

Point = dict[str, Any]


def points(finished: carry_out.Finished) -> list[Point]:
    """One for each round after which test rows were scored; accuracy and F1 are summaries over seeds."""
    run, history = finished.run, finished.history
    if finished.result is None:
        return []
    event_ms = finished.result["settings"][0]["latency_ms"]["p50"]["mean"]
    return [
        {
            "dataset": run.config.dataset,
            "method": run.method.key,
            "smoke_test": run.quick,
            "round": records[0]["round"],
            "accuracy": summary([record["test_accuracy"] for record in records]),
            "f1": summary([record["test_f1"] for record in records]),
            "round_ms": 1e3 * records[0]["round_seconds"] / len(history),
            "event_ms": event_ms,
            "system_latency_ms": 1e3 * records[0]["round_seconds"] / len(history) + event_ms,
        }
        for records in zip(*history, strict=True)
        if "test_accuracy" in records[0]
    ]


def flat(point: Point) -> dict[str, Any]:
    """A point with a column for every number."""
    wide = {key: value for key, value in point.items() if not isinstance(value, dict | None)}
    parts = {f"{name}_{part}": (point[name] or {}).get(part) for name in ("accuracy", "f1") for part in _PARTS}
    return wide | parts


_PARTS = ("mean", "low", "high")


def csv_table(rows: Sequence[Point]) -> str:
    """The points as CSV."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(flat(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat(point) for point in rows)
    return file.getvalue()


def markdown(rows: Sequence[Point], problems: Sequence[str], quick: bool) -> str:
    """The page that goes with the picture."""
    lines = [f"# Figure 1{f': {SMOKE_TEST}' if quick else ''}", "", "![Figure 1](figure1.png)", "", CAPTION, ""]
    if quick:
        lines += ["Left out to be quick, on all data sets but the first: all but the federated method.", ""]
    lines += [line for problem in problems for line in (problem, "")]
    shown = [
        {
            "data set": point["dataset"],
            "method": LABELS[point["method"]],
            "round": point["round"],
            **{name: (point[name] or {}).get("mean", "–") for name in ("accuracy", "f1")},
            "ms of the round": point["round_ms"],
            "ms of an event": point["event_ms"],
        }
        for point in rows
    ]
    return "\n".join([*lines, markdown_table(shown)]) + "\n"


def figure1(rows: Sequence[Point], warning: str = "") -> Figure:
    """A pair of panels for each data set: accuracy and F1 above, system latency below.

    Args:
      rows: from `points`, at least one.
      warning: is written above all panels.
    """
    datasets = list(dict.fromkeys(point["dataset"] for point in rows))
    columns = min(3, len(datasets))
    lines = -(-len(datasets) // columns)
    figure = style.new_figure(0.8 + 3.2 * columns, 0.9 + 4.2 * lines)
    panels = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=[3, 2] * lines)
    for number, name in enumerate(datasets):
        line, column = divmod(number, columns)
        own = [point for point in rows if point["dataset"] == name]
        _draw_detection(panels[2 * line, column], own)
        style.panel_title(panels[2 * line, column], name)
        _draw_latency(panels[2 * line + 1, column], own)
    for number in range(len(datasets), lines * columns):
        line, column = divmod(number, columns)
        panels[2 * line, column].set_visible(False)
        panels[2 * line + 1, column].set_visible(False)
    style.legend_outside(figure, panels[0, 0], "outside lower center", columns)
    title = "Detection and system latency across rounds; bands are intervals over seeds"
    figure.suptitle(
        f"{warning}. {title}" if warning else title, x=0.01, ha="left", fontsize=style.LABEL_SIZE, color=style.INK
    )
    return figure


def _draw_detection(axes: Axes, rows: Sequence[Point]) -> None:
    for key, color in SHOWN.items():
        own = [point for point in rows if point["method"] == key]
        for name, line, text in (("accuracy", "-", "accuracy"), ("f1", "--", "F1")):
            known = [point for point in own if point[name]]
            rounds = [point["round"] for point in known]
            mean, low, high = (
                np.array([point[name][part] for point in known], dtype=float) for part in ("mean", "low", "high")
            )
            axes.plot(rounds, mean, line, color=color, marker="o", markersize=3, label=f"{LABELS[key]}, {text}")
            axes.fill_between(rounds, low, high, color=color, alpha=0.15, linewidth=0)
    lowest = min((point[name]["mean"] for point in rows for name in ("accuracy", "f1") if point[name]), default=0.0)
    axes.set_ylim(max(0.0, min(np.floor(lowest * 10.0 - 0.5) / 10.0, 0.8)), 1.01)
    style.whole_numbers(axes)
    style.dress(axes, y_label="on test rows")


def _draw_latency(axes: Axes, rows: Sequence[Point]) -> None:
    for key, color in SHOWN.items():
        own = [point for point in rows if point["method"] == key]
        axes.plot(
            [point["round"] for point in own],
            [point["system_latency_ms"] for point in own],
            color=color,
            marker="o",
            markersize=3,
        )
    axes.set_ylim(0.0, 1.15 * max(point["system_latency_ms"] for point in rows))
    style.whole_numbers(axes)
    style.dress(axes, x_label="round", y_label="latency, ms")


def write(arguments: argparse.Namespace, finished: Sequence[carry_out.Finished]) -> None:
    """Writes the figure in all its forms; nothing before the first run with a result."""
    rows = [point for one in in_table_order(finished) for point in points(one)]
    if not rows:
        return
    folder = arguments.output_dir
    problems = [f"{one.run.config.dataset}, {one.run.method.label}: {one.problem}" for one in finished if one.problem]
    write_atomically(folder / "figure1.md", markdown(rows, problems, arguments.quick).encode())
    write_atomically(folder / "figure1.csv", csv_table(rows).encode())
    write_results(folder, "figure1", rows, {})
    style.save(figure1(rows, SMOKE_TEST if arguments.quick else ""), folder / "figure1.png")


def main() -> int:
    arguments = carry_out.start(str(__doc__))
    methods = [method for method in METHODS if method.key in SHOWN]
    status = carry_out.run_script(arguments, methods, lambda finished, wanted: write(arguments, finished))
    print(f"the figure: {arguments.output_dir / 'figure1.png'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
