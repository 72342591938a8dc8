"""Carries out the runs of the comparison, one after the other, and finds those that were carried out before."""

import argparse
import dataclasses
import functools
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import comparison
import harness
import jax
import numpy as np
from comparison import Method, Run, plan

from fedjax_anomaly.baselines import NoAttacksError
from fedjax_anomaly.command import stop_on_signals
from fedjax_anomaly.config import Config, DatasetName
from fedjax_anomaly.data.table import Dataset, Table
from fedjax_anomaly.experiment import run_many
from fedjax_anomaly.experiment.build import load_dataset
from fedjax_anomaly.reporting.console import Console
from fedjax_anomaly.reporting.logbook import read_metrics

IMPOSSIBLE = "not possible: no attacks among the training rows"

_QUICK_ROWS = 4000
_QUICK_SOURCES = 4


@dataclasses.dataclass(frozen=True)
class Finished:
    """What is known of a run when its turn is over.

    Attributes:
      run: which.
      result: the content of `result.json`; None where there is a problem.
      members: the `result.json` of each seed.
      history: the records of each seed's rounds; empty lists for a method without rounds.
      problem: why there is no result, for the table; empty where there is one.
    """

    run: Run
    result: dict[str, Any] | None = None
    members: tuple[dict[str, Any], ...] = ()
    history: tuple[list[dict[str, Any]], ...] = ()
    problem: str = ""

    @property
    def failed(self) -> bool:
        """True where a result was to be expected."""
        return self.result is None and self.problem != IMPOSSIBLE

    @property
    def seconds(self) -> float:
        """Of the whole run, all seeds together; 0 without a result."""
        return max((member["timing"]["total_seconds"] for member in self.members), default=0.0)


def start(description: str) -> argparse.Namespace:
    """Parses the command line of a script of the comparison, and configures JAX accordingly."""
    parser = argparse.ArgumentParser(description=description)
    harness.add_arguments(parser)
    comparison.add_arguments(parser)
    arguments = parser.parse_args()
    configure_jax(arguments)
    return arguments


def configure_jax(arguments: argparse.Namespace) -> None:
    """Divides the CPU into devices and keeps compiled programs; must come before JAX's first computation."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    jax.config.update("jax_compilation_cache_dir", str(arguments.output_dir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_disable_most_optimizations", arguments.quick)


def run_script(
    arguments: argparse.Namespace, methods: Iterable[Method], write: Callable[[list[Finished], int], None]
) -> int:
    """What the scripts of the comparison do.

    Args:
      arguments: of the command line.
      methods: what to compare.
      write: is given what is known so far and the number of runs wanted, after every run.

    Returns:
      The exit status: 1 where a run failed, 130 where the script was interrupted.

    Raises:
      SystemExit: for arguments that do not fit, before anything is run.
    """
    return follow(planned(lambda: plan(arguments, methods)), write)


def planned(plan_runs: Callable[[], list[Run]]) -> list[Run]:
    """The runs; arguments that do not fit end the script with a line.

    Raises:
      SystemExit: where planning raises ValueError.
    """
    try:
        return plan_runs()
    except ValueError as error:
        sys.exit(f"error: {error}")


def follow(runs: Sequence[Run], write: Callable[[list[Finished], int], None]) -> int:
    """Carries the runs out until the script is interrupted.

    Args:
      runs: what to carry out.
      write: see `run_script`.

    Returns:
      See `run_script`.
    """
    done: list[Finished] = []
    with stop_on_signals() as stop_requested:
        for finished in carry_out(runs, stop_requested=stop_requested):
            done.append(finished)
            write(done, len(runs))
    if len(done) < len(runs):
        return 130
    failed = [finished.run.folder for finished in done if finished.failed]
    for folder in failed:
        print(f"error: {folder} failed; the same command tries it again", file=sys.stderr)
    return 1 if failed else 0


def carry_out(
    runs: Sequence[Run], *, say: Callable[[str], None] = print, stop_requested: Callable[[], bool] = lambda: False
) -> Iterator[Finished]:
    """Carries out the runs that are not finished yet, one after the other.

    Args:
      runs: from `plan`.
      say: is given lines that tell how far it is.
      stop_requested: asked between runs and after each chunk of rounds.

    Yields:
      What is known of each run when its turn is over. An interrupted one is not yielded and is the last.
    """
    seconds: dict[str, list[float]] = {}
    for number, run in enumerate(runs):
        if stop_requested():
            return
        name = f"[{number + 1}/{len(runs)}] {run.config.dataset}, {run.method.label}"
        if (run.folder / "result.json").exists():
            finished: Finished | None = stored_run(run)
            say(f"{name}: was finished before")
        else:
            say(name)
            begin = time.perf_counter()
            finished = _attempt(run, say, stop_requested)
            if finished is None:
                say("stopped; the same command goes on from here")
                return
            spent = time.perf_counter() - begin
            seconds.setdefault(run.method.key, []).append(spent)
            say(f"    {finished.problem or 'done'}, {spent:.1f} s; {_estimate(seconds, runs[number + 1 :])}")
        assert finished is not None
        yield finished


def _estimate(seconds: dict[str, list[float]], rest: Sequence[Run]) -> str:
    """A run is expected to take what its method took on the other data sets, or what all methods took."""
    overall = float(np.mean([s for spent in seconds.values() for s in spent]))
    left = [run for run in rest if not (run.folder / "result.json").exists()]
    expected = sum(float(np.mean(seconds.get(run.method.key, [overall]))) for run in left)
    return f"{len(left)} runs left, about {expected / 60:.1f} min"


def _attempt(run: Run, say: Callable[[str], None], stop_requested: Callable[[], bool]) -> Finished | None:
    """Runs it anew or from its last checkpoint; None when interrupted. No error of one run may lose the others."""
    try:
        config = continued(run)
        with Console() as console:
            rows = _rows(config.dataset, config.data_dir, run.quick)
            outcome = run_many(config, rows, report=console.progress, stop_requested=stop_requested)
        return None if outcome.result is None else stored_run(run)
    except NoAttacksError:
        return Finished(run, problem=IMPOSSIBLE)
    except Exception as error:
        if not isinstance(error, ValueError | ArithmeticError | OSError):
            say(traceback.format_exc())
        return Finished(run, problem=f"failed: {type(error).__name__}: {error}")
    finally:
        if run.method.trained_in_rounds:
            jax.clear_caches()  # Else every run's programs stay in memory.


def continued(run: Run) -> Config:
    """The settings with which it goes on from its last checkpoint, or begins anew in a folder that is empty."""
    folder = run.folder / "checkpoints"
    resume = folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())
    if not resume and (run.folder / "config.json").exists():
        shutil.rmtree(run.folder)  # It ended before its first checkpoint.
    return dataclasses.replace(run.config, resume=resume)


def stored_run(run: Run) -> Finished:
    """Reads a finished run."""
    folders = [run.folder / "members" / f"seed-{member.seed}" for member in run.config.members()]
    return Finished(
        run,
        json.loads((run.folder / "result.json").read_text()),
        tuple(json.loads((folder / "result.json").read_text()) for folder in folders),
        tuple(read_metrics(folder) if run.method.trained_in_rounds else [] for folder in folders),
    )


@functools.lru_cache(maxsize=1)
def _rows(name: DatasetName, data_dir: str, quick: bool) -> Dataset | None:
    """A data set, loaded once for all of its methods; None for `telemetry`, which is simulated anew for each seed.

    A quick run has one small simulation for all seeds.
    """
    if name == "telemetry" and not quick:
        return None
    dataset = load_dataset(Config(dataset=name, data_dir=data_dir))
    return thinned(dataset) if quick else dataset


def thinned(dataset: Dataset) -> Dataset:
    """A part of each table: evenly spaced rows, or where their order means something the first ones of some sources."""

    def thin(table: Table) -> Table:
        if dataset.row_order == "none":
            return table.take(np.arange(0, len(table), -(-len(table) // _QUICK_ROWS)))
        codes = np.zeros(len(table), int) if table.source is None else table.source.codes
        sources = np.unique(codes)[:_QUICK_SOURCES]
        first = [np.flatnonzero(codes == code)[: _QUICK_ROWS // len(sources)] for code in sources]
        return table.take(np.sort(np.concatenate(first)))

    return dataclasses.replace(dataset, train=thin(dataset.train), test=thin(dataset.test))
