"""Files that are either whole or not there."""

import os
from pathlib import Path


def write_atomically(path: str | Path, contents: bytes) -> None:
    """Writes a file, making its folder where needed; a reader sees the old contents or the new, never a part.

    Guarantees:
      A write that fails leaves the old file as it was and nothing beside it (test:
      `tests/reporting/test_logbook.py::test_a_failed_write_leaves_the_old_file_and_nothing_else`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(contents)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
