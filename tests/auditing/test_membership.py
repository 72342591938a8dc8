import numpy as np
import pytest

from fedjax_anomaly.auditing import membership_inference
from fedjax_anomaly.auditing.membership import _hanley_mcneil


def test_the_auc_is_the_share_of_pairs_within_clients_that_are_ranked_rightly():
    rng = np.random.default_rng(0)
    client, other_client = np.repeat([0, 1, 2], [30, 20, 9]), np.repeat([0, 1, 3], [8, 12, 5])
    loss, other_loss = rng.normal(size=59), rng.normal(0.5, 1.0, size=25)
    found = membership_inference(loss, client, other_loss, other_client, confidence=0.9, seed=0)
    by_client = [np.mean(loss[client == c][:, None] < other_loss[other_client == c]) for c in (0, 1)]
    assert found.auc == pytest.approx(np.mean(by_client))
    assert found.auc_pooled == pytest.approx(np.mean(loss[:, None] < other_loss))
    assert found.auc_low == pytest.approx(min(by_client))
    # With 25 others at most 1 % of them is none: the members below the least of the others' losses.
    assert found.tpr_at_1_percent_fpr == pytest.approx(np.mean(loss < other_loss.min()))


def test_the_interval_of_one_client_is_that_of_hanley_and_mcneil():
    # Their example: an area of 0.893 from 51 abnormal and 58 normal images has a standard error of 0.032.
    low, high = _hanley_mcneil(0.893, 51, 58, 0.95)
    assert (high - low) / (2.0 * 1.96) == pytest.approx(0.032, abs=1e-3)


def test_clients_without_held_out_windows_are_refused():
    with pytest.raises(ValueError, match="larger --validation_fraction"):
        membership_inference(np.ones(3), np.zeros(3), np.ones(3), np.ones(3), confidence=0.9, seed=0)
