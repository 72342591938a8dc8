"""What happened in each round: one line of JSON and the same numbers for TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fedjax_anomaly.reporting.atomic import write_atomically

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


def read_metrics(directory: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line that a killed process left half-written is dropped.

    Raises:
      FileNotFoundError: when the directory holds no `metrics.jsonl`.
      ValueError: when any other line is not JSON.
    """
    path = Path(directory) / METRICS_FILE
    if not path.exists():
        raise FileNotFoundError(f"directory={str(directory)!r} holds no {METRICS_FILE}; name a run's --output_dir.")
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"line {number} of {path} is not JSON ({error}); remove or repair it.") from error
    return records


class Logbook:
    """Writes one line per round to `metrics.jsonl`, and the same numbers under the same names for TensorBoard.

    Usage: `with Logbook(directory) as logbook: logbook.write(1, {"train_loss": 0.5})`.

    Args:
      directory: the run's folder; made where needed.
      resume_round: the last round to keep when a run is resumed; None starts a new logbook in place of an old one.

    Guarantees:
      A resumed run leaves one line per round, in order (test:
      `tests/reporting/test_logbook.py::test_a_resumed_run_leaves_one_line_per_round`).
      A written round is in the file when `write` returns (test:
      `tests/reporting/test_logbook.py::test_a_round_can_be_read_as_soon_as_it_is_written`).
    """

    def __init__(self, directory: str | Path, resume_round: int | None = None) -> None:
        directory = Path(directory)
        path = directory / METRICS_FILE
        kept: list[dict[str, Any]] = []
        if resume_round is not None and path.exists():
            kept = [record for record in read_metrics(directory) if record["round"] <= resume_round]
        write_atomically(path, "".join(_line(record) for record in kept).encode())
        self._last_round = -1 if resume_round is None else resume_round
        self._file = path.open("a", encoding="utf-8")
        self._events = _EventFile(directory / TENSORBOARD_FOLDER, first_round=self._last_round + 1)

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, round_number: int, metrics: Mapping[str, Any]) -> None:
        """Records a round.

        Args:
          round_number: larger than that of every line so far.
          metrics: name -> a number, as a Python, NumPy or JAX scalar, or None. NaN and infinity, which JSON lacks,
            become null, and TensorBoard is given no value.

        Raises:
          ValueError: when the round is already written, or a metric is no scalar or is called `round`.
        """
        if round_number <= self._last_round:
            raise ValueError(
                f"round_number={round_number} must exceed the last written round, {self._last_round}; "
                "open the logbook with resume_round to write a round again."
            )
        if "round" in metrics:
            raise ValueError("metrics may not hold the name 'round'; it is taken by round_number.")
        numbers = {name: _number(name, value) for name, value in metrics.items()}
        self._file.write(_line({"round": int(round_number), **numbers}))
        self._file.flush()
        self._events.write(round_number, {name: value for name, value in numbers.items() if value is not None})
        self._last_round = round_number

    def close(self) -> None:
        """Closes both files."""
        self._file.close()
        self._events.close()


class _EventFile:
    """One TensorBoard event file, written round by round without a background thread.

    The file opens with a session start, at which TensorBoard purges what earlier files of the folder hold from
    `first_round` on.
    """

    def __init__(self, folder: Path, first_round: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # here, so that importing the module stays light
        from tensorboardX.proto import event_pb2, summary_pb2

        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        # TensorBoard reads a folder's files in the order of their names: second of creation, host, suffix. The suffix
        # orders, and tells apart, files opened within one second.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        session_start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=first_round, session_log=session_start)

    def write(self, round_number: int, numbers: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=name, simple_value=number) for name, number in numbers.items()]
        self._write(step=round_number, summary=self._summary(value=values))

    def close(self) -> None:
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), **fields))
        self._writer.flush()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _number(name: str, value: Any) -> int | float | None:
    """A finite Python number, or None for what JSON cannot hold."""
    if value is None:
        return None
    array = np.asarray(value)
    if array.ndim != 0 or array.dtype.kind not in "biuf":
        raise ValueError(f"metric {name!r} is {value!r}, but must be one number or None; write one name per number.")
    number = array.item()
    return number if math.isfinite(number) else None
