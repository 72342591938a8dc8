"""Files that are either whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(
    path: str | Path, contents: bytes | Callable[[BinaryIO], object], *, durable: bool = False
) -> None:
    """Writes a file, making its folder where needed; a reader sees the old contents or the new, never a part.

    Args:
      path: of the file.
      contents: all bytes, or what writes them.
      durable: whether the new contents are on the disk before they take the place of the old.

    Raises:
      OSError: when it cannot be written; names the file.

    Guarantees:
      A write that fails leaves the old file as it was and nothing beside it (test:
      `tests/reporting/test_logbook.py::test_a_failed_write_leaves_the_old_file_and_nothing_else`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            if callable(contents):
                contents(file)
            else:
                file.write(contents)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
