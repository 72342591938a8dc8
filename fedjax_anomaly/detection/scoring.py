"""Scores of rows: the error of each column, averaged over the windows that the row lies in or in the one it ends."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import jax
import numpy as np
from jaxtyping import Float, Int

from fedjax_anomaly.types import PyTree, RowSet

ColumnErrors = Callable[[PyTree, jax.Array], jax.Array]
"""(parameters, windows [B, T, F]) -> errors [B, T, P + Q]."""

_CHUNK = 2048


def row_errors(
    column_errors: ColumnErrors,
    params: PyTree,
    cluster: np.ndarray,
    rows: RowSet,
    window_length: int,
) -> Float[np.ndarray, "L columns"]:
    """The reconstruction error of every column of every row, by the model of the row's client.

    Args:
      column_errors: of the model.
      params: the K models, every leaf leads with K.
      cluster: Int[C], the cluster of each client.
      rows: what to score; every row lies in at least one window.
      window_length: T.

    Returns:
      One error per column, averaged over the windows that the row lies in.

    Guarantees:
      Equal to a plain loop over windows (test:
      `tests/detection/test_scoring.py::test_row_errors_equal_a_plain_loop_over_windows`).
    """
    chunks = _error_chunks(column_errors, params, cluster, rows, window_length)
    return mean_over_windows(chunks, len(rows.row), window_length)


def ending_row_errors(
    column_errors: ColumnErrors,
    params: PyTree,
    cluster: np.ndarray,
    rows: RowSet,
    series: Int[np.ndarray, " L"],
    window_length: int,
) -> Float[np.ndarray, "L columns"]:
    """The reconstruction error of every column of every row, in the window that the row ends.

    It needs no later row, so it is what a detector on a live stream can know when the row comes. The first windows of a
    series are filled up with its first row.

    Args:
      column_errors: of the model.
      params: the K models, every leaf leads with K.
      cluster: Int[C], the cluster of each client.
      rows: what to score; `starts` is not used.
      series: a number that changes where a row does not continue the one before it.
      window_length: T.

    Guarantees:
      Equal to a plain loop over rows (test:
      `tests/detection/test_scoring.py::test_ending_row_errors_equal_a_plain_loop_over_rows`), and to the live detector
      on the same rows (tests: `tests/live/test_equality.py`).
    """
    index = np.arange(len(rows.row))
    begins = np.ones(len(index), bool)
    begins[1:] = np.diff(series) != 0
    first = np.maximum.accumulate(np.where(begins, index, 0)).astype(np.int32)
    cluster_of_row = np.asarray(cluster)[rows.client]
    on_device = jax.device_put(rows.series)
    errors = []
    for k in np.unique(cluster_of_row):
        model = jax.tree.map(lambda leaf, k=k: leaf[k], params)
        own = index[cluster_of_row == k]
        for begin in range(0, len(own), _CHUNK):
            last = own[begin : begin + _CHUNK]
            positions = np.maximum(first[last, None], last[:, None] + np.arange(1 - window_length, 1)).astype(np.int32)
            padded = np.pad(positions, ((0, _CHUNK - len(last)), (0, 0)), mode="edge")
            errors.append((last, _chunk_ending_errors(column_errors, model, on_device, padded)))
    result = np.zeros((len(index), errors[0][1].shape[-1]), np.float32)
    for last, chunk in errors:
        result[last] = np.asarray(chunk)[: len(last)]
    return result


def mean_over_windows(
    chunks: Iterable[tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n T D"]]], num_rows: int, window_length: int
) -> Float[np.ndarray, "L D"]:
    """Averages what each window says about its rows over the windows that a row lies in.

    Args:
      chunks: the first rows of some windows, and the values of each window's rows; together they cover every row.
      num_rows: L.
      window_length: T.

    Raises:
      ValueError: when a row lies in no window, or a chunk holds a window twice.
    """
    total, count = None, np.zeros(num_rows)
    for starts, values in chunks:
        if len(np.unique(starts)) < len(starts):
            raise ValueError("starts holds a window twice; give each window once.")
        if total is None:
            total = np.zeros((num_rows, values.shape[-1]))
        for t in range(window_length):
            total[starts + t] += values[:, t]
            count[starts + t] += 1.0
    if total is None or (count == 0.0).any():
        raise ValueError("some rows lie in no window; build the rows with windows that cover them all.")
    return (total / count[:, None]).astype(np.float32)


def _error_chunks(
    column_errors: ColumnErrors, params: PyTree, cluster: np.ndarray, rows: RowSet, window_length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each cluster's windows by its model; a cluster's chunks are all under way before the first is waited for."""
    compiled = partial(_chunk_errors, column_errors, window_length)
    series = jax.device_put(rows.series)
    cluster_of_window = np.asarray(cluster)[rows.client[rows.starts]]
    for k in np.unique(cluster_of_window):
        model = jax.tree.map(lambda leaf, k=k: leaf[k], params)
        starts = rows.starts[cluster_of_window == k]
        chunks = [starts[i : i + _CHUNK] for i in range(0, len(starts), _CHUNK)]
        futures = [compiled(model, series, np.pad(chunk, (0, _CHUNK - len(chunk)), mode="edge")) for chunk in chunks]
        for chunk, future in zip(chunks, futures, strict=True):
            yield chunk, np.asarray(future)[: len(chunk)]


@partial(jax.jit, static_argnums=(0, 1))
def _chunk_errors(
    column_errors: ColumnErrors, window_length: int, params: PyTree, series: jax.Array, starts: jax.Array
) -> jax.Array:
    windows = jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(series, start, window_length))(starts)
    return column_errors(params, windows)


@partial(jax.jit, static_argnums=0)
def _chunk_ending_errors(
    column_errors: ColumnErrors, params: PyTree, series: jax.Array, positions: jax.Array
) -> jax.Array:
    return column_errors(params, series[positions])[:, -1]
