"""Files of lines that only grow, and can be taken back to where they were when the state was stored."""

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fedjax_anomaly.live.events import Rejected
from fedjax_anomaly.live.interfaces import ScoredEvent, Sink


class GrowingFile:
    """A file that is written at its end."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        self._end_last_line()

    def _end_last_line(self) -> None:
        """Takes away what a process that was killed left of a line."""
        size = self._file.tell()
        with self.path.open("rb") as written:
            end = size
            while end:
                begin = max(0, end - 4096)
                written.seek(begin)
                line_end = written.read(end - begin).rfind(b"\n")
                if line_end >= 0:
                    end = begin + line_end + 1
                    break
                end = begin
        if end < size:
            self.truncate(end)

    def write(self, lines: bytes) -> None:
        """Adds lines."""
        self._do(self._file.write, lines)

    def position(self) -> int:
        """Its length, with all lines that were added."""
        return self._file.tell()

    def sync(self) -> None:
        """Returns when everything that has been flushed is on the disk; any thread may call it."""
        os.fsync(self._file.fileno())

    def truncate(self, position: int) -> None:
        """Takes away what was written after `position`."""
        self._file.flush()
        self._file.truncate(position)

    def flush(self) -> None:
        """Lets readers see what has been written."""
        self._do(self._file.flush)

    def close(self) -> None:
        """Writes what is held back."""
        self._do(self._file.close)

    def _do(self, action: Callable[..., object], *arguments: object) -> None:
        """An error of the disk has to name the file."""
        try:
            action(*arguments)
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise


class DeadLetters:
    """The file of rejected records, a JSON line each: `reason`, `detail`, `position` and the `record` as it came."""

    def __init__(self, file: GrowingFile) -> None:
        self._file = file

    def write(self, rejected: Sequence[Rejected]) -> None:
        """Adds records."""
        for record, reason, detail in rejected:
            line = {"reason": reason, "detail": detail, "position": record.position, "record": record.raw}
            self._file.write(json.dumps(line).encode() + b"\n")


class ScoreLines(Sink):
    """A sink that writes a JSON line for each scored event, or for alarms only."""

    def __init__(self, file: GrowingFile, *, alarms_only: bool) -> None:
        self._file, self._alarms_only = file, alarms_only
        self._quote = functools.cache(json.dumps)

    def scored(self, events: Sequence[ScoredEvent]) -> None:
        """Adds lines."""
        lines = [
            f'{{"stream": {self._quote(e.stream)}, "time": {e.time!r}, "score": {e.score!r}, '
            f'"threshold": {_json_number(e.threshold)}, "alarm": {"true" if e.alarm else "false"}}}\n'
            for e in events
            if e.alarm or not self._alarms_only
        ]
        self._file.write("".join(lines).encode())


@functools.lru_cache(4096)
def _json_number(value: float) -> str:
    """JSON has no infinity, which a threshold may be."""
    return repr(value) if abs(value) < float("inf") else "null"
