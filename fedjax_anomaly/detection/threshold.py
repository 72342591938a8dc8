"""Thresholds from the scores of held-out normal rows; no label and no test row is ever seen."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

ThresholdRule = Literal["quantile", "conformal", "mean_3sigma"]
ThresholdScope = Literal["global", "cluster", "client"]

THREE_SIGMA = 3.0
"""The level that gives `mean_3sigma` its name."""


def quantile_threshold(scores: Float[np.ndarray, " N"], quantile: float) -> float:
    """The empirical quantile of normal scores (linear interpolation between order statistics).

    Raises:
      ValueError: when `quantile` is not in (0, 1) or fewer than 1 / (1 - quantile) scores are given.
    """
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"threshold_quantile={quantile} must lie in (0, 1).")
    check_scores(scores, scores_needed("quantile", quantile))
    return float(np.quantile(scores, quantile))


def conformal_threshold(scores: Float[np.ndarray, " N"], target_fpr: float) -> float:
    """The split-conformal threshold: a new exchangeable normal score exceeds it with probability at most `target_fpr`.

    It is the ceil((N + 1) (1 - target_fpr))-th smallest of the N scores.

    Raises:
      ValueError: when `target_fpr` is not in (0, 1) or too few scores are given for the guarantee,
        N < 1 / target_fpr - 1.

    Guarantees:
      The false-positive rate, averaged over draws of the scores, is at most `target_fpr` for any N (test:
      `tests/detection/test_threshold.py::test_conformal_keeps_the_false_positive_rate_at_small_sample_sizes`).

    References:
      Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World", section 2.2.
      Laxhammar and Falkman 2010, "Conformal prediction for distribution-independent
      anomaly detection in streaming vessel data", section 3.
    """
    if not 0.0 < target_fpr < 1.0:
        raise ValueError(f"target_fpr={target_fpr} must lie in (0, 1).")
    check_scores(scores, scores_needed("conformal", target_fpr))
    return float(np.sort(scores)[_conformal_rank(len(scores), target_fpr) - 1])


def deviation_threshold(scores: Float[np.ndarray, " N"], deviations: float = THREE_SIGMA) -> float:
    """The mean of normal scores plus a number of their standard deviations (of the sample, N - 1).

    It promises no false-positive rate: scores of reconstruction errors are far from normally distributed.

    Raises:
      ValueError: when `deviations` is not positive and finite or fewer than 2 scores are given.

    References:
      Zhang et al. 2021, "Federated Learning for Internet of Things: A Federated Learning Framework for On-device
      Anomaly Data Detection" (FedDetect, SenSys workshop AIChallengeIoT); three deviations as in its released code.
    """
    if not 0.0 < deviations < math.inf:
        raise ValueError(f"deviations={deviations} must be positive and finite.")
    check_scores(scores, scores_needed("mean_3sigma", deviations))
    values = np.asarray(scores, np.float64)
    return float(values.mean() + deviations * values.std(ddof=1))


def client_thresholds(
    rule: ThresholdRule,
    level: float,
    scope: ThresholdScope,
    scores: Float[np.ndarray, " N"],
    client: Int[np.ndarray, " N"],
    cluster: Int[np.ndarray, " C"],
) -> Float[np.ndarray, " C"]:
    """One threshold per client.

    A client (or cluster) with too few scores for the rule takes the threshold of the next wider scope.

    Args:
      rule: `quantile`, with `level` the quantile; `conformal`, with `level` the target false-positive rate;
        `mean_3sigma`, with `level` the number of standard deviations, `THREE_SIGMA`.
      level: see `rule`.
      scope: whose scores set a client's threshold.
      scores: of held-out normal rows.
      client: the client of each score.
      cluster: the cluster of each client.

    Raises:
      ValueError: when there are too few scores even globally.
    """
    compute = THRESHOLD_FUNCTIONS[rule]
    thresholds = np.full(len(cluster), compute(scores, level))
    needed = scores_needed(rule, level)
    cluster_of_score = cluster[client]
    if scope != "global":
        for k in np.unique(cluster):
            own = scores[cluster_of_score == k]
            if len(own) >= needed:
                thresholds[cluster == k] = compute(own, level)
    if scope == "client":
        for c in range(len(cluster)):
            own = scores[client == c]
            if len(own) >= needed:
                thresholds[c] = compute(own, level)
    return thresholds


def borrows_threshold(
    rule: ThresholdRule,
    level: float,
    scope: ThresholdScope,
    client: Int[np.ndarray, " N"],
    cluster: Int[np.ndarray, " C"],
) -> Bool[np.ndarray, " C"]:
    """Which clients `client_thresholds` gives the threshold of a wider scope, for want of scores in their own.

    Args:
      rule: as for `client_thresholds`, and so are the others.
    """
    if scope == "global":
        return np.zeros(len(cluster), bool)
    group = cluster if scope == "cluster" else np.arange(len(cluster))
    return np.bincount(group[client], minlength=int(group.max()) + 1)[group] < scores_needed(rule, level)


THRESHOLD_FUNCTIONS: dict[ThresholdRule, Callable[[np.ndarray, float], float]] = {
    "quantile": quantile_threshold,
    "conformal": conformal_threshold,
    "mean_3sigma": deviation_threshold,
}
"""By the name of the rule; the second argument is its level, see `client_thresholds`."""


def _conformal_rank(count: int, target_fpr: float) -> int:
    """ceil((N + 1)(1 - target_fpr)), safe against rounding of the product."""
    return math.ceil((count + 1) * (1.0 - target_fpr) - 1e-9)


def scores_needed(rule: ThresholdRule, level: float) -> int:
    """The least number of scores for a rule: enough for the tail probability, or for a standard deviation."""
    if rule == "mean_3sigma":
        return 2
    tail = 1.0 - level if rule == "quantile" else level
    return math.ceil(1.0 / tail - 1e-9) - (1 if rule == "conformal" else 0)


def check_scores(
    scores: Float[np.ndarray, " N"],
    needed: int,
    *,
    rule: str = "this threshold",
    way_out: str = "a lower --threshold_quantile or a larger --target_fpr",
) -> None:
    """Raises ValueError for scores that no threshold can be set from: too few, or not finite.

    Args:
      scores: of held-out normal rows.
      needed: how many are enough.
      rule: what needs them, for the message.
      way_out: for the message, beside more scores.
    """
    if len(scores) < needed:
        raise ValueError(
            f"{len(scores)} held-out normal scores are too few for {rule}, which needs {needed}; give a larger "
            f"--validation_fraction, {way_out}."
        )
    if not np.isfinite(scores).all():
        raise ValueError("held-out normal scores are not finite; the model has diverged.")
