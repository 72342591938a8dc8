"""A data set from a caller's own arrays, one per client."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from fedjax_anomaly.data.client_tables import (
    SECONDS_PER_ROW,
    attack_column,
    evenly_spaced,
    join_clients,
    split_table,
)
from fedjax_anomaly.data.table import Categorical, Dataset, RowOrder, Table

_Arrays = Sequence[ArrayLike]


def from_arrays(
    train: _Arrays,
    test: _Arrays | None = None,
    *,
    labels: _Arrays | None = None,
    train_labels: _Arrays | None = None,
    times: _Arrays | None = None,
    test_times: _Arrays | None = None,
    columns: Sequence[str] | None = None,
    client_names: Sequence[str] | None = None,
    test_fraction: float = 0.3,
    seconds_per_row: float = SECONDS_PER_ROW,
    row_order: RowOrder = "time",
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """A data set of C clients, each with rows of P numbers.

    Args:
      train: Float[L_c, P] of each client.
      test: Float[M_c, P] of each client; None takes the last rows of `train`, or drawn ones where their order means
        nothing.
      labels: [M_c] of each client, booleans, 0 and 1, or names of attacks; without `test` [L_c], of all rows. None:
        nothing is known of the test rows.
      train_labels: [L_c] of each client where `test` is given; anomalous rows are not trained on. None takes all rows
        as normal.
      times: [L_c] of each client, seconds, never decreasing; None spaces the rows evenly.
      test_times: [M_c] of each client where `times` and `test` are given.
      columns: P names; None numbers them.
      client_names: C names; None numbers them.
      test_fraction: share of each client's rows that are tested on where `test` is None.
      seconds_per_row: time between evenly spaced rows; a client's test rows go on where its training rows end.
      row_order: what the order of the rows means; only rows in order of time have times.
      seed: of the split where the order means nothing.
      name: of the data set, for results.

    Raises:
      ValueError: for arrays that do not fit together, or that hold a value that is no finite number (test:
        `tests/data/test_arrays.py::test_what_does_not_fit_is_named`).

    Guarantees:
      Of a client, no training row follows a test row (test:
      `tests/data/test_arrays.py::test_without_a_test_part_the_last_rows_are_tested`).
    """
    if test is None and (train_labels is not None or test_times is not None):
        raise ValueError("train_labels and test_times need test; without it, give labels and times of all rows.")
    if test is not None and (times is None) != (test_times is None):
        raise ValueError("times and test_times are given one without the other; give both or neither.")
    _check_order(row_order, seconds_per_row, times)
    if not len(train):
        raise ValueError("train holds no client; give one array per client.")
    names = _distinct("client_names", client_names, "client {}", len(train))
    column_names = _distinct("columns", columns, "column {}", _width(train[0]))
    own = _tables("train", train, column_names, labels if test is None else train_labels, times)
    even = row_order == "time" and times is None
    if even:
        own = [evenly_spaced(table, 0, seconds_per_row) for table in own]
    if test is None:
        rng = np.random.default_rng(seed) if row_order == "none" else None
        parts = [split_table(table, test_fraction, f"train[{c}]", rng) for c, table in enumerate(own)]
        own, tested = [part for part, _ in parts], [part for _, part in parts]
    else:
        _check_one_per_client("test", test, len(train))
        tested = _tables("test", test, column_names, labels, test_times)
        if even:
            tested = [
                evenly_spaced(rows, len(before), seconds_per_row) for rows, before in zip(tested, own, strict=True)
            ]
    return Dataset(
        name=name,
        train=join_clients(own, names),
        test=join_clients(tested, names),
        row_order=row_order,
        category_columns=("source",),
        labelled=labels is not None,
    )


def _tables(
    argument: str, arrays: _Arrays, columns: tuple[str, ...], labels: _Arrays | None, times: _Arrays | None
) -> list[Table]:
    """A table for each client's array; `argument` is what the caller knows the arrays as."""
    for what, given in (("labels", labels), ("times", times)):
        if given is not None:
            _check_one_per_client(f"{what} of {argument}", given, len(arrays))
    return [
        Table(
            numeric=_numbers(f"{argument}[{c}]", rows, columns),
            numeric_names=columns,
            categorical=(),
            categorical_names=(),
            attack=_attack(f"{argument}[{c}]", len(rows), None if labels is None else labels[c]),
            time=None if times is None else _time(f"{argument}[{c}]", len(rows), times[c]),
        )
        for c, rows in enumerate(np.asarray(rows) for rows in arrays)
    ]


def _numbers(where: str, rows: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Float32[L, P]."""
    if rows.ndim != 2 or rows.shape[1] != len(columns) or not rows.size:
        raise ValueError(f"{where} has shape {rows.shape}, expected [rows, {len(columns)} columns], neither of them 0.")
    if rows.dtype.kind not in "biuf":
        raise ValueError(f"{where} holds values of type {rows.dtype}; give numbers.")
    with np.errstate(over="ignore"):
        numbers = rows.astype(np.float32)
    if not np.isfinite(numbers).all():
        row, column = np.argwhere(~np.isfinite(numbers))[0]
        raise ValueError(
            f"{where} holds {rows[row, column]} in row {row} of {columns[column]!r}, which is no finite float32; "
            "remove or fill such values first."
        )
    return numbers


def _attack(where: str, num_rows: int, labels: ArrayLike | None) -> Categorical:
    """The attack of each row; normal where no labels are given."""
    given = np.zeros(num_rows, bool) if labels is None else np.asarray(labels)
    if given.shape != (num_rows,):
        raise ValueError(f"the labels of {where} have shape {given.shape}, but it has {num_rows} rows; give one a row.")
    return attack_column(given, f"the labels of {where}")


def _time(where: str, num_rows: int, times: ArrayLike) -> np.ndarray:
    """Float64[L], checked."""
    seconds = np.asarray(times)
    if seconds.shape != (num_rows,) or seconds.dtype.kind not in "iuf":
        raise ValueError(
            f"the times of {where} have shape {seconds.shape} and type {seconds.dtype}, but it has {num_rows} rows; "
            "give one number of seconds a row."
        )
    bad = np.flatnonzero(~(np.diff(seconds.astype(np.float64), prepend=seconds[0]) >= 0.0))
    if len(bad):
        raise ValueError(
            f"the times of {where} are not in order: {seconds[bad[0]]} in row {bad[0]} follows "
            f"{seconds[max(bad[0] - 1, 0)]}; sort the rows by time first."
        )
    return seconds.astype(np.float64)


def _check_order(row_order: str, seconds_per_row: float, times: _Arrays | None) -> None:
    if row_order not in get_args(RowOrder):
        raise ValueError(f"row_order={row_order!r} is unknown; the orders are {', '.join(get_args(RowOrder))}.")
    if row_order != "time" and times is not None:
        raise ValueError(f"times have no meaning with row_order={row_order!r}; leave them out.")
    if not seconds_per_row > 0.0:
        raise ValueError(f"seconds_per_row={seconds_per_row} must be positive.")


def _check_one_per_client(argument: str, arrays: _Arrays, num_clients: int) -> None:
    if len(arrays) != num_clients:
        raise ValueError(f"{argument} holds {len(arrays)} arrays, but train holds {num_clients}; give one per client.")


def _width(rows: ArrayLike) -> int:
    """P, as the first client has it; 0 where its array has no columns."""
    return np.shape(rows)[1] if np.ndim(rows) == 2 else 0


def _distinct(argument: str, names: Sequence[str] | None, pattern: str, size: int) -> tuple[str, ...]:
    """The names, checked; numbers in the pattern, of equal width, where none are given."""
    if names is None:
        return tuple(pattern.format(str(number).zfill(len(str(size - 1)))) for number in range(size))
    if len(names) != size or len(set(names)) != size:
        raise ValueError(
            f"{argument} holds {len(names)} names, {len(set(names))} of them distinct, but {size} distinct ones are "
            "needed; give each its own name."
        )
    return tuple(names)
