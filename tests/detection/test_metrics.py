import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from fedjax_anomaly.data.table import Categorical
from fedjax_anomaly.detection.evaluate import ScoredRows, evaluate
from fedjax_anomaly.detection.metrics import detection_metrics, oracle_f1, recall_per_attack


def scored(count=400, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.random(count) < 0.3
    return label, rng.normal(size=count) + label


def test_metrics_equal_scikit_learns():
    label, score = scored()
    alarm = score > 0.7
    ours = detection_metrics(label, alarm, score)
    assert ours["accuracy"] == sklearn_metrics.accuracy_score(label, alarm)
    assert ours["precision"] == pytest.approx(sklearn_metrics.precision_score(label, alarm))
    assert ours["recall"] == pytest.approx(sklearn_metrics.recall_score(label, alarm))
    assert ours["f1"] == pytest.approx(sklearn_metrics.f1_score(label, alarm))
    assert ours["fpr"] == pytest.approx(1.0 - sklearn_metrics.recall_score(~label, ~alarm))


def test_auroc_is_the_chance_to_rank_an_anomalous_row_higher():
    label, score = scored()
    wins = (score[label][:, None] > score[~label][None, :]).mean()
    assert detection_metrics(label, score > 0.0, score)["auroc"] == pytest.approx(wins)


def test_auprc_is_the_mean_precision_at_each_hit():
    label, score = scored(60)
    order = np.argsort(-score)
    precision = np.cumsum(label[order]) / np.arange(1, 61)
    assert detection_metrics(label, score > 0.0, score)["auprc"] == pytest.approx(precision[label[order]].mean())


def test_what_is_undefined_is_none():
    normal = np.zeros(5, bool)
    metrics = detection_metrics(normal, normal, np.arange(5.0))
    assert metrics == {
        "accuracy": 1.0, "precision": None, "recall": None, "f1": None, "fpr": 0.0, "auroc": None, "auprc": None
    }  # fmt: skip
    assert oracle_f1(normal, np.arange(5.0)) is None


def test_the_oracle_is_the_best_of_all_thresholds():
    label, score = scored(80)
    best = max(sklearn_metrics.f1_score(label, score >= t) for t in score)
    assert oracle_f1(label, score) == pytest.approx(best)


def test_recall_per_attack_leaves_out_normal_rows_and_absent_attacks():
    attack = Categorical.from_strings(["scan", "scan", "normal", "flood", "gone"]).take(np.arange(4))
    recall = recall_per_attack(attack, np.array([True, False, True, True]))
    assert recall == {"flood": 1.0, "scan": 0.5}


def test_evaluation_uses_each_clients_own_threshold():
    attack = Categorical.from_strings(["normal", "scan", "normal", "scan"])
    rows = ScoredRows(np.array([1.0, 3.0, 4.0, 6.0]), np.array([0, 0, 1, 1]), attack, ~attack.is_name("normal"))
    test, oracle = evaluate(rows, np.array([2.0, 5.0]), np.array([0, 1]))
    assert test["f1"] == 1.0
    # No single threshold separates 4 (normal) from 3 (anomalous): hindsight over one threshold reaches 0.8 only.
    assert oracle["f1"] == pytest.approx(0.8)
    assert [part["f1"] for part in test["per_client"]] == [1.0, 1.0]
    assert [part["rows"] for part in test["per_cluster"]] == [2, 2]
    assert test["per_attack"] == {"scan": 1.0}
