"""A source that any OpenTelemetry SDK, Collector or agent can send its metrics to: OTLP over HTTP."""

import http.server
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fedjax_anomaly.live.http_server import BoundedServer
from fedjax_anomaly.live.interfaces import Record
from fedjax_anomaly.live.otlp.events import EventBuffer, Full
from fedjax_anomaly.live.otlp.points import (
    JSON,
    PROTOBUF,
    Malformed,
    TooLarge,
    export_response,
    parse_request,
    points_of,
    serialized,
    status,
    unzipped,
)
from fedjax_anomaly.live.otlp.sums import Sums, SumsAs

if TYPE_CHECKING:
    from google.protobuf.message import Message

PATH = "/v1/metrics"

_MOST_BODY_BYTES = 16 << 20
_MOST_CONNECTIONS = 256
_IDLE_SECONDS = 30.0
_RETRY_AFTER_SECONDS = 1


class OtlpSource:
    """Receives `POST /v1/metrics` and gives the events in it as records.

    All points of one resource at one time are one event. Requests may divide it in any way; see `EventBuffer` for when
    it is complete, and `points_of` for what becomes of each kind of metric.

    Answers are those of the protocol: 200 with `ExportMetricsServiceResponse`, whose `partial_success` counts and
    explains rejected points; 400 for a body that is no request, which must not be sent again; 503 with Retry-After when
    the buffer is full; 413 where dividing helps; 404, 411 and 415 for what was never a request. There is no
    authentication: leave it on loopback, or put a Collector before it. What was acknowledged and not yet scored is lost
    with a killed process: a receiver cannot ask for it again.

    Guarantees:
      What the OpenTelemetry SDK exports comes out as whole events, and what does not fit is sent again by it (tests:
      `tests/live/otlp/test_receiver.py::test_the_sdk_exports_whole_events`,
      `tests/live/otlp/test_receiver.py::test_a_full_buffer_makes_the_sdk_wait_and_loses_nothing`).

    References:
      OpenTelemetry Protocol Specification 1.x, section "OTLP/HTTP".
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        host: str = "127.0.0.1",
        port: int = 4318,
        stream_attributes: Sequence[str] = ("service.name",),
        point_attributes: Sequence[str] = (),
        most_events: int = 10_000,
        gather_seconds: float = 5.0,
        join_seconds: float = 0.05,
        sums_as: SumsAs = "delta",
    ) -> None:
        """Opens the port and begins to receive.

        Args:
          columns: those that an event must have; other metrics are left out.
          host: to listen on.
          port: to listen on; 0 takes a free one, see `url`.
          stream_attributes: see `points_of`.
          point_attributes: see `points_of`.
          most_events: in the buffer; a full one makes senders wait.
          gather_seconds: for which an event waits for its columns.
          join_seconds: between points that are of one time; less than half of the time between two events.
          sums_as: what becomes of monotonic sums, histograms and summaries, see `Sums`.

        Raises:
          ValueError: for settings out of range.
          OSError: when the port cannot be opened.
        """
        if not stream_attributes:
            raise ValueError("stream_attributes is empty; name at least one attribute of the resource.")
        if most_events < 1 or not gather_seconds > 0.0 or not join_seconds >= 0.0:
            raise ValueError(
                f"most_events={most_events} must be at least 1, gather_seconds={gather_seconds} positive and "
                f"join_seconds={join_seconds} not negative."
            )
        self._buffer = EventBuffer(
            columns, most_events=most_events, gather_seconds=gather_seconds, join_seconds=join_seconds
        )
        self._sums, self._one_request = Sums(sums_as, columns), threading.Lock()
        self._attributes = tuple(stream_attributes), tuple(point_attributes)
        self._server = _Server(
            (host, port), _Handler, most_connections=_MOST_CONNECTIONS, retry_seconds=_RETRY_AFTER_SECONDS
        )
        self._server.receive = self._receive
        self.url = f"http://{host}:{self._server.server_address[1]}{PATH}"
        self._server.serve("otlp")

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """See `interfaces.Source`."""
        return self._buffer.read(most, timeout_seconds)

    def close(self) -> None:
        """Takes in nothing more; what has been acknowledged can still be read."""
        self._buffer.close()
        self._server.close()

    def _receive(self, body: bytes, content_type: str) -> "Message":
        """Takes in a request; returns the answer."""
        found = points_of(parse_request(body, content_type), *self._attributes)
        with self._one_request:
            points, refused, last = self._sums.convert(found.points)
            refused |= self._buffer.take(points)
            self._sums.keep(last)
        return export_response(found.refused | refused)


class _Server(BoundedServer):
    """With what to do with a request."""

    receive: Any


class _Refused(Exception):
    """What was sent is no request to this server."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        """Answers a request."""
        content_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        try:
            answer = self.server.receive(self._content(self._body(), content_type), content_type)
            self._answer(200, answer, content_type)
        except _Refused as refused:
            self._answer(refused.code, status(str(refused)), content_type)
        except TooLarge as error:
            self._answer(413, status(str(error)), content_type)
        except Malformed as error:
            self._answer(400, status(str(error)), content_type)
        except Full as full:
            self._answer(503, status(str(full)), content_type)

    def _body(self) -> bytes:
        """As it was sent. Where it is not read the connection is closed: it would be taken for the next request."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST_BODY_BYTES:
            self.close_connection = True
            if length.isdecimal():
                raise TooLarge(f"the body is larger than {_MOST_BODY_BYTES} bytes")
            raise _Refused(411, "the length of the body must be given")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise Malformed("the body ends too early")
        return body

    def _content(self, body: bytes, content_type: str) -> bytes:
        if self.path.partition("?")[0] != PATH:
            raise _Refused(404, f"only {PATH} is here")
        if content_type not in (PROTOBUF, JSON):
            raise _Refused(415, f"the content type must be {PROTOBUF} or {JSON}")
        encoding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise _Refused(415, "the content encoding must be gzip or identity")
        return unzipped(body, _MOST_BODY_BYTES) if encoding == "gzip" else body

    def _answer(self, code: int, message: "Message", content_type: str) -> None:
        content_type = content_type if content_type == JSON else PROTOBUF
        body = serialized(message, content_type)
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if code == 503:
            self.send_header("Retry-After", str(_RETRY_AFTER_SECONDS))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Standard error is not for requests."""
