"""The command of exports, from a run's folder to a file that a node runs."""

import subprocess
import sys

import numpy as np
import onnxruntime

from fedjax_anomaly.live.bundle import write_bundle
from tests.live.export.test_export import LENGTH, scorer_of


def test_the_command_writes_what_a_node_runs(tmp_path):
    write_bundle(tmp_path, scorer_of("step").bundle)
    command = [sys.executable, "-m", "fedjax_anomaly.export", f"--run={tmp_path}", f"--output={tmp_path}/scorer.onnx"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: client='' must be one of the run's 2 clients")
    subprocess.run([*command, "--client=second"], check=True, capture_output=True)
    session = onnxruntime.InferenceSession(tmp_path / "scorer.onnx")
    inputs = {"numeric": np.ones((1, LENGTH, 3), np.float32), "categories": np.zeros((1, LENGTH, 2), np.int32)}
    assert np.isfinite(session.run(["score"], inputs)[0]).all()
