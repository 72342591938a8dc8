"""Ten minutes at full speed: memory stays as it is, and nothing is lost to back-pressure."""

import contextlib
import http.client
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.live.bundle import Bundle, write_bundle
from fedjax_anomaly.live.otlp.receiver import OtlpSource
from fedjax_anomaly.live.start import start

SOAK_SECONDS = 600.0
MOST_GROWTH_MIB = 16.0


def resident_mib() -> float:
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) / 1024


class Sender(threading.Thread):
    """Sends requests of 100 events as fast as they are taken, and again where the receiver has no room."""

    def __init__(self, source: OtlpSource, bundle: Bundle) -> None:
        super().__init__(daemon=True)
        self._port, self._bundle = int(source.url.split(":")[2].split("/")[0]), bundle
        self.sent = self.refused = 0
        self.stop = False

    def run(self) -> None:
        rng, minute = np.random.default_rng(0), 0
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port)) as connection:
            while not self.stop:
                body = self._request(minute, rng).SerializeToString()
                minute += 25
                while self._status(connection, body) == 503:
                    self.refused += 1
                    time.sleep(0.01)
                self.sent += 100

    def _request(self, minute: int, rng: np.random.Generator) -> ExportMetricsServiceRequest:
        request = ExportMetricsServiceRequest()
        for name in self._bundle.client_names:
            resource = request.resource_metrics.add()
            resource.resource.attributes.add(key="service.name").value.string_value = name
            metrics = resource.scope_metrics.add().metrics
            for column in self._bundle.column_names:
                points = metrics.add(name=column).gauge.data_points
                for m, value in enumerate(rng.lognormal(size=25), start=minute + 1):
                    points.add(time_unix_nano=60 * 10**9 * m, as_double=value)
        return request

    @staticmethod
    def _status(connection: http.client.HTTPConnection, body: bytes) -> int:
        connection.request("POST", "/v1/metrics", body, {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        assert b"late" not in answer.read()
        return answer.status


@pytest.mark.slow
def test_memory_is_flat_and_every_event_is_scored(bundle, tmp_path):
    assert len(bundle.client_names) == 4  # 25 minutes of each are 100 events.
    write_bundle(tmp_path, bundle)
    source = OtlpSource(bundle.column_names, port=0, most_events=300)
    engine = start(LiveSettings(run=str(tmp_path), write_scores="none", max_batch=64), source)
    sender, begin, memory = Sender(source, bundle), time.monotonic(), []
    sender.start()

    def stop() -> bool:
        """Asked before every read."""
        if time.monotonic() - begin > len(memory) * SOAK_SECONDS / 50:
            memory.append(resident_mib())
        if len(memory) > 50 and not sender.stop:
            sender.stop = True
        return sender.stop and not sender.is_alive()

    counts = engine.run(stop)
    print(
        f"{counts.scored} events, {sender.refused} requests sent again, memory {memory[5]:.0f} to {max(memory[5:]):.0f}"
    )
    assert counts.read == counts.scored == sender.sent > 10_000
    assert max(memory[5:]) - memory[5] < MOST_GROWTH_MIB
