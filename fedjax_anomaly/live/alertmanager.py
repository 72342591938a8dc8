"""Incidents as alerts for Prometheus' Alertmanager, or anything that takes its format over HTTP."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import Sink

_TOLD_COLUMNS = 3
_TEMPORARY = {408, 425, 429}
_LAST_SECOND = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class Deliveries(NamedTuple):
    """What has become of alerts.

    Attributes:
      delivered: accepted by the other side; an alert counts once for every change of it, and every repetition.
      waiting: to be sent, or to be sent again.
      dropped: never to be sent: refused by the other side, or the oldest when too many were waiting.
    """

    delivered: int
    waiting: int
    dropped: int


class Alertmanager(Sink):
    """Posts incidents to Alertmanager, in a thread of its own.

    An alert waits until it was accepted; while the other side does not answer, or answers 5xx, 408, 425 or 429, the
    same is tried again after a pause that doubles from one attempt to the next. Only the newest state of an alert
    waits, and at most `capacity` alerts do; beyond that the oldest is dropped, counted, and warned of. Scoring never
    waits. Whatever happens here, every incident is in incidents.jsonl.

    Open incidents are sent again at intervals, as Alertmanager takes an alert for resolved that it no longer hears of.
    After a restart those that are still open are sent again, and so is what waited when the state was stored: every
    alert arrives at least once. Alertmanager takes two with the same labels for one.
    """

    def __init__(
        self,
        url: str,
        *,
        capacity: int = 1000,
        repeat_seconds: float = 60.0,
        timeout_seconds: float = 5.0,
        first_pause_seconds: float = 0.5,
        longest_pause_seconds: float = 60.0,
    ) -> None:
        """Starts the thread.

        Args:
          url: that alerts are posted to, such as http://127.0.0.1:9093/api/v2/alerts.
          capacity: alerts that may wait.
          repeat_seconds: between two times that an open incident is sent.
          timeout_seconds: for an answer, and for all that waits when closing.
          first_pause_seconds: before the second attempt.
          longest_pause_seconds: between two attempts.

        Raises:
          ValueError: when the URL is not one of HTTP, or `capacity` is less than 1.

        Guarantees:
          See `tests/live/test_alertmanager.py`.

        References:
          Alertmanager's API v2, `POST /api/v2/alerts`:
          https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"webhook={url} must begin with http:// or https://.")
        if capacity < 1:
            raise ValueError(f"capacity={capacity} must be at least 1.")
        self._url, self._capacity, self._repeat = url, capacity, repeat_seconds
        self._timeout, self._pauses = timeout_seconds, (first_pause_seconds, longest_pause_seconds)
        self._waiting: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._open: dict[str, Incident] = {}
        self._delivered = self._dropped = 0
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="alertmanager", daemon=True)
        self._thread.start()

    @property
    def deliveries(self) -> Deliveries:
        """What has become of alerts so far."""
        with self._news:
            return Deliveries(self._delivered, len(self._waiting), self._dropped)

    def incident(self, incident: Incident) -> None:
        """Sends an incident's news; one that has become critical ends as a warning and begins as critical."""
        with self._news:
            before = self._open.pop(incident.stream, None)
            if before is not None and before.severity != incident.severity:
                self._put(alert(before._replace(ended=True)))
            if not incident.ended:
                self._open[incident.stream] = incident
            self._put(alert(incident))
            self._news.notify()

    def reopened(self, incident: Incident) -> None:
        """Sends it again."""
        self.incident(incident)

    def snapshot(self) -> list[dict[str, Any]]:
        """The alerts that wait, the oldest first; none of them changes any more."""
        with self._news:
            return list(self._waiting.values())

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Sends what waited."""
        with self._news:
            for entry in state:
                self._put(entry)
            self._news.notify()

    def close(self) -> None:
        """Tries once more to send what waits, and warns of what could not be sent."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(2.0 * self._timeout)
        left = self.deliveries
        if left.waiting or left.dropped:
            warnings.warn(
                f"{left.waiting + left.dropped} alerts could not be sent to {self._url}; incidents.jsonl has them.",
                stacklevel=2,
            )

    def _put(self, entry: dict[str, Any]) -> None:
        key = json.dumps([entry["labels"], entry["startsAt"]], sort_keys=True)
        self._waiting.pop(key, None)
        self._waiting[key] = entry
        while len(self._waiting) > self._capacity:
            self._waiting.popitem(last=False)
            self._dropped += 1

    def _run(self) -> None:
        first_pause, longest_pause = self._pauses
        pause, next_repeat = first_pause, time.monotonic() + self._repeat
        while True:
            with self._news:
                while not self._waiting and not self._closing:
                    if not self._news.wait(max(0.0, next_repeat - time.monotonic())) or time.monotonic() >= next_repeat:
                        for incident in self._open.values():
                            self._put(alert(incident))
                        next_repeat = time.monotonic() + self._repeat
                batch, closing = dict(self._waiting), self._closing
            done = self._post(list(batch.values())) if batch else True
            with self._news:
                if done is not None:
                    self._forget(batch, accepted=done)
                    pause = first_pause
                if closing:
                    return
                if done is None:
                    self._news.wait_for(lambda: self._closing, pause)
                    pause = min(2.0 * pause, longest_pause)

    def _forget(self, batch: dict[str, dict[str, Any]], *, accepted: bool) -> None:
        """Removes what was sent, unless there is news of it by now."""
        for key, entry in batch.items():
            if self._waiting.get(key) is entry:
                del self._waiting[key]
        if accepted:
            self._delivered += len(batch)
        else:
            self._dropped += len(batch)

    def _post(self, alerts: list[dict[str, Any]]) -> bool | None:
        """True where they were accepted, False where they never will be, None where it is worth trying again."""
        request = urllib.request.Request(
            self._url, json.dumps(alerts).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return None if error.code >= 500 or error.code in _TEMPORARY else False
        except (OSError, http.client.HTTPException):
            return None


def alert(incident: Incident) -> dict[str, Any]:
    """An incident as one entry of Alertmanager's `postableAlerts`.

    What identifies it are the labels: stream, client and severity. One that goes on has no end.
    """
    columns = list(incident.shares.items())[:_TOLD_COLUMNS]
    told = ", ".join(f"{name} {share:.0%}" for name, share in columns)
    entry: dict[str, Any] = {
        "labels": {
            "alertname": "Anomaly",
            "stream": incident.stream,
            "client": str(incident.client),
            "severity": incident.severity,
        },
        "annotations": {
            "summary": f"{incident.stream}: {incident.num_alarms} alarms, driven by {told}",
            "peak_score": repr(incident.peak_score),
            "peak_threshold": repr(incident.peak_threshold),
            "peak_time": _rfc3339(incident.peak_time),
        },
        "startsAt": _rfc3339(incident.start),
    }
    if incident.ended:
        entry["endsAt"] = _rfc3339(incident.end)
    return entry


def _rfc3339(seconds: float) -> str:
    """Times that a calendar does not have become its first and last."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_SECOND), UTC).isoformat().replace("+00:00", "Z")
