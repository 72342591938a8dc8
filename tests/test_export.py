"""The command of exports, from a run's folder to a file that a node runs."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.export import export_scorer
from tests.live.export.test_export import LENGTH, scorer_of


def test_the_command_writes_what_a_node_runs(tmp_path):
    write_bundle(tmp_path, scorer_of("step").bundle)
    flags = [f"--run={tmp_path}", f"--output={tmp_path}/scorer.onnx", "--client=second"]
    subprocess.run([sys.executable, "-m", "fedjax_anomaly.export", *flags], check=True, capture_output=True)
    session = onnxruntime.InferenceSession(tmp_path / "scorer.onnx")
    inputs = {"numeric": np.ones((1, LENGTH, 3), np.float32), "categories": np.zeros((1, LENGTH, 2), np.int32)}
    assert np.isfinite(session.run(["score"], inputs)[0]).all()


@pytest.mark.parametrize("client", ["", "third", "2"])
def test_a_client_that_the_run_does_not_have_is_refused(tmp_path, client):
    write_bundle(tmp_path, scorer_of("step").bundle)
    with pytest.raises(ValueError, match=rf"client='{client}' must be one of the run's 2 clients.*first, second"):
        export_scorer(tmp_path, tmp_path / "scorer.onnx", "onnx", client)
