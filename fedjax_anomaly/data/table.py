"""The one shape of data that every data set yields: named columns with labels, and what their order means."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

RowOrder = Literal["time", "capture", "none"]
"""What the order of a table's rows means.

`time`: rows of one source are consecutive samples in time. `capture`: rows are in the order in which events were
recorded, without time stamps. `none`: shuffled or sorted by label, so that neighbouring rows say nothing about each
other and no window may mix them.
"""

NORMAL = "normal"
"""The attack name of a normal row."""


@dataclasses.dataclass(frozen=True)
class Categorical:
    """A column of strings, stored as codes into its distinct names.

    Attributes:
      codes: Int[L], index into `names` of each row.
      names: the distinct values.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def from_strings(cls, values: Sequence[str] | np.ndarray) -> "Categorical":
        """Codes a column of strings; names are sorted, so equal columns get equal codes."""
        names, codes = np.unique(np.asarray(values, dtype=str), return_inverse=True)
        return cls(codes.astype(np.int32).reshape(-1), tuple(str(name) for name in names))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: np.ndarray) -> "Categorical":
        """The rows selected by an index or boolean array; `names` stay as they are."""
        return Categorical(self.codes[rows], self.names)

    def strings(self) -> np.ndarray:
        """The column as an array of strings [L]."""
        return np.asarray(self.names, dtype=str)[self.codes]

    def is_name(self, name: str) -> np.ndarray:
        """Bool[L]: the rows whose value is `name`."""
        if name not in self.names:
            return np.zeros(len(self), dtype=bool)
        return self.codes == self.names.index(name)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of telemetry or logs, as read, before anything is learned from them.

    Attributes:
      numeric: Float[L, P], the numeric columns, float32.
      numeric_names: P column names.
      categorical: Q categorical columns of L rows, in the order of `categorical_names`.
      categorical_names: Q column names.
      attack: the name of the attack or fault of each row; `"normal"` where there is none.
      time: Float[L], seconds since the table's own origin, or None when rows carry no time.
      source: the node that each row came from, or None when unknown.

    Raises:
      ValueError: when columns disagree in length, or a numeric value is NaN or infinite (test:
        `tests/data/test_table.py::test_a_nan_is_named_with_its_column_and_row`).
    """

    numeric: np.ndarray
    numeric_names: tuple[str, ...]
    categorical: tuple[Categorical, ...]
    categorical_names: tuple[str, ...]
    attack: Categorical
    time: np.ndarray | None = None
    source: Categorical | None = None

    def __post_init__(self) -> None:
        if self.numeric.ndim != 2 or self.numeric.shape[1] != len(self.numeric_names):
            raise ValueError(
                f"numeric has shape {self.numeric.shape}, but there are {len(self.numeric_names)} numeric_names; "
                "give one column per name."
            )
        if len(self.categorical) != len(self.categorical_names):
            raise ValueError(
                f"categorical has {len(self.categorical)} columns, but there are {len(self.categorical_names)} "
                "categorical_names; give one column per name."
            )
        columns = {"attack": self.attack, "time": self.time, "source": self.source}
        columns |= dict(zip(self.categorical_names, self.categorical, strict=True))
        for name, column in columns.items():
            if column is not None and len(column) != len(self.numeric):
                raise ValueError(
                    f"column {name!r} has {len(column)} rows, but numeric has {len(self.numeric)}; "
                    "give every column the same number of rows."
                )
        self._check_finite()

    def _check_finite(self) -> None:
        finite = np.isfinite(self.numeric)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"column {self.numeric_names[column]!r} holds {self.numeric[row, column]} in row {row} "
                f"({np.count_nonzero(~finite)} such values in all); remove or fill non-finite values first."
            )

    def __len__(self) -> int:
        return len(self.numeric)

    @property
    def label(self) -> np.ndarray:
        """Bool[L]: True where the row is anomalous."""
        return ~self.attack.is_name(NORMAL)

    def take(self, rows: np.ndarray) -> "Table":
        """The rows selected by an index or boolean array, in that order."""
        return dataclasses.replace(
            self,
            numeric=self.numeric[rows],
            categorical=tuple(column.take(rows) for column in self.categorical),
            attack=self.attack.take(rows),
            time=None if self.time is None else self.time[rows],
            source=None if self.source is None else self.source.take(rows),
        )

    def column(self, name: str) -> Categorical:
        """The categorical column, `"source"` or `"attack"` called `name`.

        Raises:
          ValueError: when there is none; the message lists those that exist.
        """
        columns = dict(zip(self.categorical_names, self.categorical, strict=True)) | {"attack": self.attack}
        if self.source is not None:
            columns["source"] = self.source
        if name not in columns:
            raise ValueError(f"no categorical column {name!r}; the columns are {', '.join(sorted(columns))}.")
        return columns[name]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training and a test table, split by the publisher, and what a caller must know to use them honestly.

    Attributes:
      name: the name under which the data set is loaded.
      train: the training rows; anomalous rows may be among them and are never trained on.
      test: the test rows.
      row_order: what the order of the rows means, in both tables.
      feature_groups: for `row_order == "none"`: the record's own groups of columns, which become the time steps of
        the sequence model; None otherwise.
      category_columns: the categorical columns that tell kinds of traffic apart, best first: `natural` partitions
        split by the first one, `dirichlet` ones by it or by the column that the user names.
      normal_groups: the latent group of each source where the simulator knows it, for judging a clustering; None for
        real data. It maps a name in `train.source` to a group number.
      notes: sentences that a result and its report must show: where the rows are not the publisher's, or what in them
        is our reading.
      labelled: False where nothing is known of the test rows; they are all called normal, and no test metric may be
        computed.
    """

    name: str
    train: Table
    test: Table
    row_order: RowOrder
    feature_groups: tuple[tuple[str, ...], ...] | None = None
    category_columns: tuple[str, ...] = ("attack",)
    normal_groups: dict[str, int] | None = None
    notes: tuple[str, ...] = ()
    labelled: bool = True
