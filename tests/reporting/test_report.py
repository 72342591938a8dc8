"""The page is complete, self-contained, and safe against names from data."""

import base64
import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fedjax_anomaly.reporting import figures
from fedjax_anomaly.reporting.figures import style
from fedjax_anomaly.reporting.page import ReportFigure, byte_count, duration
from fedjax_anomaly.reporting.report import write_report

METRICS = {"accuracy": 0.91, "precision": 0.92, "recall": 0.93, "f1": 0.94, "fpr": 0.05, "auroc": 0.96, "auprc": None}
RESULT: dict[str, Any] = {
    "method": {"name": "federated", "model": "lstm_autoencoder", "saw_attack_labels": False},
    "dataset": {
        "name": "nsl_kdd",
        "num_clients": 2,
        "num_features": 122,
        "train_windows": 53874,
        "test_windows": 22544,
        "anomaly_fraction": 0.5692,
        "row_order": "none",
        "notes": ["only one half was found"],
    },
    "test": {
        **METRICS,
        "threshold_rule": "0.99 quantile of held-out normal rows",
        "per_attack": {"satan": 0.25, "neptune": 0.75, "worm": None},
        "per_client": [
            {"client": 0, "rows": 1500, "anomalous_rows": 3, "threshold": 0.012345, **METRICS},
            {"client": "node-b", "rows": 40, "anomalous_rows": 0, "threshold": 0.5, **METRICS, "recall": None},
        ],
        "per_cluster": [{"cluster": 0, "rows": 1540, "anomalous_rows": 3, **METRICS}],
    },
    "oracle": {"f1": 0.9876},
    "timing": {
        "compile_seconds": 8.0,
        "rounds_per_second": 12.5,
        "total_seconds": 40.0,
        "convergence_round": 57,
        "convergence_seconds": 4.56,
    },
    "latency_ms": {"p50": 0.4, "p95": 0.5, "p99": 0.8},
    "communication": {
        "up_bytes_per_round": 4213400,
        "down_bytes_per_round": 999,
        "total_bytes": 843e6,
        "raw_data_bytes": 421.5e6,
    },
    "privacy": {
        "unit": "client",
        "unit_in_words": "one client with everything that it holds",
        "epsilon": 4.0,
        "delta": 1e-5,
        "noise_multiplier": 1.1,
        "clip_norm": 0.5,
        "sampling": "poisson",
        "accountant": "pld",
        "trust": "central",
        "noise_to_clip_ratio": 0.82,
        "not_covered": ["the sums that the encoding is fitted on"],
    },
    "clusters": {"assignment": [1, 0], "sizes": [1, 1], "adjusted_rand_index": 0.875},
}


class Page(HTMLParser):
    """Collects a page's tags with their attributes, its cells and its text, and checks that tags are balanced."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tiles: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.texts.append(data)
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        if self._open and self._open[-1] == "dt":
            self._tile = data
        if self._open and self._open[-1] == "dd":
            self.tiles[self._tile] = data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def written(tmp_path: Path, result: dict[str, Any] = RESULT, title: str = "A run", **parts: Any) -> Page:
    defaults: dict[str, Any] = {"config": {"seed": 7, "num_rounds": 100}, "environment": {"jax": "0.8"}, "figures": []}
    write_report(tmp_path / "report.html", title=title, result=result, **defaults | parts)
    return Page(tmp_path / "report.html")


def png(tmp_path: Path) -> Path:
    figures.save(style.new_figure(2.0, 1.0), tmp_path / "a.png")
    return tmp_path / "a.png"


HETEROGENEITY = {
    "measure": "a distance",
    "mean_pairwise_distance": 0.27,
    "max_pairwise_distance": 0.41,
    "iid_reference": 0.08,
    "size_gini": 0.33,
}
TIME_ORDER = {
    "vus_pr": 0.4321,
    "affiliation_precision": 0.61,
    "affiliation_recall": 0.72,
    "event_recall": 0.75,
    "num_events": 8,
    "detection_delay_seconds_mean": 1234.0,
    "detection_delay_seconds_median": 60.0,
    "false_alarms_per_day": 2.5,
    "point_adjusted_f1_inflated": 0.9321,
}


def test_events_in_time_are_shown_and_the_inflated_figure_is_called_so(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT)
    assert "Events in time" not in written(tmp_path, result).text
    result["test"]["time_order"] = TIME_ORDER
    page = written(tmp_path, result)
    assert ["VUS-PR", "0.4321"] in page.rows
    assert ["Events with an alarm inside", "75.0% of 8"] in page.rows
    assert ["Delay of the first alarm, mean", "20.6 min"] in page.rows
    assert ["Delay of the first alarm, median", "60 s"] in page.rows
    assert ["False alarms per day and client", "2.50"] in page.rows
    plain = page.rows.index(["F1, row by row", "0.9400"])
    assert page.rows[plain + 1] == ["F1, point-adjusted (inflated)", "0.9321"]
    assert "0.9321" not in page.tiles.values()


def test_how_different_the_clients_are_is_shown_beside_chance(tmp_path: Path) -> None:
    page = written(tmp_path, RESULT | {"heterogeneity": HETEROGENEITY})
    assert ["Mean distance between two clients", "0.270"] in page.rows
    assert ["The same by chance alone (iid_reference)", "0.080"] in page.rows
    assert ["Largest distance between two clients", "0.410"] in page.rows
    assert "Distance: a distance" in page.text


def test_warnings_stand_before_everything_else(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT)
    result["method"] |= {"name": "rbf_svm", "saw_attack_labels": True}
    text = written(tmp_path, result).text
    assert 0 < text.index("rbf_svm saw attack labels in training") < text.index("Detection on the test rows")
    result["method"]["saw_attack_labels"] = False
    result["dataset"]["notes"] = []
    assert "Before you read on" not in written(tmp_path, result).text


def test_the_line_under_the_title_says_what_was_run(tmp_path: Path) -> None:
    text = written(tmp_path, environment={"date": "2026-01-02T03:04:05+00:00"}).text
    method = "LSTM autoencoder, trained in a federation of 2 clients"
    assert f"Data: nsl_kdd · Method: {method} · Rounds: 100 · Seed: 7 · 2026-01-02 " in text


def test_the_headline_shows_every_metric_and_a_dash_where_undefined(tmp_path: Path) -> None:
    page = written(tmp_path)
    names = ["accuracy", "precision", "recall", "F1", "FPR", "AUROC", "AUPRC"]
    values = ["0.9100", "0.9200", "0.9300", "0.9400", "0.0500", "0.9600", "–"]
    assert page.tiles == dict(zip(names, values, strict=True))
    assert "Threshold: 0.99 quantile of held-out normal rows." in page.text


def test_the_oracle_is_called_hindsight_and_stays_out_of_every_table(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert re.search(r"in hindsight: 0\.9876,.* never the headline", page.text)
    assert "0.9876" not in [cell for row in page.rows for cell in row]
    assert "0.9876" not in page.tiles.values()


def test_attacks_are_sorted_by_recall_with_undefined_ones_last(tmp_path: Path) -> None:
    rows = written(tmp_path).rows
    begin = rows.index(["attack", "recall"])
    assert rows[begin + 1 : begin + 4] == [["neptune", "0.7500"], ["satan", "0.2500"], ["worm", "–"]]


def test_clients_are_listed_in_a_collapsed_table(tmp_path: Path) -> None:
    page = written(tmp_path)
    metrics = ["0.9100", "0.9200", "0.9300", "0.9400", "0.0500", "0.9600", "–"]
    assert ["0", "1,500", "3", "0.01235", *metrics] in page.rows
    assert ["node-b", "40", "0", "0.5", *metrics[:2], "–", *metrics[3:]] in page.rows
    assert ["0", "1,540", "3", *metrics] in page.rows  # the cluster, which has no threshold of its own
    assert all("open" not in attributes for tag, attributes in page.tags if tag == "details")


def test_facts_are_shown_with_their_units(tmp_path: Path) -> None:
    rows = dict(row for row in written(tmp_path).rows if len(row) == 2)
    assert rows["Anomalous share of the test rows"] == "56.92%"
    assert rows["Convergence"] == "round 57, after 4.56 s of rounds"
    assert [rows[f"Latency of one event, p{p}"] for p in (50, 95, 99)] == ["0.400 ms", "0.500 ms", "0.800 ms"]
    assert rows["Sent by all clients, per round"] == "4.21 MB"
    assert rows["Sent to all clients, per round"] == "999 B"
    # 843 MB are twice 421.5 MB.
    assert rows["For comparison: all training rows sent to a centre"] == "422 MB (2 times that was sent)"
    assert rows["Test rows"] == "–"  # not in RESULT


def test_notes_on_the_data_are_shown(tmp_path: Path) -> None:
    assert "Data: only one half was found" in written(tmp_path).texts


def test_what_the_server_sees_and_what_hiding_the_rest_costs_is_stated(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT)
    result["communication"] |= {
        "server_sees": "the sum of the updates",
        "secure_aggregation": {
            "protocol": "secaggplus",
            "mean_neighbours": 68.0,
            "threshold": 36,
            "message_bytes_up": {"keys": 68, "vector": 196044},
            "up_bytes_per_client_round": 204812,
            "down_bytes_per_client_round": 11016,
            "client_seconds_per_round": 0.0213,
            "clipped_values": 0,
            "bare_sums": 0,
        },
    }
    page = written(tmp_path, result)
    for text in (
        "the sum of the updates",
        "SecAgg+, 68.0 neighbours for each client on average; a seed is rebuilt from 36 shares",
        "205 kB (keys 68 B, vector 196 kB)",
        "11 kB",
        "21.3 ms",
    ):
        assert text in page.text


def test_privacy_is_stated_in_words(tmp_path: Path) -> None:
    text = written(tmp_path).text
    assert "ε = 4 at δ = 1e-05. The unit of protection is one client with everything that it holds." in text
    assert "does not cover: the sums that the encoding is fitted on" in text


def test_a_run_without_labels_shows_its_alarms(tmp_path: Path) -> None:
    clients = [
        {"client": 0, "threshold": 0.5, "rows": 540, "alarm_rows": 0, "alarm_rate": 0.0},
        {"client": 1, "threshold": 0.25, "rows": 1000, "alarm_rows": 77, "alarm_rate": 0.077},
        {"client": 2, "threshold": 0.125, "rows": 0, "alarm_rows": 0, "alarm_rate": None},
    ]
    alarms = {"threshold_rule": "a rule", "test_rows": 1540, "alarm_rows": 77, "alarm_rate": 0.05}
    result = RESULT | {"test": None, "oracle": None, "alarms": alarms | {"per_client": clients}}
    page = written(tmp_path, result, figures=[ReportFigure("Scores", "", png(tmp_path))])
    assert page.tiles == {"rows with an alarm": "77", "test rows": "1,540", "share": "5.00%"}
    begin = page.rows.index(["client", "threshold", "rows", "rows with an alarm", "share"])
    assert page.rows[begin + 1] == ["1", "0.25", "1,000", "77", "7.70%"]  # the most frequent first
    assert ["2", "0.125", "0", "0", "–"] in page.rows
    assert "The test rows carry no labels" in page.text
    assert "Scores" in page.text
    assert not {"F1", "AUROC", "Oracle"} & set(page.text.split())


def test_a_run_without_privacy_or_convergence_says_so(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT) | {"privacy": None}
    result["timing"]["convergence_round"] = None
    page = written(tmp_path, result)
    assert "No differential privacy." in page.text
    assert ["Convergence", "not reached"] in page.rows


def test_a_method_without_rounds_has_no_training_facts(tmp_path: Path) -> None:
    timing = RESULT["timing"] | dict.fromkeys(["compile_seconds", "rounds_per_second", "convergence_round"])
    page = written(tmp_path, RESULT | {"timing": timing, "method": {"name": "pca", "saw_attack_labels": False}})
    assert "Convergence" not in {row[0] for row in page.rows if row}
    assert "Method: PCA reconstruction, fitted on all clients' rows in one place · Seed: 7" in page.text


def test_noise_too_small_for_a_guarantee_is_not_given_an_epsilon(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT)
    result["privacy"]["epsilon"] = None
    assert "No finite ε at δ = 1e-05" in written(tmp_path, result).text


def test_clusters_list_their_clients(tmp_path: Path) -> None:
    clusters = {"assignment": [1, 0, 1], "sizes": [1, 2], "adjusted_rand_index": 0.875}
    page = written(tmp_path, RESULT | {"clusters": clusters})
    begin = page.rows.index(["cluster", "clients", "number of clients"])
    assert page.rows[begin + 1 : begin + 3] == [["0", "1", "1"], ["1", "0, 2", "2"]]
    assert "Adjusted Rand index against the true groups: 0.875" in page.text


def test_clients_are_called_by_their_names_where_these_are_known(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT)
    result["dataset"]["client_names"] = ["api", "db"]
    result["test"]["per_client"][1]["client"] = 1
    result["clusters"] = {"assignment": [0, 0], "sizes": [2, 0], "adjusted_rand_index": None}
    page = written(tmp_path, result)
    assert ["0", "api, db", "2"] in page.rows
    assert [row[0] for row in page.rows if row[1:3] in (["1,500", "3"], ["40", "0"])] == ["api", "db"]


def test_one_model_for_all_or_for_each_needs_no_table(tmp_path: Path) -> None:
    assert "Each client has a model of its own." in written(tmp_path).text
    shared = {"assignment": [0, 0], "sizes": [2], "adjusted_rand_index": None}
    assert "All clients share one model." in written(tmp_path, RESULT | {"clusters": shared}).text


def test_a_figure_stands_in_its_part(tmp_path: Path) -> None:
    path = png(tmp_path)
    drawn = [ReportFigure("Who got what", "", path, "clients"), ReportFigure("Loss", "", path, "training")]
    text = written(tmp_path, figures=[*drawn, ReportFigure("Scores", "", path)]).text
    order = ["Detection on", "Scores", "Training, latency", "Loss", "Data and clients", "Who got what"]
    places = [text.index(name) for name in order]
    assert places == sorted(places)


def test_figures_are_embedded_as_the_bytes_of_their_files(tmp_path: Path) -> None:
    path = png(tmp_path)
    page = written(tmp_path, figures=[ReportFigure("Scores", "How they lie.", path)])
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    kind, encoded = str(image["src"]).split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(encoded, validate=True) == path.read_bytes()
    assert (image["width"], image["height"]) == ("240", "120")  # 2 x 1 inches, 160 dots an inch, shown at 3/4
    assert "Scores" in page.text and "How they lie." in page.text


def test_a_figure_that_is_no_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<svg>")
    with pytest.raises(ValueError, match="not a PNG"):
        written(tmp_path, figures=[ReportFigure("", "", tmp_path / "a.png")])


def test_the_page_refers_to_nothing_outside_of_itself(tmp_path: Path) -> None:
    page = written(tmp_path, figures=[ReportFigure("Scores", "", png(tmp_path))])
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    references = [attributes.get(name) for _, attributes in page.tags for name in ("src", "href", "srcset", "style")]
    assert all(str(reference).startswith("data:") for reference in references if reference is not None)
    source = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?:|url\(|@import|\son\w+=", source)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = '<b onload="x">&amp;\'</script><script>alert(1)</script>'
    result = copy.deepcopy(RESULT)
    result["dataset"]["name"] = result["dataset"]["row_order"] = result["method"]["name"] = hostile
    result["dataset"]["notes"] = [hostile]
    result["test"]["threshold_rule"] = result["test"]["per_client"][0]["client"] = hostile
    result["test"]["per_attack"][hostile] = 0.5
    result["privacy"]["unit_in_words"] = result["privacy"]["trust"] = hostile
    result["privacy"]["not_covered"] = [hostile]
    parts: dict[str, Any] = {
        "title": hostile,
        "config": {hostile: hostile, "seed": 7, "num_rounds": 100},
        "environment": {"device": hostile},
        "figures": [ReportFigure(hostile, hostile, png(tmp_path))],
    }
    page = written(tmp_path, result, **parts)
    usual = written(tmp_path, figures=[ReportFigure("a", "b", tmp_path / "a.png")])
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in usual.tags}
    # Thirteen places beside the page's two titles and JSON, where quotes are written with a backslash.
    assert page.text.count(hostile) == 2 + 13
    assert page.text.count(hostile.replace('"', '\\"')) == 3


def test_configuration_and_environment_are_shown(tmp_path: Path) -> None:
    text = written(tmp_path).text
    assert '"seed": 7' in text
    assert '"jax": "0.8"' in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_999, "1 MB"),
        (123456, "123 kB"),
        (4.2134e6, "4.21 MB"),
        (5e9, "5 GB"),
    ],
)
def test_bytes_are_shown_in_a_unit_that_fits(value: float | None, text: str) -> None:
    assert byte_count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.0, "0 s"), (119.0, "119 s"), (1234.0, "20.6 min"), (7200.0, "2 h"), (432000.0, "5 days")],
)
def test_durations_are_shown_in_a_unit_that_fits(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
