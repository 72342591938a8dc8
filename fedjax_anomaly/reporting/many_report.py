"""One self-contained page about a run of many seeds, or of a sweep: means, intervals, every seed, paired tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedjax_anomaly.reporting import page
from fedjax_anomaly.reporting.atomic import write_atomically
from fedjax_anomaly.reporting.page import number
from fedjax_anomaly.reporting.report import METRICS, ReportFigure, figures_section

_ALARMS = {"alarm_rate": "share of rows with an alarm"}


def write_many_report(
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
      result: of `experiment.many.summarize`; what is None is shown as a dash.
      config: the settings of the run.
      environment: versions, device and the like.
      figures: in the order in which they are shown.

    Guarantees:
      Every mean, interval and value of a seed is that of the result (test:
      `tests/reporting/test_many_report.py::test_means_intervals_and_seeds_are_those_of_the_result`).
    """
    part, metrics = ("test", METRICS) if result["settings"][0]["test"] else ("alarms", _ALARMS)
    sections = [
        _means(result, part, metrics),
        _paired(result["paired"]),
        *figures_section(figures),
        _seeds(result["settings"], part, metrics),
        page.section("Notes", *(page.paragraph(note) for note in [*result["dataset"]["notes"], _MEMBERS])),
        page.section(
            "Configuration and environment",
            page.collapsed("Configuration", page.json_block(config)),
            page.collapsed("Environment", page.json_block(environment)),
        ),
    ]
    write_atomically(path, page.page(title, [section for section in sections if section]).encode())


_MEMBERS = (
    "Each seed has its own configuration, result and record of rounds in the folder members; running one of these "
    "configurations by itself draws its figures too."
)


def _means(result: Mapping[str, Any], part: str, metrics: Mapping[str, str]) -> str:
    rows = [[name_of(setting), *(_interval(setting[part][name]) for name in metrics)] for setting in result["settings"]]
    return page.section(
        "Mean over seeds",
        page.table(["setting", *metrics.values()], rows, words=1),
        page.paragraph(f"Threshold: {result['threshold_rule']}. No test row and no test label had a part in it."),
        page.note(
            "In brackets the 95 % bootstrap interval of the mean; over fewer than about ten seeds it is too narrow."
        ),
    )


def name_of(setting: Mapping[str, Any]) -> str:
    """`learning_rate=0.01`, or `as configured` where nothing is swept."""
    return ", ".join(f"{name}={value:g}" for name, value in setting["setting"].items()) or "as configured"


def _interval(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return page.DASH
    if summary["low"] is None:
        return number(summary["mean"])
    return f"{summary['mean']:.4f} [{summary['low']:.4f}, {summary['high']:.4f}]"


def _seeds(settings: Sequence[Mapping[str, Any]], part: str, metrics: Mapping[str, str]) -> str:
    rows = [
        [name_of(setting), str(seed), *(_value(setting[part][name], i) for name in metrics)]
        for setting in settings
        for i, seed in enumerate(setting["seeds"])
    ]
    table = page.table(["setting", "seed", *metrics.values()], rows, words=1)
    return page.section("Every seed", page.collapsed(f"{len(rows)} runs", table))


def _value(summary: Mapping[str, Any] | None, seed: int) -> str:
    return number(None if summary is None else summary["values"][seed])


def _paired(tests: Sequence[Mapping[str, Any]] | None) -> str:
    if not tests:
        return ""
    rows = [
        [
            f"{name_of({'setting': test['a']})} against {name_of({'setting': test['b']})}",
            METRICS[test["metric"]],
            number(test.get("mean_difference"), "{:+.4f}"),
            number(test.get("p_value"), "{:.3f}"),
            f"{test.get('wins')} of {test.get('num_pairs')}",
        ]
        for test in tests
    ]
    return page.section(
        "Paired tests, by seed",
        page.table(["settings", "metric", "mean difference", "p-value", "wins"], rows, words=2),
        page.note(
            "Sign-flip permutation test, two-sided. With 5 seeds no p-value can be below 0.0625, so no difference, "
            "however large, is significant at 0.05."
        ),
    )
