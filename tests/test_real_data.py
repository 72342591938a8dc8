"""The figures that the presets promise on the official test files; minutes each, so run with -m slow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PRESETS = Path(__file__).parent.parent / "fedjax_anomaly" / "presets"


def run_preset(name: str, real_data_dir: Path, output_dir: Path) -> dict[str, float]:
    """The test metrics of a preset, run as a user would, with the compiler's optimisations."""
    command = [sys.executable, "-m", "fedjax_anomaly.train", f"--flagfile={PRESETS / name}"]
    environment = {key: value for key, value in os.environ.items() if key != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    command += [f"--data_dir={real_data_dir}", f"--output_dir={output_dir}"]
    subprocess.run(command, env=environment, check=True, timeout=1800)
    return json.loads((output_dir / "result.json").read_text())["test"]


@pytest.mark.slow
def test_nsl_kdd_reaches_its_figures(real_data_dir, tmp_path):
    test = run_preset("nsl_kdd.flags", real_data_dir, tmp_path / "run")
    assert test["auroc"] >= 0.96
    assert test["f1"] >= 0.89


@pytest.mark.slow
def test_kddcup99_reaches_its_figures(real_data_dir, tmp_path):
    test = run_preset("kddcup99.flags", real_data_dir, tmp_path / "run")
    assert test["accuracy"] >= 0.94
    assert test["f1"] >= 0.955
    assert test["fpr"] <= 0.08


@pytest.mark.slow
def test_unsw_nb15_reaches_its_figures(real_data_dir, tmp_path):
    """ "No model" has an AUROC of 0.597 here."""
    test = run_preset("unsw_nb15.flags", real_data_dir, tmp_path / "run")
    assert test["auroc"] >= 0.885
    assert test["f1"] >= 0.75
