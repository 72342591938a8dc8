"""The compiled detector with the state of all streams: events in, decisions out, nothing compiled after the start."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fedjax_anomaly.compiler_options import compiler_options
from fedjax_anomaly.detection.alarm_rules import AlarmRule
from fedjax_anomaly.detection.streaming import Decision, Event, StreamState, streaming_detector
from fedjax_anomaly.live.bundle import Bundle
from fedjax_anomaly.live.events import Events

_GROWTH = 4
"""Between the sizes of compiled batches: each takes time to compile, and few sizes leave much padding."""


class Pending:
    """A batch under way on the device."""

    def __init__(self, num_events: int, parts: list[tuple[np.ndarray, jax.Array]]) -> None:
        """Args: how many events, and the indices of each part's events with what `_in_one` made of the decisions."""
        self._num_events, self._parts = num_events, parts

    def wait(self) -> Decision:
        """The decisions in the order of the events, as NumPy arrays."""
        if len(self._parts) == 1:
            whole: Any = np.asarray(self._parts[0][1])[: self._num_events]
        else:
            whole = np.empty((self._num_events, self._parts[0][1].shape[1]), np.float32)
            for order, part in self._parts:
                whole[order] = np.asarray(part)[: len(order)]
        return Decision(whole[:, 0], whole[:, 1], whole[:, 2] > 0.0, whole[:, 3:])


class Scorer:
    """Scores batches of events, each stream by its own cluster's model.

    A batch is divided by model and padded to one of a few sizes, each compiled once, at the start.

    Guarantees:
      Nothing is compiled while events are scored (test:
      `tests/live/test_scorer.py::test_nothing_is_compiled_after_the_start`).
    """

    def __init__(self, bundle: Bundle, rule: AlarmRule, *, max_streams: int, max_batch: int) -> None:
        """Places models and states on the device and compiles.

        Args:
          bundle: the trained detector.
          rule: judges scores.
          max_streams: for how many streams there is room.
          max_batch: the most events of one call, rounded down to a power of 4.
        """
        layout = bundle.encoders[0].layout
        self._detector = streaming_detector(
            bundle.build_model().column_errors,
            bundle.build_score(),
            rule,
            window_length=bundle.window_length,
            num_features=layout.num_features,
            smoothing=bundle.smoothing,
        )
        self._cluster = np.asarray(bundle.cluster)
        self._sizes = batch_sizes(max_batch)
        self._spare = max_streams  # The slot that padding writes to.
        self._take(bundle, rule)
        self._states: StreamState = jax.tree.map(
            lambda leaf: jnp.zeros((max_streams + 1, *np.shape(leaf)), np.asarray(leaf).dtype), self._initial[0]
        )

        def step(params: Any, states: StreamState, slot: jax.Array, event: Event) -> tuple[StreamState, jax.Array]:
            states, decision = self._detector.step_batch(params, states, slot, event)
            return states, _in_one(decision)

        self._step = jax.jit(step, donate_argnums=1, compiler_options=compiler_options())
        self._place = jax.jit(_place, donate_argnums=0)
        self._place_rule = jax.jit(_place_rule, donate_argnums=0)
        self._opened = 0
        self._warm_up(layout.num_features)

    def _take(self, bundle: Bundle, rule: AlarmRule) -> None:
        """The models, and what a new stream of each client begins with."""
        self._rule = rule
        self._models = [
            jax.device_put(jax.tree.map(lambda leaf, k=k: leaf[k], bundle.params))
            for k in range(int(self._cluster.max()) + 1)
        ]
        scores = [bundle.calibration_of(c, rule.scores_needed, rule.scope) for c in range(bundle.num_clients)]
        first = self._detector.init(scores[0])
        self._initial = [first._replace(rule=jax.tree.map(np.asarray, rule.init(own))) for own in scores]

    def _warm_up(self, num_features: int) -> None:
        """Compiles every size and runs it once, on the spare slot."""
        self._states = self._place(self._states, np.int32(self._spare), self._initial[0])
        self._states = self._place_rule(self._states, np.int32(self._spare), self._initial[0].rule)
        for size in self._sizes:
            nothing = Event(np.zeros((0, num_features), np.float32), np.zeros(0, bool))
            self._submit_part(self._models[0], np.zeros(0, np.int32), nothing, size)
        jax.block_until_ready(self._states)

    def submit(self, events: Events, clients: Sequence[int]) -> Pending:
        """Starts scoring; returns before it is done.

        Args:
          events: at least one.
          clients: the client of every stream that is open, by its slot.
        """
        for slot in range(self._opened, len(clients)):
            self._states = self._place(self._states, np.int32(slot), self._initial[clients[slot]])
        self._opened = len(clients)
        parts: list[tuple[np.ndarray, jax.Array]] = []
        model_of = self._cluster[events.client]
        for k in [int(model_of[0])] if len(model_of) == 1 else np.unique(model_of).tolist():
            order = np.flatnonzero(model_of == k)
            for part, size in divide(order, self._sizes):
                event = Event(events.row[part], events.restart[part])
                parts.append((part, self._submit_part(self._models[k], events.slot[part], event, size)))
        return Pending(len(events.slot), parts)

    def _submit_part(self, model: Any, slot: np.ndarray, event: Event, size: int) -> jax.Array:
        missing = size - len(slot)
        if missing:
            slot = np.concatenate([slot, np.full(missing, self._spare, np.int32)])
            event = Event(
                np.concatenate([event.row, np.zeros((missing, event.row.shape[1]), np.float32)]),
                np.concatenate([event.restart, np.ones(missing, bool)]),
            )
        self._states, decisions = self._step(model, self._states, slot, event)
        return decisions

    def replace(self, bundle: Bundle, rule: AlarmRule, clients: Sequence[int]) -> None:
        """Scores what comes from now on with other models; windows stay, and alarm rules are set from their scores.

        Args:
          bundle: a detector trained further: of the same shapes, clusters and score.
          rule: of the same name and settings, for the scores of this one.
          clients: the client of every stream that is open, by its slot.

        Guarantees:
          Batches under way keep their models, and nothing is compiled (test:
          `tests/live/test_retraining.py::test_other_models_score_what_comes_after_them`).
        """
        self._take(bundle, rule)
        for slot, client in enumerate(clients[: self._opened]):
            self._states = self._place_rule(self._states, np.int32(slot), self._initial[client].rule)

    def recalibrate(self, slot: int, scores: np.ndarray) -> None:
        """Sets the alarm rule of an open stream anew, from other normal scores; its window stays."""
        rule = jax.tree.map(np.asarray, self._rule.init(scores))
        self._states = self._place_rule(self._states, np.int32(slot), rule)

    def snapshot(self) -> dict[str, np.ndarray]:
        """The states of the open streams, as arrays."""
        leaves = jax.tree.leaves(self._states)
        # A slice on the device would be compiled for every number of streams; a view would keep it from being donated.
        return {f"state/{i}": np.asarray(leaf)[: self._opened].copy() for i, leaf in enumerate(leaves)}

    def restore(self, arrays: dict[str, np.ndarray], num_streams: int) -> None:
        """Goes on from a snapshot.

        Raises:
          ValueError: when it is of another alarm rule, or there is not room for its streams.
        """
        leaves, structure = jax.tree.flatten(self._states)
        stored = [arrays.get(f"state/{i}") for i in range(len(leaves))]
        fits = len([name for name in arrays if name.startswith("state/")]) == len(leaves) and all(
            new is not None and new.shape[1:] == leaf.shape[1:] and new.dtype == leaf.dtype
            for new, leaf in zip(stored, leaves, strict=True)
        )
        if not fits or num_streams > self._spare:
            raise ValueError(
                "the stored state is of another alarm rule, or of more streams than there is room for; start with the "
                "settings that it was written with, or in another --output_dir."
            )
        placed = [leaf.at[:num_streams].set(new) for leaf, new in zip(leaves, stored, strict=True)]
        self._states, self._opened = jax.tree.unflatten(structure, placed), num_streams


def batch_sizes(max_batch: int) -> tuple[int, ...]:
    """2, 4, 16, 64, ... up to `max_batch`, at least 2.

    A batch of one is padded: XLA makes straight-line code of a loop that runs once, and copies the windows of all
    streams in it (10,000 streams: 3.2 ms where a batch of two takes 0.23 ms, on one core).
    """
    sizes = [2, 4]
    while sizes[-1] * _GROWTH <= max_batch:
        sizes.append(sizes[-1] * _GROWTH)
    return tuple(sizes)


def divide(order: np.ndarray, sizes: tuple[int, ...]) -> list[tuple[np.ndarray, int]]:
    """Divides indices into batches and gives each its size; at most half of a batch is padding.

    Guarantees:
      Every index is in one batch, in order (test: `tests/live/test_scorer.py::test_batches_hold_every_event_once`).
    """
    parts = []
    while len(order):
        fits = [size for size in sizes if len(order) <= size <= 2 * len(order)]
        size = fits[0] if fits else max(size for size in sizes if size <= len(order))
        parts.append((order[:size], size))
        order = order[size:]
    return parts


def _in_one(decision: Decision) -> Float[jax.Array, "B 3+D"]:
    """All of a batch's decisions in one array, as each that leaves the device takes its time."""
    return jnp.column_stack([leaf.astype(jnp.float32) for leaf in decision])


def _place(states: StreamState, slot: jax.Array, state: StreamState) -> StreamState:
    return jax.tree.map(lambda leaves, leaf: leaves.at[slot].set(leaf), states, state)


def _place_rule(states: StreamState, slot: jax.Array, rule: Any) -> StreamState:
    return states._replace(rule=jax.tree.map(lambda leaves, leaf: leaves.at[slot].set(leaf), states.rule, rule))
