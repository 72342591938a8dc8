"""The loop of the live detector: read, check, score, hand on, and store the state so that none is lost or doubled."""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fedjax_anomaly.live.events import Events, Intake, Rejected
from fedjax_anomaly.live.interfaces import Replayable, ScoredEvent, Sink, Source
from fedjax_anomaly.live.outputs import DeadLetters, GrowingFile
from fedjax_anomaly.live.scorer import Pending, Scorer
from fedjax_anomaly.live.state import StateStore
from fedjax_anomaly.live.watch import Watch

_WAIT_SECONDS = 0.2


@dataclasses.dataclass
class Counts:
    """What has become of the records since the first start; `read` is the sum of `scored` and `rejected`."""

    read: int = 0
    scored: int = 0
    alarms: int = 0
    rejected: Counter[str] = dataclasses.field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """As written into `counts.json`."""
        return {**dataclasses.asdict(self), "rejected": dict(sorted(self.rejected.items()))}


class Engine:
    """Moves events from a source through the detector to sinks.

    While the source has more, the next records are read and encoded as the device scores the last ones, in batches over
    all streams; when it has none, the one event under way is waited for at once.
    """

    def __init__(
        self,
        source: Source,
        intake: Intake,
        scorer: Scorer,
        watch: Watch,
        sinks: Sequence[Sink],
        dead_letters: DeadLetters,
        *,
        state_path: Path,
        identity: str,
        files: Sequence[GrowingFile],
        max_batch: int,
        snapshot_seconds: float,
    ) -> None:
        """Goes on from the stored state where there is one.

        Args:
          source: where events come from.
          intake: checks and encodes.
          scorer: scores.
          watch: makes incidents of alarms, and looks for drift.
          sinks: take what was scored.
          dead_letters: take what was rejected.
          state_path: of the stored state.
          identity: of the detector; a state of another one is refused.
          files: all files that sinks and dead letters are written to; they are taken back to the stored state where
            the source can be read again from there.
          max_batch: the most records read at once.
          snapshot_seconds: between two stored states.

        Raises:
          ValueError: when the stored state is of another detector or of other settings.
        """
        self._source, self._intake, self._scorer, self._sinks = source, intake, scorer, sinks
        self._watch = watch
        self._dead_letters, self._files = dead_letters, {file.path.name: file for file in files}
        self._store, self._identity = StateStore(state_path, files), identity
        self._max_batch, self._snapshot_seconds = max_batch, snapshot_seconds
        self._position = 0
        self.counts = Counts()
        try:
            self._restore()
            self.snapshot()
        except BaseException:
            self.close()
            raise

    def run(self, stop_requested: Callable[[], bool] = lambda: False) -> Counts:
        """Runs until the source ends or a stop is requested; then what was taken in is scored, and the state is stored.

        A source that can be read again is left where it stands; what another one has taken in is read to its end.

        Returns:
          What has become of the records since the first start.
        """
        try:
            self._loop(stop_requested)
            self.snapshot()
        finally:
            self.close()
        return self.counts

    def close(self) -> None:
        """Closes source, sinks and files; `run` does so at its end."""
        with ExitStack() as everything:
            for file in self._files.values():
                everything.callback(file.close)
            for sink in self._sinks:
                everything.callback(sink.close)
            everything.callback(self._store.close)
            everything.callback(self._watch.close)
            everything.callback(self._source.close)

    def _loop(self, stop_requested: Callable[[], bool]) -> None:
        under_way: _UnderWay | None = None
        closed = False
        while True:
            if stop_requested() and not closed:
                self._source.close()
                closed = True
                if isinstance(self._source, Replayable):
                    break
            records = self._source.read(self._max_batch, 0.0 if under_way else _WAIT_SECONDS)
            if records is None:
                break
            following = self._begin(records) if records else None
            if under_way is not None:
                self._finish(under_way)
            under_way = following
            if under_way is None or self._store_is_due():
                if under_way is not None:
                    self._finish(under_way)
                    under_way = None
                self._rest()
        if under_way is not None:
            self._finish(under_way)

    def _rest(self) -> None:
        """Nothing is under way: lines become visible, and the state is stored when it is time."""
        for file in self._files.values():
            file.flush()
        if self._store_is_due():
            self._begin_store()

    def _store_is_due(self) -> bool:
        return time.monotonic() - self._last_store > self._snapshot_seconds and not self._store.busy

    def _begin(self, records: list[Any]) -> "_UnderWay":
        begin = time.perf_counter()
        events, rejected = self._intake.take(records)
        pending = self._scorer.submit(events, self._intake.clients) if len(events.slot) else None
        return _UnderWay(begin, len(records), records[-1].position, events, rejected, pending)

    def _finish(self, batch: "_UnderWay") -> None:
        """Waits for a batch and hands it on."""
        self._dead_letters.write(batch.rejected)
        scored = self._watch.judge(self._scored(batch)) if batch.pending is not None else []
        if scored:
            self._hand_on(scored)
        self.counts.read += batch.num_records
        self.counts.scored += len(scored)
        self.counts.alarms += sum([event.alarm for event in scored])
        self.counts.rejected.update(reason for _, reason, _ in batch.rejected)
        self._position = batch.position

    def _hand_on(self, scored: list[ScoredEvent]) -> None:
        incidents, drifts = self._watch.update(scored)
        for sink in self._sinks:
            sink.scored(scored)
            for incident in incidents:
                sink.incident(incident)
            for drift in drifts:
                sink.drift(drift)

    def _scored(self, batch: "_UnderWay") -> list[ScoredEvent]:
        assert batch.pending is not None
        decision = batch.pending.wait()
        latency = time.perf_counter() - batch.begin
        names, events = self._intake.names, batch.events
        columns = zip(
            [names[slot] for slot in events.slot.tolist()],
            events.client.tolist(),
            events.time.tolist(),
            events.position,
            decision.score.tolist(),
            decision.threshold.tolist(),
            decision.alarm.tolist(),
            decision.column_errors,
            [latency] * len(events.position),
            events.row,
            events.restart.tolist(),
            strict=True,
        )
        return list(map(ScoredEvent._make, columns))

    def snapshot(self) -> None:
        """Stores the state, and returns when it is on the disk."""
        self._begin_store()
        self._store.wait()

    def _begin_store(self) -> None:
        """Copies the state: counts, streams, the place in the source, and the lengths of the files.

        Nothing may be under way. What takes long, the disk above all, happens in another thread.
        """
        for file in self._files.values():
            file.flush()
        bookmark = self._source.bookmark(self._position) if isinstance(self._source, Replayable) else None
        intake, intake_arrays = self._intake.snapshot()
        watch, watch_arrays = self._watch.snapshot()
        words = {
            "identity": self._identity,
            "counts": self.counts.as_json(),
            "position": self._position,
            "bookmark": bookmark,
            "intake": intake,
            "watch": watch,
            "sinks": {name: state for name, sink in _named(self._sinks) if (state := sink.snapshot()) is not None},
            "files": {name: file.position() for name, file in self._files.items()},
        }
        self._store.begin(words, intake_arrays | self._scorer.snapshot() | watch_arrays)
        self._last_store = time.monotonic()

    def _restore(self) -> None:
        stored = self._store.read()
        if stored is None:
            return
        host, arrays = stored
        if host["identity"] != self._identity:
            raise ValueError(
                f"{self._store.path} was written for another detector, source or alarm rule, or by another version; "
                "give another --output_dir to begin anew."
            )
        self._scorer.restore(arrays, len(host["intake"]["names"]))
        self._intake.restore(host["intake"], arrays)
        self._watch.restore(host["watch"], arrays)
        self.counts = Counts(**host["counts"] | {"rejected": Counter(host["counts"]["rejected"])})
        self._position = host["position"]
        if isinstance(self._source, Replayable) and host["bookmark"] is not None:
            self._source.seek(host["bookmark"])
            for name, file in self._files.items():
                file.truncate(host["files"].get(name, 0))
        for name, sink in _named(self._sinks):
            if name in host["sinks"]:
                sink.restore(host["sinks"][name])
        for incident in self._watch.open_incidents():
            for sink in self._sinks:
                sink.reopened(incident)


def _named(sinks: Sequence[Sink]) -> Iterator[tuple[str, Sink]]:
    """Each with the name of its class, and a number among those of its class."""
    seen: Counter[str] = Counter()
    for sink in sinks:
        name = type(sink).__name__
        yield f"{name}/{seen[name]}", sink
        seen[name] += 1


@dataclasses.dataclass(frozen=True)
class _UnderWay:
    """A batch of records on its way."""

    begin: float
    num_records: int
    position: int
    events: Events
    rejected: list[Rejected]
    pending: Pending | None
