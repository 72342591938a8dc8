import math

import numpy as np
import pytest

from fedjax_anomaly.detection.private_threshold import SCORE_RANGE, SEARCH_STEPS, PrivateQuantile, affected_scores
from fedjax_anomaly.detection.smoothing import causal_mean
from fedjax_anomaly.detection.threshold import client_thresholds

CLUSTER = np.array([0, 0, 1, 1])


def fleet(num_scores: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of four clients, each with a scale of its own."""
    client = np.repeat(np.arange(4), num_scores)
    return np.random.default_rng(0).lognormal(size=4 * num_scores) * (1.0 + client), client


class Recorder:
    """A generator that adds nothing and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def normal(self, mean: float, std: float, size: int) -> np.ndarray:
        assert mean == 0.0
        self.asked.append((std, size))
        return np.zeros(size)


@pytest.mark.parametrize("scope", ["global", "cluster", "client"])
def test_many_scores_give_the_true_quantile(scope):
    scores, client = fleet(20_000)
    search = PrivateQuantile(0.95, scope, 1.0, 1)
    found = search.thresholds(scores, client, CLUSTER, np.random.default_rng(1))
    exact = client_thresholds("quantile", 0.95, scope, scores, client, CLUSTER)
    # The values that a search can end at are 7.5 % apart, and the one above the quantile is taken.
    np.testing.assert_allclose(found, 1.03 * exact, rtol=0.06)
    assert not search.borrows(np.bincount(client), CLUSTER).any()


@pytest.mark.parametrize(("length", "smoothing"), [(1, 1), (4, 1), (4, 3)])
def test_no_held_out_window_moves_a_count_by_more_than_the_affected_scores(length, smoothing):
    """By brute force: each window's errors are replaced by large ones in turn; windows do not overlap."""
    errors = np.random.default_rng(0).uniform(1.0, 2.0, 48)
    series = np.arange(48) // 24

    def above(rows: np.ndarray) -> np.ndarray:
        return (causal_mean(rows, series, smoothing)[:, None] > np.geomspace(*SCORE_RANGE, 257)).sum(axis=0)

    moved = []
    for begin in range(0, 48, length):
        other = errors.copy()
        other[begin : begin + length] = 1000.0
        moved.append(np.abs(above(other) - above(errors)).max())
    assert max(moved) == affected_scores(length, smoothing)


@pytest.mark.parametrize("scope", ["global", "client"])
def test_every_answer_has_the_noise_of_all_that_a_client_gives(scope):
    scores, client = fleet(2000)
    search = PrivateQuantile(0.9, scope, 0.5, 3)
    asked = Recorder()
    search.thresholds(scores, client, CLUSTER, asked)
    # A client's answers move by 3 each at most, so by 3 sqrt(answers) together, times z.
    assert len({std for std, _ in asked.asked}) == 1
    assert asked.asked[0][0] == pytest.approx(0.5 * 3 * math.sqrt(SEARCH_STEPS))
    assert sum(size for _, size in asked.asked) == 4 * SEARCH_STEPS


def test_clients_with_too_few_scores_borrow_and_the_noise_pays_for_both_searches():
    scores, client = fleet(4000)
    few = (client != 3) | (np.arange(len(client)) % 400 == 0)
    scores, client = scores[few], client[few]
    search = PrivateQuantile(0.9, "client", 1.0, 1)
    counts = np.bincount(client)
    assert search.borrows(counts, CLUSTER).tolist() == [False, False, False, True]
    assert search.num_answers(counts, CLUSTER) == 2 * SEARCH_STEPS
    asked = Recorder()
    found = search.thresholds(scores, client, CLUSTER, asked)
    assert {std for std, _ in asked.asked} == {math.sqrt(2 * SEARCH_STEPS)}
    of_cluster = np.quantile(scores[client >= 2], 0.9)
    assert found[3] == pytest.approx(1.03 * of_cluster, rel=0.05)


def test_scores_that_the_noise_drowns_are_refused():
    scores, client = fleet(20)
    with pytest.raises(ValueError, match="80 held-out normal scores leave 4 above the threshold, but their count gets"):
        PrivateQuantile(0.95, "client", 1.0, 1).thresholds(scores, client, CLUSTER, np.random.default_rng(0))
    with pytest.raises(ValueError, match="threshold_quantile=1.0"):
        PrivateQuantile(1.0, "global", 1.0, 1)
