"""How a contestant talks to `peers.py`: it reads a workload, runs rounds when asked, and leaves its parameters.

Needs NumPy only: it is imported in every contestant's environment.
"""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

MATMUL_SIZE = 2048
"""N of the matrix products that measure the machine's peak."""


class Task:
    """A workload as `workloads.write_task` wrote it.

    Attributes:
      settings: the fields of `workloads.Workload`.
      initial: the initial weights, with PyTorch's names and shapes.
      cohorts: Int[R, S], the clients of each round.
      batches: Int[R, S, steps, B], windows of each of their batches.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings = SimpleNamespace(**json.loads((self.folder / "settings.json").read_text()))
        with np.load(self.folder / "initial.npz") as stored:
            self.initial = {name: stored[name] for name in stored.files}
        # Mapped, so that processes which share a workload share its memory.
        self._series = np.load(self.folder / "series.npy", mmap_mode="r")
        self.cohorts = np.load(self.folder / "cohorts.npy")
        self.batches = np.load(self.folder / "batches.npy", mmap_mode="r")

    def windows(self, client: int) -> np.ndarray:
        """Float[N, T, F], the client's windows, each stored whole: a rival's batch is then one copy."""
        views = np.lib.stride_tricks.sliding_window_view(self._series[client], self.settings.window_length, axis=0)
        return np.ascontiguousarray(views.swapaxes(1, 2))


class Turns:
    """The rounds that the parent asks for; everything else that a framework prints goes to the log."""

    def __init__(self) -> None:
        # Frameworks print, and their workers inherit the standard streams: the protocol has its own.
        self._requests = os.fdopen(os.dup(0), "r")
        self._replies = os.fdopen(os.dup(1), "w")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        self._begin = 0.0
        self._left = 0

    def ask(self) -> int:
        """Waits for the parent; returns the number of rounds to run now, 0 at the end."""
        self._left = int(self._requests.readline() or 0)
        self._begin = time.perf_counter()
        return self._left

    def done(self) -> None:
        """Tells how long the rounds took. Call it when their result is there."""
        print(time.perf_counter() - self._begin, file=self._replies, flush=True)

    def after_round(self) -> bool:
        """For frameworks that own the loop over rounds: call `ask` once before it, and this after each round.

        Returns:
          True when the parent wants no more rounds.
        """
        self._left -= 1
        if self._left > 0:
            return False
        self.done()
        return self.ask() == 0


def task_from_command_line() -> Task:
    """The workload in the folder that the first argument names."""
    return Task(sys.argv[1])


def leave_parameters(parameters: dict[str, Any]) -> None:
    """Writes the final parameters where the parent looks for them, the second argument."""
    write_arrays(sys.argv[2], parameters)


def write_arrays(path: str | Path, arrays: dict[str, Any]) -> None:
    """Writes arrays under their names, for `np.load`."""
    named: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez(path, **named)
