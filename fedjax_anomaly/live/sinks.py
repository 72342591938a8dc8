"""Where decisions go: incidents as JSON lines, and figures for Prometheus. The webhook has a file of its own."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fedjax_anomaly.live.drift import Drift
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import ScoredEvent, Sink
from fedjax_anomaly.live.outputs import GrowingFile

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class IncidentLines(Sink):
    """Writes a JSON line whenever an incident begins, becomes critical or ends; its `start` stays the same."""

    def __init__(self, file: GrowingFile) -> None:
        self._file = file

    def incident(self, incident: Incident) -> None:
        """Adds a line."""
        self._file.write(json.dumps(incident._asdict()).encode() + b"\n")


class PrometheusEndpoint(Sink):
    """Serves figures of every stream to Prometheus, at http://ADDRESS:PORT/metrics.

    Counters begin at zero with every process, as Prometheus expects, apart from that of rejected events, which goes on.
    """

    def __init__(
        self,
        port: int,
        *,
        address: str = "127.0.0.1",
        trained_at: str,
        rejected: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Starts serving.

        Args:
          port: to listen on; 0 takes a free one.
          address: to listen on; the loopback interface unless told otherwise, as there is no access control.
          trained_at: when the model was trained, ISO 8601, for its age.
          rejected: how many events were rejected by reason; asked for when Prometheus asks.

        Raises:
          ImportError: when `prometheus-client` is not installed.
          OSError: when the port is taken.

        Guarantees:
          What Prometheus reads are the counts of what was given (test:
          `tests/live/test_sinks.py::test_prometheus_reads_what_was_given`).
        """
        try:
            import prometheus_client as prometheus
            from prometheus_client.core import CounterMetricFamily
        except ImportError as error:
            raise ImportError(
                "the Prometheus endpoint needs prometheus-client: pip install 'fedjax_anomaly[live]'."
            ) from error
        registry = prometheus.CollectorRegistry()

        def per_stream(kind: type, name: str, text: str) -> Any:
            return kind(f"fedjax_anomaly_{name}", text, ["stream"], registry=registry)

        self._events = per_stream(prometheus.Counter, "events", "Events scored.")
        self._alarms = per_stream(prometheus.Counter, "alarms", "Events that were alarms.")
        self._incidents = per_stream(prometheus.Counter, "incidents", "Incidents that have begun.")
        self._drifts = per_stream(prometheus.Counter, "drifts", "Changes of the scores that were no alarms.")
        self._open = per_stream(prometheus.Gauge, "open_incidents", "Incidents that have not ended.")
        self._score = per_stream(prometheus.Gauge, "score", "Of the last event.")
        self._threshold = per_stream(prometheus.Gauge, "threshold", "Of the last event.")
        self._latency = prometheus.Histogram(
            "fedjax_anomaly_latency_seconds",
            "From when the source handed an event over to its decision.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._trained = datetime.fromisoformat(trained_at).timestamp()
        age = prometheus.Gauge("fedjax_anomaly_model_age_seconds", "Since the end of training.", registry=registry)
        age.set_function(lambda: time.time() - self._trained)

        class Rejected:
            def collect(self) -> list[CounterMetricFamily]:
                family = CounterMetricFamily("fedjax_anomaly_rejected", "Events rejected.", labels=["reason"])
                for reason, number in rejected().items():
                    family.add_metric([reason], number)
                return [family]

        registry.register(Rejected())
        self._server, self._thread = prometheus.start_http_server(port, address, registry)
        self._is_open: dict[str, bool] = {}

    @property
    def port(self) -> int:
        """That it listens on."""
        return self._server.server_port

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        """Counts some events."""
        last = {event.stream: event for event in events}
        for stream, number in Counter(event.stream for event in events).items():
            self._events.labels(stream).inc(number)
            self._score.labels(stream).set(last[stream].score)
            self._threshold.labels(stream).set(last[stream].threshold)
        for stream, number in Counter(event.stream for event in events if event.alarm).items():
            self._alarms.labels(stream).inc(number)
        for event in events:
            self._latency.observe(event.latency_seconds)

    def incident(self, incident: Incident) -> None:
        """Counts an incident when it is first told of."""
        if not incident.ended and not self._is_open.get(incident.stream, False):
            self._incidents.labels(incident.stream).inc()
        self._is_open[incident.stream] = not incident.ended
        self._open.labels(incident.stream).set(not incident.ended)

    def reopened(self, incident: Incident) -> None:
        """Shows it as open, without counting it again."""
        self._is_open[incident.stream] = True
        self._open.labels(incident.stream).set(1)

    def drift(self, drift: Drift) -> None:
        """Counts a change."""
        self._drifts.labels(drift.stream).inc()

    def model(self, trained_at: str) -> None:
        """Its age is from then on."""
        self._trained = datetime.fromisoformat(trained_at).timestamp()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
