"""Causal smoothing of scores: an anomaly lasts, noise does not."""

import numpy as np
from jaxtyping import Float, Int


def causal_mean(
    scores: Float[np.ndarray, " L"], series: Int[np.ndarray, " L"], num_rows: int
) -> Float[np.ndarray, " L"]:
    """The mean score of each row and the rows before it, so that an alarm needs no later row.

    Args:
      scores: of rows; those of one series are consecutive and in order.
      series: the series of each row; no mean crosses from one to the next.
      num_rows: rows of a mean; fewer at the beginning of a series.

    Raises:
      ValueError: when `num_rows` is less than 1.
    """
    if num_rows < 1:
        raise ValueError(f"score_smoothing={num_rows} must be at least 1; 1 leaves scores as they are.")
    index = np.arange(len(scores))
    begins = np.ones(len(scores), bool)
    begins[1:] = np.diff(series) != 0
    first = np.maximum.accumulate(np.where(begins, index, 0))
    low = np.maximum(first, index - num_rows + 1)
    total = np.concatenate([[0.0], np.cumsum(scores, dtype=np.float64)])
    return ((total[index + 1] - total[low]) / (index + 1 - low)).astype(scores.dtype)
