"""Private preprocessing from the settings to the ledger."""

import dataclasses
import json
import math

import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.data.table import Dataset
from fedjax_anomaly.experiment import build, run_experiment
from fedjax_anomaly.experiment.preprocessing import plan_preprocessing
from fedjax_anomaly.experiment.privacy_ledger import announcement, statement
from tests.fleet import dataset, table
from tests.privacy.test_accounting import gaussian_epsilon

COUNTED = Config(
    dataset="nsl_kdd",
    num_clients=4,
    partition="iid",
    model="dense_autoencoder",
    hidden_size=4,
    latent_size=2,
    num_rounds=2,
    rounds_per_report=2,
    batch_size=4096,
    num_clusters="2",
    client_optimizer="sgd",
    dp_unit="example",
    dp_epsilon=8.0,
    dp_preprocessing="private",
    validation_fraction=0.2,
    threshold_quantile=0.9,
)


def rows_of_four_clients() -> Dataset:
    """Eight hundred training rows a client, without order; an attack has values of its own."""
    test = table(400, seed=1, attack=["normal"] * 300 + ["flood"] * 100)
    numeric = test.numeric.copy()
    numeric[300:] *= 1e4
    return dataset(table(4000), dataclasses.replace(test, numeric=numeric))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """A private run in which everything counts, and what was announced of it."""
    announced: list[str] = []
    config = dataclasses.replace(COUNTED, output_dir=str(tmp_path_factory.mktemp("counted") / "run"))
    return run_experiment(config, rows_of_four_clients(), announce=announced.extend), announced


def test_everything_counts_and_nothing_exceeds_what_was_given(outcome):
    privacy = outcome[0].result["privacy"]
    assert 7.98 < privacy["epsilon"] <= 8.0
    assert max(client["epsilon"] for client in privacy["per_client"]) <= 8.0
    assert 7.98 < privacy["epsilon_held_out"] <= 8.0
    listed = privacy["mechanisms"][:-1]
    assert [mechanism["windows"] for mechanism in listed] == ["training"] * 4 + ["held-out"]
    # Four Gaussian releases are one, by squares; a tenth of delta is for names of categories.
    together = sum(mechanism["noise_multiplier"] ** -2 for mechanism in listed[:4]) ** -0.5
    assert gaussian_epsilon(together, 0.9e-5) == pytest.approx(2.0, rel=0.01)
    for mechanism in listed:
        assert mechanism["noise_std"] == pytest.approx(mechanism["noise_multiplier"] * mechanism["sensitivity"])
        assert mechanism["epsilon"] == pytest.approx(gaussian_epsilon(mechanism["noise_multiplier"], 1e-5), rel=0.01)
    # Two numeric columns and a categorical one; a record is one held-out score in each of 8 counts.
    found = [mechanism["sensitivity"] ** 2 for mechanism in listed]
    assert found == pytest.approx([2.0, 1.0, 1.25 * 2.0, 1.25 * 2.0 + 1.0, 8.0])


def test_the_training_gets_what_is_left(outcome):
    """Every step takes all windows: what is composed is Gaussian, and has a closed form."""
    privacy = outcome[0].result["privacy"]
    assert {client["steps"] for client in privacy["per_client"]} == {2}
    squares = sum(mechanism["noise_multiplier"] ** -2 for mechanism in privacy["mechanisms"][:4])
    together = (2 / privacy["noise_multiplier"] ** 2 + squares) ** -0.5
    assert gaussian_epsilon(together, 0.9e-5) == pytest.approx(8.0, rel=0.003)
    # Adding epsilons up would have left the training 6.
    assert 7.5 < gaussian_epsilon(privacy["noise_multiplier"] / math.sqrt(2), 1e-5) < 8.0


def test_what_is_covered_now_is_said_in_words_and_no_longer_listed_as_outside(outcome):
    run, announced = outcome
    report = (run.output_dir / "report.html").read_text()
    ledger = json.loads((run.output_dir / "privacy.json").read_text())
    for text in ("encoding is fitted on", "summaries of data", "held-out scores that set"):
        assert not any(text in line for line in [*ledger["not_covered"], *announced])
    assert "the losses in the log" in ledger["not_covered"][0]
    for text in ("Preprocessing counts: a training window", "no record is in both"):
        assert text in report
        assert any(text in line for line in announced)
    assert "counts of held-out scores above a value" in report
    assert run.result["alarms"]["threshold_rule"].endswith("by noisy counts")
    assert run.result["test"]["auroc"] > 0.9


def test_given_noise_states_the_composed_epsilon(tmp_path):
    settings = {"dp_epsilon": 0.0, "dp_noise_multiplier": 1.0, "output_dir": str(tmp_path / "run")}
    config = dataclasses.replace(COUNTED, num_clusters="1", dp_preprocessing_epsilon=4.0, **settings)
    experiment = build(config, rows_of_four_clients())
    stated = statement(experiment, 2)["epsilon"]
    noise = experiment.privacy.preprocessing.noise_multiplier
    assert stated == pytest.approx(gaussian_epsilon((2.0 + 3.0 / noise**2) ** -0.5, 0.9e-5), rel=0.003)
    assert any(f"epsilon {stated:.3g}" in line for line in announcement([experiment]))


def test_given_categories_are_said_to_be_outside_and_change_no_release(tmp_path):
    config, rows = dataclasses.replace(COUNTED, output_dir=str(tmp_path / "run")), rows_of_four_clients()
    own, given = build(config, rows), build(config, rows, vocabularies=(("icmp", "tcp"),))
    assert own.federation.encoder.vocabularies == (("icmp", "tcp", "udp"),)
    assert not any("were given" in text for text in statement(own, 1)["not_covered"])
    assert any("were given" in text for text in statement(given, 1)["not_covered"])
    np.testing.assert_array_equal(given.federation.encoder.mean, own.federation.encoder.mean)


def test_the_default_is_a_quarter_of_epsilon():
    assert plan_preprocessing(COUNTED) == plan_preprocessing(dataclasses.replace(COUNTED, dp_preprocessing_epsilon=2.0))
    assert plan_preprocessing(Config()) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"dp_preprocessing": "none", "dp_preprocessing_epsilon": 1.0},
            "dp_preprocessing_epsilon=1.0 has no effect",
        ),
        ({"dp_unit": "client"}, "dp_preprocessing=private bounds what one window adds .* nothing for dp_unit=client"),
        ({"threshold": "conformal"}, "threshold=conformal and score=mean need every held-out score as it is"),
        ({"score": "pvalue"}, "threshold=quantile and score=pvalue need every held-out score as it is"),
        ({"dp_preprocessing_epsilon": 4.1}, "dp_preprocessing_epsilon=4.1 must be at most half of dp_epsilon=8"),
        (
            {"dp_epsilon": 0.0, "dp_noise_multiplier": 1.0},
            "has no epsilon to take a part of; give --dp_preprocessing_epsilon",
        ),
    ],
)
def test_what_has_no_accounting_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(COUNTED, **settings)


def test_too_few_held_out_scores_are_refused_before_training(tmp_path):
    config = dataclasses.replace(COUNTED, dp_epsilon=0.25, output_dir=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="800 held-out normal scores leave 80 above the threshold"):
        build(config, rows_of_four_clients())
