"""The node's program as docs/edge.md shows it, against the library's scores."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np

from fedjax_anomaly.data.encoding import Encoder
from fedjax_anomaly.data.table import Categorical, Table
from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.export import export_scorer
from tests.live.export.test_export import CLIENT, LENGTH, scorer_of
from tests.test_docs import blocks


def test_the_documented_node_scores_a_stream_as_the_library_does(tmp_path):
    encoder = Encoder(np.array([0.5, -0.5]), np.array([0.3, 0.7]), (), 5.0, ("cpu", "latency"))
    bundle = dataclasses.replace(scorer_of("step", encoder).bundle, smoothing=2)
    write_bundle(tmp_path, bundle)
    export_scorer(tmp_path, tmp_path / "scorer.onnx", "onnx", "second")
    program = blocks("edge.md", "python")[0]
    (tmp_path / "node.py").write_text(program)
    numeric = np.random.default_rng(0).lognormal(size=(9, 2)).astype(np.float32)
    events = "".join(json.dumps({"latency": float(b), "cpu": float(a), "more": 0}) + "\n" for a, b in numeric)
    command = [sys.executable, tmp_path / "node.py", tmp_path / "scorer.onnx"]
    done = subprocess.run(command, input=events, capture_output=True, text=True, check=True)
    decisions = [json.loads(line) for line in done.stdout.splitlines()]

    normal = Categorical.from_strings(["normal"] * len(numeric))
    rows = bundle.encoders[CLIENT].transform(Table(numeric, ("cpu", "latency"), (), (), normal, None, None))
    rows = np.concatenate([np.repeat(rows[:1], LENGTH - 1, axis=0), rows])
    windows = np.stack([rows[i : i + LENGTH] for i in range(len(numeric))])
    params = jax.tree.map(lambda leaf: leaf[CLIENT], bundle.params)
    errors = np.asarray(jax.jit(bundle.build_model().column_errors)(params, windows))[:, -1]
    score = errors.mean(axis=1)
    smoothed = np.concatenate([score[:1], (score[1:] + score[:-1]) / 2.0])
    np.testing.assert_allclose([d["score"] for d in decisions], smoothed, rtol=1e-4)
    assert [d["alarm"] for d in decisions] == (smoothed > bundle.thresholds[CLIENT]).tolist()
    assert [d["column"] for d in decisions] == [encoder.column_names[i] for i in errors.argmax(axis=1)]
