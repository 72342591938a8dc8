"""The figures that the presets promise on the official test files; minutes each, so run with -m slow."""

from pathlib import Path

import pytest

from fedjax_anomaly.config import Config
from fedjax_anomaly.experiment import run_experiment

PRESETS = Path(__file__).parent.parent / "fedjax_anomaly" / "presets"


def preset(name: str, real_data_dir: Path, tmp_path: Path) -> Config:
    lines = [line[2:].split("=") for line in (PRESETS / name).read_text().splitlines() if line.startswith("--")]
    types = {field: type(default) for field, default in vars(Config()).items()}
    settings = {field: types[field](value) for field, value in lines}
    return Config(**settings, data_dir=str(real_data_dir), output_dir=str(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotion")
def test_nsl_kdd_reaches_its_figures(real_data_dir, tmp_path):
    test = run_experiment(preset("nsl_kdd.flags", real_data_dir, tmp_path)).result["test"]
    assert test["auroc"] >= 0.96
    assert test["f1"] >= 0.89


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotion")
def test_kddcup99_reaches_its_figures(real_data_dir, tmp_path):
    test = run_experiment(preset("kddcup99.flags", real_data_dir, tmp_path)).result["test"]
    assert test["accuracy"] >= 0.94
    assert test["f1"] >= 0.955
    assert test["fpr"] <= 0.08
