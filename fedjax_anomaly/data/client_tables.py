"""From the tables of single clients to a data set: labels as attack names, the split, one source per client."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fedjax_anomaly.data.table import NORMAL, Categorical, Table

ANOMALY = "anomaly"
"""The attack name of an anomalous row whose label does not tell its kind."""

SECONDS_PER_ROW = 60.0
"""The step of rows that bear no times."""

_NORMAL_WORDS = ("", "0", "false", "benign", NORMAL)
_ANOMALY_WORDS = ("1", "true", ANOMALY)


def attack_column(labels: np.ndarray, where: str, *, first_row: int = 0) -> Categorical:
    """Labels of any usual kind as attack names.

    Args:
      labels: Bool[L], numbers 0 and 1, or strings: `normal`, `benign`, `false`, `0` and the empty string are normal in
        any case, `true` and `1` anomalous, and any other string is the name of an attack.
      where: what holds the labels, for errors.
      first_row: the number of the first row, for errors.

    Raises:
      ValueError: for other numbers and other kinds (test:
        `tests/data/test_arrays.py::test_labels_that_say_nothing_are_refused`).
    """
    if labels.dtype == object and all(isinstance(label, str | bool | np.bool_) for label in labels):
        labels = labels.astype(str)
    if labels.dtype.kind in "biuf":
        bad = np.flatnonzero(~np.isin(labels, (0, 1)))
        if len(bad):
            raise ValueError(
                f"{where}: {labels[bad[0]]:g} in row {bad[0] + first_row} is neither 0 (normal) nor 1 (anomalous); "
                "give these, or names of attacks."
            )
        return Categorical(labels.astype(np.int32), (NORMAL, ANOMALY))
    if labels.dtype.kind != "U":
        raise ValueError(f"{where}: values of type {labels.dtype} are no labels; give booleans, 0 and 1, or strings.")
    column = Categorical.from_strings(labels)
    attacks = Categorical.from_strings([_attack_name(word) for word in column.names])
    return Categorical(attacks.codes[column.codes], attacks.names)


def _attack_name(word: str) -> str:
    short = word.strip()
    if short.lower() in _NORMAL_WORDS:
        return NORMAL
    return ANOMALY if short.lower() in _ANOMALY_WORDS else short


def split_table(
    table: Table, test_fraction: float, where: str, rng: np.random.Generator | None = None
) -> tuple[Table, Table]:
    """The training and the test rows of one client.

    Args:
      table: the client's rows.
      test_fraction: the share of the test rows, in (0, 1).
      where: whose rows they are, for the error.
      rng: draws the test rows; None takes the last ones.

    Raises:
      ValueError: for a share that is not in (0, 1), and for fewer than two rows.
    """
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction={test_fraction} must lie in (0, 1).")
    if len(table) < 2:
        raise ValueError(f"{where} has {len(table)} row, too few to train and to test on; give at least 2.")
    num_train = len(table) - int(np.clip(round(test_fraction * len(table)), 1, len(table) - 1))
    order = np.arange(len(table)) if rng is None else rng.permutation(len(table))
    return table.take(np.sort(order[:num_train])), table.take(np.sort(order[num_train:]))


def evenly_spaced(table: Table, first_row: int = 0, seconds_per_row: float = SECONDS_PER_ROW) -> Table:
    """The table with times; its first row is the client's row number `first_row`."""
    return dataclasses.replace(table, time=seconds_per_row * np.arange(first_row, first_row + len(table)))


def join_clients(tables: Sequence[Table], names: Sequence[str]) -> Table:
    """One table of all clients' rows, client after client; `source` is the client.

    Args:
      tables: one per client, all with the same columns.
      names: one per client, each once.
    """
    first = tables[0]
    sources = Categorical.from_strings(names)
    return dataclasses.replace(
        first,
        numeric=np.concatenate([table.numeric for table in tables]),
        categorical=tuple(_concatenate(columns) for columns in zip(*(t.categorical for t in tables), strict=True)),
        attack=_concatenate([table.attack for table in tables]),
        time=None if first.time is None else np.concatenate([t.time for t in tables if t.time is not None]),
        source=Categorical(np.repeat(sources.codes, [len(table) for table in tables]), sources.names),
    )


def _concatenate(columns: Sequence[Categorical]) -> Categorical:
    names = sorted({name for column in columns for name in column.names})
    code = {name: np.int32(number) for number, name in enumerate(names)}
    codes = [np.array([code[name] for name in column.names], np.int32)[column.codes] for column in columns]
    return Categorical(np.concatenate(codes), tuple(names))
