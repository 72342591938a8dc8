import dataclasses
from typing import get_args

import numpy as np
import pytest
from sklearn import cluster
from sklearn.svm import OneClassSVM

from fedjax_anomaly.baselines import classical
from fedjax_anomaly.baselines.classical import SAW_ATTACK_LABELS, ClassicalMethod, fit, row_scores
from fedjax_anomaly.baselines.windows import labelled_windows, training_windows
from fedjax_anomaly.data.clients import federate
from tests.fleet import dataset, table

METHODS = get_args(ClassicalMethod)
UNSUPERVISED = [method for method in METHODS if method not in SAW_ATTACK_LABELS]
NUM_ROWS = 800


def federation(row_order="capture", *, attacks=True, length=4):
    """Two clients whose two numbers go together; of every 50 rows 5 are an attack, which breaks that."""
    attacked = (np.arange(NUM_ROWS) % 50 < 5) & attacks
    names = np.where(attacked, "flood", "normal").tolist()
    train, test = (table(NUM_ROWS, seed=seed, attack=names) for seed in (0, 1))
    for part in (train, test):
        part.numeric[:, 1] = part.numeric[:, 0] * (1.0 + 0.1 * part.numeric[:, 1])
        part.numeric[attacked, 0] *= 1e3
    # Of unequal size, so that one client's windows are padded.
    client = (np.arange(NUM_ROWS) >= 300).astype(int)
    return federate(
        dataset(train, test, row_order),
        client,
        client,
        window_length=length,
        window_stride=1,
        scoring_stride=2,
        validation_fraction=0.1,
        seed=0,
    )


@pytest.fixture(scope="module")
def windowed():
    return federation()


def pooled(federation):
    """Every training window by a plain loop."""
    train, length = federation.train, federation.window_length
    return np.stack(
        [
            train.series[c, start : start + length]
            for c in range(federation.num_clients)
            for start, real in zip(train.starts[c], train.mask[c], strict=True)
            if real
        ]
    )


def test_the_pooled_windows_are_all_clients_windows(windowed):
    np.testing.assert_array_equal(training_windows(windowed, 10**6), pooled(windowed))


def test_fewer_windows_are_evenly_spaced_over_all_clients(windowed):
    every = pooled(windowed)
    chosen = [i * len(every) // 7 for i in range(7)]
    np.testing.assert_array_equal(training_windows(windowed, 7), every[chosen])


def test_no_model_is_the_squared_deviation_from_the_mean_window(windowed):
    mean = pooled(windowed).mean(axis=0)
    windows = np.random.default_rng(0).normal(size=(5, 4, mean.shape[1])).astype(np.float32)
    expected = [[np.mean((window[t] - mean[t]) ** 2) for t in range(4)] for window in windows]
    np.testing.assert_allclose(fit("no_model", windowed, seed=0)(windows), expected, rtol=1e-5)


def test_pca_equals_numpys_singular_value_decomposition(windowed):
    flat = pooled(windowed).reshape(-1, windowed.train.series.shape[2] * 4).astype(np.float64)
    mean = flat.mean(axis=0)
    _, singular, directions = np.linalg.svd(flat - mean, full_matrices=False)
    kept = np.searchsorted(np.cumsum(singular**2) / np.sum(singular**2), 0.95) + 1
    assert 1 < kept < len(singular)
    basis = directions[:kept]
    windows = np.random.default_rng(0).normal(size=(5, 4, flat.shape[1] // 4)).astype(np.float32)
    centred = windows.reshape(5, -1) - mean
    residual = (centred - centred @ basis.T @ basis).reshape(windows.shape)
    np.testing.assert_allclose(fit("pca", windowed, seed=0)(windows), (residual**2).mean(axis=2), rtol=1e-3, atol=1e-6)


def test_kmeans_is_the_squared_deviation_from_the_nearest_centre(windowed, monkeypatch):
    fitted = []

    class Recorded(cluster.MiniBatchKMeans):
        def __init__(self, n_clusters=8, *, n_init="auto", random_state=None):
            super().__init__(n_clusters, n_init=n_init, random_state=random_state)
            fitted.append(self)

    monkeypatch.setattr(cluster, "MiniBatchKMeans", Recorded)
    scores = fit("kmeans", windowed, seed=0)
    windows = pooled(windowed)[::40]
    centres = fitted[0].cluster_centers_.reshape(32, *windows.shape[1:])
    for window, score in zip(windows, scores(windows), strict=True):
        nearest = min(centres, key=lambda centre: np.sum((window - centre) ** 2))
        np.testing.assert_allclose(score, np.mean((window - nearest) ** 2, axis=1), rtol=1e-3, atol=1e-6)


def test_the_approximate_one_class_svm_ranks_rows_like_the_exact_one():
    records = federation("none", length=1)
    rows = records.test.series
    exact = -OneClassSVM(nu=0.05).fit(pooled(records)[:, 0]).decision_function(rows)
    approximate = fit("one_class_svm", records, seed=0)(rows[:, None])[:, 0]
    ranks = [scores.argsort().argsort() for scores in (exact, approximate)]
    # A kernel ten times too wide or too narrow stays below 0.6, and so does the wrong sign.
    assert np.corrcoef(ranks)[0, 1] > 0.95


@pytest.mark.parametrize(("row_order", "length"), [("capture", 4), ("none", 1)])
@pytest.mark.parametrize("method", METHODS)
def test_attacks_score_higher_than_normal_rows(method, row_order, length):
    data = federation(row_order, length=length)
    scores = row_scores(fit(method, data, seed=0), data.test, length)
    label = data.dataset.test.label[data.test.row]
    assert scores.shape == (NUM_ROWS,)
    assert np.mean(scores[label][:, None] > scores[~label][None]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_scores_again(method, windowed):
    windows = pooled(windowed)[:50]
    first, again = (fit(method, windowed, seed=3)(windows) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("method", UNSUPERVISED)
def test_without_supervision_attacks_in_training_change_nothing(method, windowed):
    """Where the attack rows stand they are replaced by others of any size."""
    other = federation()
    other.dataset.train.numeric[other.dataset.train.label] = 1e6
    windows = pooled(windowed)[:50]
    scores = [fit(method, data, seed=0)(windows) for data in (windowed, other)]
    np.testing.assert_array_equal(*scores)


def test_row_scores_equal_a_plain_loop_over_windows(windowed, monkeypatch):
    rows = windowed.test
    # Two windows per chunk.
    monkeypatch.setattr(classical, "_CHUNK_VALUES", 2 * 4 * rows.series.shape[1])
    place = np.arange(1.0, 5.0)
    seen = [[] for _ in rows.row]
    for start in rows.starts:
        for t in range(4):
            seen[start + t].append(rows.series[start + t].sum() * place[t])
    scores = row_scores(lambda windows: windows.sum(axis=2) * place, rows, 4)
    np.testing.assert_allclose(scores, [np.mean(values) for values in seen], rtol=1e-5)


def test_labelled_windows_are_the_tables_rows_and_one_anomalous_row_marks_a_window(windowed):
    train, encoder = windowed.dataset.train, windowed.encoder
    windows, label = labelled_windows(windowed, 10**6)
    rows = encoder.transform(train)
    held_out = set(windowed.validation.row)
    expected = {}
    for start in range(NUM_ROWS - 3):
        own = range(start, start + 4)
        if held_out.isdisjoint(own) and len(set(windowed.train_client[list(own)])) == 1:
            expected[rows[start : start + 4].tobytes()] = bool(train.label[start : start + 4].any())
    assert len(windows) > NUM_ROWS // 4
    assert [expected[window.tobytes()] for window in windows] == label.tolist()
    assert 0.1 < label.mean() < 0.5


def test_each_class_has_at_most_half_of_the_labelled_windows(windowed):
    windows, label = labelled_windows(windowed, 40)
    assert len(windows) == 40
    assert label.sum() == 20


def test_labelled_windows_are_encoded_as_their_client_encodes():
    data = federation("none", length=1)
    encoders = (data.encoder, dataclasses.replace(data.encoder, mean=data.encoder.mean + 1.0))
    windows, _ = labelled_windows(dataclasses.replace(data, encoders=encoders), 10**6)
    expected = [
        encoder.transform(data.dataset.train.take(rows))
        for client, encoder in enumerate(encoders)
        for rows in [np.setdiff1d(np.flatnonzero(data.train_client == client), data.validation.row)]
    ]
    np.testing.assert_array_equal(windows[:, 0], np.concatenate(expected))


@pytest.mark.parametrize("method", sorted(SAW_ATTACK_LABELS))
def test_supervised_methods_need_attacks_in_training(method):
    with pytest.raises(ValueError, match="training rows of 'tiny' have no attack"):
        fit(method, federation(attacks=False), seed=0)


def test_an_unknown_method_is_refused(windowed):
    with pytest.raises(ValueError, match="method='magic' is unknown; the methods are no_model, pca"):
        fit("magic", windowed, seed=0)


def test_a_row_in_no_window_is_refused(windowed):
    rows = windowed.test
    with pytest.raises(ValueError, match="some rows lie in no window"):
        row_scores(lambda windows: windows.sum(axis=2), rows._replace(starts=rows.starts[1:]), 4)
