"""Batches of events over all streams, padded to few sizes."""

import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.detection.alarm_rules import constant_rule
from fedjax_anomaly.live.events import Events
from fedjax_anomaly.live.scorer import Scorer, batch_sizes, divide


def events(rng, bundle, clients, size):
    slot = rng.integers(len(clients), size=size).astype(np.int32)
    row = rng.normal(size=(size, bundle.encoders[0].layout.num_features)).astype(np.float32)
    return Events(slot, np.asarray(clients)[slot], row, rng.random(size) < 0.1, np.zeros(size), [0] * size)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 23, 63, 64, 100, 300])
def test_batches_hold_every_event_once(size):
    sizes = batch_sizes(64)
    assert sizes == (2, 4, 16, 64)
    parts = divide(np.arange(size), sizes)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), np.arange(size))
    assert all(len(part) <= padded <= max(2, 2 * len(part)) for part, padded in parts)


def test_nothing_is_compiled_after_the_start(bundle):
    clients = [0, 1, 2, 3, 0, 1]
    scorer = Scorer(bundle, constant_rule("quantile", 0.9), max_streams=8, max_batch=16)
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        compiled = []
        patch.setattr("jax._src.compiler.backend_compile_and_load", lambda *args, **kwargs: compiled.append(args))
        for size in (1, 2, 7, 16, 40):
            decision = scorer.submit(events(rng, bundle, clients, size), clients).wait()
            assert decision.score.shape == (size,)
        assert len(scorer.snapshot()["state/0"]) == len(clients)
    assert not compiled


def test_scores_do_not_depend_on_how_events_are_divided_into_batches(bundle):
    clients = [0, 1, 2, 3, 0]
    bundle = dataclasses.replace(bundle, smoothing=3)
    rng = np.random.default_rng(0)
    all_events = events(rng, bundle, clients, 60)
    scores = []
    for size, max_batch in ((1, 2), (60, 16)):
        scorer, parts = Scorer(bundle, constant_rule("quantile", 0.9), max_streams=8, max_batch=max_batch), []
        for begin in range(0, 60, size):
            part = slice(begin, begin + size)
            parts.append(scorer.submit(Events(*(field[part] for field in all_events)), clients).wait().score)
        scores.append(np.concatenate(parts))
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-5)
    # Streams of one client, and clients of one cluster, share no state.
    assert len(np.unique(scores[0])) == 60


def test_a_state_of_another_rule_is_refused(bundle):
    scorer = Scorer(bundle, constant_rule("quantile", 0.9), max_streams=4, max_batch=2)
    arrays = scorer.snapshot()
    with pytest.raises(ValueError, match="is of another alarm rule"):
        scorer.restore({name: leaf for name, leaf in arrays.items() if name != "state/0"}, 0)
    with pytest.raises(ValueError, match="more streams than there is room for"):
        scorer.restore(arrays, 5)
