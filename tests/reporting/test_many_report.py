"""The page about many seeds says what their result says."""

from pathlib import Path
from typing import Any

from fedjax_anomaly.detection.statistics import summary
from fedjax_anomaly.reporting import figures
from fedjax_anomaly.reporting.many_report import write_many_report
from fedjax_anomaly.reporting.report import METRICS, ReportFigure
from tests.reporting.test_report import Page

F1 = {0.01: [0.51, 0.62, 0.70], 0.1: [0.41, 0.42, None]}


def result(settings: dict[float, list[float | None]]) -> dict[str, Any]:
    return {
        "dataset": {"notes": ["<b>half</b> of it"]},
        "threshold_rule": "a rule",
        "settings": [
            {
                "setting": {"learning_rate": rate},
                "seeds": [3, 4, 5],
                "test": dict.fromkeys(METRICS) | {"f1": summary(values)},
            }
            for rate, values in settings.items()
        ],
        "paired": [
            {
                "a": {"learning_rate": 0.01},
                "b": {"learning_rate": 0.1},
                "metric": "f1",
                "mean_difference": 0.15,
                "p_value": 0.5,
                "wins": 2,
                "num_pairs": 2,
            }
        ],
    }


def written(tmp_path: Path, content: dict[str, Any]) -> Page:
    tests = [setting["test"] for setting in content["settings"]]
    figures.save(figures.seeds_figure(["a", "b"], tests), tmp_path / "seeds.png")
    write_many_report(
        tmp_path / "report.html",
        title="Runs",
        result=content,
        config={"seed": 3},
        environment={},
        figures=[ReportFigure("Seeds", "Every seed.", tmp_path / "seeds.png")],
    )
    return Page(tmp_path / "report.html")


def test_means_intervals_and_seeds_are_those_of_the_result(tmp_path):
    page = written(tmp_path, result(F1))
    column = 1 + list(METRICS).index("f1")
    low, high = (summary(F1[0.01])[name] for name in ("low", "high"))
    assert page.rows[1][0] == "learning_rate=0.01"
    # (0.51 + 0.62 + 0.70) / 3
    assert page.rows[1][column] == f"0.6100 [{low:.4f}, {high:.4f}]"
    assert page.rows[2][column].startswith("0.4150 [")
    seeds = [row for row in page.rows if row[:2] == ["learning_rate=0.1", "5"]]
    assert seeds == [["learning_rate=0.1", "5"] + ["–"] * len(METRICS)]
    assert ["learning_rate=0.01 against learning_rate=0.1", "F1", "+0.1500", "0.500", "2 of 2"] in page.rows
    assert "<b>half</b> of it" in page.text


def test_the_page_refers_to_nothing_outside_of_itself(tmp_path):
    page = written(tmp_path, result(F1))
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    (source,) = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert source.startswith("data:image/png;base64,")
    assert (tmp_path / "report.html").read_text().count("http") == 0


def test_without_labels_the_alarms_are_shown(tmp_path):
    content = result(F1) | {"paired": None}
    for setting in content["settings"]:
        setting["test"] = None
        setting["alarms"] = {"alarm_rate": summary([0.04, 0.05, 0.06])}
    write_many_report(tmp_path / "report.html", title="Runs", result=content, config={}, environment={}, figures=[])
    page = Page(tmp_path / "report.html")
    assert page.rows[0] == ["setting", "share of rows with an alarm"]
    assert page.rows[1][1].startswith("0.0500 [")
