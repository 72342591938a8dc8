"""A contestant as a process of its own that runs rounds when it is told to."""

import os
import select
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

import numpy as np


class ContestantFailed(RuntimeError):
    """A contestant stopped or did not answer; the message is for the table."""


class ContestantProcess:
    """Starts `python -m rivals.NAME` and asks it for rounds. As a context manager it ends with all its children.

    Args:
      python: of the contestant's environment.
      module: the contestant's name in the package `rivals`.
      task: folder of the workload.
      log: file for all that it prints.
      environment: variables beside those of this process.
    """

    def __init__(
        self, python: Path, module: str, task: Path, log: Path, environment: dict[str, str] | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._result = log.with_suffix(".npz")
        self._result.unlink(missing_ok=True)
        benchmarks = Path(__file__).parents[1]
        path = os.pathsep.join(filter(None, [str(benchmarks), os.environ.get("PYTHONPATH", "")]))
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", f"rivals.{module}", task, self._result],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": path} | (environment or {}),
                cwd=benchmarks,
                bufsize=0,
                start_new_session=True,
            )

    def run(self, rounds: int, timeout_seconds: float) -> float:
        """Has it run rounds; returns the seconds that they took it.

        Raises:
          ContestantFailed: when it ends or takes longer than `timeout_seconds`.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{rounds}\n".encode())
        except BrokenPipeError:
            raise ContestantFailed(self._reason()) from None
        if not select.select([self._process.stdout], [], [], timeout_seconds)[0]:
            raise ContestantFailed(f"no answer within {timeout_seconds:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise ContestantFailed(self._reason())
        return float(line)

    def peak_memory_bytes_while_running(self, rounds: int, timeout_seconds: float) -> int:
        """Has it run rounds and watches the memory of the contestant and all its children.

        Returns:
          The largest proportional set size seen: a page that processes share counts once.
        """
        peak = 0
        finished = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not finished.wait(0.05):
                peak = max(peak, sum(_proportional_set_size(pid) for pid in session_members(self._process.pid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            self.run(rounds, timeout_seconds)
        finally:
            finished.set()
            watcher.join()
        return peak

    def parameters(self, timeout_seconds: float) -> dict[str, np.ndarray]:
        """Ends the run and reads the parameters, by PyTorch's names."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        deadline = time.monotonic() + timeout_seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if not self._result.exists():
            raise ContestantFailed(self._reason())
        with np.load(self._result) as stored:
            return {name: stored[name] for name in stored.files}

    def __enter__(self) -> "ContestantProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in session_members(self._process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        # Waits for it and closes the pipes.
        self._process.__exit__(kind, error, trace)

    def _reason(self) -> str:
        """The last line that it printed, or where to look."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else f"it ended with code {self._process.poll()}"


def session_members(leader: int) -> list[int]:
    """The process and all that it started, also what has left its group, as long as it stayed in its session."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == leader:
                members.append(int(entry.name))
    return members


def _proportional_set_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
