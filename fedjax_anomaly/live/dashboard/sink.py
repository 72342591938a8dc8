"""The sink that serves the dashboard: a few files, and what has changed as JSON."""

import http.server
import ipaddress
import json
import secrets
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fedjax_anomaly.live.addresses import LOOPBACK
from fedjax_anomaly.live.dashboard.board import Board, Order
from fedjax_anomaly.live.drift import Drift
from fedjax_anomaly.live.http_server import BoundedServer
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import ScoredEvent, Sink

if TYPE_CHECKING:
    from fedjax_anomaly.live.engine import Counts

_SCRIPT = "text/javascript; charset=utf-8"
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{name}.js": (f"{name}.js", _SCRIPT) for name in ("page", "elements", "chart", "text")},
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_MOST_CONNECTIONS = 64
_IDLE_SECONDS = 10.0


class Dashboard(Sink):
    """Serves one page with the streams, their scores and thresholds, and incidents, at http://HOST:PORT/.

    The page asks once a second for what has changed. There is no login: who reaches the port sees all of it. A request
    must name this machine by an IP address, as localhost or as `host` was given, so that a web page elsewhere whose
    name is made to lead here (DNS rebinding) reads nothing.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = LOOPBACK,
        run: str,
        trained_at: str,
        timed: bool = True,
        board: Board | None = None,
        counts: Callable[[], "Counts"],
    ) -> None:
        """Starts serving.

        Args:
          port: to listen on; 0 takes a free one, see `url`.
          host: to listen on; the loopback interface unless told otherwise.
          run: its name.
          trained_at: when the model was trained, ISO 8601, for its age.
          timed: whether events have times; otherwise these are places in the order of arrival.
          board: what is kept; None takes one of the usual size.
          counts: of records since the first start; asked for when a page asks.

        Raises:
          OSError: when the port cannot be opened.

        Guarantees:
          See `tests/live/test_dashboard.py`, in a real browser.
        """
        self._board = Board() if board is None else board
        self._counts = counts
        self._about = {"process": secrets.token_hex(8), "run": run, "trained_at": trained_at, "timed": timed}
        try:
            self._server = _Server((host, port), _Handler, most_connections=_MOST_CONNECTIONS, retry_seconds=1)
        except OSError as error:
            raise OSError(
                f"dashboard={host}:{port} cannot be opened: {error.strerror}; give another address."
            ) from error
        self._server.names = {"localhost", host.lower()}
        self._server.state = self._state
        self.url = f"http://{host}:{self._server.server_address[1]}/"
        self._server.serve("dashboard")

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        """Takes some events."""
        self._board.scored(events)

    def incident(self, incident: Incident) -> None:
        """Takes an incident's news."""
        self._board.incident(incident)

    def reopened(self, incident: Incident) -> None:
        """Shows it as open."""
        self._board.incident(incident)

    def drift(self, drift: Drift) -> None:
        """Takes a change."""
        self._board.drift(drift)

    def model(self, trained_at: str) -> None:
        """Its age is from then on."""
        self._about = self._about | {"trained_at": trained_at}

    def close(self) -> None:
        """Stops serving; pages that are open keep what they show and say that the connection is lost."""
        self._server.close()

    def _state(self, query: dict[str, list[str]]) -> bytes:
        """What a page asks for.

        Raises:
          ValueError: when the query is none.
        """
        order: Any = query.get("order", ["severity"])[-1]
        if order not in get_args(Order):
            raise ValueError(f"order={order} must be one of {', '.join(get_args(Order))}.")
        shown = []
        for pair in query.get("show", []):
            number, _, known = pair.partition(":")
            if not (number + known).isascii() or not number.isdecimal() or not known.isdecimal():
                raise ValueError(f"show={pair} must be a stream's number and that of the points known, as in 3:120.")
            shown.append((int(number), int(known)))
        view = self._board.view(search=query.get("search", [""])[-1], order=order, shown=shown)
        counts = self._counts()
        view["counts"] = {"scored": counts.scored, "alarms": counts.alarms, "rejected": dict(counts.rejected)}
        return json.dumps(self._about | view, allow_nan=False).encode()


class _Server(BoundedServer):
    """With what its connections need."""

    names: set[str]
    state: Callable[[dict[str, list[str]]], bytes]


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request; the connection ends with it."""

    timeout = _IDLE_SECONDS
    server: _Server

    def do_GET(self) -> None:
        """Answers a request."""
        path, _, query = self.path.partition("?")
        if not self._is_for_us():
            self._answer(403, b"The host of this request is not this machine.\n")
        elif path == "/state":
            try:
                state = self.server.state(urllib.parse.parse_qs(query, max_num_fields=100))
                self._answer(200, state, "application/json")
            except ValueError as error:
                self._answer(400, f"{error}\n".encode())
        elif path in _FILES:
            name, content_type = _FILES[path]
            self._answer(200, Path(__file__).with_name(name).read_bytes(), content_type)
        else:
            self._answer(404, b"There is no such page.\n")

    def _is_for_us(self) -> bool:
        """Whether the request names this machine; a name of somebody else's may have been made to lead here."""
        host = urllib.parse.urlsplit("//" + self.headers.get("Host", "")).hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host in self.server.names
        return True

    def _answer(self, code: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(code)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Standard error is not for requests."""
