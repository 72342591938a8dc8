"""The receiver, fed by the real OpenTelemetry SDK and by hand."""

import contextlib
import gzip
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import DataPointFlags
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.otlp.receiver import OtlpSource
from fedjax_anomaly.live.start import open_source, start
from tests.ports import free_port

COLUMNS = ("cpu", "requests", "seconds.sum", "seconds.count", "region")


@pytest.fixture
def source() -> Iterator[OtlpSource]:
    source = OtlpSource(COLUMNS, port=0, most_events=2, sums_as="cumulative")
    yield source
    source.close()


class Service:
    """A service that measures itself with the SDK, in requests of two points each."""

    def __init__(self, url: str, compression: Compression = Compression.Gzip, *, delta: bool = False) -> None:
        kinds = (Counter, Histogram) if delta else ()
        temporality = dict.fromkeys(kinds, AggregationTemporality.DELTA)
        exporter = OTLPMetricExporter(
            url, compression=compression, max_export_batch_size=2, preferred_temporality=temporality
        )
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3.6e6)
        resource = Resource({"service.name": "cart", "region": "eu"})
        self.provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        meter = self.provider.get_meter("test")
        self.cpu, self.requests = meter.create_gauge("cpu"), meter.create_counter("requests")
        self.seconds, self.other = meter.create_histogram("seconds"), meter.create_gauge("not_a_column")

    def measure(self, cpu: float) -> bool:
        self.cpu.set(cpu)
        self.requests.add(3)
        self.seconds.record(0.25)
        self.seconds.record(0.5)
        self.other.set(1.0)
        return self.provider.force_flush()


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def post(source: OtlpSource, body: bytes, path: str | None = None, **headers: str) -> Answer:
    url = urllib.parse.urlsplit(source.url)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=30.0)) as connection:
        connection.request("POST", path or url.path, body, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def request_of(*points: dict, stream: str | None = "cart") -> ExportMetricsServiceRequest:
    """The gauge `cpu` with some points."""
    attributes = [{"key": "service.name", "value": {"stringValue": stream}}] if stream else []
    metrics = [{"name": "cpu", "gauge": {"dataPoints": list(points)}}]
    resource = {"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": metrics}]}
    return json_format.ParseDict({"resourceMetrics": [resource]}, ExportMetricsServiceRequest())


def test_the_sdk_exports_whole_events(source):
    service = Service(source.url)
    assert service.measure(0.5)
    assert service.measure(0.75)
    records = source.read(10, 30.0)
    service.provider.shutdown()
    first, second = (record.fields for record in records)
    common = {"stream": "cart", "region": "eu"}
    assert {**first, "time": 0} == {
        **common,
        "time": 0,
        "cpu": 0.5,
        "requests": 3,
        "seconds.sum": 0.75,
        "seconds.count": 2,
    }
    # Counters and histograms are cumulative as the SDK exports them.
    assert (second["requests"], second["seconds.sum"], second["cpu"]) == (6, 1.5, 0.75)
    assert first["time"] < second["time"]
    assert json.loads(records[0].raw) == first


def test_changes_are_those_of_the_sdks_own_deltas():
    """The same measurements, by a service that exports cumulative sums and one that exports deltas; both begin anew."""
    found = []
    for delta in (False, True):
        source = OtlpSource(COLUMNS, port=0, join_seconds=0.01)
        for process in range(2):
            service = Service(source.url, delta=delta)
            for i in range(3):
                service.requests.add(10 * process + i)
                assert service.measure(float(i))
                time.sleep(0.02)
            service.provider.shutdown()  # Exports once more.
            time.sleep(0.02)
        source.close()
        records = source.read(100, 0.0)
        found.append([{**record.fields, "time": 0.0} for record in records if set(COLUMNS) <= set(record.fields)])
    changes, deltas = found
    assert [event["requests"] for event in deltas] == [3, 4, 5, 13, 14, 15]
    # The first point of a series gives no change; a shutdown exports sums that have not changed, and no deltas.
    assert [event["requests"] for event in changes] == [4, 5, 0, 13, 14, 15, 0]
    assert [event for event in changes if event["requests"]] == deltas[1:]


def test_a_full_buffer_makes_the_sdk_wait_and_loses_nothing(source):
    service = Service(source.url, Compression.NoCompression)
    results = []
    sender = threading.Thread(target=lambda: results.extend(service.measure(float(i)) for i in range(4)))
    sender.start()
    found = []
    while len(found) < 4:
        sender.join(0.3 if len(found) < 2 else 0.0)  # Lets the buffer of two events fill up.
        found += source.read(1, 30.0)
    sender.join()
    service.provider.shutdown()
    assert [record.fields["cpu"] for record in found] == [0.0, 1.0, 2.0, 3.0]
    assert results == [True] * 4


def test_json_is_answered_in_json_and_refused_points_are_counted(source):
    good, late = {"timeUnixNano": "1000000000", "asDouble": 1.0}, {"asInt": "3"}
    gap = {"timeUnixNano": "2000000000", "flags": DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK}
    body = json.loads(json_format.MessageToJson(request_of(good, late, gap))) | {"unknown": 1}
    answer = post(
        source,
        gzip.compress(json.dumps(body).encode()),
        Content_Type="application/json; charset=utf-8",
        Content_Encoding="gzip",
    )
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(answer.body) == {
        "partialSuccess": {"rejectedDataPoints": "1", "errorMessage": "a data point has no time"}
    }
    nameless = post(source, request_of(good, stream=None).SerializeToString(), Content_Type="application/x-protobuf")
    told = ExportMetricsServiceResponse.FromString(nameless.body).partial_success
    assert (told.rejected_data_points, told.error_message) == (1, "the resource has no attribute service.name")
    fine = post(source, request_of(good).SerializeToString(), Content_Type="application/x-protobuf")
    assert not ExportMetricsServiceResponse.FromString(fine.body).HasField("partial_success")


def test_what_cannot_be_taken_in_is_answered_as_the_protocol_says(source):
    proto = {"Content_Type": "application/x-protobuf"}
    full = request_of(*({"timeUnixNano": str(t * 10**9), "asDouble": 1.0} for t in (1, 2)))
    assert post(source, full.SerializeToString(), **proto).status == 200
    later = request_of({"timeUnixNano": "3000000000", "asDouble": 1.0}).SerializeToString()
    busy = post(source, later, **proto)
    assert (busy.status, busy.headers["Retry-After"]) == (503, "1")
    three = request_of(*({"timeUnixNano": str(t * 10**9), "asDouble": 1.0} for t in (4, 5, 6)))
    assert post(source, three.SerializeToString(), **proto).status == 413
    assert post(source, b"\xff\xff", **proto).status == 400
    assert post(source, b"{", Content_Type="application/json").status == 400
    assert post(source, b"no gzip", Content_Encoding="gzip", **proto).status == 400
    bomb = gzip.compress(bytes(17 << 20))
    assert post(source, bomb, Content_Encoding="gzip", **proto).status == 413
    assert post(source, b"", Content_Type="text/plain").status == 415
    assert post(source, b"", path="/v1/traces", **proto).status == 404
    with contextlib.closing(http.client.HTTPConnection(urllib.parse.urlsplit(source.url).netloc)) as connection:
        connection.putrequest("POST", "/v1/metrics")
        connection.endheaders()
        assert connection.getresponse().status == 411


def test_points_of_one_metric_are_told_apart_by_chosen_attributes():
    columns = ("cpu{core=0}", "cpu{core=1}")
    source = OtlpSource(columns, port=0, point_attributes=("core",))
    cores = [
        {"timeUnixNano": "5", "asDouble": float(c), "attributes": [{"key": "core", "value": {"intValue": str(c)}}]}
        for c in (0, 1)
    ]
    post(source, request_of(*cores).SerializeToString(), Content_Type="application/x-protobuf")
    source.close()
    (record,) = source.read(5, 0.0)
    assert {name: record.fields[name] for name in columns} == {"cpu{core=0}": 0.0, "cpu{core=1}": 1.0}
    assert source.read(5, 0.0) is None


def test_what_the_sdk_exports_is_scored(bundle, tmp_path):
    """From the SDK's instruments to lines of scores; at the end nothing is left unscored."""
    write_bundle(tmp_path, bundle)
    port = free_port()
    engine = start(LiveSettings(run=str(tmp_path), source=f"otlp://127.0.0.1:{port}", max_batch=4))
    exporter = OTLPMetricExporter(f"http://127.0.0.1:{port}/v1/metrics", max_export_batch_size=5)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3.6e6)
    resource = Resource({"service.name": bundle.client_names[2]})
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    gauges = [provider.get_meter("test").create_gauge(name) for name in bundle.column_names]
    for value in (1.0, 2.0):
        for gauge in gauges:
            gauge.set(value)
        assert provider.force_flush()
    provider.shutdown()  # Exports the last values once more.
    counts = engine.run(stop_requested=lambda: True)
    assert (counts.read, counts.scored) == (3, 3)
    scores = [json.loads(line) for line in (tmp_path / "live" / "scores.jsonl").read_text().splitlines()]
    assert [line["stream"] for line in scores] == [bundle.client_names[2]] * 3
    assert scores[0]["time"] < scores[1]["time"] < scores[2]["time"]


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"source=otlp://4318 must be as in"):
        open_source(LiveSettings(run="any", source="otlp://4318"), COLUMNS)
