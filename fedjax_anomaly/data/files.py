"""Where raw files and prepared copies of them are, and how a raw file is opened, compressed or not."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path


def default_cache_dir() -> Path:
    """The folder for prepared data: `fedjax_anomaly` in `$XDG_CACHE_HOME`, or in `~/.cache` where that is unset."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fedjax_anomaly"


def _only_member(zipped: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise zipfile.BadZipFile(f"it holds {len(members)} files, expected 1")
        return archive.read(members[0])


_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
    ".zip": _only_member,
}

SUFFIXES = ("", *_DECOMPRESS)
"""What may follow a raw file's name, in the order in which a file is looked for."""


def read_raw_file(path: Path) -> bytes:
    """The contents of a file, decompressed as its suffix tells.

    Raises:
      ValueError: when an archive is cut off or damaged, or a .zip does not hold exactly one file (tests:
        `tests/data/test_files.py::test_a_truncated_archive_is_refused`,
        `tests/data/test_files.py::test_a_zip_of_two_files_is_refused`).
    """
    contents = path.read_bytes()
    if path.suffix not in _DECOMPRESS:
        return contents
    try:
        return _DECOMPRESS[path.suffix](contents)
    except (EOFError, OSError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be decompressed ({error}); get it anew or unpack it yourself.") from error


def find_raw_file(data_dir: Path, folder: str, names: Sequence[str], homepage: str) -> Path:
    """The first file under one of its names, with one of `SUFFIXES`, in `data_dir/folder` or in `data_dir` itself.

    Args:
      data_dir: where the user keeps raw files.
      folder: the data set's own folder in `data_dir`, looked into first.
      names: the names under which copies of the file are handed out, the publisher's own first.
      homepage: where the file can be had; named in the error.

    Raises:
      FileNotFoundError: when there is no such folder or file (test:
        `tests/data/test_files.py::test_a_missing_file_is_named_with_the_folders_and_the_way_out`).
      ValueError: when `data_dir` is not a folder.
    """
    if not data_dir.exists():
        raise FileNotFoundError(f"--data_dir={data_dir} does not exist; put {names[0]} from {homepage} there.")
    if not data_dir.is_dir():
        raise ValueError(f"--data_dir={data_dir} is not a folder; give the folder that holds {names[0]}.")
    folders = (data_dir / folder, data_dir)
    for candidate in (f / (name + suffix) for f in folders for name in names for suffix in SUFFIXES):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"no {' or '.join(names)} (as it is, or with {', '.join(SUFFIXES[1:])}) in {folders[0]} or {folders[1]}; "
        f"get it from {homepage}, or correct --data_dir."
    )


def file_digest(path: Path) -> str:
    """The SHA-256 digest of a file as it lies there, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def combined_digest(digests: Sequence[str]) -> str:
    """One digest for several, in their order: 16 hexadecimal digits, short enough for a folder's name."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:16]
