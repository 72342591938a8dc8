"""What is made of scored events: false discoveries are controlled, alarms become incidents, drift is noticed."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedjax_anomaly.detection.false_discoveries import OnlineDiscoveries, TailPValues
from fedjax_anomaly.detection.recalibration import without_outliers
from fedjax_anomaly.live.drift import Drift, DriftMonitor
from fedjax_anomaly.live.incidents import Incident, Incidents
from fedjax_anomaly.live.interfaces import ScoredEvent
from fedjax_anomaly.live.outputs import GrowingFile
from fedjax_anomaly.live.retraining import Retraining
from fedjax_anomaly.live.versions import ORIGINAL

Recalibrate = Callable[[str, np.ndarray], None]
"""(stream, scores) -> None: sets a stream's alarm rule anew."""


class Discoveries:
    """Alarms over all streams by one bounded share of false ones, instead of each stream's own threshold."""

    def __init__(self, rate: float, period: int, p_values: Sequence[TailPValues]) -> None:
        """Begins without alarms.

        Args:
          rate: of false alarms among all.
          period: events after which the procedure begins anew.
          p_values: of each client's scores.
        """
        self.online, self._p_values = OnlineDiscoveries(rate, period), p_values

    def judge(self, events: Sequence[ScoredEvent]) -> list[ScoredEvent]:
        """The events with other alarms, and the thresholds that these correspond to."""
        client = np.array([event.client for event in events])
        scores = np.array([event.score for event in events])
        p_values, thresholds = np.empty(len(events)), np.empty(len(events))
        for c in np.unique(client):
            p_values[client == c] = self._p_values[c](scores[client == c])
        alarm, level = self.online.judge(p_values)
        for c in np.unique(client):
            thresholds[client == c] = self._p_values[c].threshold(level[client == c])
        return [
            event._replace(threshold=t, alarm=a)
            for event, t, a in zip(events, thresholds.tolist(), alarm.tolist(), strict=True)
        ]


class Watch:
    """Looks at all scored events, in the order of their coming."""

    def __init__(
        self,
        incidents: Incidents,
        *,
        discoveries: Discoveries | None = None,
        drift: DriftMonitor | None = None,
        drift_lines: GrowingFile | None = None,
        recalibrate: Recalibrate | None = None,
        retraining: Retraining | None = None,
        scores_needed: int = 1,
        model: str = ORIGINAL,
        renew: Callable[[], None] = lambda: None,
    ) -> None:
        """Puts the parts together.

        Args:
          incidents: joins alarms.
          discoveries: decides on alarms over all streams; None leaves them to each stream's rule.
          drift: notices changes; None looks for none.
          drift_lines: gets a JSON line for each change, and for each new threshold and model.
          recalibrate: sets a rule anew after a change; None does not.
          retraining: trains the models further after changes; None does not. Its models are set by itself.
          scores_needed: since a change, before a rule is set anew.
          model: the name of the one in use.
          renew: sets all rules anew by the scores that came with this model; called where a stored state is of another.
        """
        self._incidents, self._discoveries, self._drift = incidents, discoveries, drift
        self._lines, self._recalibrate, self._scores_needed = drift_lines, recalibrate, scores_needed
        self._retraining, self._model, self._renew = retraining, model, renew

    def judge(self, events: list[ScoredEvent]) -> list[ScoredEvent]:
        """The events with their final alarms."""
        return events if self._discoveries is None else self._discoveries.judge(events)

    def update(self, events: Sequence[ScoredEvent]) -> tuple[list[Incident], list[Drift]]:
        """What has become of incidents, and the changes that were noticed."""
        incidents = self._incidents.update(events)
        if self._drift is None:
            return incidents, []
        drifts = self._drift.update(events)
        for drift in drifts:
            self._write({"what": "drift", **drift._asdict()})
        if self._recalibrate is not None:
            for event in {event.stream: event for event in events}.values():
                if self._drift.due(event.stream, self._scores_needed):
                    self._set_anew(event)
        if self._retraining is not None and events:
            for line in self._retraining.update(events, drifts, incidents):
                self._write(line)
                if line["what"] == "retrained":
                    self._model = line["model"]
                    self._drift.begin_anew()
        return incidents, drifts

    def open_incidents(self) -> list[Incident]:
        """Those that have begun and not ended."""
        return self._incidents.open()

    def close(self) -> None:
        """Gives up a training that is under way."""
        if self._retraining is not None:
            self._retraining.close()

    def snapshot(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The state, as JSON and as arrays."""
        words: dict[str, Any] = {"incidents": self._incidents.snapshot(), "model": self._model}
        arrays: dict[str, np.ndarray] = {}
        if self._discoveries is not None:
            words["discoveries"] = self._discoveries.online.snapshot()
        if self._drift is not None:
            words["drift"], arrays = self._drift.snapshot()
        if self._retraining is not None:
            words["retraining"] = self._retraining.snapshot()
        return words, arrays

    def restore(self, words: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Goes on from a snapshot; a part that was not there begins anew."""
        self._incidents.restore(words["incidents"])
        if self._discoveries is not None and "discoveries" in words:
            self._discoveries.online.restore(words["discoveries"])
        if self._drift is not None and "drift" in words:
            self._drift.restore(words["drift"], arrays)
        if self._retraining is not None and "retraining" in words:
            self._retraining.restore(words["retraining"])
        if words.get("model", ORIGINAL) != self._model:  # Another one was put into use since.
            self._renew()
            if self._drift is not None:
                self._drift.begin_anew()
            if self._retraining is not None:
                self._retraining.forget_drift()

    def _set_anew(self, event: ScoredEvent) -> None:
        """Sets the rule of an event's stream from its scores since the change, where they are fit for it."""
        assert self._drift is not None and self._recalibrate is not None
        scores, alarm = self._drift.recent(event.stream)
        line = {"stream": event.stream, "client": event.client, "time": event.time}
        try:
            scores = without_outliers(scores, alarm, event.threshold)
        except ValueError as error:
            self._drift.handled(event.stream)
            self._write({"what": "not recalibrated", **line, "reason": str(error)})
            return
        self._recalibrate(event.stream, scores)
        self._drift.handled(event.stream, scores)
        self._write({"what": "recalibrated", **line, "num_scores": len(scores)})

    def _write(self, line: dict[str, Any]) -> None:
        if self._lines is not None:
            self._lines.write(json.dumps(line).encode() + b"\n")
