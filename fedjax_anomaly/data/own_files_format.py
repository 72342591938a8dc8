"""One CSV or Parquet file with columns unknown beforehand, with errors of one line that name the file and the row."""

import dataclasses
import datetime
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fedjax_anomaly.data.files import SUFFIXES, read_raw_file
from fedjax_anomaly.data.table import Categorical

Kind = Literal["numbers", "strings", "time stamps", "empty"]
"""What a column holds; `empty` where every cell is."""

FILE_SUFFIXES = (*(f".csv{suffix}" for suffix in SUFFIXES), ".parquet")
"""What a file's name may end with."""

_LATEST_SECOND = 1e11
"""Numbers of seconds beyond this, in the year 5138, are taken for milliseconds or finer."""


@dataclasses.dataclass(frozen=True)
class OwnFile:
    """A file as read.

    Attributes:
      path: of the file.
      columns: name -> pyarrow.ChunkedArray, in the order of the file; at least one row.
      first_row: the number of the first row as the user counts: 2 after a header.
    """

    path: Path
    columns: dict[str, Any]
    first_row: int

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def kind(self, name: str) -> Kind:
        """What the column holds.

        Raises:
          ValueError: for a column of another type.
        """
        from pyarrow import types

        kind = self.columns[name].type
        if types.is_null(kind):
            return "empty"
        if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
            return "numbers"
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            return "strings"
        if types.is_timestamp(kind) or types.is_date(kind):
            return "time stamps"
        raise ValueError(
            f"{self.path}: column {name!r} holds {kind} values, but numbers, strings and time stamps can be used; "
            "convert or remove it."
        )

    def numbers(self, name: str) -> np.ndarray:
        """Float64[L].

        Raises:
          ValueError: when a cell is empty, NaN or infinite (test:
            `tests/data/test_own_files.py::test_a_cell_that_is_no_number_is_named`).
        """
        import pyarrow

        numbers = self.columns[name].cast(pyarrow.float64()).to_numpy()
        with np.errstate(over="ignore"):
            bad = np.flatnonzero(~np.isfinite(numbers.astype(np.float32)))
        if len(bad):
            cell = self.columns[name][int(bad[0])].as_py()
            found = "is empty" if cell is None else f"holds {cell}"
            raise ValueError(
                f"{self.path}: column {name!r} {found} in row {bad[0] + self.first_row} ({len(bad)} such rows in all), "
                "where a finite number is needed; fill or remove these rows, or remove the column."
            )
        return numbers

    def strings(self, name: str) -> Categorical:
        """The column as strings without spaces around them; an empty cell is the empty string."""
        import pyarrow

        column = self.columns[name].cast(pyarrow.string()).fill_null("").combine_chunks().dictionary_encode()
        if isinstance(column, pyarrow.ChunkedArray):
            column = column.combine_chunks()
        stripped = Categorical.from_strings([word.strip() for word in column.dictionary.to_pylist()])
        return Categorical(stripped.codes[column.indices.to_numpy()], stripped.names)

    def labels(self, name: str) -> np.ndarray:
        """[L], the column as numbers or strings; an empty cell is the empty string, or 0 among numbers."""
        if self.kind(name) == "numbers":
            return self.columns[name].cast("float64").fill_null(0.0).to_numpy()
        return self.strings(name).strings()

    def ticks(self, name: str) -> tuple[np.ndarray, float]:
        """The column as points in time.

        Returns:
          Int64[L] or Float64[L], and the seconds that one unit of it is.

        Raises:
          ValueError: when a cell is empty, or neither an ISO time stamp nor a number of seconds (test:
            `tests/data/test_own_files.py::test_a_cell_that_is_no_time_is_named`).
        """
        import pyarrow

        kind, column = self.kind(name), self.columns[name]
        if kind == "time stamps" and not column.null_count:
            zone = column.type.tz if pyarrow.types.is_timestamp(column.type) else None
            return column.cast(pyarrow.timestamp("us", zone), safe=False).cast("int64").to_numpy(), 1e-6
        if kind == "numbers":
            seconds = self.numbers(name)
            if np.abs(seconds).max() > _LATEST_SECOND:
                raise ValueError(
                    f"{self.path}: time column {name!r} reaches {seconds.max():.4g}, too many for seconds; divide "
                    "milliseconds by 1000, and finer units likewise."
                )
            return seconds, 1.0
        words = self.strings(name).strings().tolist() if kind == "strings" else column.to_pylist()
        row = next((row for row, word in enumerate(words) if not _is_time_stamp(word)), 0)
        found = f"holds {words[row]!r}" if words[row] else "is empty"
        raise ValueError(
            f"{self.path}: time column {name!r} {found} in row {row + self.first_row}; give ISO time stamps "
            "(2026-01-31T23:59:00), all with or all without a zone, or seconds as numbers."
        )

    def first_non_number(self, name: str) -> str:
        """The first string of a column that is no number, with its row, for errors."""
        words = self.strings(name).strings()
        row = next((row for row, word in enumerate(words.tolist()) if not _is_number(word)), 0)
        return f"{str(words[row])!r} in row {row + self.first_row}"

    def share_of_numbers(self, name: str) -> float:
        """The share of a string column's cells that are numbers."""
        words = self.strings(name)
        return float(np.array([_is_number(word) for word in words.names])[words.codes].mean())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_time_stamp(word: Any) -> bool:
    try:
        datetime.datetime.fromisoformat(str(word))
    except ValueError:
        return False
    return True


def client_name(path: Path) -> str:
    """The file's name without its suffixes."""
    return next(path.name[: -len(suffix)] for suffix in FILE_SUFFIXES if path.name.endswith(suffix))


def read_file(path: Path) -> OwnFile:
    """Reads a file.

    Raises:
      ValueError: for a file that is damaged, not UTF-8, or without rows, and for columns without names of their own
        (test: `tests/data/test_own_files.py::test_a_damaged_file_is_one_line`).
    """
    import pyarrow

    contents = read_raw_file(path)
    if not contents.strip():
        raise ValueError(f"{path} is empty; give it rows, or remove it.")
    try:
        table = _parse_parquet(contents) if path.suffix == ".parquet" else _parse_csv(path, contents)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} cannot be read ({str(error).splitlines()[0]}); correct it or write it anew."
        ) from error
    if not len(table):
        raise ValueError(f"{path} has a header but no rows; give it rows, or remove it.")
    names = [name.strip() for name in table.column_names]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path} has {names.count(name)} columns called {name!r}; give each its own name.")
    columns = {name: _decoded(column) for name, column in zip(names, table.columns, strict=True)}
    return OwnFile(path, columns, 1 if path.suffix == ".parquet" else 2)


def _parse_parquet(contents: bytes) -> Any:
    from pyarrow import parquet

    return parquet.read_table(io.BytesIO(contents))


def _parse_csv(path: Path, contents: bytes) -> Any:
    import pyarrow
    from pyarrow import csv

    try:
        contents.decode()
    except UnicodeDecodeError as error:
        row = contents.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} is not UTF-8 text (row {row}); save it as UTF-8.") from error
    contents = contents.rstrip() + b"\n"
    header = contents.partition(b"\n")[0].decode()
    if "," not in header and (";" in header or "\t" in header):
        raise ValueError(f"{path} begins with {header.strip()!r}, without a comma; separate its columns by commas.")
    return csv.read_csv(
        pyarrow.py_buffer(contents),
        # With threads, pyarrow does not tell the row.
        read_options=csv.ReadOptions(use_threads=False),
        # In a single column an empty line is an empty cell.
        parse_options=csv.ParseOptions(ignore_empty_lines="," in header),
    )


def _decoded(column: Any) -> Any:
    """The column without a dictionary."""
    import pyarrow

    return column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column
