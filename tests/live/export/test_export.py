"""Exported scorers against the library's parts, each called by itself."""

import dataclasses
import json

import jax
import numpy as np
import onnxruntime
import pytest

from fedjax_anomaly.data.differences import with_differences
from fedjax_anomaly.data.encoding import Encoder
from fedjax_anomaly.data.table import Categorical, Dataset, Table
from fedjax_anomaly.detection.anomaly_score import mean_score, pvalue_score
from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.export import EdgeScorer, onnx_model, stablehlo_artifact

LENGTH, NUM_NUMERIC = 5, 3
ENCODER = Encoder(
    mean=np.array([9.0, 0.3, -2.0]),
    deviation=np.array([0.05, 0.4, 1.5]),
    vocabularies=(("icmp", "tcp"), ("SF",)),
    clip=5.0,
    column_names=("bytes", "share", "balance", "protocol", "flag"),
)
SIZES = {"latent_per": "step", "feature_groups": None, "hidden_size": 6, "latent_size": 3, "num_layers": 1}
GROUPS = ((0, 3, 4, 5), (1, 2), (6, 7))
REFERENCE = np.random.default_rng(1).lognormal(size=(50, 5)).astype(np.float32)
FORMS = {
    "step": ({"num_layers": 2}, {}),
    "window": ({"latent_per": "window"}, {}),
    "groups": ({"feature_groups": GROUPS, "latent_per": "window"}, {"window_length": 1}),
    "dense": ({"name": "dense_autoencoder", "num_layers": 2}, {}),
    "pvalue": ({}, {"score": "pvalue", "reference": REFERENCE}),
}
CLIENT = 1


def scorer_of(form: str, encoder: Encoder = ENCODER, **changes) -> EdgeScorer:
    """The second of two clients, who has a model and a standardisation of its own; biases are drawn as well."""
    model, others = FORMS[form]
    settings = {"window_length": LENGTH, "score": "mean", "reference": np.zeros((0, 5), np.float32)} | others | changes
    unlike = dataclasses.replace(encoder, mean=encoder.mean + 1.0)
    bundle = Bundle(
        params=None,
        cluster=np.array([0, 1]),
        client_names=("first", "second"),
        encoders=(unlike, encoder),
        model={"name": "lstm_autoencoder", "matmul_dtype": "float32"} | SIZES | model,
        differences=settings.pop("differences", False),
        step_seconds=np.array([60.0, 60.0]),
        smoothing=3,
        threshold="quantile",
        threshold_level=0.9,
        threshold_scope="client",
        thresholds=np.array([7.0, 0.25]),
        calibration_scores=np.zeros(0, np.float32),
        calibration_client=np.zeros(0, np.int32),
        calibration_time=np.zeros(0),
        trained_at="2026-11-26T08:00:00+00:00",
        **settings,
    )
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(bundle.build_model().init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: (0.6 * rng.normal(size=(2, *leaf.shape))).astype(np.float32), shapes)
    return EdgeScorer(dataclasses.replace(bundle, params=params), CLIENT)


def rows(num_rows: int) -> Table:
    """Values over many orders of magnitude and of both signs; categories that the encoder knows, and others."""
    rng = np.random.default_rng(2)
    numeric = (rng.lognormal(sigma=4.0, size=(num_rows, NUM_NUMERIC)) * rng.choice([-1, 1], (num_rows, 3))).astype(
        np.float32
    )
    numeric[:, 0] = np.exp(rng.normal(9.0, 0.1, num_rows))
    protocol, flag = rng.choice(["icmp", "tcp", "egp"], num_rows), rng.choice(["SF", "REJ"], num_rows)
    return Table(
        numeric,
        ENCODER.column_names[:3],
        (Categorical.from_strings(protocol), Categorical.from_strings(flag)),
        ENCODER.column_names[3:],
        Categorical.from_strings(["normal"] * num_rows),
        None,
        None,
    )


def scores_of_parts(scorer: EdgeScorer, table: Table) -> tuple[np.ndarray, np.ndarray]:
    bundle = scorer.bundle
    windows = bundle.encoders[CLIENT].transform(table).reshape(-1, bundle.window_length, ENCODER.layout.num_features)
    params = jax.tree.map(lambda leaf: leaf[CLIENT], bundle.params)
    errors = np.asarray(jax.jit(bundle.build_model().column_errors)(params, windows))[:, -1]
    score = mean_score if bundle.score == "mean" else pvalue_score(bundle.reference)
    return score(errors), errors


def inputs_of(scorer: EdgeScorer, table: Table) -> dict[str, np.ndarray]:
    """What a node makes of its events, by the metadata alone."""
    metadata = {name: json.loads(value) for name, value in scorer.metadata().items()}
    places = []
    for name, column in zip(table.categorical_names, table.categorical, strict=True):
        known = metadata["categorical_columns"][name]
        values = [column.names[code] for code in column.codes]
        places.append([known.index(value) if value in known else len(known) - 1 for value in values])
    return {
        "numeric": table.numeric.reshape(-1, metadata["num_rows"], NUM_NUMERIC),
        "categories": np.array(places, np.int32).T.reshape(-1, metadata["num_rows"], 2),
    }


def outputs_of(scorer: EdgeScorer, inputs: dict[str, np.ndarray]) -> list:
    """Score and column errors by onnxruntime, and by the StableHLO artifact."""
    session = onnxruntime.InferenceSession(onnx_model(scorer).SerializeToString())
    exported = jax.export.deserialize(bytearray(stablehlo_artifact(scorer, ("cpu",))))
    return [session.run(["score", "column_errors"], inputs), exported.call(*inputs.values())]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_scores_as_the_parts_do(form):
    scorer = scorer_of(form)
    table = rows(12 * scorer.bundle.window_length)
    expected = scores_of_parts(scorer, table)
    for outputs in outputs_of(scorer, inputs_of(scorer, table)):
        for output, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected[0]) > 0.1  # The rows differ, so that a constant would not pass.


def test_changes_are_those_of_training_and_the_metadata_name_what_is_given():
    encoder = Encoder(np.zeros(4), np.ones(4), (), 5.0, ("a", "b", "change of a", "change of b"))
    scorer = scorer_of("step", encoder, differences=True)
    numeric = np.random.default_rng(3).normal(size=(LENGTH + 1, 2)).astype(np.float32)
    nothing = Categorical.from_strings(["normal"] * len(numeric))
    table = Table(numeric, ("a", "b"), (), (), nothing, 60.0 * np.arange(len(numeric)), None)
    changed = with_differences(Dataset("tiny", table, table, "time")).train
    column_errors = jax.jit(scorer.bundle.build_model().column_errors)
    expected = np.asarray(column_errors(scorer.params, encoder.transform(changed)[None, 1:]))[:, -1]
    for score, errors in outputs_of(scorer, {"numeric": numeric[None]}):
        np.testing.assert_allclose(errors, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(score, expected.mean(axis=1), rtol=1e-4)
    stored = {entry.key: json.loads(entry.value) for entry in onnx_model(scorer).metadata_props}
    assert (stored["numeric_columns"], stored["num_rows"]) == (["a", "b"], LENGTH + 1)
    assert (stored["client"], stored["threshold"], stored["smoothing"]) == ("second", 0.25, 3)


def test_what_cannot_be_exported_is_refused():
    scorer = scorer_of("step")
    scorer.bundle.model["matmul_dtype"] = "bfloat16"
    with pytest.raises(ValueError, match=r"bfloat16.*stablehlo"):
        onnx_model(scorer)
    with pytest.raises(ValueError, match="client=2"):
        EdgeScorer(scorer.bundle, 2)
