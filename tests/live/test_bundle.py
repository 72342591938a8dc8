"""What a run leaves for the live detector is read as it was written."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_anomaly.experiment.bundle import make_bundle
from fedjax_anomaly.live.bundle import Bundle, read_bundle, write_bundle
from tests.live.fleet import untrained


def test_a_bundle_is_read_as_written(bundle, tmp_path):
    bundle = dataclasses.replace(
        bundle,
        model=bundle.model | {"feature_groups": ((0, 1), (2,))},
        encoders=tuple(
            dataclasses.replace(encoder, vocabularies=(("a", "b"), ()), mean=encoder.mean + c)
            for c, encoder in enumerate(bundle.encoders)
        ),
    )
    write_bundle(tmp_path, bundle)
    read = read_bundle(tmp_path)
    for field in dataclasses.fields(Bundle):
        if field.name not in ("params", "encoders") and not isinstance(getattr(bundle, field.name), np.ndarray):
            assert getattr(read, field.name) == getattr(bundle, field.name)
    assert jax.tree.structure(read.params) == jax.tree.structure(bundle.params)
    jax.tree.map(np.testing.assert_array_equal, read.params, bundle.params)
    for name in (
        "cluster",
        "step_seconds",
        "thresholds",
        "calibration_scores",
        "calibration_client",
        "calibration_time",
        "reference",
    ):
        np.testing.assert_array_equal(getattr(read, name), getattr(bundle, name), strict=True)
    for mine, other in zip(read.encoders, bundle.encoders, strict=True):
        np.testing.assert_array_equal(mine.mean, other.mean, strict=True)
        assert (mine.vocabularies, mine.clip, mine.column_names) == (
            other.vocabularies,
            other.clip,
            other.column_names,
        )


def test_arrays_of_another_run_are_refused(bundle, tmp_path):
    write_bundle(tmp_path / "one", bundle)
    write_bundle(tmp_path / "other", dataclasses.replace(bundle, thresholds=bundle.thresholds + 1.0))
    arrays = (tmp_path / "other" / "detector" / "arrays.npz").read_bytes()
    (tmp_path / "one" / "detector" / "arrays.npz").write_bytes(arrays)
    with pytest.raises(ValueError, match="is not the file that settings.json was written for"):
        read_bundle(tmp_path / "one")


def test_there_is_no_bundle_without_a_model_or_a_budget(small):
    experiment, _ = small
    assert make_bundle(experiment, dataclasses.replace(untrained(experiment), params=None)) is None
    private = dataclasses.replace(
        experiment.config, clustering="similarity", dp_unit="example", dp_epsilon=8.0, dp_preprocessing="private"
    )
    assert make_bundle(dataclasses.replace(experiment, config=private), untrained(experiment)) is None


@pytest.mark.parametrize(("scope", "least", "expected"), [("client", 2, 1), ("client", 3, 2), ("cluster", 9, 3)])
def test_too_few_scores_of_a_client_are_those_of_the_next_wider_scope(bundle, scope, least, expected):
    """Client 0 has two scores, its cluster has three (client 2 is in it), and all have four."""
    few = dataclasses.replace(
        bundle,
        threshold_scope=scope,
        calibration_scores=np.float32([1, 2, 3, 4]),
        calibration_client=np.array([0, 0, 2, 1]),
    )
    assert len(few.calibration_of(0, least)) == expected + 1
