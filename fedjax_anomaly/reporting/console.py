"""What a run prints: a live bar on a terminal, plain lines elsewhere, and a small table at the end."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fedjax_anomaly.reporting.warning_signs import secure_aggregation_warnings

_METRICS = ("accuracy", "precision", "recall", "f1", "fpr", "auroc", "auprc")
_ALARMS = ("alarm_rows", "alarm_rate")


class Console:
    """Prints a run's course. Use as a context manager.

    Args:
      file: where to print; None is standard output. The live bar appears on terminals only.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._console = RichConsole(file=file or sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_bar()

    def announce(self, lines: Sequence[str]) -> None:
        """Prints what is about to run."""
        for line in lines:
            self._console.print(line, markup=False)

    def progress(self, done: int, total: int, rounds_per_second: float, record: Mapping[str, Any]) -> None:
        """Prints how far the run is.

        Args:
          done: rounds done.
          total: rounds wanted.
          rounds_per_second: lately.
          record: the last round's numbers.
        """
        text = (
            f"loss {record['train_loss']:.4f}  held-out {record['validation_loss']:.4f}  "
            f"{rounds_per_second:.2f} rounds/s"
        )
        if not self._console.is_terminal:
            left = (total - done) / rounds_per_second
            self._console.print(f"round {done}/{total}  {text}  {left:.0f} s left")
            return
        if self._bar is None:
            columns = (TextColumn("rounds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[text]}"), console=self._console)
            self._bar.add_task("rounds", total=total, text=text)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, text=text)

    def interrupted(self, output_dir: Path, done: int) -> None:
        """Says where an interrupted run stands and how to continue it."""
        self._close_bar()
        self._console.print(
            f"stopped after round {done}; continue with the same flags and --resume --output_dir={output_dir}",
            markup=False,
        )

    def results(self, result: Mapping[str, Any], output_dir: Path) -> None:
        """Prints the headline metrics and where the rest is."""
        self._close_bar()
        latency = result["latency_ms"]
        self._console.print(_headline(result))
        privacy = result["privacy"]
        spent = "no differential privacy"
        if privacy is not None:
            epsilon = "infinite" if privacy["epsilon"] is None else f"{privacy['epsilon']:.2f}"
            spent = f"epsilon {epsilon} at delta {privacy['delta']:g} for {privacy['unit_in_words']}"
        for line in (
            f"one event {latency['p50']:.2f} ms (p50), {latency['p99']:.2f} ms (p99); "
            f"{result['communication']['total_bytes'] / 1e6:.1f} MB sent; "
            f"{result['timing']['total_seconds']:.0f} s in all",
            spent,
            *secure_aggregation_warnings(result["communication"]),
            *([] if privacy is None else [f"not covered: {'; '.join(privacy['not_covered'])}"]),
            f"results, figures and report: {output_dir}",
        ):
            self._console.print(line, markup=False)

    def summaries(self, result: Mapping[str, Any], output_dir: Path) -> None:
        """Prints the headline metrics of many seeds: their means and standard deviations over seeds."""
        self._close_bar()
        seeds = len(result["settings"][0]["seeds"])
        table = Table(title=f"{result['dataset']['name']}: mean and standard deviation over {seeds} seed(s)")
        part, shown = ("test", _METRICS) if result["settings"][0]["test"] else ("alarms", _ALARMS)
        for name in ("setting", *shown):
            table.add_column(name, justify="left" if name == "setting" else "right")
        for setting in result["settings"]:
            text = ", ".join(f"{name}={value:g}" for name, value in setting["setting"].items())
            table.add_row(text, *(_mean_and_deviation(setting[part][name]) for name in shown))
        self._console.print(table)
        self._console.print(f"threshold: {result['threshold_rule']}", markup=False)
        self._console.print(f"results of all and of each member: {output_dir}", markup=False)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _headline(result: Mapping[str, Any]) -> Table:
    """The test metrics, or how many rows raised an alarm where there are no labels."""
    test, alarms = result["test"], result["alarms"]
    table = Table(title=f"{result['dataset']['name']}: test rows, {alarms['threshold_rule']}")
    if test is None:
        cells = {"test rows": f"{alarms['test_rows']:,}", "alarms": f"{alarms['alarm_rows']:,}"}
        cells["share of alarms"] = f"{alarms['alarm_rate']:.2%}"
    else:
        cells = {name: "-" if test[name] is None else f"{test[name]:.4f}" for name in _METRICS}
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def _mean_and_deviation(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "-"
    deviation = "" if summary["std"] is None else f" ± {summary['std']:.3f}"
    return f"{summary['mean']:.3f}{deviation}"
