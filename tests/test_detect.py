"""The command of the live detector: one clear line for what is wrong, and a non-zero exit."""

import subprocess
import sys

import pytest

from fedjax_anomaly.config_live import LiveSettings


def test_a_folder_without_a_detector_gets_one_clear_line(tmp_path):
    command = [sys.executable, "-m", "fedjax_anomaly.detect", f"--run={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "holds no folder detector" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"run": ""}, "run is missing"),
        ({"source": ""}, "source is empty"),
        ({"max_batch": 0}, "max_batch=0 must be at least 1"),
        ({"max_future_seconds": float("nan")}, "max_future_seconds=nan must be at least 0"),
        ({"snapshot_seconds": 0.0}, "snapshot_seconds=0.0 must be positive"),
    ],
)
def test_settings_out_of_range_are_named_with_their_bounds(settings, told):
    with pytest.raises(ValueError, match=told):
        LiveSettings(**{"run": "runs/one"} | settings)
