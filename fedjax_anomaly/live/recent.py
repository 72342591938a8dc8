"""The last rows of every stream, encoded, for models that are to be trained further."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from fedjax_anomaly.live.interfaces import ScoredEvent


class Recent(NamedTuple):
    """The last rows of all streams, a stream's rows consecutive and in order.

    Attributes:
      rows: encoded.
      client: whose rows they are.
      time: in seconds.
      run: a number that changes where a row does not continue the one before it.
      alarm: which raised an alarm.
    """

    rows: Float[np.ndarray, "L F"]
    client: Int[np.ndarray, " L"]
    time: Float[np.ndarray, " L"]
    run: Int[np.ndarray, " L"]
    alarm: Bool[np.ndarray, " L"]


class RecentRows:
    """A ring of rows for each stream, in a file that is mapped into memory.

    It takes `4 F + 10` bytes a row: 4,320 rows of 14 features are 0.3 MiB a stream. The state of the detector needs
    only how many rows each stream has had: a process that goes on from an earlier state writes the rows since then into
    the same places.

    Guarantees:
      The last rows come back, with their breaks, also after a restart from an earlier state (test:
      `tests/live/test_recent.py::test_the_last_rows_come_back_also_after_a_restart`).
    """

    def __init__(self, path: str | Path, *, num_features: int, num_rows: int, max_streams: int) -> None:
        """Opens the file, or makes it where there is none of this shape.

        Args:
          path: of the file; it grows with the streams that are there.
          num_features: F.
          num_rows: of a stream that are kept.
          max_streams: for how many there is room.
        """
        shape = max_streams, num_rows
        kind = np.dtype([("row", np.float32, (num_features,)), ("time", np.float64), ("restart", "?"), ("alarm", "?")])
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        fits = path.exists() and path.stat().st_size == max_streams * num_rows * kind.itemsize
        # The plain array shares the mapped memory, and is faster to write single rows to.
        self._values = np.asarray(np.memmap(path, kind, "r+" if fits else "w+", shape=shape))
        self._num_rows = num_rows
        self._slot: dict[str, int] = {}
        self._clients: list[int] = []
        self.counts: list[int] = []

    def take(self, events: Sequence[ScoredEvent]) -> None:
        """Keeps the rows of some events, each stream's in order."""
        for event in events:
            slot = self._slot.get(event.stream)
            if slot is None:
                slot = self._slot[event.stream] = len(self.counts)
                self._clients.append(event.client)
                self.counts.append(0)
            place = slot, self.counts[slot] % self._num_rows
            self._values[place] = event.row, event.time, event.restart, event.alarm
            self.counts[slot] += 1

    def count(self, stream: str) -> int:
        """The rows that a stream has had."""
        slot = self._slot.get(stream)
        return 0 if slot is None else self.counts[slot]

    def __len__(self) -> int:
        """The number of streams."""
        return len(self.counts)

    def recent(self) -> Recent:
        """A copy of what is kept."""
        parts, clients = [self._values[0, :0]], [np.zeros(0, np.int32)]
        for slot, (count, client) in enumerate(zip(self.counts, self._clients, strict=True)):
            last = np.arange(max(0, count - self._num_rows), count) % self._num_rows
            own = self._values[slot, last]
            own["restart"][:1] = True  # What came before it is not kept.
            parts.append(own)
            clients.append(np.full(len(own), client, np.int32))
        kept = np.concatenate(parts)
        return Recent(
            kept["row"].copy(),
            np.concatenate(clients),
            kept["time"].copy(),
            np.cumsum(kept["restart"]),
            kept["alarm"].copy(),
        )

    def snapshot(self) -> dict[str, Any]:
        """What the state must hold, as JSON."""
        return {"streams": list(self._slot), "clients": self._clients, "counts": self.counts}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot, with the rows of the file."""
        self._slot = {name: slot for slot, name in enumerate(state["streams"])}
        self._clients, self.counts = list(state["clients"]), list(state["counts"])
