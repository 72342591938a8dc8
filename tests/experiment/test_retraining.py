"""Models trained further on live rows: what is learned from, what is not, and when the old model is kept."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.detection.scoring import ending_row_errors
from fedjax_anomaly.experiment import retraining
from fedjax_anomaly.experiment.retraining import retrain, retrainer
from fedjax_anomaly.live.recent import Recent
from fedjax_anomaly.types import RowSet
from tests.live.fleet import SMALL, small_bundle

ROWS, ROUNDS = 200, 5
pytestmark = pytest.mark.usefixtures("optax_promotion")
CONFIG = dataclasses.replace(SMALL, learning_rate=0.02, min_client_windows=4)


@pytest.fixture(scope="module")
def bundle():
    return small_bundle()[1]


@pytest.fixture(scope="module")
def recent(bundle):
    """Rows about a level that each client has of its own, far from what the untrained models give; one gap."""
    rng = np.random.default_rng(0)
    client = np.repeat(np.arange(bundle.num_clients, dtype=np.int32), ROWS)
    features = bundle.encoders[0].layout.num_features
    rows = (1.0 + 0.3 * client[:, None] + 0.1 * rng.normal(size=(len(client), features))).astype(np.float32)
    run = client + (np.arange(len(client)) >= ROWS // 2)
    return Recent(rows, client, 60.0 * np.arange(len(client)), run, np.zeros(len(client), bool))


@pytest.fixture(scope="module")
def trained(bundle, recent):
    with jax.numpy_dtype_promotion("standard"):
        return retrain(CONFIG, bundle, recent, ROUNDS)


def test_the_models_learn_and_thresholds_are_of_their_scores_of_held_out_rows(bundle, recent, trained):
    new, details = trained
    assert details["loss_after"] < 0.5 * details["loss_before"]
    assert (details["rounds"], details["clients"]) == (ROUNDS, 4)
    per_model = sum(leaf[0].nbytes for leaf in jax.tree.leaves(bundle.params))
    assert details["bytes_sent"] == 2 * ROUNDS * 4 * per_model
    assert new.encoders is bundle.encoders and new.cluster is bundle.cluster
    # The last third is held out; its scores are those of the new model.
    held_out = recent.time % (60.0 * ROWS) >= 60.0 * (ROWS - round(ROWS / 3))
    np.testing.assert_array_equal(new.calibration_time, recent.time[held_out])
    rows = RowSet(recent.rows, np.zeros(0, np.int32), recent.client, np.arange(len(recent.rows)))
    errors = ending_row_errors(bundle.build_model().column_errors, new.params, new.cluster, rows, recent.run, 4)
    same = np.isclose(new.calibration_scores, errors.mean(axis=1)[held_out], rtol=1e-4)
    assert np.mean(same) > 0.9  # The first rows have no rows before them.


def test_the_latest_rows_are_not_learned_from(bundle, recent, trained):
    """Each client has two streams here, whose latest rows are those in the last third of the time of both."""
    late = recent.time % (60.0 * ROWS) >= 60.0 * (ROWS - round(ROWS / 3))
    other = recent._replace(rows=np.where(late[:, None], recent.rows + 0.2, recent.rows))
    in_turns = np.lexsort((recent.time, recent.time // 60.0 % 2, recent.client))
    stream = 2 * recent.client[in_turns] + in_turns % 2
    one, two = (
        retrain(CONFIG, bundle, Recent(*(column[in_turns] for column in r))._replace(run=stream), 1)
        for r in (recent, other)
    )
    for left, right in zip(jax.tree.leaves(one[0].params), jax.tree.leaves(two[0].params), strict=True):
        np.testing.assert_array_equal(left, right)
    assert one[1]["loss_after"] != two[1]["loss_after"]


def test_rows_in_alarm_are_not_learned_from_and_set_no_threshold(bundle, recent, trained):
    """Of a client's rows the last third is held out: of alarms among them only is used that they were alarms."""
    faulty = recent._replace(rows=recent.rows.copy(), alarm=recent.alarm.copy())
    for place, value in ((slice(62, 68), np.nan), (slice(176, 180), 50.0)):
        faulty.alarm[place], faulty.rows[place] = True, value
    new, details = retrain(CONFIG, bundle, faulty, ROUNDS)
    assert details["loss_after"] < details["loss_before"]
    assert max(new.calibration_scores) < 3 * max(trained[0].calibration_scores)


def test_clients_without_rows_or_in_alarm_take_no_part(bundle, recent):
    """Clients 1 and 3 share a model; one has few rows, the other a quarter of alarms, so that it stays as it is."""
    kept = (recent.client % 2 == 0) | (recent.client == 3) | ((recent.client == 1) & (np.arange(4 * ROWS) % ROWS < 6))
    alarm = (recent.client == 3) & (np.arange(4 * ROWS) % 16 < 4)
    part = Recent(*(column[kept] for column in recent._replace(alarm=alarm)))
    new, details = retrain(CONFIG, bundle, part, ROUNDS)
    assert details["clients"] == 2
    for before, after in zip(jax.tree.leaves(bundle.params), jax.tree.leaves(new.params), strict=True):
        np.testing.assert_array_equal(after[1], before[1])
        assert not np.array_equal(after[0], before[0])
    for client in (1, 3):
        old = bundle.calibration_scores[bundle.calibration_client == client]
        np.testing.assert_array_equal(new.calibration_scores[new.calibration_client == client], old)


def test_a_model_that_is_worse_or_not_finite_is_refused(bundle, recent):
    with pytest.raises(ValueError, match="not less than"):
        retrain(dataclasses.replace(CONFIG, learning_rate=30.0), bundle, recent, ROUNDS)
    with pytest.raises(retraining.Diverged, match="not finite"):
        retrain(CONFIG, bundle, recent._replace(rows=np.full_like(recent.rows, np.nan)), ROUNDS)
    with pytest.raises(ValueError, match="no client"):
        retrain(CONFIG, bundle, Recent(*(column[:3] for column in recent)), ROUNDS)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"dp_unit": "client", "dp_noise_multiplier": 1.0, "dp_delta": 1e-5}, "privacy"),
        ({"secure_aggregation": "secagg"}, "secure_aggregation"),
        ({"method": "centralized"}, "method=centralized"),
    ],
)
def test_runs_whose_training_cannot_go_on_are_refused_at_the_start(tmp_path, settings, reason):
    (tmp_path / "config.json").write_text(Config(**settings).to_json())
    with pytest.raises(ValueError, match=reason):
        retrainer(tmp_path, 1)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0
