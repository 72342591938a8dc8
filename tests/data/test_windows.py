import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_anomaly.data.windows import held_out_rows, pad_short_runs, run_numbers, window_starts

BREAKS = st.lists(st.booleans(), min_size=1, max_size=60).map(np.array)
LENGTHS = st.integers(1, 7)
STRIDES = st.integers(1, 9)


@given(BREAKS, LENGTHS, STRIDES, st.booleans())
def test_no_window_crosses_a_break(breaks, length, stride, cover):
    for start in window_starts(run_numbers(breaks), length, stride, cover=cover):
        assert not breaks[start + 1 : start + length].any()


@given(BREAKS, LENGTHS)
def test_with_stride_one_every_window_within_a_run_is_there(breaks, length):
    expected = [s for s in range(len(breaks) - length + 1) if not breaks[s + 1 : s + length].any()]
    assert window_starts(run_numbers(breaks), length, 1).tolist() == expected


@given(BREAKS, LENGTHS, STRIDES)
def test_cover_reaches_every_row_of_a_long_enough_run(breaks, length, stride):
    runs = run_numbers(breaks)
    covered = np.zeros(len(runs), bool)
    for start in window_starts(runs, length, min(stride, length), cover=True):
        covered[start : start + length] = True
    long_enough = np.bincount(runs, minlength=runs.max() + 1)[runs] >= length
    np.testing.assert_array_equal(covered, long_enough)


@given(BREAKS, LENGTHS)
def test_padding_repeats_the_last_row_of_short_runs_only(breaks, length):
    runs = run_numbers(breaks)
    order = pad_short_runs(runs, length)
    for run in np.unique(runs):
        rows = np.flatnonzero(runs == run).tolist()
        expected = rows + [rows[-1]] * max(0, length - len(rows))
        assert order[runs[order] == run].tolist() == expected


@pytest.mark.parametrize("num_rows", [40, 400, 4000])
def test_held_out_blocks_hold_a_window_and_about_the_fraction(num_rows):
    held_out = held_out_rows(num_rows, 0.1, 8, ordered=True, rng=np.random.default_rng(0))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], held_out.astype(int), [0]])))
    assert (edges[1::2] - edges[::2] >= 8).all() or num_rows == 40
    if num_rows > 40:
        assert 0.05 < held_out.mean() < 0.15


def test_rows_without_order_are_held_out_at_random():
    held_out = held_out_rows(1000, 0.2, 1, ordered=False, rng=np.random.default_rng(0))
    assert held_out.sum() == 200
    assert 50 < held_out[:500].sum() < 150


def test_lengths_below_one_are_refused():
    with pytest.raises(ValueError, match="window_length=0"):
        window_starts(np.zeros(5, int), 0, 1)
