"""Windows as first rows into a sequence; none crosses a break in it.

A sequence is described by a run number per row: consecutive rows with the same number belong together. A run ends where
the source changes, where a row is missing (an anomalous row left out of training, say), and at the border between
training and held-out rows. All functions here take one sequence whose run numbers never decrease.
"""

import numpy as np


def run_numbers(breaks_before: np.ndarray) -> np.ndarray:
    """Run numbers from the rows before which a new run begins.

    Args:
      breaks_before: Bool[L], True where the row does not continue the one before it.
    """
    return np.cumsum(breaks_before, dtype=np.int64)


def window_starts(runs: np.ndarray, length: int, stride: int, *, cover: bool = False) -> np.ndarray:
    """First rows of the windows that lie within one run each.

    Args:
      runs: Int[L], never decreasing.
      length: T, rows per window.
      stride: rows between the first rows of neighbouring windows of one run.
      cover: adds each run's last window, so that every row of a run of at least `length` rows lies in a window.

    Returns:
      Int[N], increasing.

    Guarantees:
      All `length` rows of a window have one run number (test:
      `tests/data/test_windows.py::test_no_window_crosses_a_break`).
    """
    if length < 1 or stride < 1:
        raise ValueError(f"window_length={length} and window_stride={stride} must be at least 1.")
    if len(runs) < length:
        return np.zeros(0, np.int64)
    candidates = np.arange(len(runs) - length + 1)
    inside = runs[candidates] == runs[candidates + length - 1]
    first_row = np.searchsorted(runs, runs)
    wanted = (candidates - first_row[candidates]) % stride == 0
    if cover:
        last_row = np.searchsorted(runs, runs, side="right") - 1
        wanted |= candidates + length - 1 == last_row[candidates]
    return candidates[inside & wanted]


def pad_short_runs(runs: np.ndarray, length: int) -> np.ndarray:
    """Row indices that repeat the last row of every run shorter than `length`, until it has that many rows.

    Returns:
      Int[L'], indices into the sequence; the repeated ones are those that equal the index before them.
    """
    _, first, size = np.unique(runs, return_index=True, return_counts=True)
    missing = np.maximum(length - size, 0)
    repeats = np.ones(len(runs), np.int64)
    repeats[first + size - 1] += missing
    return np.repeat(np.arange(len(runs)), repeats)


def held_out_rows(
    num_rows: int, fraction: float, length: int, *, ordered: bool, rng: np.random.Generator
) -> np.ndarray:
    """Chooses rows for calibration and keeps them from training.

    Ordered rows are held out as whole blocks, spread evenly over the sequence so that every time of day is among
    them; rows without order are drawn at random.

    Args:
      num_rows: L, the client's normal training rows.
      fraction: the share to hold out.
      length: T; a block holds at least one window.

    Returns:
      Bool[L], True where held out.
    """
    held_out = np.zeros(num_rows, bool)
    if not ordered:
        held_out[rng.permutation(num_rows)[: round(fraction * num_rows)]] = True
        return held_out
    period = round(1.0 / fraction)
    block_length = int(np.clip(num_rows // (4 * period), length, 8 * length))
    block = np.arange(num_rows) // block_length
    return block % period == period // 2
