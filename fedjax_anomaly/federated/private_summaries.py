"""The summaries that clients are clustered by, with noise that each client adds to its own."""

import math

import numpy as np
from jaxtyping import Float

from fedjax_anomaly.types import ClientData, FeatureLayout

SUMMARY_BOUND = 2.0
"""Standardised values count up to here: the noise is in proportion to it, and the groups do not need the tails."""


def summary_sums(data: ClientData, client: int, layout: FeatureLayout, bound: float) -> Float[np.ndarray, "2 F"]:
    """What a summary is made of: sums over the first rows of one client's windows.

    With u a numeric feature over its bound they are those of u and of u^2 - 1/2; of a one-hot feature those of itself
    and zero.

    Guarantees:
      One window moves them by at most `summary_sensitivity(layout)`, however its rows are filled (test:
      `tests/federated/test_private_summaries.py::test_no_window_moves_a_summary_by_more_than_its_sensitivity`).
    """
    starts = np.asarray(data.starts[client])[np.asarray(data.mask[client])]
    rows = np.asarray(data.series[client], np.float64)[starts]
    scaled = np.clip(rows[:, : layout.num_numeric] / bound, -1.0, 1.0)
    sums = np.zeros((2, layout.num_features))
    sums[0, : layout.num_numeric] = scaled.sum(axis=0)
    sums[1, : layout.num_numeric] = (np.square(scaled) - 0.5).sum(axis=0)
    sums[0, layout.num_numeric :] = rows[:, layout.num_numeric :].sum(axis=0)
    return sums


def summary_sensitivity(layout: FeatureLayout) -> float:
    """L2 of what one window adds at most: squared, 5/4 of each numeric column and 1 of each categorical one."""
    return math.sqrt(1.25 * layout.num_numeric + len(layout.block_sizes))


def private_data_summaries(
    data: ClientData, layout: FeatureLayout, bound: float, noise_multiplier: float, rng: np.random.Generator
) -> Float[np.ndarray, "C 2F"]:
    """Mean and deviation of every feature as `data_summaries` has them, from noisy sums.

    Args:
      data: windows without overlap; the number of each client's windows is public.
      layout: of the rows.
      bound: on the absolute numeric features, which are clipped to it.
      noise_multiplier: z; every coordinate of a client's sums gets noise of z times the sensitivity.
      rng: of the noise.
    """
    std = noise_multiplier * summary_sensitivity(layout)
    numeric = np.arange(layout.num_features) < layout.num_numeric
    summaries = []
    for client, mask in enumerate(data.mask):
        noisy = summary_sums(data, client, layout, bound) + rng.normal(0.0, std, (2, layout.num_features))
        first, second = noisy / max(int(np.sum(mask)), 1)
        mean = np.where(numeric, bound * np.clip(first, -1.0, 1.0), np.clip(first, 0.0, 1.0))
        square = np.where(numeric, bound**2 * (second + 0.5), mean)
        summaries.append(np.concatenate([mean, np.sqrt(np.maximum(square - np.square(mean), 0.0))]))
    return np.stack(summaries).astype(np.float32)
