"""One self-contained page that says what a run was, what it reached and what it cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedjax_anomaly.reporting import page
from fedjax_anomaly.reporting.detection_parts import alarms, detection
from fedjax_anomaly.reporting.page import ReportFigure, byte_count, number
from fedjax_anomaly.reporting.setting_parts import (
    configuration,
    data_and_clients,
    method_in_words,
    privacy_section,
    secure_aggregation,
)
from fedjax_anomaly.reporting.warning_signs import warning_signs


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
      figures: in the order in which they are shown, each in its part of the page.

    Raises:
      ValueError: when a figure's file is not a PNG.

    Guarantees:
      Text from data cannot become markup (test: `tests/reporting/test_report.py::test_hostile_names_stay_text`).
      The page refers to nothing outside of itself (test:
      `tests/reporting/test_report.py::test_the_page_refers_to_nothing_outside_of_itself`).
    """
    test, names = result.get("test"), result["dataset"].get("client_names")
    page.write_page(
        path,
        title,
        _lead(result, config, environment),
        [
            page.warnings(warning_signs(result, config["num_rounds"])),
            alarms(result["alarms"], figures, names)
            if test is None
            else detection(test, result.get("oracle"), figures, names),
            _training_and_cost(result, figures),
            privacy_section(result.get("privacy")),
            data_and_clients(result, figures),
            configuration(config, environment),
        ],
    )


def _lead(result: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    dataset = result["dataset"]
    method = method_in_words(result["method"], dataset["num_clients"])
    trained = result["timing"].get("rounds_per_second") is not None
    facts = [
        f"Data: {dataset['name']}",
        f"Method: {method}",
        f"Rounds: {config['num_rounds']}" if trained else "",
        f"Seed: {config['seed']}",
        str(environment.get("date", "")).partition("T")[0],
    ]
    return " · ".join(fact for fact in facts if fact)


def _training_and_cost(result: Mapping[str, Any], figures: Sequence[ReportFigure]) -> str:
    return page.section(
        "Training, latency and communication",
        page.pictures(figures, "training"),
        page.columns(_time(result["timing"], result["latency_ms"]), _communication(result["communication"])),
    )


def _time(timing: Mapping[str, Any], latency_ms: Mapping[str, Any]) -> str:
    latencies = {
        f"Latency of one event, {name}": number(latency_ms.get(name), "{:.3f} ms") for name in ("p50", "p95", "p99")
    }
    whole = {"Whole run": number(timing.get("total_seconds"), "{:,.1f} s")}
    if timing.get("rounds_per_second") is None:
        return page.facts(latencies | whole)
    converged = timing.get("convergence_round")
    rounds = {
        "Convergence": "not reached"
        if converged is None
        else f"round {converged}, after {number(timing.get('convergence_seconds'), '{:,.2f} s')} of rounds",
        "Rounds per second": number(timing.get("rounds_per_second"), "{:,.2f}"),
        "Compilation": number(timing.get("compile_seconds"), "{:.2f} s"),
    }
    return page.facts(latencies | rounds | whole) + page.note(
        "Converged: the loss on held-out rows stays within 1 % of its decrease from its last value."
    )


def _communication(communication: Mapping[str, Any]) -> str:
    sent, raw = communication.get("total_bytes"), communication.get("raw_data_bytes")
    share = f" ({sent / raw:.2g} times that was sent)" if sent is not None and raw else ""
    return page.facts(
        {
            "Sent by all clients, per round": byte_count(communication.get("up_bytes_per_round")),
            "Sent to all clients, per round": byte_count(communication.get("down_bytes_per_round")),
            "Sent once, before the first round": byte_count(communication.get("setup_bytes")),
            "Sent in all": byte_count(sent),
            "For comparison: all training rows sent to a centre": byte_count(raw) + share,
        }
        | secure_aggregation(communication)
    )
