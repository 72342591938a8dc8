"""A trace of one compiled call of rounds, for TensorBoard and XProf."""

import contextlib
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax


def one_call_traced(folder: str, num_calls: int) -> Callable[[], AbstractContextManager[Any]]:
    """What to put around every compiled call of rounds, so that one of them is traced.

    It is the second, when threads and memory pools are there, or the only one. Programs are compiled before the first.

    Args:
      folder: where the trace goes, into `plugins/profile/TIME/`; empty traces nothing.
      num_calls: that there will be.

    Raises:
      OSError: when the folder cannot be made.
    """
    if not folder:
        return contextlib.nullcontext
    Path(folder).mkdir(parents=True, exist_ok=True)
    calls, traced = itertools.count(), min(1, num_calls - 1)
    return lambda: jax.profiler.trace(folder) if next(calls) == traced else contextlib.nullcontext()
