"""The detector of this package as it is served: records are checked, encoded, scored, judged and written."""

import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fedjax_anomaly.config_live import LiveSettings
from fedjax_anomaly.live.interfaces import Record, ScoredEvent, Sink
from fedjax_anomaly.live.start import start
from rivals.live_protocol import MAX_BATCH, Events, LiveTask, Measured, Mode, answer, wait_until


class Replay(Sink):
    """A source whose records are there when they are due, and the sink that sees when they are decided."""

    def __init__(self, records: list[Record], events: Events, mode: Mode, count: int) -> None:
        self._mode, self._first = mode, events.num_untimed
        self._records = records[: self._first + count]
        self._due = events.due[self._first : self._first + count]
        self._there = np.zeros(count)
        self._start = 0.0
        self._given = self._decided = 0
        self.latency, self.score = np.zeros(count), np.zeros(count)
        self.elapsed_seconds = 0.0

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """See `interfaces.Source`."""
        if self._given == len(self._records):
            return None
        if self._given < self._first:
            return self._give(min(most, self._first - self._given))
        if self._given == self._first:
            if self._decided < self._first:
                return []
            self._start = time.perf_counter()
        return self._give(self._number(most, timeout_seconds))

    def _number(self, most: int, timeout_seconds: float) -> int:
        """How many of the timed records are there."""
        done = self._given - self._first
        if self._mode == "sustained":
            number = min(most, len(self._due) - done)
            self._there[done : done + number] = self._start
        elif self._mode == "lone":
            number = int(self._decided == self._given)
            self._there[done : done + number] = time.perf_counter()
        else:
            if timeout_seconds:
                wait_until(self._start + min(self._due[done], time.perf_counter() - self._start + timeout_seconds))
            now = time.perf_counter() - self._start
            number = min(int(np.searchsorted(self._due, now, "right")) - done, most)
            self._there[done : done + number] = self._start + self._due[done : done + number]
        return number

    def _give(self, number: int) -> list[Record]:
        self._given += number
        return self._records[self._given - number : self._given]

    def close(self) -> None:
        """Nothing is open."""

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        """See `interfaces.Sink`."""
        now = time.perf_counter()
        for event in events:
            index = event.position - self._first
            if index >= 0:
                self.latency[index] = now - self._there[index]
                self.score[index] = event.score
        self._decided += len(events)
        self.elapsed_seconds = now - self._start

    def incident(self, incident: Any) -> None:
        """Incidents are not measured."""


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 1)
    task = LiveTask(sys.argv[1])
    jax.config.update("jax_compilation_cache_dir", str(task.folder / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    columns = task.settings["columns"]

    def measure(workload: str, mode: Mode, count: int) -> Measured:
        events = task.events(workload)
        names = [events.names[stream] for stream in events.stream]
        rows = zip(names, events.time.tolist(), events.numeric.tolist(), strict=True)
        records = [
            Record(i, "", {"stream": name, "time": seconds, **dict(zip(columns, row, strict=True))})
            for i, (name, seconds, row) in enumerate(rows)
        ]
        replay = Replay(records, events, mode, count)
        with tempfile.TemporaryDirectory() as output:
            settings = LiveSettings(
                run=str(task.folder), output_dir=output, max_batch=MAX_BATCH, max_streams=max(64, len(events.names))
            )
            engine = start(settings, replay, [replay])
            gc.freeze()  # As the command does.
            counts = engine.run()
        assert counts.scored == counts.read == events.num_untimed + count, counts
        return Measured(replay.latency, replay.elapsed_seconds, replay.score)

    answer(measure, task)


if __name__ == "__main__":
    main()
