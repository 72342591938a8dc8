"""One self-contained page about a run of many seeds, or of a sweep: means, intervals, every seed, paired tests."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedjax_anomaly.reporting import page
from fedjax_anomaly.reporting.detection_parts import INFLATED_NOTE, METRICS, METRICS_NOTE
from fedjax_anomaly.reporting.page import DASH, ReportFigure, byte_count, duration, number
from fedjax_anomaly.reporting.setting_parts import configuration, dataset, method_in_words, privacy_statement
from fedjax_anomaly.reporting.warning_signs import shared_warning_signs


class _Row(NamedTuple):
    """A number of a result, where it stands there, and how it is written."""

    label: str
    place: tuple[str, ...]
    write: Callable[[Any], str] = number


def _milliseconds(value: float | None) -> str:
    return number(value, "{:.3f} ms")


def _percent(value: float | None) -> str:
    return number(value, "{:.2%}")


def _tenths(value: float | None) -> str:
    return number(value, "{:.1f}")


_DETECTION = [
    *(_Row(label, ("test", name)) for name, label in METRICS.items()),
    _Row("AUROC, mean over clients", ("test", "auroc_client_mean")),
    _Row("AUPRC, mean over clients", ("test", "auprc_client_mean")),
    _Row("F1 of the oracle, in hindsight", ("oracle", "f1")),
]
_EVENTS = [
    _Row("VUS-PR", ("test", "time_order", "vus_pr")),
    _Row("affiliation precision", ("test", "time_order", "affiliation_precision")),
    _Row("affiliation recall", ("test", "time_order", "affiliation_recall")),
    _Row("events with an alarm inside", ("test", "time_order", "event_recall"), _percent),
    _Row("mean delay of the first alarm", ("test", "time_order", "detection_delay_seconds_mean"), duration),
    _Row("false alarms per day and client", ("test", "time_order", "false_alarms_per_day"), _tenths),
    _Row("F1, row by row", ("test", "f1")),
    _Row("F1, point-adjusted (inflated)", ("test", "time_order", "point_adjusted_f1_inflated")),
]
_ALARMS = [
    _Row("share of rows with an alarm", ("alarms", "alarm_rate"), _percent),
    _Row("rows with an alarm", ("alarms", "alarm_rows"), _tenths),
]
_COST = [
    _Row("latency of one event, p50", ("latency_ms", "p50"), _milliseconds),
    _Row("latency of one event, p95", ("latency_ms", "p95"), _milliseconds),
    _Row("latency of one event, p99", ("latency_ms", "p99"), _milliseconds),
    _Row("convergence, rounds", ("timing", "convergence_round"), _tenths),
    _Row("convergence, time of all runs", ("timing", "convergence_seconds"), duration),
    _Row("sent by all clients, per round", ("communication", "up_bytes_per_round"), byte_count),
    _Row("sent to all clients, per round", ("communication", "down_bytes_per_round"), byte_count),
    _Row("sent in all", ("communication", "total_bytes"), byte_count),
    _Row("for comparison: training rows to a centre", ("communication", "raw_data_bytes"), byte_count),
]
_CLIENTS = [
    _Row("mean distance between two clients", ("heterogeneity", "mean_pairwise_distance")),
    _Row("the same by chance alone", ("heterogeneity", "iid_reference")),
    _Row("largest distance between two clients", ("heterogeneity", "max_pairwise_distance")),
    _Row("inequality of the clients' sizes (Gini)", ("heterogeneity", "size_gini")),
]


def write_many_report(
    path: str | Path,
    *,
    title: str,
    result: Mapping[str, Any],
    members: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    figures: Sequence[ReportFigure],
) -> None:
    """Writes the page: no script, nothing fetched, readable in light, in dark and on paper.

    Args:
      path: of the HTML file.
      title: the page's heading.
      result: of `experiment.many.summarize`; what is None is shown as a dash.
      members: the name and the result of each member, setting by setting and seed by seed.
      config: the settings of the run.
      environment: versions, device and the like.
      figures: in the order in which they are shown, each in its part of the page.

    Raises:
      ValueError: when a figure's file is not a PNG.

    Guarantees:
      Every mean, interval and value of a seed is that of the result (test:
      `tests/reporting/test_many_report.py::test_means_intervals_and_seeds_are_those_of_the_result`).
    """
    settings = result["settings"]
    labelled = settings[0]["test"] is not None
    rows = _DETECTION if labelled else _ALARMS
    page.write_page(
        path,
        title,
        _lead(result, config, environment),
        [
            page.warnings(shared_warning_signs(list(members.values()), config["num_rounds"])),
            page.section(
                "Detection on the test rows, over seeds" if labelled else "Alarms on the test rows, over seeds",
                _summary_table(settings, rows),
                page.paragraph(f"Threshold: {result['threshold_rule']}. No test row had a part in it."),
                page.note(_READING + (" " + METRICS_NOTE if labelled else "")),
                page.pictures(figures, "detection"),
                _paired(result["paired"]),
                _every_seed(settings, rows),
            ),
            _part("Events in time, over seeds", settings, _EVENTS, INFLATED_NOTE) if labelled else "",
            page.section(
                "Training, latency and communication, over seeds",
                page.pictures(figures, "training"),
                _summary_table(settings, _COST),
                page.note("The runs trained in one program, so that the time of one cannot be told from that of all."),
            ),
            _privacy(settings, list(members.values())),
            _data_and_clients(result),
            _members(list(members)),
            configuration(config, environment),
        ],
    )


_READING = (
    "Mean ± standard deviation over seeds, and in brackets the 95 % bootstrap interval of the mean; over fewer than "
    "about ten seeds it is too narrow."
)


def name_of(setting: Mapping[str, Any]) -> str:
    """`learning_rate=0.01`, or `as configured` where nothing is swept."""
    return ", ".join(f"{name}={value:g}" for name, value in setting["setting"].items()) or "as configured"


def _lead(result: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    content, seeds = result["dataset"], result["settings"][0]["seeds"]
    swept = f"{config['sweep'].partition('=')[0]} swept over {len(result['settings'])} values"
    facts = [
        f"Data: {content['name']}",
        f"Method: {method_in_words(result['method'], content['num_clients'])}",
        f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})" if len(seeds) > 1 else f"seed {seeds[0]}",
        swept if config["sweep"] else "",
        str(environment.get("date", "")).partition("T")[0],
    ]
    return " · ".join(fact for fact in facts if fact)


def _part(title: str, settings: Sequence[Mapping[str, Any]], rows: Sequence[_Row], note: str) -> str:
    """A section of one summary table; nothing where none of its numbers is known."""
    table = _summary_table(settings, rows)
    return page.section(title, table, page.note(note)) if table else ""


def _summary_table(settings: Sequence[Mapping[str, Any]], rows: Sequence[_Row]) -> str:
    """A line per number that is known, the settings side by side."""
    lines = [
        [row.label, *(_mean_and_interval(_at(setting, row.place), row.write) for setting in settings)]
        for row in _known(settings, rows)
    ]
    return page.table(["", *map(name_of, settings)], lines, words=1) if lines else ""


def _known(settings: Sequence[Mapping[str, Any]], rows: Sequence[_Row]) -> list[_Row]:
    return [row for row in rows if any(_at(setting, row.place) is not None for setting in settings)]


def _at(setting: Mapping[str, Any], place: Sequence[str]) -> Any:
    """The summary at a place of a setting, or None."""
    found: Any = setting
    for name in place:
        found = (found or {}).get(name)
    return found


def _mean_and_interval(summary: Mapping[str, Any] | None, write: Callable[[Any], str]) -> str:
    if summary is None:
        return DASH
    if summary["std"] is None:
        return write(summary["mean"])
    return f"{write(summary['mean'])} ± {write(summary['std'])}\n[{write(summary['low'])}, {write(summary['high'])}]"


def _every_seed(settings: Sequence[Mapping[str, Any]], rows: Sequence[_Row]) -> str:
    known = _known(settings, rows)
    lines = [
        [name_of(setting), str(seed), *(_value(_at(setting, row.place), i, row.write) for row in known)]
        for setting in settings
        for i, seed in enumerate(setting["seeds"])
    ]
    table = page.table(["setting", "seed", *(row.label for row in known)], lines, words=1)
    return page.collapsed(f"Every seed ({len(lines)} runs)", table)


def _value(summary: Mapping[str, Any] | None, seed: int, write: Callable[[Any], str]) -> str:
    return write(None if summary is None else summary["values"][seed])


def _paired(tests: Sequence[Mapping[str, Any]] | None) -> str:
    if not tests:
        return ""
    rows = [
        [
            f"{name_of({'setting': test['a']})} against {name_of({'setting': test['b']})}",
            METRICS[test["metric"]],
            number(test.get("mean_difference"), "{:+.4f}"),
            f"[{number(test.get('low'), '{:+.4f}')}, {number(test.get('high'), '{:+.4f}')}]",
            number(test.get("p_value"), "{:.3f}"),
            f"{test.get('wins')} of {test.get('num_pairs')}",
        ]
        for test in tests
    ]
    return (
        page.heading("Paired tests, by seed")
        + page.table(["settings", "metric", "mean difference", "95 % interval", "p-value", "wins"], rows, words=2)
        + page.note(
            "Sign-flip permutation test, two-sided, not corrected for the number of tests. With 5 seeds no p-value can "
            "be below 0.0625, so no difference, however large, is significant at 0.05."
        )
    )


def _privacy(settings: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]) -> str:
    """The statement of each setting, where it is not that of an earlier one; all seeds of a setting have the same."""
    firsts = [members[i * len(settings[0]["seeds"])].get("privacy") for i in range(len(settings))]
    if firsts[0] is None:
        return page.section("Privacy", page.paragraph("No differential privacy."))
    statements = [
        page.heading(name_of(setting)) + privacy_statement(privacy)
        for i, (setting, privacy) in enumerate(zip(settings, firsts, strict=True))
        if privacy is not None and privacy not in firsts[:i]
    ]
    return page.section("Privacy", page.note(_PRIVACY_OF_ONE), *statements)


_PRIVACY_OF_ONE = "The guarantee is that of each run by itself; who sees several of them learns more."


def _data_and_clients(result: Mapping[str, Any]) -> str:
    return page.section(
        "Data and clients",
        page.note("Counts are those of the first seed; every seed has its own partition and held-out rows."),
        dataset(result["dataset"]),
        page.heading("How different the clients are, over seeds"),
        _summary_table(result["settings"], _CLIENTS),
    )


def _members(names: Sequence[str]) -> str:
    return page.section(
        "The runs",
        page.paragraph(
            "Each run has a folder in members/ with its configuration, its result and its record of rounds, but no "
            "figures and no page of its own; running its config.json by itself draws these too."
        ),
        page.collapsed(f"Folders ({len(names)})", page.bullets(names)),
    )
