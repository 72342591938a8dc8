"""One run on many machines: every process runs the same program, and brings the devices of its own machine."""

import contextlib
import itertools
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src import distributed as runtime  # JAX has no public name for the client of its coordination service.
from jax.experimental import multihost_utils

from fedjax_anomaly.types import PyTree

AUTO = "auto"

_FAILURE = "failure"
_LOOK_SECONDS = 0.5
_PARTING_SECONDS = 15
_DAY_MILLISECONDS = 24 * 60 * 60 * 1000

_meetings = itertools.count()  # Every process comes to the same points in the same order.


@contextlib.contextmanager
def joined(
    coordinator_address: str = AUTO, num_processes: int = 0, process_id: int = -1, timeout_seconds: int = 300
) -> Iterator[None]:
    """Makes this process one of many, each of which must enter; `jax.devices()` are then those of all of them.

    It comes before JAX's first computation. An error at one process ends all of them: the process that it happened at
    raises it, and the others, which may be waiting for it on a device where no exception can reach them, print it in
    one line and exit with status 1.

    Args:
      coordinator_address: HOST:PORT that process 0 listens at and all others reach; `auto` takes it from
        `JAX_COORDINATOR_ADDRESS` or from the cluster that started the process (SLURM, Open MPI, Cloud TPU, Kubernetes
        with `jax[k8s]`); empty stays alone.
      num_processes: how many there are; 0 asks the cluster.
      process_id: which one this is, from 0; -1 asks the cluster.
      timeout_seconds: for all to come together; the process prints a line and exits after it.

    Raises:
      ValueError: when `auto` finds no cluster.
      OSError: when process 0 cannot listen at the port.

    Guarantees:
      A run ends at the same bits on two processes with a device each and on one process with two; an error at one ends
      the other (tests: `tests/experiment/test_distributed.py`).
    """
    if not coordinator_address:
        yield
        return
    _initialize(coordinator_address, num_processes, process_id, timeout_seconds)
    leaving, left = threading.Lock(), threading.Event()
    watcher = threading.Thread(target=_leave_with_others, args=[leaving, left], daemon=True)
    watcher.start()

    def stop_watching() -> None:
        leaving.acquire()  # Once the watcher has it, the process ends there.
        left.set()
        watcher.join()  # Else Python may end in the middle of its call, which aborts the process.

    try:
        yield
        meet()
    except BaseException as error:
        stop_watching()
        _tell_others(error)
        raise
    stop_watching()
    jax.distributed.shutdown()


def is_first() -> bool:
    """Whether this is the process that writes and prints, which it is where there is only one."""
    return jax.process_index() == 0


def meet() -> None:
    """Waits for all processes, as long as they live.

    Collectives give up where one process comes half a minute after another, so that they should come together first.
    """
    if jax.process_count() > 1:
        _client().wait_at_barrier(f"meeting/{next(_meetings)}", _DAY_MILLISECONDS)


def any_process(wanted: bool) -> bool:
    """Whether one of the processes wants it; all of them ask at the same point and get the same answer."""
    if jax.process_count() == 1:
        return wanted
    question = f"question/{next(_meetings)}"
    if wanted:
        _client().key_value_set(f"{question}/{jax.process_index()}", "yes")
    _client().wait_at_barrier(question, _DAY_MILLISECONDS)
    return bool(_client().key_value_dir_get(question))


def text_from_first(text: str) -> str:
    """What process 0 was called with, at every process; for a few kilobytes."""
    if jax.process_count() == 1:
        return text
    name = f"text/{next(_meetings)}"
    if is_first():
        _client().key_value_set(name, text)
    return _client().blocking_key_value_get(name, _DAY_MILLISECONDS)


def arrays_from_first(tree: PyTree) -> PyTree:
    """The arrays of process 0 at every process, to the last bit; all give arrays of the same shapes."""
    if jax.process_count() == 1:
        return tree
    host = jax.tree.map(np.asarray, jax.device_get(tree))
    meet()
    # Bytes, because what is sent is added to zeros, which would take the sign of a negative zero.
    sent = multihost_utils.broadcast_one_to_all(
        jax.tree.map(lambda leaf: np.frombuffer(leaf.tobytes(), np.uint8), host)
    )
    return jax.tree.map(
        lambda leaf, own: np.frombuffer(np.asarray(own).tobytes(), leaf.dtype).reshape(leaf.shape), host, sent
    )


def _initialize(address: str, num_processes: int, process_id: int, timeout_seconds: int) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # It would take SIGTERM for itself.
    given = address != AUTO
    who = f"coordinator_address={address}" + (f" of num_processes={num_processes}" if num_processes else "")
    late = threading.Timer(
        timeout_seconds,
        _exit,
        [
            f"{who}: not all processes came together within {timeout_seconds} s; start each with a process_id of its "
            "own and an address that it can reach, process 0 on the host that it names."
        ],
    )  # JAX would abort with a dump of its stack.
    late.daemon = True
    late.start()
    if given and process_id == 0:
        _check_port(address)
    try:
        jax.distributed.initialize(
            address if given else None,
            num_processes or None,
            process_id if process_id >= 0 else None,
            cluster_detection_method="deactivate" if given else None,
            initialization_timeout=2 * timeout_seconds + 60,
            shutdown_timeout_seconds=_PARTING_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            f"{who} does not say all that is needed ({error}); start from SLURM, Open MPI, Kubernetes or Cloud TPU, or "
            "give HOST:PORT with --num_processes and --process_id."
        ) from error
    finally:
        late.cancel()


def _check_port(address: str) -> None:
    """JAX would wait for the others in vain."""
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise OSError(
                f"coordinator_address={address}: process 0 cannot listen there ({error.strerror}); choose another port."
            ) from error


def _client() -> Any:
    assert runtime.global_state.client is not None, "this process has not joined others"
    return runtime.global_state.client


def _leave_with_others(leaving: threading.Lock, left: threading.Event) -> None:
    """Looks for another process's failure, and ends this one then: its main thread may wait for ever."""
    client = _client()
    while not left.wait(_LOOK_SECONDS):
        try:
            message = client.key_value_try_get(_FAILURE)
        except jax.errors.JaxRuntimeError:  # There is none.
            continue
        if leaving.acquire(blocking=False):
            _part()
            _exit(message)


def _tell_others(error: BaseException) -> None:
    """Ends the other processes; this one too, where not all of them answer."""
    what = " ".join(str(error).split()) or type(error).__name__
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # Another one may have failed before.
        _client().key_value_set(_FAILURE, f"process {jax.process_index()} of {jax.process_count()}: {what}")
    if not _part():
        _exit(f"{what} (a process of this run does not answer any more)")


def _part() -> bool:
    """Lets the processes go in peace, without which JAX aborts them; False when one of them does not come for it."""
    try:
        _client().wait_at_barrier("parting", 1000 * _PARTING_SECONDS)
    except jax.errors.JaxRuntimeError:
        return False
    jax.distributed.shutdown()
    return True


def _exit(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(1)
