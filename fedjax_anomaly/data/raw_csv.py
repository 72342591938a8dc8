"""Raw comma-separated text into arrays, with errors of one line that name the file and the row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedjax_anomaly.data.table import Categorical


def named_folder(data_dir: str | Path | None, title: str, homepage: str) -> Path:
    """`data_dir` as a path, for a data set that is not downloaded.

    Args:
      data_dir: what the user gave.
      title: the data set, for the error.
      homepage: where it can be had; named in the error.

    Raises:
      FileNotFoundError: when it is None or not there.
    """
    if data_dir is None:
        raise FileNotFoundError(
            f"{title} is not downloaded; get it from {homepage} and name its folder with --data_dir."
        )
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"--data_dir={folder} is not a folder; put {title} from {homepage} there.")
    return folder


def read_csv(
    name: str,
    text: bytes,
    numeric: Sequence[str],
    categorical: Sequence[str] = (),
    *,
    header: bool = True,
    may_miss: bool = False,
) -> tuple[np.ndarray, tuple[Categorical, ...]]:
    """Reads columns of a file; rows stay in order.

    Args:
      name: the file, for errors.
      text: its contents, with or without a byte-order mark.
      numeric: P columns of numbers.
      categorical: Q columns of strings; spaces around a value are dropped.
      header: the first line names the columns, and columns not asked for are left out; without it, the file's columns
        are `numeric` and then `categorical`.
      may_miss: empty and NaN fields of numeric columns are NaN, not errors.

    Returns:
      Float32[L, P] and the Q columns, whose names are sorted.

    Raises:
      ValueError: when there is no row, a column is missing, a row has more or fewer fields than the first, or a field
        is no finite number (test: `tests/data/test_raw_csv.py::test_a_bad_file_is_named_with_its_row_or_column`).
    """
    import pyarrow  # Slow to import, and needed for raw files only.
    from pyarrow import csv

    columns = [*numeric, *categorical]
    types = dict.fromkeys(numeric, pyarrow.float32()) | dict.fromkeys(categorical, pyarrow.string())
    try:
        table = csv.read_csv(
            pyarrow.py_buffer(text),
            # With threads, pyarrow does not tell the row.
            read_options=csv.ReadOptions(use_threads=False, column_names=None if header else columns),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=columns, null_values=["", "NaN", "nan"] if may_miss else []
            ),
        )
    except pyarrow.ArrowException as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0]}; get the file anew.") from error
    if not len(table):
        raise ValueError(f"{name} holds no rows; get the file anew.")
    numbers = np.empty((len(table), len(numeric)), np.float32)
    for position, column in enumerate(numeric):
        numbers[:, position] = table[column].to_numpy()
    bad = np.isinf(numbers) if may_miss else ~np.isfinite(numbers)
    if bad.any():
        row, position = np.argwhere(bad)[0]
        raise ValueError(
            f"{name}: column {numeric[position]!r} holds {numbers[row, position]} in row {row + 1 + header}, which is "
            "no finite number; get the file anew."
        )
    return numbers, tuple(_to_categorical(table[column].to_pylist()) for column in categorical)


def _to_categorical(values: list[str]) -> Categorical:
    """Codes the distinct values first, as sorting all strings of a column takes a second."""
    stripped = {value: value.strip() for value in set(values)}
    names = sorted(set(stripped.values()))
    code = {value: names.index(short) for value, short in stripped.items()}
    return Categorical(np.array([code[value] for value in values], np.int32), tuple(names))
