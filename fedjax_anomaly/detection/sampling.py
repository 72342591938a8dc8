"""A small fixed sample of windows, to follow a run with."""

import numpy as np

from fedjax_anomaly.types import RowSet


def sample_windows(rows: RowSet, window_length: int, max_windows: int) -> RowSet:
    """Copies evenly spaced windows into a row set of their own, in which they do not overlap.

    Args:
      rows: to sample from.
      window_length: T.
      max_windows: the sample's size, less where there are fewer windows.
    """
    count = min(max_windows, len(rows.starts))
    chosen = rows.starts[np.arange(count) * len(rows.starts) // count]
    positions = (chosen[:, None] + np.arange(window_length)).reshape(-1)
    starts = window_length * np.arange(count, dtype=np.int32)
    return RowSet(rows.series[positions], starts, rows.client[positions], rows.row[positions])
