"""The file format that NSL-KDD and KDD Cup 99 share: 41 columns of a connection, its label, no header.

References: Stolfo, Fan, Lee, Prodromidis and Chan, "Cost-based modeling for fraud and intrusion detection: results from
the JAM project" (DISCEX 2000), for the columns and their four groups; Tavallaee, Bagheri, Lu and Ghorbani, "A detailed
analysis of the KDD CUP 99 data set" (CISDA 2009), for NSL-KDD.
"""

import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedjax_anomaly.data.files import read_raw_file
from fedjax_anomaly.data.table import Categorical, Table

if TYPE_CHECKING:
    import pyarrow

BASIC_COLUMNS = (
    "duration",
    "protocol_type",
    "service",
    "flag",
    "src_bytes",
    "dst_bytes",
    "land",
    "wrong_fragment",
    "urgent",
)
"""What the packet headers of the connection tell."""

CONTENT_COLUMNS = (
    "hot",
    "num_failed_logins",
    "logged_in",
    "num_compromised",
    "root_shell",
    "su_attempted",
    "num_root",
    "num_file_creations",
    "num_shells",
    "num_access_files",
    "num_outbound_cmds",
    "is_host_login",
    "is_guest_login",
)
"""What domain knowledge finds in the payload."""

TRAFFIC_COLUMNS = (
    "count",
    "srv_count",
    "serror_rate",
    "srv_serror_rate",
    "rerror_rate",
    "srv_rerror_rate",
    "same_srv_rate",
    "diff_srv_rate",
    "srv_diff_host_rate",
)
"""Statistics of the two seconds before the connection."""

HOST_COLUMNS = (
    "dst_host_count",
    "dst_host_srv_count",
    "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate",
    "dst_host_srv_diff_host_rate",
    "dst_host_serror_rate",
    "dst_host_srv_serror_rate",
    "dst_host_rerror_rate",
    "dst_host_srv_rerror_rate",
)
"""Statistics of the last hundred connections to the same host."""

COLUMN_GROUPS = (BASIC_COLUMNS, CONTENT_COLUMNS, TRAFFIC_COLUMNS, HOST_COLUMNS)
COLUMNS = BASIC_COLUMNS + CONTENT_COLUMNS + TRAFFIC_COLUMNS + HOST_COLUMNS
CATEGORICAL_COLUMNS = ("protocol_type", "service", "flag")
NUMERIC_COLUMNS = tuple(name for name in COLUMNS if name not in CATEGORICAL_COLUMNS)

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True)
class KddFormat:
    """What tells the two data sets' files apart.

    Attributes:
      name: the name of the data set.
      columns: every column of the file, in order; `attack` is the label. Columns beyond `COLUMNS` and `attack` are
        checked and dropped.
      label_end: what follows the name of the attack.
    """

    name: str
    columns: tuple[str, ...]
    label_end: str

    def is_numeric(self, column: str) -> bool:
        """Whether a column holds numbers; the others hold names."""
        return column not in (*CATEGORICAL_COLUMNS, "attack")


NSL_KDD = KddFormat("nsl_kdd", (*COLUMNS, "attack", "difficulty"), label_end="")
KDD_CUP_99 = KddFormat("kddcup99", (*COLUMNS, "attack"), label_end=".")


def read_kdd_file(path: Path, kdd_format: KddFormat) -> Table:
    """Reads a raw file, compressed or not; rows stay in order.

    Args:
      path: the file; its suffix tells how it is compressed.
      kdd_format: `NSL_KDD` or `KDD_CUP_99`.

    Raises:
      ValueError: for an empty or damaged file, and for the first line with a wrong number of columns, a value that is
        no finite number or a missing name; the message has the file, the line and the column (test:
        `tests/data/test_kdd_format.py::test_a_bad_line_is_named_with_its_file_line_and_column`).
    """
    text = read_raw_file(path)
    if not text.strip():
        raise ValueError(f"{path} is empty; get it anew.")
    try:
        return _to_table(_parse(text, kdd_format), kdd_format)
    except ValueError as error:  # The fast reader tells that something is wrong; the slow one finds where.
        raise ValueError(_first_fault(path, text, kdd_format) or f"{path}: {error}.") from error


def _parse(text: bytes, kdd_format: KddFormat) -> "pyarrow.Table":
    """The columns of the file: float32, and dictionaries of strings."""
    import pyarrow  # Slow to import, and needed for raw files only.
    from pyarrow import csv

    name_type = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = {name: pyarrow.float32() if kdd_format.is_numeric(name) else name_type for name in kdd_format.columns}
    return csv.read_csv(
        pyarrow.py_buffer(text),
        read_options=csv.ReadOptions(column_names=kdd_format.columns),
        parse_options=csv.ParseOptions(quote_char=False),
        convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
    ).unify_dictionaries()


def _to_table(columns: "pyarrow.Table", kdd_format: KddFormat) -> Table:
    numeric = np.empty((len(columns), len(NUMERIC_COLUMNS)), np.float32)
    for position, name in enumerate(NUMERIC_COLUMNS):
        numeric[:, position] = columns[name].to_numpy()
    return Table(
        numeric=numeric,
        numeric_names=NUMERIC_COLUMNS,
        categorical=tuple(_to_categorical(columns[name]) for name in CATEGORICAL_COLUMNS),
        categorical_names=CATEGORICAL_COLUMNS,
        attack=_to_categorical(columns["attack"], end=kdd_format.label_end),
    )


def _to_categorical(column: "pyarrow.ChunkedArray", end: str = "") -> Categorical:
    """The column with sorted names; every name must be one or more characters followed by `end`, which is dropped."""
    column = column.combine_chunks()
    names = column.dictionary.to_pylist()
    if not all(_is_name(name, end) for name in names):
        raise ValueError("a name is missing")
    stripped = np.array([name.removesuffix(end) for name in names])
    code_of = np.argsort(np.argsort(stripped))
    return Categorical(
        codes=code_of[column.indices.to_numpy()].astype(np.int32),
        names=tuple(str(name) for name in np.sort(stripped)),
    )


def _is_name(field: str, end: str = "") -> bool:
    return field.endswith(end) and field != end


def _is_finite(field: str) -> bool:
    try:
        return abs(float(field)) <= _LARGEST_FLOAT32
    except ValueError:
        return False


def _first_fault(path: Path, text: bytes, kdd_format: KddFormat) -> str | None:
    """What is wrong with the first bad line, in words; None when every line is well-formed."""
    for number, line in enumerate(io.BytesIO(text), start=1):
        fields = line.decode("utf-8-sig", errors="replace").rstrip("\r\n").split(",")
        if fields == [""]:
            continue
        if len(fields) != len(kdd_format.columns):
            return f"{path}, line {number}: {len(fields)} columns, expected {len(kdd_format.columns)}; get it anew."
        for name, field in zip(kdd_format.columns, fields, strict=True):
            where = f"{path}, line {number}, column {name!r}: {field!r}"
            if kdd_format.is_numeric(name) and not _is_finite(field):
                return f"{where} is not a finite number; get the file anew."
            if name in CATEGORICAL_COLUMNS and not _is_name(field):
                return f"{where} is not a name; get the file anew."
            if name == "attack" and not _is_name(field, kdd_format.label_end):
                return f"{where} is not the name of an attack followed by {kdd_format.label_end!r}; get the file anew."
    return None
