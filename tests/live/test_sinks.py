import json
import time
import urllib.request
from datetime import UTC, datetime

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedjax_anomaly.live.drift import Drift
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import ScoredEvent
from fedjax_anomaly.live.outputs import GrowingFile
from fedjax_anomaly.live.sinks import IncidentLines, PrometheusEndpoint

INCIDENT = Incident("a", 0, 10.0, 12.0, 11.0, 3.0, 1.0, "critical", 2, {"cpu": 0.75, "disk": 0.25}, False)


def event(stream, score, latency):
    return ScoredEvent(stream, 0, 1.0, 0, score, 1.0, score > 1.0, np.zeros(2, np.float32), latency)


def test_incidents_are_read_back_as_they_were_told(tmp_path):
    file = GrowingFile(tmp_path / "incidents.jsonl")
    sink = IncidentLines(file)
    for incident in (INCIDENT, INCIDENT._replace(end=20.0, ended=True)):
        sink.incident(incident)
    file.close()
    lines = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert [Incident(**line) for line in lines] == [INCIDENT, INCIDENT._replace(end=20.0, ended=True)]


def test_prometheus_reads_what_was_given():
    trained = datetime.fromtimestamp(time.time() - 3600.0, UTC).isoformat()
    sink = PrometheusEndpoint(0, trained_at=trained, rejected=lambda: {"late": 3})
    try:
        sink.scored([event("a", 0.5, 0.0003), event("b", 2.0, 0.0003), event("a", 1.5, 0.0003)])
        sink.scored([event("a", 0.25, 0.03)])
        sink.incident(INCIDENT._replace(severity="warning"))
        sink.incident(INCIDENT)
        sink.drift(Drift("a", 0, 5.0, 0.8))
        text = urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=5).read().decode()
        sink.incident(INCIDENT._replace(ended=True))
        later = urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=5).read().decode()
    finally:
        sink.close()

    def value(name, text=text, **labels):
        return next(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"fedjax_anomaly_{name}" and sample.labels == labels
        )

    assert [value("events_total", stream=s) for s in "ab"] == [3, 1]
    assert [value("alarms_total", stream=s) for s in "ab"] == [1, 1]
    assert [value("score", stream=s) for s in "ab"] == [0.25, 2.0]
    assert value("threshold", stream="a") == 1.0
    assert value("rejected_total", reason="late") == 3
    assert value("incidents_total", stream="a") == value("open_incidents", stream="a") == 1
    assert value("open_incidents", later, stream="a") == 0
    assert value("drifts_total", stream="a") == 1
    assert value("model_age_seconds") == pytest.approx(3600.0, abs=30.0)
    assert [value("latency_seconds_bucket", le=bound) for bound in ("0.00025", "0.0005", "0.05")] == [0, 3, 4]
    assert value("latency_seconds_count") == 4


def test_the_endpoint_listens_on_the_loopback_interface_and_frees_its_port():
    sink = PrometheusEndpoint(0, trained_at="2026-01-01T00:00:00+00:00")
    port = sink.port
    assert sink._server.server_address[0] == "127.0.0.1"
    sink.close()
    PrometheusEndpoint(port, trained_at="2026-01-01T00:00:00+00:00").close()
