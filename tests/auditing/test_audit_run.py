import dataclasses
import json

import numpy as np
import pytest

from fedjax_anomaly import run_experiment
from fedjax_anomaly.auditing import AuditSettings, audit_run, load_run
from tests.experiment.conftest import SMALL

SETTINGS = AuditSettings(attacks=("membership", "leakage"), leakage_targets=1, leakage_clients=2)


@pytest.fixture
def config(tmp_path):
    return dataclasses.replace(SMALL, model="dense_autoencoder", num_rounds=2, output_dir=str(tmp_path / "run"))


def test_a_finished_run_is_audited_from_its_folder(config, small_dataset):
    folder = run_experiment(config, small_dataset).output_dir
    audit = audit_run(folder, SETTINGS, small_dataset)
    assert json.loads((folder / "audit" / "audit.json").read_text()) == json.loads(json.dumps(audit))
    assert {path.name for path in (folder / "audit").iterdir()} == {"audit.json", "audit.md", "audit.png"}
    assert audit["verdict"] == "no canaries were planted, so nothing is said about epsilon"
    experiment, state = load_run(folder, small_dataset)
    assert audit["membership"]["trained"]["num_members"] == np.sum(experiment.train.mask)
    assert int(state.round) == 2
    # A window of a layer with a bias can be read off its gradient.
    assert audit["leakage"]["plain"]["median_relative_error"] < 0.1
    assert audit["leakage"]["clipped and noised"]["median_relative_error"] > 0.5


def test_what_cannot_be_audited_is_refused_in_one_line(config, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        load_run(tmp_path)
    for name, changes, message in (
        ("classical", {"method": "pca", "num_clusters": "1"}, "method=pca, which has no model"),
        ("many", {"num_seeds": 2}, "many runs in one"),
        ("unfinished", {}, "is not finished; continue it with"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(dataclasses.replace(config, **changes).to_json())
        with pytest.raises(ValueError, match=message):
            load_run(tmp_path / name)
    with pytest.raises(ValueError, match="attacks='theft' is unknown; the choices are membership"):
        AuditSettings(attacks=("theft",))
