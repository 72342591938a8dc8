"""Scores of rows: the error of each column, averaged over the windows that the row lies in."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

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
    compiled = partial(_chunk_errors, column_errors, window_length)
    series = jax.device_put(rows.series)
    offsets = np.arange(window_length)
    total, count = None, np.zeros(len(rows.row))
    cluster_of_window = np.asarray(cluster)[rows.client[rows.starts]]
    for k in np.unique(cluster_of_window):
        model = jax.tree.map(lambda leaf, k=k: leaf[k], params)
        starts = rows.starts[cluster_of_window == k]
        chunks = [starts[i : i + _CHUNK] for i in range(0, len(starts), _CHUNK)]
        futures = [compiled(model, series, np.pad(chunk, (0, _CHUNK - len(chunk)), mode="edge")) for chunk in chunks]
        for chunk, future in zip(chunks, futures, strict=True):
            errors = np.asarray(future)[: len(chunk)]
            if total is None:
                total = np.zeros((len(rows.row), errors.shape[-1]))
            for t in offsets:
                np.add.at(total, chunk + t, errors[:, t])
                np.add.at(count, chunk + t, 1.0)
    if total is None or (count == 0.0).any():
        raise ValueError("some rows lie in no window; build the rows with windows that cover them all.")
    return (total / count[:, None]).astype(np.float32)


@partial(jax.jit, static_argnums=(0, 1))
def _chunk_errors(
    column_errors: ColumnErrors, window_length: int, params: PyTree, series: jax.Array, starts: jax.Array
) -> jax.Array:
    windows = jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(series, start, window_length))(starts)
    return column_errors(params, windows)
