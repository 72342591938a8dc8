"""From a row's column errors to one anomaly score."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float

ScoreRule = Literal["mean", "pvalue"]
Score = Callable[[Float[np.ndarray, "L columns"]], Float[np.ndarray, " L"]]


def mean_score(errors: Float[np.ndarray, "L columns"]) -> Float[np.ndarray, " L"]:
    """The mean error over the columns."""
    return errors.mean(axis=1)


def pvalue_score(reference: Float[np.ndarray, "N columns"]) -> Score:
    """The mean over columns of -log of the error's empirical p-value among normal rows (Fisher's combination).

    A column whose errors are small as a rule then counts as much as one whose errors are large.

    Args:
      reference: column errors of held-out normal rows; rows that set the threshold must not be among them.

    Returns:
      Column errors -> score; each p-value is (1 + number of reference errors at least as large) / (N + 1).

    Raises:
      ValueError: when there is no reference row.

    References:
      Fisher 1932, "Statistical Methods for Research Workers", section 21.1.
    """
    if len(reference) == 0:
        raise ValueError("score=pvalue needs held-out normal rows as reference, but there are none.")
    ordered = np.sort(reference, axis=0)

    def score(errors: np.ndarray) -> np.ndarray:
        total = np.zeros(len(errors))
        for column in range(errors.shape[1]):
            smaller = np.searchsorted(ordered[:, column], errors[:, column], side="left")
            total -= np.log((1.0 + len(ordered) - smaller) / (len(ordered) + 1.0))
        return total / errors.shape[1]

    return score
