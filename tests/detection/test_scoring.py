import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.detection.anomaly_score import mean_score, pvalue_score
from fedjax_anomaly.detection.sampling import sample_windows
from fedjax_anomaly.detection.scoring import ending_row_errors, mean_over_windows, row_errors
from fedjax_anomaly.types import RowSet

LENGTH = 3


def column_errors(params, windows):
    """Depends on the model, the row, and the row's place in its window."""
    place = jnp.arange(1.0, LENGTH + 1)[None, :, None]
    return params["scale"] * jnp.square(windows) * place


def row_set(sizes=(7, 4, 5), stride=2):
    rng = np.random.default_rng(0)
    client = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    starts, offset = [], 0
    for size in sizes:
        own = sorted({*range(0, size - LENGTH + 1, stride), size - LENGTH})
        starts += [offset + s for s in own]
        offset += size
    series = rng.normal(size=(offset, 2)).astype(np.float32)
    return RowSet(series, np.asarray(starts, np.int32), client, np.arange(offset))


PARAMS = {"scale": jnp.array([1.0, 10.0])}
CLUSTER = np.array([0, 1, 0])


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_row_errors_equal_a_plain_loop_over_windows(stride):
    rows = row_set(stride=stride)
    seen = [[] for _ in rows.row]
    for start in rows.starts:
        for t in range(LENGTH):
            scale = [1.0, 10.0][CLUSTER[rows.client[start]]]
            seen[start + t].append(scale * rows.series[start + t] ** 2 * (t + 1))
    expected = np.stack([np.mean(errors, axis=0) for errors in seen])
    np.testing.assert_allclose(row_errors(column_errors, PARAMS, CLUSTER, rows, LENGTH), expected, rtol=1e-5)


def test_ending_row_errors_equal_a_plain_loop_over_rows():
    """By a model whose errors depend on the whole window; client 0 has two series."""
    rows, series = row_set(), np.repeat([0, 1, 2, 3], [3, 4, 4, 5])

    def summed_errors(params, windows):
        return params["scale"] * jnp.cumsum(windows, axis=1)

    expected = np.zeros_like(rows.series)
    for i in range(len(series)):
        first = list(series).index(series[i])
        window = [rows.series[max(first, i - back)] for back in range(LENGTH)]
        expected[i] = [1.0, 10.0][CLUSTER[rows.client[i]]] * np.sum(window, axis=0)
    errors = ending_row_errors(summed_errors, PARAMS, CLUSTER, rows, series, LENGTH)
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


def test_more_windows_than_one_chunk_are_scored(monkeypatch):
    rows = row_set()
    whole = row_errors(column_errors, PARAMS, CLUSTER, rows, LENGTH)
    monkeypatch.setattr("fedjax_anomaly.detection.scoring._CHUNK", 2)
    np.testing.assert_allclose(row_errors(column_errors, PARAMS, CLUSTER, rows, LENGTH), whole)


def test_rows_in_no_window_are_refused():
    rows = row_set()
    with pytest.raises(ValueError, match="some rows lie in no window"):
        row_errors(column_errors, PARAMS, CLUSTER, rows._replace(starts=rows.starts[1:]), LENGTH)


def test_a_window_given_twice_is_refused():
    rows = row_set()
    with pytest.raises(ValueError, match="starts holds a window twice"):
        row_errors(column_errors, PARAMS, CLUSTER, rows._replace(starts=np.repeat(rows.starts, 2)), LENGTH)


def test_the_mean_over_windows_by_hand():
    values = np.array([[[1.0], [2.0]], [[4.0], [8.0]]])
    chunks = [(np.array([0]), values[:1]), (np.array([1]), values[1:])]
    # Row 1 lies in both windows.
    np.testing.assert_allclose(mean_over_windows(chunks, 3, 2), [[1.0], [3.0], [8.0]])


def test_a_sample_of_windows_holds_their_rows():
    rows = row_set()
    sample = sample_windows(rows, LENGTH, 3)
    assert len(sample.starts) == 3
    for i, start in enumerate(sample.starts):
        original = rows.starts[i * len(rows.starts) // 3]
        np.testing.assert_array_equal(sample.series[start : start + LENGTH], rows.series[original : original + LENGTH])
        np.testing.assert_array_equal(sample.row[start : start + LENGTH], np.arange(original, original + LENGTH))


def test_a_sample_is_never_larger_than_what_there_is():
    rows = row_set()
    assert len(sample_windows(rows, LENGTH, 1000).starts) == len(rows.starts)


def test_the_mean_score_is_the_mean_over_columns():
    np.testing.assert_allclose(mean_score(np.array([[1.0, 3.0], [0.0, 5.0]])), [2.0, 2.5])


def test_the_pvalue_score_by_hand():
    score = pvalue_score(np.array([[1.0], [2.0], [3.0]]))
    # N = 3: p = (1 + #{reference >= x}) / 4.
    np.testing.assert_allclose(score(np.array([[0.5], [2.0], [2.5], [9.0]])), -np.log([1.0, 0.75, 0.5, 0.25]))


def test_p_values_of_normal_rows_are_uniform():
    rng = np.random.default_rng(0)
    score = pvalue_score(rng.exponential(size=(4000, 1)))
    # -log of a uniform variable is exponential: mean 1, and 5 % lie above log 20.
    scores = score(rng.exponential(size=(4000, 1)))
    assert scores.mean() == pytest.approx(1.0, abs=0.06)
    assert (scores > np.log(20.0)).mean() == pytest.approx(0.05, abs=0.015)


def test_no_reference_row_is_refused():
    with pytest.raises(ValueError, match="needs held-out normal rows"):
        pvalue_score(np.zeros((0, 3)))


def test_scoring_compiles_once_for_all_chunks_and_clusters():
    traces = 0

    def counted(params, windows):
        nonlocal traces
        traces += 1
        return column_errors(params, windows)

    row_errors(counted, PARAMS, CLUSTER, row_set(), LENGTH)
    row_errors(counted, jax.tree.map(lambda leaf: 2.0 * leaf, PARAMS), CLUSTER, row_set(), LENGTH)
    assert traces == 1
