"""Models are exchanged in one step: whatever fails on the way leaves one that can be used."""

import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from fedjax_anomaly.live.bundle import write_bundle
from fedjax_anomaly.live.versions import ORIGINAL, Versions


@pytest.fixture
def versions(bundle, tmp_path):
    write_bundle(tmp_path / "run", bundle)
    return Versions(tmp_path / "run", tmp_path / "live" / "models")


def other(bundle):
    return dataclasses.replace(bundle, trained_at="2027-01-01T00:00:00+00:00")


def exchange(versions, bundle):
    name = versions.next_name()
    versions.add(bundle, name)
    versions.use(name)


def test_models_are_added_and_the_run_s_own_stays(versions, bundle):
    assert (versions.current, versions.next_name()) == (ORIGINAL, "0001")
    exchange(versions, other(bundle))
    assert (versions.current, versions.next_name()) == ("0001", "0002")
    assert versions.read("0001").trained_at.startswith("2027")
    assert versions.read(ORIGINAL).trained_at == bundle.trained_at
    with pytest.raises(OSError):
        versions.add(bundle, "0001")
    assert versions.read("0001").trained_at.startswith("2027")
    with pytest.raises(FileNotFoundError, match="0007"):
        versions.read("0007")


STEPS = ("arrays", "settings", "folder", "pointer")


@pytest.mark.parametrize("fails", [*STEPS, None])
def test_whatever_fails_leaves_a_model_that_can_be_used(versions, bundle, monkeypatch, fails):
    """Every step that changes the disk is a rename; the process dies before one of them."""
    done = []

    def step(rename):
        def renamed(source, target):
            if fails is not None and len(done) == STEPS.index(fails):
                raise KeyboardInterrupt
            done.append(Path(target).name)
            rename(source, target)

        return renamed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", step(os.replace))
        patch.setattr(os, "rename", step(os.rename))
        with contextlib.suppress(KeyboardInterrupt):
            exchange(versions, other(bundle))
    assert len(done) == (len(STEPS) if fails is None else STEPS.index(fails))
    in_use = versions.read(versions.current)
    assert in_use.trained_at == (bundle.trained_at if fails else "2027-01-01T00:00:00+00:00")
    np.testing.assert_array_equal(in_use.calibration_scores, bundle.calibration_scores)
    # And the next exchange succeeds.
    exchange(versions, other(bundle))
    assert versions.read(versions.current).trained_at.startswith("2027")
