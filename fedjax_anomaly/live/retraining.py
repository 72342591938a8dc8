"""When the models of a live detector are trained further, and how a new one comes into use."""

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.drift import Drift
from fedjax_anomaly.live.incidents import Incident
from fedjax_anomaly.live.interfaces import ScoredEvent
from fedjax_anomaly.live.recent import Recent, RecentRows
from fedjax_anomaly.live.versions import Versions

EXCHANGE, RECENT, REPORT = ".training", "recent.npz", "report.json"
"""The folder and the files by which the detector and the process that trains for it speak."""

HELD_OUT_PART = 3
"""One part in so many of a stream's recent rows, the latest, is held out: of three days a whole one sets the thresholds
for those that come."""

_LAST_WORDS = 500
_COUNTED_DAYS, _DAY_SECONDS = 2, 86_400.0


class Request(NamedTuple):
    """What is to be trained.

    Attributes:
      recent: the rows.
      start: the name of the model to begin with.
      name: of the new one.
    """

    recent: Recent
    start: str
    name: str


class Report(NamedTuple):
    """What has become of a request.

    Attributes:
      trained: whether the new model is there.
      details: why it is not as `reason`, or what was done, as JSON.
    """

    trained: bool
    details: dict[str, Any]


Retrain = Callable[[Bundle, Recent], tuple[Bundle, dict[str, Any]]]
"""(model, rows) -> (new model, what was done); raises ValueError or ArithmeticError where the old one is to be kept."""


class Trainer(Protocol):
    """Trains models, beside the detector or while that waits."""

    def begin(self, request: Request) -> None:
        """Begins; there is one request at a time."""

    def report(self) -> Report | None:
        """What has become of the request, once; None while it is under way."""

    def close(self) -> None:
        """Gives up what is under way."""


class WaitingTrainer:
    """Trains in this process, which scores nothing meanwhile: for tests and replays, as it is the same always."""

    def __init__(self, versions: Versions, retrain: Retrain) -> None:
        self._versions, self._retrain = versions, retrain
        self._report: Report | None = None

    def begin(self, request: Request) -> None:
        """Trains."""
        try:
            bundle, details = self._retrain(self._versions.read(request.start), request.recent)
            self._versions.add(bundle, request.name)
            self._report = Report(True, details)
        except (ValueError, ArithmeticError, OSError) as error:
            self._report = Report(False, {"reason": str(error)})

    def report(self) -> Report | None:
        """Of what was trained last."""
        report, self._report = self._report, None
        return report

    def close(self) -> None:
        """Nothing is under way."""


class ProcessTrainer:
    """Trains in a process of its own, at low priority: `python -m fedjax_anomaly.retrain`."""

    def __init__(self, run: str | Path, folder: str | Path, num_rounds: int) -> None:
        """Nothing is begun.

        Args:
          run: the folder of the run.
          folder: `models` of the output folder.
          num_rounds: further federated rounds.
        """
        self._run, self._folder, self._num_rounds = run, Path(folder), num_rounds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _exchange(self) -> Path:
        return self._folder / EXCHANGE

    def begin(self, request: Request) -> None:
        """Starts the process."""
        self._exchange.mkdir(parents=True, exist_ok=True)
        (self._exchange / REPORT).unlink(missing_ok=True)
        np.savez(self._exchange / RECENT, allow_pickle=False, **request.recent._asdict())
        command = [sys.executable, "-m", "fedjax_anomaly.retrain", f"--run={self._run}", f"--models={self._folder}"]
        command += [f"--start={request.start}", f"--name={request.name}", f"--rounds={self._num_rounds}"]
        with (self._exchange / "errors.txt").open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
            )

    def report(self) -> Report | None:
        """When the process has ended."""
        if self._process is None or self._process.poll() is None:
            return None
        status, self._process = self._process.returncode, None
        try:
            return Report(status == 0, json.loads((self._exchange / REPORT).read_text()))
        except (OSError, ValueError):
            told = (self._exchange / "errors.txt").read_text(errors="replace")[-_LAST_WORDS:]
            return Report(False, {"reason": f"the training ended with status {status}: {' '.join(told.split())}"})

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
            self._process = None


class Retraining:
    """Decides when models are trained further, and has new ones installed.

    A training begins when a share of the streams has drifted, and has had so many rows since that was noticed, or when
    the incidents of two days are too many: where normal scores become alarms, those that are none change little. At
    the earliest, it does `interval_seconds` of the events' time after the last one began.
    """

    def __init__(
        self,
        rows: RecentRows,
        trainer: Trainer,
        versions: Versions,
        install: Callable[[Bundle], None],
        *,
        share: float,
        rows_since: int,
        interval_seconds: float,
        most_incidents: float = math.inf,
        refuse: Callable[[Bundle], None] = lambda bundle: None,
    ) -> None:
        """Nothing has drifted yet.

        Args:
          rows: the last of every stream.
          trainer: trains.
          versions: the models.
          install: puts a model into the running detector; it must not fail.
          share: of the streams that must have drifted.
          rows_since: of a stream since its drift was noticed, before it counts.
          interval_seconds: between two trainings, at least.
          most_incidents: per stream and day, over the last two days with the same model.
          refuse: raises ValueError for a new model that the detector cannot use.
        """
        self._rows, self._trainer, self._versions, self._install = rows, trainer, versions, install
        self._share, self._rows_since, self._interval = share, rows_since, interval_seconds
        self._most_incidents, self._refuse = most_incidents, refuse
        self._drifted: dict[str, int] = {}  # The rows that a stream had had when its drift was noticed.
        self._incidents: set[tuple[str, float]] = set()  # Stream and beginning of those of the last two days.
        self._last_begin: float | None = None
        self._request: Request | None = None
        self._current = versions.current

    def update(
        self, events: Sequence[ScoredEvent], drifts: Collection[Drift], incidents: Collection[Incident] = ()
    ) -> list[dict[str, Any]]:
        """Takes some events, their changes and what became of incidents; returns what is to be told.

        Where a line says `retrained`, the new model scores from here on.
        """
        self._rows.take(events)
        for drift in drifts:
            self._drifted.setdefault(drift.stream, self._rows.count(drift.stream))
        now = events[-1].time
        self._count(incidents, now)
        lines = []
        if self._request is None and self._due(now):
            self._request = Request(self._rows.recent(), self._current, self._versions.next_name())
            self._last_begin = now
            told = {"streams": sorted(self._drifted), "incidents": len(self._incidents)}
            lines.append({"what": "retraining", "time": now, **told})
            try:
                self._trainer.begin(self._request)
            except OSError as error:
                lines.append(self._conclude(Report(False, {"reason": str(error)}), now))
        report = None if self._request is None else self._trainer.report()
        return lines if report is None else [*lines, self._conclude(report, now)]

    def forget_drift(self) -> None:
        """Takes all streams for such that have not drifted, as with another model."""
        self._drifted.clear()
        self._incidents.clear()

    def close(self) -> None:
        """Gives up what is under way."""
        self._trainer.close()

    def snapshot(self) -> dict[str, Any]:
        """The state, as JSON."""
        return {
            "rows": self._rows.snapshot(),
            "drifted": self._drifted,
            "incidents": sorted(self._incidents),
            "last_begin": self._last_begin if self._request is None else None,  # Then it is to begin again.
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot; a training that was under way then begins again."""
        self._rows.restore(state["rows"])
        self._drifted, self._last_begin = dict(state["drifted"]), state["last_begin"]
        self._incidents = {(stream, start) for stream, start in state.get("incidents", ())}

    def _count(self, incidents: Collection[Incident], now: float) -> None:
        """Each incident once, by its beginning, though more is told of it."""
        self._incidents.update((i.stream, i.start) for i in incidents if not i.ended)
        begin = now - _COUNTED_DAYS * _DAY_SECONDS
        self._incidents = {(stream, start) for stream, start in self._incidents if start > begin}

    def _due(self, now: float) -> bool:
        if self._last_begin is not None and now < self._last_begin + self._interval:
            return False
        if len(self._incidents) > self._most_incidents * _COUNTED_DAYS * len(self._rows):
            return True
        ready = sum(self._rows.count(stream) - then >= self._rows_since for stream, then in self._drifted.items())
        return ready > 0 and ready >= self._share * len(self._rows)

    def _conclude(self, report: Report, now: float) -> dict[str, Any]:
        """Puts the new model into use, or keeps the old one."""
        assert self._request is not None
        request, self._request = self._request, None
        line = {"time": now, "model": request.name, **report.details}
        if not report.trained:
            return {"what": "not retrained", **line}
        try:
            bundle = self._versions.read(request.name)
            self._refuse(bundle)
            self._versions.use(request.name)
        except (OSError, ValueError) as error:
            return {"what": "not retrained", **line, "reason": str(error)}
        self._install(bundle)
        self._current = request.name
        self.forget_drift()
        return {"what": "retrained", **line}
