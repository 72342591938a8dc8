"""Membership inference: does the loss of a window tell whether it was trained on?"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score, roc_curve

_RESAMPLES = 1000


class Membership(NamedTuple):
    """How well a threshold on the loss tells members from others.

    Attributes:
      auc: mean over clients of the area under the ROC curve within each; 0.5 is guessing.
      auc_low: lower end of its interval.
      auc_high: upper end of its interval.
      auc_pooled: of all clients' windows under one threshold.
      tpr_at_1_percent_fpr: share of members found where at most 1 % of the others are taken for members, pooled.
      num_members: windows trained on.
      num_others: windows not trained on.
      interval: how the interval was made, in words.
    """

    auc: float
    auc_low: float
    auc_high: float
    auc_pooled: float
    tpr_at_1_percent_fpr: float
    num_members: int
    num_others: int
    interval: str


def membership_inference(
    member_loss: Float[np.ndarray, " n"],
    member_client: Int[np.ndarray, " n"],
    other_loss: Float[np.ndarray, " m"],
    other_client: Int[np.ndarray, " m"],
    *,
    confidence: float,
    seed: int,
) -> Membership:
    """Takes the windows of least loss for members.

    The interval is that of a bootstrap over clients, whose windows are not independent of each other, or Hanley and
    McNeil's where one client has both kinds of windows.

    Args:
      member_loss: of windows that were trained on.
      member_client: whose they are.
      other_loss: of windows that were not.
      other_client: whose they are.
      confidence: of the interval.
      seed: of the bootstrap.

    Raises:
      ValueError: when no client has windows of both kinds, or `confidence` is not in (0, 1).

    References:
      Yeom et al. 2018, "Privacy Risk in Machine Learning", section 3. Carlini et al. 2022, "Membership Inference
      Attacks From First Principles", section 4, on low false-positive rates. Hanley and McNeil 1982, "The Meaning and
      Use of the Area under a ROC Curve".
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} must lie in (0, 1).")
    clients = np.intersect1d(member_client, other_client)
    if len(clients) == 0:
        raise ValueError(
            "no client has both windows that were trained on and held-out ones; give the run a larger "
            "--validation_fraction."
        )
    own = np.array(
        [_auc(member_loss[member_client == client], other_loss[other_client == client]) for client in clients]
    )
    if len(clients) == 1:
        kept = member_client == clients[0], other_client == clients[0]
        low, high = _hanley_mcneil(float(own[0]), int(kept[0].sum()), int(kept[1].sum()), confidence)
        interval = "Hanley and McNeil's, of one client whose windows are taken for independent"
    else:
        rng = np.random.default_rng(seed)
        means = own[rng.integers(len(own), size=(_RESAMPLES, len(own)))].mean(axis=1)
        low, high = np.quantile(means, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]).tolist()
        interval = f"bootstrap over {len(clients)} clients"
    is_member = np.repeat([1, 0], [len(member_loss), len(other_loss)])
    score = -np.concatenate([member_loss, other_loss])
    fpr, tpr, _ = roc_curve(is_member, score)
    return Membership(
        auc=float(own.mean()),
        auc_low=low,
        auc_high=high,
        auc_pooled=float(roc_auc_score(is_member, score)),
        tpr_at_1_percent_fpr=float(tpr[fpr <= 0.01].max()),
        num_members=len(member_loss),
        num_others=len(other_loss),
        interval=interval,
    )


def _auc(member_loss: np.ndarray, other_loss: np.ndarray) -> float:
    """The chance that a member has a smaller loss than another window, ties counting half."""
    statistic = scipy.stats.mannwhitneyu(other_loss, member_loss, method="asymptotic").statistic
    return float(statistic) / (len(member_loss) * len(other_loss))


def _hanley_mcneil(auc: float, num_members: int, num_others: int, confidence: float) -> tuple[float, float]:
    first, second = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    variance = auc * (1.0 - auc) + (num_members - 1) * (first - auc**2) + (num_others - 1) * (second - auc**2)
    reach = scipy.stats.norm.ppf((1.0 + confidence) / 2.0) * np.sqrt(variance / (num_members * num_others))
    return max(0.0, auc - float(reach)), min(1.0, auc + float(reach))
