"""The page about many seeds says what their result says."""

import re
from pathlib import Path
from typing import Any

from fedjax_anomaly.detection.statistics import summary
from fedjax_anomaly.reporting import figures
from fedjax_anomaly.reporting.detection_parts import METRICS
from fedjax_anomaly.reporting.many_report import write_many_report
from fedjax_anomaly.reporting.page import ReportFigure
from tests.reporting.test_report import RESULT, Page

F1 = {0.01: [0.51, 0.62, 0.70], 0.1: [0.41, 0.42, None]}
DELAYS = [60.0, 120.0, 180.0]
SENT = [1e6, 2e6, 3e6]


def result(settings: dict[float, list[float | None]]) -> dict[str, Any]:
    events = {
        "detection_delay_seconds_mean": summary(DELAYS),
        "point_adjusted_f1_inflated": summary([0.97, 0.98, 0.99]),
    }
    return {
        "dataset": RESULT["dataset"],
        "method": RESULT["method"],
        "threshold_rule": "a rule",
        "settings": [
            {
                "setting": {"learning_rate": rate},
                "seeds": [3, 4, 5],
                "test": dict.fromkeys(METRICS) | {"f1": summary(values), "time_order": events},
                "oracle": {"f1": summary([0.9, 0.9, 0.9])},
                "timing": {"convergence_round": None},
                "latency_ms": {"p50": summary([0.25])},
                "communication": {"total_bytes": summary(SENT)},
                "heterogeneity": {"size_gini": summary([0.3, 0.5, 0.4])},
            }
            for rate, values in settings.items()
        ],
        "paired": [
            {
                "a": {"learning_rate": 0.01},
                "b": {"learning_rate": 0.1},
                "metric": "f1",
                "mean_difference": 0.15,
                "low": 0.1,
                "high": 0.2,
                "p_value": 0.5,
                "wins": 2,
                "num_pairs": 2,
            }
        ],
    }


def members(privacy: dict[float, Any]) -> dict[str, Any]:
    return {
        f"learning_rate-{rate}-seed-{seed}": RESULT | {"privacy": statement}
        for rate, statement in privacy.items()
        for seed in (3, 4, 5)
    }


WITHOUT_PRIVACY = members({0.01: None, 0.1: None})


def written(tmp_path: Path, content: dict[str, Any], own: dict[str, Any] = WITHOUT_PRIVACY) -> Page:
    figures.save(figures.sizes_figure([3, 4], ["a", "b"]), tmp_path / "a.png")
    write_many_report(
        tmp_path / "report.html",
        title="Runs",
        result=content,
        members=own,
        config={"seed": 3, "num_rounds": 100, "sweep": "learning_rate=0.01,0.1"},
        environment={"date": "2026-01-02T03:04:05+00:00"},
        figures=[ReportFigure("Seeds", "Every seed.", tmp_path / "a.png")],
    )
    return Page(tmp_path / "report.html")


def test_means_intervals_and_seeds_are_those_of_the_result(tmp_path: Path) -> None:
    page = written(tmp_path, result(F1))
    assert page.rows[0] == ["learning_rate=0.01", "learning_rate=0.1"]
    low, high = (summary(F1[0.01])[name] for name in ("low", "high"))
    (line,) = [row for row in page.rows if row[:1] == ["F1"]]
    # (0.51 + 0.62 + 0.70) / 3; squared deviations 0.01, 0.0001, 0.0081 add up to 0.0182, half of it is 0.0954 squared.
    assert line[1] == f"0.6100 ± 0.0954\n[{low:.4f}, {high:.4f}]"
    assert line[2].startswith("0.4150 ± 0.0071\n[")
    header = page.rows.index(["setting", "seed", "F1", "F1 of the oracle, in hindsight"])  # what else is unknown
    assert page.rows[header + 1 : header + 3] == [
        ["learning_rate=0.01", "3", "0.5100", "0.9000"],
        ["learning_rate=0.01", "4", "0.6200", "0.9000"],
    ]
    assert page.rows[header + 6] == ["learning_rate=0.1", "5", "–", "0.9000"]


def test_numbers_are_shown_in_their_units(tmp_path: Path) -> None:
    page = written(tmp_path, result(F1))
    shown = {row[0]: row[1].split("\n")[0] for row in page.rows if len(row) == 3}
    assert shown["mean delay of the first alarm"] == "2 min ± 60 s"
    assert shown["F1, point-adjusted (inflated)"] == "0.9800 ± 0.0100"
    assert shown["latency of one event, p50"] == "0.250 ms"  # one value has no spread
    assert shown["sent in all"] == "2 MB ± 1 MB"
    assert shown["inequality of the clients' sizes (Gini)"] == "0.4000 ± 0.1000"
    assert "convergence, rounds" not in shown


def test_paired_tests_are_shown(tmp_path: Path) -> None:
    page = written(tmp_path, result(F1))
    who = "learning_rate=0.01 against learning_rate=0.1"
    assert [who, "F1", "+0.1500", "[+0.1000, +0.2000]", "0.500", "2 of 2"] in page.rows
    assert "Paired tests" not in written(tmp_path, result(F1) | {"paired": None}).text


def test_warnings_and_folders_are_those_of_the_members(tmp_path: Path) -> None:
    late = RESULT | {"timing": RESULT["timing"] | {"convergence_round": 100}, "privacy": None}
    own = WITHOUT_PRIVACY | {"learning_rate-0.1-seed-4": late}
    page = written(tmp_path, result(F1), own)
    assert "1 of 6 runs: The loss on held-out rows was still falling" in page.text
    assert page.texts.count("Data: only one half was found") == 1
    assert set(own) <= set(page.texts)


def test_privacy_is_stated_once_for_the_settings_that_share_it(tmp_path: Path) -> None:
    assert "No differential privacy." in written(tmp_path, result(F1)).text
    strict = RESULT["privacy"] | {"epsilon": 1.5}
    text = written(tmp_path, result(F1), members({0.01: RESULT["privacy"], 0.1: strict})).text
    assert re.findall(r"ε = ([\d.]+)", text) == ["4", "1.5"]
    text = written(tmp_path, result(F1), members({0.01: strict, 0.1: strict})).text
    assert re.findall(r"ε = ([\d.]+)", text) == ["1.5"]


def test_the_line_under_the_title_says_what_was_run(tmp_path: Path) -> None:
    text = written(tmp_path, result(F1)).text
    assert "federation of 2 clients · 3 seeds (3 to 5) · learning_rate swept over 2 values · 2026-01-02 " in text


def test_the_page_refers_to_nothing_outside_of_itself(tmp_path: Path) -> None:
    page = written(tmp_path, result(F1))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form"}
    (source,) = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert str(source).startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import|\son\w+=", (tmp_path / "report.html").read_text())


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "</td><script>alert(1)</script>"
    content = result(F1) | {"threshold_rule": hostile, "dataset": RESULT["dataset"] | {"name": hostile}}
    page = written(tmp_path, content, {hostile + name: one for name, one in WITHOUT_PRIVACY.items()})
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(hostile) == 3 + 6  # the rule, the data set in the lead and among its facts, six folders


def test_without_labels_the_alarms_are_shown(tmp_path: Path) -> None:
    content = result(F1) | {"paired": None}
    for setting in content["settings"]:
        setting["test"] = setting["oracle"] = None
        setting["alarms"] = {"alarm_rate": summary([0.04, 0.05, 0.06])}
    page = written(tmp_path, content, {"seed-3": RESULT | {"test": None}} | WITHOUT_PRIVACY)
    (line,) = [row for row in page.rows if row[:1] == ["share of rows with an alarm"]]
    assert line[1].startswith("5.00% ± 1.00%\n[")
    assert "Events in time" not in page.text
    assert not {"F1", "AUROC"} & {cell for row in page.rows for cell in row}
