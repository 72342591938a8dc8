"""The pure step, its vmap and its batches say the same, which is what plain loops say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_anomaly.detection.alarm_rules import AlarmRule
from fedjax_anomaly.detection.anomaly_score import mean_score, pvalue_score
from fedjax_anomaly.detection.streaming import Event, mean_of_columns, pvalue_of_columns, streaming_detector

LENGTH, FEATURES, SMOOTHING, STREAMS = 3, 2, 2, 3


def column_errors(params, windows):
    """Depends on the model and on every row of the window."""
    return params * jnp.cumsum(jnp.square(windows), axis=1)


def climbing_rule():
    """Its threshold is the highest score so far, so that it depends on every score and their order."""
    return AlarmRule(
        lambda scores: np.float32(scores.max()),
        lambda highest, score: (jnp.maximum(highest, score), highest, score > highest),
        1,
    )


DETECTOR = streaming_detector(
    column_errors,
    mean_of_columns(),
    climbing_rule(),
    window_length=LENGTH,
    num_features=FEATURES,
    smoothing=SMOOTHING,
)
RNG = np.random.default_rng(0)
NUM_EVENTS = 40
ROWS = RNG.normal(size=(NUM_EVENTS, FEATURES)).astype(np.float32)
STREAM = RNG.integers(STREAMS, size=NUM_EVENTS).astype(np.int32)
RESTART = RNG.random(NUM_EVENTS) < 0.1
CALIBRATION = [np.float32([0.5 + s]) for s in range(STREAMS)]


def by_hand():
    """Scores, thresholds and alarms by plain loops over each stream's rows."""
    scores, thresholds = np.zeros(NUM_EVENTS), np.zeros(NUM_EVENTS)
    for s in range(STREAMS):
        window, raw, highest = [], [], CALIBRATION[s].max()
        for i in np.flatnonzero(s == STREAM):
            if RESTART[i] or not window:
                window, raw = [ROWS[i]] * LENGTH, []
            window = [*window[1:], ROWS[i]]
            raw.append(2.0 * np.square(window).sum(axis=0).mean())
            scores[i], thresholds[i] = np.mean(raw[-SMOOTHING:]), highest
            highest = max(highest, scores[i])
    return scores, thresholds, scores > thresholds


def states():
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(DETECTOR.init(scores) for scores in CALIBRATION))


def test_steps_are_plain_loops():
    scores, thresholds, alarms = by_hand()
    state, step = [DETECTOR.init(c) for c in CALIBRATION], jax.jit(DETECTOR.step)
    for i, s in enumerate(STREAM):
        state[s], decision = step(jnp.float32(2.0), state[s], Event(ROWS[i], RESTART[i]))
        assert decision.score == pytest.approx(scores[i], rel=1e-5)
        assert decision.threshold == pytest.approx(thresholds[i], rel=1e-5)
        assert decision.alarm == alarms[i]


@pytest.mark.parametrize("sizes", [[NUM_EVENTS], [1, 16, 23], [8] * 5])
def test_batches_with_several_events_of_a_stream_are_steps_one_after_the_other(sizes):
    expected = by_hand()
    batched, parts, begin = states(), [], 0
    step_batch = jax.jit(DETECTOR.step_batch, donate_argnums=1)
    for size in sizes:
        part = slice(begin, begin + size)
        batched, decision = step_batch(jnp.float32(2.0), batched, STREAM[part], Event(ROWS[part], RESTART[part]))
        parts.append(jax.device_get(decision))
        begin += size
    for name, values in zip(("score", "threshold", "alarm"), expected, strict=True):
        np.testing.assert_allclose(np.concatenate([getattr(p, name) for p in parts]), values, rtol=1e-5)


def test_a_vmap_over_streams_and_models_is_each_stream_alone():
    models, rows = jnp.float32([1.0, 2.0, 3.0]), ROWS[:STREAMS]
    _, together = jax.vmap(DETECTOR.step)(models, states(), Event(rows, np.zeros(STREAMS, bool)))
    for s in range(STREAMS):
        _, alone = DETECTOR.step(models[s], DETECTOR.init(CALIBRATION[s]), Event(rows[s], np.bool_(False)))
        np.testing.assert_allclose(together.score[s], alone.score, rtol=1e-6)


def test_the_compiled_scores_are_those_of_numpy():
    reference = RNG.exponential(size=(50, 4)).astype(np.float32)
    # Some errors equal one of the reference.
    errors = np.concatenate([RNG.exponential(size=(20, 4)).astype(np.float32), reference[:20]])
    np.testing.assert_allclose(
        jax.vmap(pvalue_of_columns(reference))(errors), pvalue_score(reference)(errors), rtol=1e-5
    )
    np.testing.assert_allclose(jax.vmap(mean_of_columns())(errors), mean_score(errors), rtol=1e-6)


def test_smoothing_of_no_row_is_refused():
    with pytest.raises(ValueError, match="score_smoothing=0 must be at least 1"):
        streaming_detector(
            column_errors, mean_of_columns(), climbing_rule(), window_length=1, num_features=1, smoothing=0
        )
