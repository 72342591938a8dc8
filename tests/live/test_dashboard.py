"""The dashboard: what it keeps, who may read it, and the page in a real browser."""

import configparser
import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import fedjax_anomaly
from fedjax_anomaly.live.dashboard.board import Board, points_for
from fedjax_anomaly.live.dashboard.sink import Dashboard
from fedjax_anomaly.live.drift import Drift
from fedjax_anomaly.live.engine import Counts
from fedjax_anomaly.live.incidents import Incidents
from fedjax_anomaly.live.interfaces import ScoredEvent

BROWSER_ARGUMENTS = (
    *("headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "no-first-run", "disable-sync", "disable-quic"),
    *("disable-background-networking", "disable-component-update"),
)
DAY = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC.
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


def event(stream, time, score, threshold=1.0):
    return ScoredEvent(stream, 0, time, 0, score, threshold, score > threshold, np.array([3.0, 1.0], np.float32))


class Fed:
    """A dashboard, and what a detector would tell it."""

    def __init__(self, port=0, columns=("cpu", "disk"), timed=True):
        self.counts = Counts()
        self.dashboard = Dashboard(
            port, run="fleet", trained_at="2026-01-01T00:00:00+00:00", timed=timed, counts=lambda: self.counts
        )
        self.incidents = Incidents(columns, gap_seconds=120.0)
        self.url, self.port = self.dashboard.url, int(self.dashboard.url.split(":")[-1].strip("/"))

    def feed(self, *events):
        self.dashboard.scored(events)
        for incident in self.incidents.update(events):
            self.dashboard.incident(incident)
        self.counts.scored += len(events)
        self.counts.alarms += sum(event.alarm for event in events)

    def state(self, query=""):
        with urllib.request.urlopen(f"{self.url}state{query}", timeout=5) as response:
            return json.load(response)


@pytest.fixture
def fed():
    fed = Fed()
    yield fed
    fed.dashboard.close()


# What is kept


def test_whoever_asks_again_gets_each_of_the_last_points_once_and_in_order():
    """Against lists: pages that ask at random moments join what they get into the last 5 points of each stream."""
    generator, board = np.random.default_rng(0), Board(points=5)
    told, joined = defaultdict(list), [[], [], []]
    for t in range(200):
        stream = f"s{generator.integers(3)}"
        board.scored([event(stream, float(t), t / 100, np.inf if t % 7 == 0 else 1.0)])
        told[stream].append((float(t), t / 100, None if t % 7 == 0 else 1.0, int(t > 100 and t % 7 != 0)))
        if generator.random() < 0.2:
            shown = [(number, len(points)) for number, points in enumerate(joined)]
            for chart in board.view(shown=shown)["charts"]:
                own = joined[chart["number"]]
                own += [None] * (chart["first"] - len(own))  # Came and went while nobody asked.
                own += zip(chart["times"], chart["scores"], chart["thresholds"], chart["marks"], strict=True)
                assert own[-5:] == told[chart["name"]][-5:]
                assert len(own) == len(told[chart["name"]])
    assert len(told) == 3


def test_ten_thousand_streams_are_listed_in_part_those_with_incidents_first():
    board, incidents = Board(points_for(10_000)), Incidents(["cpu", "disk"], gap_seconds=10.0)
    scores = {f"s{i}": {7777: 1.5, 4242: 5.0, 99: 1.25}.get(i, i / 20_000) for i in range(10_000)}
    events = [event(stream, 1.0, score) for stream, score in scores.items()]
    board.scored(events)
    for incident in incidents.update(events):
        board.incident(incident)
    view = board.view(shown=[(i, 0) for i in range(200)])
    assert [stream["name"] for stream in view["streams"][:4]] == ["s4242", "s7777", "s99", "s0"]
    assert [incident["stream"] for incident in view["incidents"]] == ["s4242", "s7777", "s99"]
    assert (view["matching"], len(view["streams"]), len(view["charts"])) == (10_000, 100, 24)
    assert [stream["name"] for stream in board.view(order="ratio")["streams"][:5]] == [
        *("s4242", "s7777", "s99"),
        *("s9999", "s9998"),
    ]
    found = board.view(search="S77", order="name")
    assert found["matching"] == 111 and found["streams"][1]["name"] == "s770"  # s77, s770 to s779, s7700 to s7799.
    assert len(json.dumps(view)) < 50_000
    assert points_for(10_000) * 10_000 <= 4_000_000


def test_an_open_incident_goes_on_with_alarms_that_are_no_news():
    """At its end the detector tells the same itself."""
    board, incidents = Board(), Incidents(["cpu", "disk"], gap_seconds=10.0)
    scores = [0.5, 1.5, 1.75, 1.25, 0.5, 1.9]
    events = [event("a", float(t), score) for t, score in enumerate(scores)]
    for batch in (events[:3], events[3:]):
        board.scored(batch)
        for incident in incidents.update(batch):
            board.incident(incident)
    (before,) = board.view()["incidents"]
    (ended,) = incidents.update([event("a", 100.0, 0.5)])
    board.incident(ended)
    (after,) = board.view()["incidents"]
    assert (before["end"], before["alarms"], before["peak"], before["ended"]) == (5.0, 4, 1.9, False)
    assert before | {"ended": True} == after


# Who may read it


def test_only_requests_that_name_this_machine_are_answered_and_only_get(fed):
    def status(host, method="GET", path="/state"):
        connection = http.client.HTTPConnection("127.0.0.1", fed.port, timeout=5)
        connection.request(method, path, headers={"Host": host})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    assert fed.url.startswith("http://127.0.0.1:")
    for host in (f"127.0.0.1:{fed.port}", f"localhost:{fed.port}", "[::1]:1"):
        assert status(host) == 200
    for host in ("evil.example", f"evil.example:{fed.port}", "", "127.0.0.1.evil.example", "localhost@evil.example"):
        assert status(host) == 403
        assert status(host, path="/") == 403
    assert [status("localhost", method) for method in ("POST", "PUT", "DELETE")] == [501] * 3
    paths = ("/state?show=x:1", "/state?show=1", "/state?order=worst", "/../sink.py", "/page")
    assert [status("localhost", path=path) for path in paths] == [400, 400, 400, 404, 404]


def test_another_model_is_shown_with_its_own_age(fed):
    assert fed.state()["trained_at"] == "2026-01-01T00:00:00+00:00"
    fed.dashboard.model("2026-02-01T00:00:00+00:00")
    assert fed.state()["trained_at"] == "2026-02-01T00:00:00+00:00"


def test_a_taken_port_is_told_in_one_line_and_a_closed_dashboard_frees_its_own(fed):
    with pytest.raises(OSError, match=rf"^dashboard=127.0.0.1:{fed.port} cannot be opened: .*; give another"):
        Fed(fed.port)
    fed.dashboard.close()
    Fed(fed.port).dashboard.close()


def test_the_files_of_the_page_are_installed_and_the_only_ones():
    """Every file of the package that is no module is among those that setup.cfg names."""
    root, config = Path(fedjax_anomaly.__file__).parent, configparser.ConfigParser()
    config.read(root.parent / "setup.cfg")
    named = {
        path
        for package, patterns in config["options.package_data"].items()
        for pattern in patterns.split(",")
        for path in root.parent.joinpath(*package.split(".")).glob(pattern.strip())
    }
    there = {path for path in root.rglob("*.*") if path.suffix not in (".py", ".pyc") and path.is_file()}
    assert named == there
    assert {path.name for path in named} >= {"page.html", "page.css", "page.js"}


# The page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One for all tests; whoever has none skips them, apart from continuous integration."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        reason = "no chromium and chromedriver are installed (Debian: chromium, chromium-driver)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (*BROWSER_ARGUMENTS, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser):
    page = Page(browser)
    yield page
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


class Page:
    """Looks at the page as a reader does."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, url, width=1280, height=900, scheme="light"):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.browser.get(url)

    def run(self, script, *arguments):
        return self.browser.execute_script(f"return {script}", *arguments)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def texts(self, selector):
        """Of what can be seen."""
        found = "[...document.querySelectorAll(arguments[0])].filter((node) => node.checkVisibility())"
        return [text for text in self.run(f"{found}.map((node) => node.innerText.trim())", selector) if text]

    def attributes(self, selector, name):
        """Of what is drawn anew at any moment, read at one."""
        values = "[...document.querySelectorAll(arguments[0])].map((node) => node.getAttribute(arguments[1]))"
        return self.run(values, selector, name)

    def until(self, condition, seconds=10.0):
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.browser, seconds, poll_frequency=0.05).until(lambda _: condition())

    def complaints(self):
        """Of the console: errors, and what the content security policy has kept away."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


def numbers(path):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", path)]


def test_streams_scores_thresholds_and_incidents_appear_as_they_were_told(page, fed):
    page.open(fed.url)
    page.until(lambda: page.texts("#status") == ["Waiting for events"])
    assert page.texts("#empty h2") == ["Waiting for events"] and not page.texts("#charts")
    # An hour of three streams; the second has an incident of five minutes, the third one that goes on.
    fault = {("b", t): 40.0 for t in range(20, 25)} | {("c", t): 1.5 for t in range(58, 60)}
    for t in range(60):
        fed.feed(*(event(s, DAY + 60.0 * t, fault.get((s, t), 0.1)) for s in "abc"))
    fed.counts.rejected.update({"late": 3, "unknown_stream": 1})
    fed.dashboard.drift(Drift("a", 0, DAY, 0.9))
    page.open(fed.url)
    page.until(lambda: len(page.texts("#cards .name")) == 3)
    assert page.texts("#status") == ["Live"]
    assert page.texts("#list .name") == page.texts("#cards .name") == ["c", "b", "a"]
    totals = dict(zip(page.texts("#totals dt"), page.texts("#totals dd span"), strict=True))
    told = {
        "Streams": "3",
        "Incidents": "1 open",
        "Events": "180",
        "Alarms": "7",
        "Rejected": "4",
        "Drift reports": "1",
    }
    assert totals.items() >= told.items()
    rows = [[cell.text for cell in row.find_elements("css selector", "td")][:-1] for row in page.all("#rows tr")]
    assert rows == [
        ["◆ warning", "c", "2026-01-01 00:58", "ongoing", "1 min", "1.5 (1.50×)", "2"],
        ["▲ critical", "b", "2026-01-01 00:20", "2026-01-01 00:24", "4 min", "40 (40.0×)", "5"],
    ]
    assert page.texts("#rows tr:first-child .shares li") == ["75 %\ncpu", "25 %\ndisk"]

    # The second chart: its axis has whole decades from 0.1 to 100, so that the threshold 1 is a third of the way up.
    chart = "#cards li:nth-child(2) svg"
    lines = [numbers(path)[1] for path in page.attributes(f"{chart} .grid", "d") if "H" in path]
    bottom, top = max(lines), min(lines)
    x, y = np.reshape(numbers(page.attributes(f"{chart} .score", "d")[0]), (60, 2)).T
    np.testing.assert_allclose(np.diff(x), (x[-1] - x[0]) / 59, atol=0.11)
    np.testing.assert_allclose(y[[0, 22]], [bottom, bottom - (bottom - top) * np.log10(400.0) / 3.0], atol=0.11)
    threshold = numbers(page.attributes(f"{chart} .threshold", "d")[0])[1::2]
    np.testing.assert_allclose(threshold, bottom - (bottom - top) / 3.0, atol=0.11)
    marks = page.attributes(f"{chart} .alarms", "d")[0].split("h0")[:-1]
    np.testing.assert_allclose([numbers(mark) for mark in marks], np.stack([x, y], 1)[20:25])
    begin, width = (float(page.attributes(f"{chart} .incident", name)[0]) for name in ("x", "width"))
    np.testing.assert_allclose([begin, begin + width], x[[20, 24]], atol=0.11)

    # What comes later is added to it.
    fed.feed(event("b", DAY + 3600.0, 2.0))
    page.until(lambda: len(numbers(page.attributes(f"{chart} .score", "d")[0])) == 2 * 61)
    assert not page.complaints()


def test_names_are_text_whatever_they_say(page):
    fed = Fed(columns=(HOSTILE, "disk"))
    try:
        fed.feed(event(HOSTILE, DAY, 5.0), event("x" * 5000, DAY, 0.5))
        page.open(fed.url)
        page.until(lambda: page.texts("#rows .shares span"))
        page.all("#list .row")[0].click()
        page.until(lambda: page.texts("#own .shares span"))
        cut = HOSTILE if len(HOSTILE) <= 120 else HOSTILE[:119] + "…"
        for selector in ("#list .name", "#rows .link", "#rows .shares span", "#detail-name"):
            assert page.run("document.querySelector(arguments[0]).textContent", selector) == cut
        assert "taken" not in page.browser.title
        assert page.run("document.querySelectorAll('main script, main img, dialog script, dialog img').length") == 0
        # Were a name to become markup after all, the browser would not run it.
        page.run("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))")
        assert page.run("window.ran") is None
        assert any("Content Security Policy" in complaint for complaint in page.complaints())
    finally:
        fed.dashboard.close()


def test_streams_are_found_ordered_kept_and_opened_by_keyboard(page, fed):
    from selenium.webdriver.common.keys import Keys

    for t in range(3):
        fed.feed(*(event(f"s{i:02}", DAY + t, i / 100) for i in range(20)), event("worst", DAY + t, 9.0))
    page.open(fed.url, scheme="dark", width=390, height=844)
    page.until(lambda: len(page.texts("#cards .name")) == 3)
    assert page.run("document.documentElement.scrollWidth") == 390
    background, ink = (
        sum(numbers(page.run("getComputedStyle(document.body)[arguments[0]]", name))[:3])
        for name in ("backgroundColor", "color")
    )
    assert background < 150 < 600 < ink
    assert page.texts("#list .name")[:2] == ["worst", "s00"]
    page.all("#order option")[1].click()
    page.until(lambda: page.texts("#list .name")[:3] == ["worst", "s19", "s18"])
    search = page.all("#search")[0]
    search.send_keys("S1")
    page.until(lambda: page.texts("#list .name") == [f"s{i}" for i in range(19, 9, -1)])
    # From the search field on: order, the first stream, its pin.
    page.browser.switch_to.active_element.send_keys(Keys.TAB)
    page.browser.switch_to.active_element.send_keys(Keys.TAB)
    page.browser.switch_to.active_element.send_keys(Keys.TAB)
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.until(lambda: "s19" in page.texts("#cards .name"))
    row = page.all("#list .row")[0]
    row.send_keys(Keys.ENTER)
    page.until(lambda: page.texts("#detail-name") == ["s19"] and page.all("#large .score"))
    large = page.all("#large")[0]
    large.send_keys(Keys.ARROW_LEFT)
    assert page.texts("#readout") == ["2026-01-01 00:00:02: score 0.19, threshold 1"]
    large.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.all("dialog[open]"))
    assert page.browser.switch_to.active_element == row
    assert not page.complaints()


def test_a_lost_connection_is_told_and_another_process_begins_anew(page, fed):
    fed.feed(*(event("old", DAY + t, 0.5) for t in range(9)))
    page.open(fed.url)
    page.until(lambda: page.texts("#cards .name") == ["old"])
    fed.dashboard.close()
    page.until(lambda: page.texts("#status") == ["Connection lost"])
    assert "last state" in page.texts("#lost")[0] and page.texts("#cards .name") == ["old"]
    other = Fed(fed.port)
    try:
        other.feed(event("new", DAY, 0.5), event("new", DAY + 1.0, 0.5))
        page.until(lambda: page.texts("#cards .name") == page.texts("#list .name") == ["new"])
        assert not page.texts("#lost")
        assert len(numbers(page.attributes("#cards .score", "d")[0])) == 4
    finally:
        other.dashboard.close()
