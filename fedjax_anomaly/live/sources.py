"""Sources of JSON lines or CSV: standard input, and a file that is followed while it grows."""

import csv
import glob
import itertools
import json
import os
import select
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from fedjax_anomaly.live.interfaces import Record

Format = Literal["auto", "jsonl", "csv"]

_READ_BYTES = 1 << 18
_LONGEST_LINE = 1 << 20
_POLL_SECONDS = 0.002
_LOOK_SECONDS = 0.1
_KIND_OF_SUFFIX: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


class LineParser:
    """Turns lines into records; the first line of CSV names the columns."""

    def __init__(self, kind: Format) -> None:
        self._kind: str = kind
        self._header: list[str] | None = None

    def parse(self, line: bytes, position: int) -> Record | None:
        """A record, or None for a header or an empty line."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text.strip():
            return None
        if self._kind == "auto":
            self._kind = "jsonl" if text.lstrip().startswith("{") else "csv"
        return self._json(text, position) if self._kind == "jsonl" else self._csv(text, position)

    @staticmethod
    def _json(text: str, position: int) -> Record:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            return Record(position, text, None, f"not JSON: {error}")
        if not isinstance(fields, dict):
            return Record(position, text, None, "not a JSON object")
        return Record(position, text, fields)

    def _csv(self, text: str, position: int) -> Record | None:
        try:
            (cells,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError) as error:
            return Record(position, text, None, f"not CSV: {error}")
        if self._header is None:
            self._header = [name.strip() for name in cells]
            return None
        if len(cells) != len(self._header):
            return Record(position, text, None, f"{len(cells)} cells, but the header has {len(self._header)}")
        return Record(position, text, dict(zip(self._header, cells, strict=True)))


class _Lines:
    """Whole lines out of chunks of bytes, with the position after each."""

    def __init__(self) -> None:
        self._rest = b""
        self._ready: deque[tuple[bytes, int]] = deque()
        self._skipping = False
        self.position = 0

    def __len__(self) -> int:
        return len(self._ready)

    def reset(self, position: int) -> None:
        """Forgets everything; the next bytes come from `position`."""
        self._rest, self._skipping, self.position = b"", False, position
        self._ready.clear()

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes. A line of more than 1 MiB is cut there, and its rest left out."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            self._add(line, len(line) + 1)
        if len(self._rest) > _LONGEST_LINE:
            self._add(self._rest[:_LONGEST_LINE], len(self._rest))
            self._rest, self._skipping = b"", True

    def _add(self, line: bytes, num_bytes: int) -> None:
        self.position += num_bytes
        if not self._skipping:
            self._ready.append((line, self.position))
        self._skipping = False

    def end(self) -> None:
        """What is left is a line as well."""
        if self._rest:
            self._add(self._rest, len(self._rest))
            self._rest = b""

    def take(self, parse: Callable[[bytes, int], Record | None], most: int) -> list[Record]:
        """At most `most` records."""
        records: list[Record] = []
        while self._ready and len(records) < most:
            record = parse(*self._ready.popleft())
            if record is not None:
                records.append(record)
        return records


class PipeSource:
    """Lines from a file descriptor, such as standard input. The pipe makes the writer wait while nothing is read."""

    def __init__(self, descriptor: int, kind: Format = "auto") -> None:
        self._descriptor = descriptor
        self._parser, self._lines = LineParser(kind), _Lines()
        self._ended = False

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """See `Source`."""
        if not len(self._lines) and not self._ended and select.select([self._descriptor], [], [], timeout_seconds)[0]:
            chunk = os.read(self._descriptor, _READ_BYTES)
            if chunk:
                self._lines.feed(chunk)
            else:
                self.close()
        if self._ended and not len(self._lines):
            return None
        return self._lines.take(self._parser.parse, most)

    def close(self) -> None:
        """See `Source`."""
        self._lines.end()
        self._ended = True


class FollowedFile:
    """Lines of a file while it grows, also after it was rotated (renamed, a new one in its place) or cut to nothing.

    A rotated file is read to its end before the next one is begun. What a rotation compresses is not read any more, and
    a file that was cut and has grown beyond the old place while no process looked cannot be told from one that only
    grew.
    """

    def __init__(self, path: str | Path, kind: Format = "auto", *, follow: bool = True) -> None:
        """Opens the file.

        Args:
          path: of the file.
          kind: of its lines; auto goes by the suffix of the name, or else by the first line.
          follow: waits for more at its end; False ends there.

        Raises:
          OSError: when it cannot be read.
        """
        self._path, self._follow = Path(path), follow
        self._kind: Format = _KIND_OF_SUFFIX.get(self._path.suffix, "auto") if kind == "auto" else kind
        self._parser, self._lines = LineParser(self._kind), _Lines()
        self._bases: list[tuple[int, int]] = []  # The position at which each file began, and its inode.
        self._ended = False
        self._descriptor = -1
        self._next_look = 0.0
        self._open(self._path, 0)

    def read(self, most: int, timeout_seconds: float) -> list[Record] | None:
        """See `Source`."""
        until = time.monotonic() + timeout_seconds
        while not len(self._lines) and not self._ended:
            if chunk := os.read(self._descriptor, _READ_BYTES):
                self._lines.feed(chunk)
            elif not self._go_on():
                if time.monotonic() >= until:
                    return []
                time.sleep(_POLL_SECONDS)
        if self._ended and not len(self._lines):
            return None
        return self._lines.take(self._parser.parse, most)

    def close(self) -> None:
        """See `Source`."""
        self._ended = True
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def bookmark(self, position: int) -> dict[str, Any]:
        """See `Replayable`."""
        base, inode = next(entry for entry in reversed(self._bases) if entry[0] < position or entry == self._bases[0])
        return {"position": position, "inode": inode, "offset": position - base}

    def seek(self, bookmark: dict[str, Any]) -> None:
        """See `Replayable`; begins the file anew, with a warning, where the file of the bookmark is gone."""
        found = [path for path, inode in self._files() if inode == bookmark["inode"]]
        offset = bookmark["offset"]
        if not found or found[0].stat().st_size < offset:
            warnings.warn(
                f"{self._path} is another file than when it was last read, and what was written to that one since is "
                "gone; the new one is read from its beginning.",
                stacklevel=2,
            )
            found, offset = [self._path], 0
        self._bases.clear()
        self._lines.reset(bookmark["position"])
        self._open(found[0], offset)

    def _open(self, path: Path, offset: int) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(path, os.O_RDONLY)
        self._parser = LineParser(self._kind)
        if offset:
            first = os.pread(self._descriptor, _LONGEST_LINE, 0).partition(b"\n")[0]
            self._parser.parse(first, 0)  # For its header.
            os.lseek(self._descriptor, offset, os.SEEK_SET)
        self._bases.append((self._lines.position - offset, os.fstat(self._descriptor).st_ino))

    def _go_on(self) -> bool:
        """At the end of the file: True where there is a next one, or it was cut and begins anew, or all is read."""
        if self._follow and time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + _LOOK_SECONDS
        inode = self._bases[-1][1]
        files = self._files()
        following = [path for (_, before), (path, _) in itertools.pairwise(files) if before == inode]
        gone = all(inode != other for _, other in files)
        if following or (gone and files):
            self._lines.end()
            self._open(following[0] if following else files[-1][0], 0)
        elif os.fstat(self._descriptor).st_size < os.lseek(self._descriptor, 0, os.SEEK_CUR):
            self._lines.end()
            self._open(self._path, 0)
        elif not self._follow:
            self._lines.end()
            self._ended = True
        else:
            return False
        return True

    def _files(self) -> list[tuple[Path, int]]:
        """The file and what it was rotated to, with their inodes, the oldest first and the file itself last."""
        found = []
        for path in self._path.parent.glob(f"{glob.escape(self._path.name)}*"):
            try:
                status = path.stat()
            except OSError:
                continue
            if not path.name.endswith(_COMPRESSED):
                found.append((path == self._path, status.st_mtime_ns, path, status.st_ino))
        return [(path, inode) for *_, path, inode in sorted(found)]
