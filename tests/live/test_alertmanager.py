import json
import time

import pytest

from fedjax_anomaly.live.alertmanager import Alertmanager, Deliveries, alert
from fedjax_anomaly.live.incidents import Incident
from tests.live.webhook import server
from tests.ports import free_port

FAST = {"first_pause_seconds": 0.01, "longest_pause_seconds": 0.05, "timeout_seconds": 2.0}
INCIDENT = Incident(
    "node-3", 3, 1.7e9, 1.7e9 + 30.5, 1.7e9 + 10, 3.0, 1.0, "warning", 4, {"cpu": 0.75, "disk": 0.25}, False
)


def wait_until(condition):
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_alert_has_the_fields_of_the_api():
    # As `postableAlert` of Alertmanager's openapi.yaml: labels and annotations are strings, times are RFC 3339.
    entry = alert(INCIDENT)
    assert entry["labels"] == {"alertname": "Anomaly", "stream": "node-3", "client": "3", "severity": "warning"}
    assert all(isinstance(value, str) for value in entry["annotations"].values())
    assert entry["annotations"]["summary"] == "node-3: 4 alarms, driven by cpu 75%, disk 25%"
    assert entry["startsAt"] == "2023-11-14T22:13:20Z"
    assert "endsAt" not in entry
    assert alert(INCIDENT._replace(ended=True))["endsAt"] == "2023-11-14T22:13:50.500000Z"
    assert alert(INCIDENT._replace(start=-1e30, end=1e300, ended=True))["startsAt"] == "1970-01-01T00:00:00Z"


def test_an_answer_that_passes_is_tried_again_until_it_is_accepted():
    with server([503, 429, 500]) as (url, accepted):
        sink = Alertmanager(url, **FAST)
        sink.incident(INCIDENT)
        wait_until(lambda: sink.deliveries == Deliveries(1, 0, 0))
        sink.close()
    assert accepted == [[alert(INCIDENT)]]


def test_while_nobody_listens_the_newest_states_wait_and_scoring_does_not():
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v2/alerts"
    sink = Alertmanager(url, capacity=3, **FAST)
    begin = time.monotonic()
    for i in range(5):
        sink.incident(INCIDENT._replace(stream=f"node-{i}"))
    newest = INCIDENT._replace(stream="node-4", num_alarms=9, ended=True)
    sink.incident(newest)
    assert time.monotonic() - begin < 0.5
    assert sink.deliveries == Deliveries(0, 3, 2)
    with server([], port) as (_, accepted):
        wait_until(lambda: sink.deliveries.waiting == 0)
        with pytest.warns(UserWarning, match="2 alerts could not be sent"):
            sink.close()
    expected = [alert(INCIDENT._replace(stream=f"node-{i}")) for i in (2, 3)] + [alert(newest)]
    assert [entry for batch in accepted for entry in batch] == expected


def test_what_waits_is_sent_by_the_next_process():
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v2/alerts"
    killed = Alertmanager(url, **FAST)
    for i in range(3):
        killed.incident(INCIDENT._replace(stream=f"node-{i}", ended=True))
    state = json.loads(json.dumps(killed.snapshot()))
    with pytest.warns(UserWarning, match="3 alerts could not be sent"):
        killed.close()
    with server([], port) as (_, accepted):
        sink = Alertmanager(url, **FAST)
        sink.restore(state)
        wait_until(lambda: sink.deliveries == Deliveries(3, 0, 0))
        assert sink.snapshot() == []
        sink.close()
    expected = [alert(INCIDENT._replace(stream=f"node-{i}", ended=True)) for i in range(3)]
    assert [entry for batch in accepted for entry in batch] == expected


def test_what_the_other_side_refuses_for_good_is_dropped():
    with server([400]) as (url, accepted):
        sink = Alertmanager(url, **FAST)
        sink.incident(INCIDENT)
        wait_until(lambda: sink.deliveries == Deliveries(0, 0, 1))
        sink.incident(INCIDENT._replace(stream="other"))
        with pytest.warns(UserWarning, match="1 alerts could not be sent"):
            sink.close()
    assert [entry["labels"]["stream"] for batch in accepted for entry in batch] == ["other"]


def test_open_incidents_are_repeated_and_a_critical_one_replaces_its_warning():
    with server([]) as (url, accepted):
        sink = Alertmanager(url, repeat_seconds=0.05, **FAST)
        sink.incident(INCIDENT)
        wait_until(lambda: len(accepted) >= 3)
        assert all(batch == [alert(INCIDENT)] for batch in accepted[:3])
        sink.incident(INCIDENT._replace(severity="critical"))
        wait_until(lambda: len({entry["labels"]["severity"] for batch in accepted for entry in batch}) == 2)
        sink.incident(INCIDENT._replace(severity="critical", ended=True))
        wait_until(lambda: sink.deliveries.waiting == 0)
        count = len(accepted)
        time.sleep(0.15)
        assert len(accepted) == count
        sink.close()
    last = {entry["labels"]["severity"]: entry for batch in accepted for entry in batch}
    assert "endsAt" in last["warning"]
    assert "endsAt" in last["critical"]


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="webhook=localhost"):
        Alertmanager("localhost:9093")
    with pytest.raises(ValueError, match="capacity=0"):
        Alertmanager("http://127.0.0.1:9", capacity=0)
