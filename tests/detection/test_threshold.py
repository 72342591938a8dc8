import numpy as np
import pytest

from fedjax_anomaly.detection.threshold import (
    THREE_SIGMA,
    borrows_threshold,
    client_thresholds,
    conformal_threshold,
    deviation_threshold,
    quantile_threshold,
)


def test_the_quantile_is_numpys():
    scores = np.random.default_rng(0).exponential(size=500)
    assert quantile_threshold(scores, 0.95) == np.quantile(scores, 0.95)


def test_the_conformal_threshold_is_the_promised_order_statistic():
    scores = np.arange(1.0, 20.0)
    # N = 19, target 0.1: ceil(20 * 0.9) = 18th smallest.
    assert conformal_threshold(scores[::-1], 0.1) == 18.0


def test_conformal_keeps_the_false_positive_rate_at_small_sample_sizes():
    """Averaged over draws: at most the target, and above target - 1 / (N + 1), so it is not merely cautious."""
    rng = np.random.default_rng(0)
    for count in (19, 30, 55):
        draws = rng.normal(size=(4000, count))
        fresh = rng.normal(size=4000)
        rate = np.mean([new > conformal_threshold(own, 0.1) for own, new in zip(draws, fresh, strict=True)])
        # Standard error below 0.005.
        assert 0.1 - 1.0 / (count + 1) - 0.015 < rate < 0.1 + 0.015


def test_the_quantile_alone_breaks_the_rate_at_small_sample_sizes():
    """The negative control of the test above."""
    rng = np.random.default_rng(0)
    exceeded = [rng.normal() > np.quantile(rng.normal(size=19), 0.9) for _ in range(4000)]
    assert np.mean(exceeded) > 0.12


def test_three_deviations_above_the_mean_by_hand():
    # Mean 4, sample variance (4 + 1 + 0 + 1 + 4) / 4 = 2.5.
    assert deviation_threshold(np.array([2.0, 3.0, 4.0, 5.0, 6.0])) == pytest.approx(4.0 + 3.0 * np.sqrt(2.5))
    assert deviation_threshold(np.array([0.0, 2.0]), 1.0) == pytest.approx(1.0 + np.sqrt(2.0))


def test_float32_scores_lose_no_precision():
    scores = 4096.0 + np.random.default_rng(0).normal(size=50_000)
    assert deviation_threshold(scores.astype(np.float32)) == pytest.approx(deviation_threshold(scores), abs=1e-4)


CLUSTER = np.array([0, 0, 1, 1])
CLIENT = np.repeat(np.arange(4), [100, 100, 100, 5])
SCORES = np.concatenate([c + np.linspace(0.0, 1.0, n) for c, n in enumerate([100, 100, 100, 5])])


def test_scopes_take_the_scores_they_name():
    glob, cluster, client = (
        client_thresholds("quantile", 0.9, scope, SCORES, CLIENT, CLUSTER) for scope in ("global", "cluster", "client")
    )
    np.testing.assert_array_equal(glob, np.quantile(SCORES, 0.9))
    np.testing.assert_allclose(cluster[:2], np.quantile(SCORES[CLIENT < 2], 0.9))
    np.testing.assert_allclose(cluster[2:], np.quantile(SCORES[CLIENT >= 2], 0.9))
    np.testing.assert_allclose(client[:3], [c + 0.9 for c in range(3)])


def test_scopes_of_three_deviations():
    glob, cluster, client = (
        client_thresholds("mean_3sigma", THREE_SIGMA, scope, SCORES, CLIENT, CLUSTER)
        for scope in ("global", "cluster", "client")
    )

    def expected(own):
        return own.mean() + 3.0 * np.sqrt(np.sum((own - own.mean()) ** 2) / (len(own) - 1))

    np.testing.assert_allclose(glob, expected(SCORES))
    np.testing.assert_allclose(cluster, [expected(SCORES[CLUSTER[CLIENT] == k]) for k in CLUSTER])
    np.testing.assert_allclose(client, [expected(SCORES[c == CLIENT]) for c in range(4)])


def test_a_client_with_one_score_takes_its_clusters_three_deviations():
    scores, client = np.append(SCORES, 9.0), np.append(CLIENT, 4)
    thresholds = client_thresholds("mean_3sigma", THREE_SIGMA, "client", scores, client, np.array([0, 0, 1, 1, 1]))
    assert thresholds[4] == pytest.approx(deviation_threshold(scores[client >= 2]))


def test_a_client_with_too_few_scores_takes_its_clusters_threshold():
    client = client_thresholds("quantile", 0.9, "client", SCORES, CLIENT, CLUSTER)
    assert client[3] == np.quantile(SCORES[CLIENT >= 2], 0.9)
    # Conformal at 10 % needs 9 scores; five are too few.
    client = client_thresholds("conformal", 0.1, "client", SCORES, CLIENT, CLUSTER)
    assert client[3] == conformal_threshold(SCORES[CLIENT >= 2], 0.1)


def test_a_client_borrows_exactly_where_its_threshold_is_not_that_of_its_own_scores():
    # Five scores are too few for the client; its cluster has 105, which are enough.
    for scope, expected in (("global", []), ("cluster", []), ("client", [3])):
        borrows = borrows_threshold("quantile", 0.9, scope, CLIENT, CLUSTER)
        assert np.flatnonzero(borrows).tolist() == expected
    thresholds = client_thresholds("quantile", 0.9, "client", SCORES, CLIENT, CLUSTER)
    own = np.array([np.quantile(SCORES[c == CLIENT], 0.9) for c in range(4)])
    borrows = borrows_threshold("quantile", 0.9, "client", CLIENT, CLUSTER)
    np.testing.assert_array_equal(borrows, thresholds != own)
    without_scores = borrows_threshold("quantile", 0.9, "cluster", CLIENT, np.array([0, 0, 0, 0, 1]))
    assert without_scores.tolist() == [False, False, False, False, True]


def test_a_cluster_without_scores_takes_the_global_threshold():
    client = client_thresholds("quantile", 0.9, "cluster", SCORES, CLIENT, np.array([0, 0, 0, 0, 1]))
    assert client[4] == np.quantile(SCORES, 0.9)


@pytest.mark.parametrize(
    ("function", "level", "count", "message"),
    [
        (quantile_threshold, 1.0, 100, r"threshold_quantile=1.0 must lie in \(0, 1\)"),
        (conformal_threshold, 0.0, 100, r"target_fpr=0.0 must lie in \(0, 1\)"),
        (deviation_threshold, 0.0, 100, "deviations=0.0 must be positive and finite"),
        (deviation_threshold, 3.0, 1, "1 held-out normal scores are too few for this threshold, which needs 2"),
        (quantile_threshold, 0.99, 99, "99 held-out normal scores are too few for this threshold, which needs 100"),
        (conformal_threshold, 0.01, 98, "98 held-out normal scores are too few for this threshold, which needs 99"),
    ],
)
def test_levels_out_of_range_and_too_few_scores_are_refused(function, level, count, message):
    with pytest.raises(ValueError, match=message):
        function(np.arange(float(count)), level)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        quantile_threshold(np.array([1.0, np.nan] * 20), 0.9)


@pytest.mark.parametrize(("rule", "level"), [("quantile", 1.0), ("conformal", 0.0), ("mean_3sigma", np.inf)])
def test_a_level_out_of_range_is_refused_for_every_rule(rule, level):
    with pytest.raises(ValueError, match=f"={level} must"):
        client_thresholds(rule, level, "client", SCORES, CLIENT, CLUSTER)
