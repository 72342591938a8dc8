"""How a live detector is measured: events one by one, as fast as it can, and at the times at which they are due.

Needs NumPy only: it is imported in every contestant's environment.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from rivals.protocol import Turns

MAX_BATCH = 256
"""The most events decided at once."""

_SPIN_SECONDS = 3e-4

Mode = Literal["lone", "sustained", "replay"]


class Events(NamedTuple):
    """A workload; the first event of every stream comes before all others and is not timed.

    Attributes:
      numeric: Float[N, P], the columns in their own units.
      stream: Int[N].
      time: Float[N], in seconds of the simulation.
      due: Float[N], when each is there in the replay, in seconds after the first that is timed.
      client: Int[S], whose model judges each stream.
      names: of the S streams.
    """

    numeric: np.ndarray
    stream: np.ndarray
    time: np.ndarray
    due: np.ndarray
    client: np.ndarray
    names: list[str]

    @property
    def num_untimed(self) -> int:
        """S."""
        return len(self.names)


class LiveTask:
    """What `latency.py` wrote: workloads, models and the measurements to make.

    Attributes:
      folder: of everything.
      settings: `window_length`, `hidden_size`, `latent_size`, `columns`, `threshold` and `clip`.
      measurements: a workload's name, a mode and the number of events of each.
      cluster: Int[C], the model of each client.
      mean, deviation: Float[P], of the encoding.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        stored = json.loads((self.folder / "task.json").read_text())
        self.settings: dict[str, Any] = stored["settings"]
        self.measurements: list[tuple[str, Mode, int]] = [(w, m, n) for w, m, n in stored["measurements"]]
        with np.load(self.folder / "encoding.npz") as encoding:
            self.mean, self.deviation, self.cluster = (encoding[name] for name in ("mean", "deviation", "cluster"))

    def events(self, workload: str) -> Events:
        """Those of a workload."""
        with np.load(self.folder / f"{workload}.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        return Events(**arrays | {"names": arrays["names"].tolist()})

    def weights(self, model: int) -> dict[str, np.ndarray]:
        """Of one model, under PyTorch's names."""
        with np.load(self.folder / f"weights_{model}.npz") as stored:
            return {name: stored[name] for name in stored.files}


class Measured(NamedTuple):
    """What a measurement gives.

    Attributes:
      latency_seconds: Float[n], of each timed event, from when it was there to its decision.
      elapsed_seconds: from the first timed event to the last decision.
      score: Float[n], of each event.
    """

    latency_seconds: np.ndarray
    elapsed_seconds: float
    score: np.ndarray


class Detector(Protocol):
    """A detector that is told which events to decide."""

    def decide(self, first: int, last: int) -> Any:
        """Decides events [first, last) of the workload; returns their scores."""


def wait_until(moment: float) -> None:
    """Sleeps, and spins at the end: the clock of an operating system is late by a tenth of a millisecond."""
    left = moment - time.perf_counter()
    if left > _SPIN_SECONDS:
        time.sleep(left - _SPIN_SECONDS)
    while time.perf_counter() < moment:
        pass


def drive(detector: Detector, events: Events, mode: Mode, count: int) -> Measured:
    """Measures a detector that is told what to decide."""
    first = events.num_untimed
    for begin in range(0, first, MAX_BATCH):
        detector.decide(begin, min(begin + MAX_BATCH, first))
    latency, score = np.zeros(count), np.zeros(count)
    due = events.due[first : first + count]
    done, start = 0, time.perf_counter()
    while done < count:
        if mode == "lone":
            number, there = 1, np.array(time.perf_counter())
        elif mode == "sustained":
            number, there = min(MAX_BATCH, count - done), np.array(start)
        else:
            wait_until(start + due[done])
            number = min(int(np.searchsorted(due, time.perf_counter() - start, "right")) - done, MAX_BATCH)
            there = start + due[done : done + number]
        score[done : done + number] = detector.decide(first + done, first + done + number)
        latency[done : done + number] = time.perf_counter() - there
        done += number
    return Measured(latency, time.perf_counter() - start, score)


def answer(measure: Callable[[str, Mode, int], Measured], task: LiveTask) -> None:
    """Makes the measurements that the parent asks for by number, and leaves the results beside the file it named."""
    turns = Turns()
    while number := turns.ask():
        measured = measure(*task.measurements[number - 1])
        np.savez(Path(sys.argv[2]).with_suffix(f".{number}.npz"), **measured._asdict())
        turns.done()


def serve(detector_of: Callable[[LiveTask, Events], Detector]) -> None:
    """Answers with a new detector, driven as `drive` does it, for each measurement."""
    task = LiveTask(sys.argv[1])

    def measure(workload: str, mode: Mode, count: int) -> Measured:
        events = task.events(workload)
        return drive(detector_of(task, events), events, mode, count)

    answer(measure, task)
