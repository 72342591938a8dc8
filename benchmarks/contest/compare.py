"""Contestants taking turns on one workload, and their starts in fresh processes."""

import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from workloads import Workload, write_task

from contest.contestants import Contestant
from contest.environments import NotInstalled, install
from contest.process import ContestantFailed, ContestantProcess

TIMEOUT_SECONDS = 400.0
"""Of a start with its first rounds, and of one repetition."""

TOLERANCE = 1e-4
"""Of `relative_difference` from our parameters; every contestant averages updates, whose rounding stays far below."""

ROUNDING = 1e-6
"""Differences of a parameter up to this are float32's; weights lie around 0.1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A contestant in a comparison.

    Attributes:
      name: in the results.
      contestant: what runs.
      workload: what it runs on.
      rounds: of one repetition.
      trains: False for what only occupies the machine; nothing is compared then.
    """

    name: str
    contestant: Contestant
    workload: Workload
    rounds: int
    trains: bool = True


@dataclasses.dataclass(frozen=True)
class Result:
    """What one entry reached.

    Attributes:
      workload: name of the comparison.
      contestant: name of the entry.
      seconds: of one round, in each repetition.
      peak_memory_bytes: of the process and its children, from the start through the first rounds.
      difference: see `relative_difference`; 0 for ours.
      failure: why it has no figures, or why they do not count.
    """

    workload: str
    contestant: str
    seconds: tuple[float, ...] = ()
    peak_memory_bytes: int = 0
    difference: float | None = None
    failure: str = ""


@dataclasses.dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to the end of its first round of W1.

    Attributes:
      contestant: its name.
      first_seconds: with empty caches of compiled programs.
      later_seconds: of the starts after it.
      later_peak_memory_bytes: of one more later start, which is not timed, to the end of its second round.
      failure: why it has no figures.
    """

    contestant: str
    first_seconds: float = 0.0
    later_seconds: tuple[float, ...] = ()
    later_peak_memory_bytes: int = 0
    failure: str = ""


class Pythons:
    """Each contestant's Python, installed when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failures: dict[str, str] = {}

    def of(self, contestant: Contestant) -> Path:
        """The interpreter.

        Raises:
          ContestantFailed: when it cannot be installed; what failed once is not tried again.
        """
        environment = contestant.environment
        if environment is None:
            return Path(sys.executable)
        try:
            if environment.name not in self._failures:
                return install(environment, self._folder)
        except NotInstalled as error:
            self._failures[environment.name] = f"not installed: {error}"
        raise ContestantFailed(self._failures[environment.name])


def compare(name: str, entries: Sequence[Entry], pythons: Pythons, repetitions: int, folder: Path) -> list[Result]:
    """Lets the entries take turns; the first one of a workload is the reference for its parameters.

    Args:
      name: of the comparison.
      entries: who takes part.
      pythons: of the contestants.
      repetitions: turns of each after its first.
      folder: for tasks and logs.

    Returns:
      A result for each entry, also for those that failed.
    """
    _write_tasks(entries, 1 + repetitions, folder)
    results = {entry.name: Result(name, entry.name) for entry in entries}
    with ExitStack() as stack:
        running: dict[Entry, ContestantProcess] = {}
        for entry in entries:
            try:
                process = stack.enter_context(_start(entry, pythons, folder, f"{name}_{entry.name}"))
                peak = process.peak_memory_bytes_while_running(entry.rounds, TIMEOUT_SECONDS)
            except ContestantFailed as failure:
                results[entry.name] = dataclasses.replace(results[entry.name], failure=str(failure))
                continue
            running[entry] = process
            results[entry.name] = dataclasses.replace(results[entry.name], peak_memory_bytes=peak)
        for _ in range(repetitions):
            _take_turns(running, results)
        _check_parameters(running, results, folder)
    for result in results.values():
        print(f"  {result.contestant}: {_in_words(result)}", flush=True)
    return list(results.values())


def _write_tasks(entries: Sequence[Entry], repetitions: int, folder: Path) -> None:
    for workload in {entry.workload for entry in entries}:
        write_task(folder / "tasks" / workload.name, workload, workload.rounds_per_repetition * repetitions)


def _start(
    entry: Entry, pythons: Pythons, folder: Path, log_name: str, variables: Mapping[str, str] | None = None
) -> ContestantProcess:
    return ContestantProcess(
        pythons.of(entry.contestant),
        entry.contestant.name,
        folder / "tasks" / entry.workload.name,
        folder / "logs" / f"{log_name}.log",
        {**entry.contestant.variables, **(variables or {})},
    )


def _take_turns(running: dict[Entry, ContestantProcess], results: dict[str, Result]) -> None:
    """One repetition; who fails is out."""
    for entry, process in list(running.items()):
        result = results[entry.name]
        try:
            seconds = process.run(entry.rounds, TIMEOUT_SECONDS) / entry.rounds
            results[entry.name] = dataclasses.replace(result, seconds=(*result.seconds, seconds))
        except ContestantFailed as failure:
            results[entry.name] = dataclasses.replace(result, failure=str(failure))
            del running[entry]


def _check_parameters(running: dict[Entry, ContestantProcess], results: dict[str, Result], folder: Path) -> None:
    reference: dict[str, dict[str, np.ndarray]] = {}
    for entry, process in running.items():
        if not entry.trains:
            continue
        try:
            parameters = process.parameters(TIMEOUT_SECONDS)
            # The first to have run a workload is ours.
            expected = reference.setdefault(entry.workload.name, parameters)
            with np.load(folder / "tasks" / entry.workload.name / "initial.npz") as initial:
                difference = relative_difference(parameters, expected, dict(initial))
            failure = "" if difference <= TOLERANCE else f"ends at other parameters: {difference:.1g}"
        except ContestantFailed as error:
            difference, failure = None, str(error)
        results[entry.name] = dataclasses.replace(results[entry.name], difference=difference, failure=failure)


def relative_difference(
    parameters: dict[str, np.ndarray], expected: dict[str, np.ndarray], initial: dict[str, np.ndarray]
) -> float:
    """The largest difference of a parameter beyond rounding, over the largest change that training made.

    Infinite where the parameters are not the same ones, or not numbers.
    """
    if {name: value.shape for name, value in parameters.items()} != {n: v.shape for n, v in expected.items()}:
        return math.inf
    difference = float(np.max([np.max(np.abs(parameters[name] - expected[name])) for name in expected]))
    change = float(np.max([np.max(np.abs(expected[name] - initial[name])) for name in expected]))
    return max(difference - ROUNDING, 0.0) / change if math.isfinite(difference) else math.inf


def _in_words(result: Result) -> str:
    if not result.seconds:
        return result.failure
    return f"{1.0 / np.median(result.seconds):.3g} rounds per second {result.failure}"


def first_rounds(entries: Sequence[Entry], pythons: Pythons, later_starts: int, folder: Path) -> list[Start]:
    """Starts every contestant anew, in turns, and waits for its first round.

    Args:
      entries: who takes part, and on what.
      pythons: of the contestants.
      later_starts: starts after the first.
      folder: for tasks, logs and the caches of compiled programs.
    """
    _write_tasks(entries, 2, folder)
    starts = {entry.name: Start(entry.name) for entry in entries}
    with tempfile.TemporaryDirectory(dir=folder) as caches:

        def start(entry: Entry) -> ContestantProcess:
            # What contestants in JAX compile they may keep, all of it.
            cache = {"JAX_COMPILATION_CACHE_DIR": f"{caches}/{entry.name}"}
            cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
            return _start(entry, pythons, folder, f"start_{entry.name}", cache)

        for repetition in range(1 + later_starts):
            for entry in entries:
                if not starts[entry.name].failure:
                    starts[entry.name] = _timed_start(starts[entry.name], partial(start, entry), first=repetition == 0)
        for entry in entries:
            if not starts[entry.name].failure:
                with start(entry) as process:
                    process.run(1, TIMEOUT_SECONDS)
                    peak = process.peak_memory_bytes_while_running(1, TIMEOUT_SECONDS)
                starts[entry.name] = dataclasses.replace(starts[entry.name], later_peak_memory_bytes=peak)
    return list(starts.values())


def _timed_start(before: Start, start: Callable[[], ContestantProcess], *, first: bool) -> Start:
    begin = time.perf_counter()
    try:
        with start() as process:
            process.run(1, TIMEOUT_SECONDS)
            seconds = time.perf_counter() - begin
    except ContestantFailed as failure:
        return Start(before.contestant, failure=str(failure))
    if first:
        return dataclasses.replace(before, first_seconds=seconds)
    return dataclasses.replace(before, later_seconds=(*before.later_seconds, seconds))
