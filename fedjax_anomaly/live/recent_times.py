"""The last times of every stream, in one array that is copied in no time."""

from array import array

import numpy as np
from jaxtyping import Float, Int

_NONE = float("nan")


class RecentTimes:
    """A ring of T times for each stream.

    Attributes:
      last: the last time of each stream; minus infinity before its first.
    """

    def __init__(self, length: int) -> None:
        """Begins without streams.

        Args:
          length: T.
        """
        self._length = length
        self._rings = array("d")
        self._counts: list[int] = []
        self.last: list[float] = []

    def open(self) -> None:
        """Adds a stream."""
        self._rings.extend([_NONE] * self._length)
        self._counts.append(0)
        self.last.append(-np.inf)

    def push(self, slot: int, time: float) -> None:
        """Adds a time to a stream, in place of its oldest."""
        count = self._counts[slot]
        self._rings[slot * self._length + count % self._length] = time
        self._counts[slot] = count + 1
        self.last[slot] = time

    def holds(self, slot: int, time: float) -> bool:
        """Whether it is among the last T of a stream."""
        return time in self._rings[slot * self._length : (slot + 1) * self._length]

    def snapshot(self) -> tuple[Float[np.ndarray, "S T"], Int[np.ndarray, " S"]]:
        """The rings and how many times each stream had."""
        rings = np.array(self._rings, np.float64).reshape(-1, self._length)
        return rings, np.array(self._counts, np.int64)

    def restore(self, rings: Float[np.ndarray, "S T"], counts: Int[np.ndarray, " S"]) -> None:
        """Goes on from a snapshot, in place of everything else."""
        self._rings = array("d", rings.tobytes())
        self._counts = counts.tolist()
        self.last = rings[np.arange(len(counts)), (counts - 1) % self._length].tolist()
