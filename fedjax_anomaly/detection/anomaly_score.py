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
    surprise = _surprises(reference)

    def score(errors: np.ndarray) -> np.ndarray:
        total = np.zeros(len(errors))
        for column in range(errors.shape[1]):
            total += surprise(column, errors[:, column])
        return total / errors.shape[1]

    return score


def pvalue_columns(
    reference: Float[np.ndarray, "N columns"],
) -> Callable[[Float[np.ndarray, " columns"]], Float[np.ndarray, " columns"]]:
    """What each column of one row adds to `pvalue_score`, up to a common factor.

    Args:
      reference: as there, and so is the error.

    Returns:
      Column errors of one row -> a number, at least 0, for each column.
    """
    surprise = _surprises(reference)
    return lambda errors: np.array([surprise(column, error) for column, error in enumerate(errors)])


def _surprises(reference: np.ndarray) -> Callable[[int, np.ndarray], np.ndarray]:
    """(column, its errors) -> -log of their p-values."""
    if len(reference) == 0:
        raise ValueError("score=pvalue needs held-out normal rows as reference, but there are none.")
    ordered = np.sort(reference, axis=0)

    def surprise(column: int, errors: np.ndarray) -> np.ndarray:
        smaller = np.searchsorted(ordered[:, column], errors, side="left")
        return -np.log((1.0 + len(ordered) - smaller) / (len(ordered) + 1.0))

    return surprise
