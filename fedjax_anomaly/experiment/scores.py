"""The file of scores: a line per test row, for whoever looks into single alarms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
from jaxtyping import Float
from pyarrow import csv

from fedjax_anomaly.data.clients import Federation
from fedjax_anomaly.detection.evaluate import ScoredRows
from fedjax_anomaly.reporting.atomic import write_atomically


def write_scores(
    path: str | Path, federation: Federation, test_rows: ScoredRows, thresholds: Float[np.ndarray, " C"]
) -> None:
    """Writes a CSV file with a line per test row, client after client, each in the order of its rows.

    Its columns:

    - `client`: the name of the row's client.
    - `row`: counts the test rows of the row's source from 0, or all test rows where the data set names no sources.
    - `time`: in seconds since the table's origin, where rows have times.
    - `score`, `threshold`, and `alarm`: 1 where the score exceeds the threshold.
    - `attack`: the name of the attack or fault, where the rows carry labels.

    Args:
      path: of the file.
      federation: the clients' data.
      test_rows: all test rows, scored.
      thresholds: per client.

    Guarantees:
      Scores and thresholds read back are those that the alarms were raised by, to the last bit (test:
      `tests/experiment/test_scores.py::test_every_test_row_has_its_line`).
    """
    dataset = federation.dataset
    rows = federation.test.row[federation.test.row >= 0]
    columns = {
        "client": _words(test_rows.client, federation.client_names),
        "row": _row_of_source(federation)[rows],
        "time": None if dataset.test.time is None else dataset.test.time[rows],
        "score": test_rows.score.astype(np.float64),
        "threshold": thresholds[test_rows.client],
        "alarm": test_rows.alarms(thresholds).astype(np.int8),
        "attack": _words(test_rows.attack.codes, test_rows.attack.names) if dataset.labelled else None,
    }
    contents = pyarrow.BufferOutputStream()
    given = {name: column for name, column in columns.items() if column is not None}
    csv.write_csv(pyarrow.table(given), contents, csv.WriteOptions(quoting_header="none"))
    write_atomically(path, contents.getvalue().to_pybytes())


def _words(codes: np.ndarray, names: Sequence[str]) -> pyarrow.Array:
    """A column of strings from their codes."""
    return pyarrow.DictionaryArray.from_arrays(codes.astype(np.int32), pyarrow.array(names, pyarrow.string())).cast(
        pyarrow.string()
    )


def _row_of_source(federation: Federation) -> np.ndarray:
    """Int[L]: the number of each test row among those of its source, from 0."""
    source = federation.dataset.test.source
    if source is None:
        return np.arange(len(federation.dataset.test))
    by_source = np.argsort(source.codes, kind="stable")
    counts = np.bincount(source.codes, minlength=len(source.names))
    numbers = np.empty(len(by_source), np.int64)
    numbers[by_source] = np.arange(len(by_source)) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers
