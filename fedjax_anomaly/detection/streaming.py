"""The detector as a pure step on live streams: (state, event) -> (state, decision).

An event is pushed into its stream's window, the window is scored by the model, and the score is judged by the stream's
alarm rule. Only the middle part is costly and needs no earlier event's outcome, so that a batch of events, also of one
stream, goes through the model at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fedjax_anomaly.detection.alarm_rules import AlarmRule
from fedjax_anomaly.detection.scoring import ColumnErrors
from fedjax_anomaly.types import PyTree

StreamScore = Callable[[Float[Array, " D"]], Float[Array, ""]]
"""The column errors of one row -> its score, compiled."""


class Event(NamedTuple):
    """One event of a stream.

    Attributes:
      row: the encoded row.
      restart: True where the row does not continue the one before it, as after a gap: the window is filled up with this
        row, and smoothing begins anew. The alarm rule goes on.
    """

    row: Float[Any, " F"]
    restart: Bool[Any, ""]


class StreamState(NamedTuple):
    """All that a stream remembers.

    Attributes:
      window: the last rows, the newest last.
      recent: the last scores before smoothing, the newest last; zeros where there was none.
      num_rows: rows since the beginning or the last restart, at most M, the rows of a smoothed score.
      rule: the alarm rule's state.
    """

    window: Float[Any, "T F"]
    recent: Float[Any, " M"]
    num_rows: Int[Any, ""]
    rule: PyTree


class Decision(NamedTuple):
    """What came of an event.

    Attributes:
      score: smoothed.
      threshold: that it was compared with.
      alarm: True where the rule says so.
      column_errors: of the row, before smoothing.
    """

    score: Float[Array, ""]
    threshold: Float[Array, ""]
    alarm: Bool[Array, ""]
    column_errors: Float[Array, " D"]


class StreamingDetector(NamedTuple):
    """A detector as pure functions; `params` are those of one model.

    Attributes:
      init: scores of held-out normal rows -> the state of a new stream, on the host.
      step: (params, state, event) -> (state, decision), of one stream; vmap it over streams, with or without an axis of
        models.
      step_batch: (params, states [S, ...], stream Int[B], events [B, ...]) -> (states, decisions [B, ...]), of S
        streams that share a model, the same as one `step` after the other.
    """

    init: Callable[[Float[np.ndarray, " N"]], StreamState]
    step: Callable[[PyTree, StreamState, Event], tuple[StreamState, Decision]]
    step_batch: Callable[[PyTree, StreamState, Int[Array, " B"], Event], tuple[StreamState, Decision]]


def streaming_detector(
    column_errors: ColumnErrors,
    score: StreamScore,
    rule: AlarmRule,
    *,
    window_length: int,
    num_features: int,
    smoothing: int = 1,
) -> StreamingDetector:
    """Builds the detector.

    Args:
      column_errors: of the model.
      score: from the column errors of a row to its score.
      rule: judges the smoothed scores.
      window_length: T.
      num_features: F.
      smoothing: M, rows of a smoothed score, the row and those before it.

    Guarantees:
      Scores are those of `ending_row_errors` and `causal_mean` on the same rows, and batches, vmap and single steps
      agree (tests: `tests/detection/test_streaming.py`).
    """
    if smoothing < 1:
        raise ValueError(f"score_smoothing={smoothing} must be at least 1; 1 leaves scores as they are.")

    def init(calibration_scores: np.ndarray) -> StreamState:
        return StreamState(
            np.zeros((window_length, num_features), np.float32),
            np.zeros(smoothing, np.float32),
            np.int32(0),
            jax.tree.map(np.asarray, rule.init(calibration_scores)),
        )

    def push(window: jax.Array, num_rows: jax.Array, event: Event) -> jax.Array:
        shifted = jnp.concatenate([window[1:], event.row[None]])
        return jnp.where(event.restart | (num_rows == 0), event.row[None], shifted)

    def judge(state: StreamState, errors: jax.Array, restart: jax.Array) -> tuple[StreamState, Decision]:
        """All but the window, which was pushed before."""
        num_rows = jnp.minimum(jnp.where(restart, 0, state.num_rows) + 1, smoothing)
        recent = jnp.where(restart, 0.0, state.recent)
        recent = jnp.concatenate([recent[1:], score(errors)[None]])
        smoothed = jnp.sum(recent) / num_rows.astype(recent.dtype)
        rule_state, threshold, alarm = rule.step(state.rule, smoothed)
        return StreamState(state.window, recent, num_rows, rule_state), Decision(smoothed, threshold, alarm, errors)

    def step(params: PyTree, state: StreamState, event: Event) -> tuple[StreamState, Decision]:
        state = state._replace(window=push(state.window, state.num_rows, event))
        errors = column_errors(params, state.window[None])[0, -1]
        return judge(state, errors, event.restart)

    def step_batch(params: PyTree, states: StreamState, stream: jax.Array, events: Event) -> tuple[Any, Decision]:
        def push_one(carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, Event]) -> tuple[Any, jax.Array]:
            windows, num_rows = carry
            s, event = inputs
            window = push(windows[s], num_rows[s], event)
            return (windows.at[s].set(window), num_rows.at[s].add(1)), window

        def judge_one(states: StreamState, inputs: tuple[jax.Array, ...]) -> tuple[StreamState, Decision]:
            s, errors, restart = inputs
            state, decision = judge(jax.tree.map(lambda leaf: leaf[s], states), errors, restart)
            return jax.tree.map(lambda leaves, leaf: leaves.at[s].set(leaf), states, state), decision

        # XLA copies what a scan changes; so the scans run over the states of the batch alone, each at the place of its
        # stream's first event.
        place = jnp.argmax(stream[:, None] == stream[None], axis=1)
        own: StreamState = jax.tree.map(lambda leaves: leaves[stream], states)
        (windows, _), pushed = jax.lax.scan(push_one, (own.window, own.num_rows), (place, events))
        errors = column_errors(params, pushed)[:, -1]
        own = own._replace(window=jnp.zeros(own.num_rows.shape, windows.dtype))
        own, decisions = jax.lax.scan(judge_one, own, (place, errors, events.restart))
        own = own._replace(window=windows)
        # Events of one stream write the same.
        return jax.tree.map(lambda leaves, leaf: leaves.at[stream].set(leaf[place]), states, own), decisions

    return StreamingDetector(init, step, step_batch)


def mean_of_columns() -> StreamScore:
    """`mean_score` of one row, compiled."""
    return jnp.mean


def pvalue_of_columns(reference: Float[np.ndarray, "N D"]) -> StreamScore:
    """`pvalue_score` of one row, compiled.

    Args:
      reference: column errors of held-out normal rows.

    Guarantees:
      Equal to `pvalue_score` (test: `tests/detection/test_streaming.py::test_the_compiled_scores_are_those_of_numpy`).
    """
    ordered = jnp.asarray(np.sort(reference, axis=0).T, jnp.float32)
    count = len(reference)
    surprise = jnp.asarray(-np.log((1.0 + count - np.arange(count + 1)) / (count + 1.0)), jnp.float32)

    def score(errors: jax.Array) -> jax.Array:
        smaller = jax.vmap(lambda column, error: jnp.searchsorted(column, error, side="left"))(ordered, errors)
        return jnp.mean(surprise[smaller])

    return score
