"""What every command does around its work: the devices, signals, and errors and warnings of one line."""

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import jax
from absl import flags, logging


def carry_out(arguments: list[str], work: Callable[[], int]) -> int:
    """Does the work of a command; returns the exit status, 1 after an error, which is told in one line.

    Args:
      arguments: what is left of the command line, the command first.
      work: returns the exit status, and raises for what a user can put right.
    """
    if len(arguments) > 1:
        return _fail(f"unknown argument {arguments[1]!r}; settings are flags, see --help.")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    try:
        with _warnings_of_one_line():
            return work()
    except (ValueError, ArithmeticError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(str(error) if error.filename is None else f"{error.strerror}: {error.filename}")


def divide_cpu(host_devices: int) -> None:
    """Divides the CPU into so many devices, 0 for one per core; must come before JAX's first computation."""
    jax.config.update("jax_num_cpu_devices", host_devices or os.cpu_count() or 1)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a request to stop in good order; a second one acts as usual."""
    requested = False
    previous: dict[signal.Signals, Any] = {}

    def handler(number: int, frame: Any) -> None:
        nonlocal requested
        requested = True
        for signum, old in previous.items():
            signal.signal(signum, old)

    for signum in (signal.SIGINT, signal.SIGTERM):
        previous[signum] = signal.signal(signum, handler)
    try:
        yield lambda: requested
    finally:
        for signum, old in previous.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def _warnings_of_one_line() -> Iterator[None]:
    """Tells a warning in one line, and no second one from the same place."""
    told: set[tuple[str, int]] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if (filename, lineno) not in told:
            told.add((filename, lineno))
            print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1
