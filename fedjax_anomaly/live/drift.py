"""Drift: whether a stream's normal scores are still those that its threshold was set from.

An anomaly is a score that is too high; drift is a change of the scores that are not. Each stream has a detector of
changes (ADWIN) on the scores that raised no alarm; what is done about a change is another matter.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.live.interfaces import ScoredEvent

MEMORY = 2048
"""Scores of a stream that are kept, unless told otherwise."""

_STRETCH = 4.0
_LAST_BLOCKS = 5

OnDrift = Literal["ignore", "report", "recalibrate", "retrain"]


class Drift(NamedTuple):
    """A change of a stream's normal scores.

    Attributes:
      stream: its name.
      client: whose model scores it.
      time: when it was noticed, in seconds.
      rank: the mean rank of the last scores among those that the threshold was set from: 1/2 is as then, 1 is above all
        of them.
    """

    stream: str
    client: int
    time: float
    rank: float


class _Stream:
    """One stream's detector and memory."""

    def __init__(self, client: int, reference: list[float], detector: Any, memory: int) -> None:
        self.client, self.reference, self.detector = client, reference, detector
        self.own_reference = False
        self.changed = False
        self.ranks: list[float] = []  # Of the block that is not full yet.
        self.blocks: deque[float] = deque(maxlen=memory)  # Mean ranks since the last change was noticed.
        self.scores: deque[float] = deque(maxlen=memory)
        self.alarms: deque[bool] = deque(maxlen=memory)

    def rank(self, score: float) -> float:
        """In the middle of equal scores."""
        low, high = bisect_left(self.reference, score), bisect_right(self.reference, score)
        return (low + high) / (2 * len(self.reference))


class DriftMonitor:
    """Watches the scores of every stream for a change.

    ADWIN bounds its false detections for independent values in [0, 1]. Scores become such as ranks among the scores
    that the threshold was set from, averaged over blocks, as neighbouring scores share rows and are far from
    independent. A cycle that is slower than a block, such as a day, is a change to it.
    """

    def __init__(
        self,
        calibration_of: Callable[[int], Float[np.ndarray, " N"]],
        *,
        delta: float = 0.01,
        block: int = 32,
        memory: int = MEMORY,
    ) -> None:
        """Begins without streams.

        Args:
          calibration_of: the held-out normal scores of a client.
          delta: the significance of a change, for ADWIN.
          block: scores that are averaged before.
          memory: the last scores of a stream that are kept for a new threshold.

        Raises:
          ImportError: when `river` is not installed.
          ValueError: when an argument is out of its bounds.

        Guarantees:
          A shift of unalarmed scores is found, correlated scores without one are not, where single ones would be, and a
          process that stored its state and was started again finds the same (tests: `tests/live/test_drift.py`).

        References:
          Bifet and Gavaldà 2007, "Learning from Time-Changing Data with Adaptive Windowing", SDM.
        """
        try:
            from river.drift import ADWIN
        except ImportError as error:
            raise ImportError("drift detection needs river: pip install 'fedjax_anomaly[live]'.") from error
        if not 0.0 < delta < 1.0:
            raise ValueError(f"drift_delta={delta} must lie in (0, 1).")
        if not 1 <= block <= memory:
            raise ValueError(f"drift_block={block} must lie in [1, {memory}], the scores that are kept.")
        self._new_detector = lambda: ADWIN(delta=delta, clock=1)
        self._calibration_of, self._block, self._memory = calibration_of, block, memory
        self._references: dict[int, list[float]] = {}
        self._streams: dict[str, _Stream] = {}

    def update(self, events: Sequence[ScoredEvent]) -> list[Drift]:
        """Takes some events, each stream's in order; returns the changes that were noticed."""
        drifts = []
        for event in events:
            stream = self._streams.get(event.stream) or self._begin(event.stream, event.client)
            stream.scores.append(event.score)
            stream.alarms.append(event.alarm)
            if event.alarm:
                continue
            stream.ranks.append(stream.rank(event.score))
            if len(stream.ranks) == self._block and self._end_block(stream):
                drifts.append(Drift(event.stream, event.client, event.time, self._forget(stream)))
        return drifts

    def recent(self, stream: str) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """The scores of a stream since its last change, as far as remembered, and which of them were alarms."""
        known = self._streams[stream]
        return np.array(known.scores, np.float64), np.array(known.alarms, bool)

    def due(self, stream: str, least: int) -> bool:
        """Whether a stream has changed, had no new threshold since, and has so many scores to set one from."""
        known = self._streams.get(stream)
        return known is not None and known.changed and len(known.scores) >= least

    def handled(self, stream: str, reference: Float[np.ndarray, " N"] | None = None) -> None:
        """Notes that a change was dealt with; `reference` are the scores that a new threshold was set from, if any."""
        known = self._streams[stream]
        known.changed = False
        if reference is not None:
            known.reference, known.own_reference = np.sort(reference).tolist(), True
            known.ranks.clear()
            known.blocks.clear()
            known.detector = self._new_detector()

    def begin_anew(self) -> None:
        """Forgets all streams, whose scores are those of another model from now on."""
        self._references.clear()
        self._streams.clear()

    def snapshot(self) -> tuple[list[str], dict[str, np.ndarray]]:
        """The state: the names of the streams, and arrays."""
        streams = self._streams.values()
        parts: dict[str, list[Collection[float]]] = {
            "ranks": [stream.ranks for stream in streams],
            "blocks": [stream.blocks for stream in streams],
            "scores": [stream.scores for stream in streams],
            "alarms": [stream.alarms for stream in streams],
            "reference": [stream.reference if stream.own_reference else [] for stream in streams],
            "changed": [[stream.changed] for stream in streams],
            "client": [[stream.client] for stream in streams],
        }
        arrays: dict[str, np.ndarray] = {}
        for name, values in parts.items():
            arrays[f"drift/{name}"] = np.array([value for part in values for value in part], np.float64)
            arrays[f"drift/{name}_counts"] = np.array([len(part) for part in values], np.int64)
        return list(self._streams), arrays

    def restore(self, names: Sequence[str], arrays: dict[str, np.ndarray]) -> None:
        """Goes on from a snapshot: new detectors are shown the blocks since the last change."""
        self._streams.clear()
        parts = {
            name: np.split(arrays[f"drift/{name}"], np.cumsum(arrays[f"drift/{name}_counts"])[:-1])
            for name in ("ranks", "blocks", "scores", "alarms", "reference", "changed", "client")
        }
        for i, name in enumerate(names):
            stream = self._begin(name, int(parts["client"][i][0]))
            stream.changed = bool(parts["changed"][i][0])
            stream.ranks = parts["ranks"][i].tolist()
            stream.blocks.extend(parts["blocks"][i].tolist())
            stream.scores.extend(parts["scores"][i].tolist())
            stream.alarms.extend(parts["alarms"][i].astype(bool).tolist())
            if len(parts["reference"][i]):
                stream.reference, stream.own_reference = parts["reference"][i].tolist(), True
            for mean in stream.blocks:
                stream.detector.update(_stretched(mean))

    def _begin(self, name: str, client: int) -> _Stream:
        if client not in self._references:
            self._references[client] = np.sort(self._calibration_of(client)).tolist()
        stream = _Stream(client, self._references[client], self._new_detector(), self._memory)
        self._streams[name] = stream
        return stream

    def _end_block(self, stream: _Stream) -> bool:
        """Shows a block to the detector; True where it tells of a change."""
        stream.blocks.append(sum(stream.ranks) / len(stream.ranks))
        stream.ranks.clear()
        stream.detector.update(_stretched(stream.blocks[-1]))
        return stream.detector.drift_detected

    def _forget(self, stream: _Stream) -> float:
        """Begins anew after a change; returns the mean rank of the last blocks."""
        last = list(stream.blocks)[-_LAST_BLOCKS:]
        stream.changed = True
        stream.detector = self._new_detector()
        for memory in (stream.blocks, stream.scores, stream.alarms):
            memory.clear()
        return sum(last) / len(last)


def _stretched(mean: float) -> float:
    """Means of a block spread over [0, 1], which ADWIN's bound takes for granted and single ranks would."""
    return min(max(0.5 + _STRETCH * (mean - 0.5), 0.0), 1.0)
