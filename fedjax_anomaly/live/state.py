"""The stored state of a detector: read at the start, and written beside the loop, which does not wait for the disk."""

import json
import zipfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fedjax_anomaly.live.outputs import GrowingFile
from fedjax_anomaly.reporting.atomic import write_atomically

_WORDS = "host"


class StateStore:
    """Writes a state and the counts in a thread of its own, one at a time.

    What a state says of the files' lengths is on the disk before the state is: a process that is killed at any moment
    leaves a state whose lines are all there.

    Guarantees:
      A process killed while it stores goes on from the state before (test:
      `tests/live/test_engine.py::test_a_kill_during_a_store_goes_on_from_the_state_before`), and a store that fails
      stops the detector and leaves the old state (test:
      `...::test_a_full_disk_ends_the_run_and_leaves_the_old_state`).
    """

    def __init__(self, path: Path, files: Sequence[GrowingFile]) -> None:
        """Begins without a store under way, and removes what a killed process has left of one.

        Args:
          path: of the state; `counts.json` comes to lie beside it.
          files: whose lengths are part of a state.
        """
        for left in path.parent.glob(f".{path.name}.*"):
            left.unlink()
        self.path, self._files = path, tuple(files)
        self._thread = ThreadPoolExecutor(1, "state")
        self._under_way: Future[None] | None = None

    def read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """The words and the arrays of the last state; None where there is none."""
        if not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as stored:
            arrays = dict(stored)
        return json.loads(arrays.pop(_WORDS).tobytes()), arrays

    @property
    def busy(self) -> bool:
        """Whether a store is under way."""
        return self._under_way is not None and not self._under_way.done()

    def begin(self, words: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Starts to write.

        Args:
          words: JSON, with the `counts` among them; may change afterwards.
          arrays: the rest; may not.

        Raises:
          OSError: when the last store failed.
        """
        self.wait()
        text, counts = json.dumps(words).encode(), json.dumps(words["counts"], indent=1).encode()
        arrays = arrays | {_WORDS: np.frombuffer(text, np.uint8)}
        self._under_way = self._thread.submit(self._write, arrays, counts)

    def wait(self) -> None:
        """Returns when nothing is under way.

        Raises:
          OSError: when the store failed.
        """
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            under_way.result()

    def close(self) -> None:
        """Waits, and ends the thread.

        Raises:
          OSError: when the last store failed.
        """
        self._thread.shutdown()
        self.wait()

    def _write(self, arrays: dict[str, np.ndarray], counts: bytes) -> None:
        for file in self._files:
            file.sync()
        write_atomically(self.path, lambda file: _write_npz(file, arrays), durable=True)
        write_atomically(self.path.with_name("counts.json"), counts)


def _write_npz(file: BinaryIO, arrays: dict[str, np.ndarray]) -> None:
    """As `np.savez`, which copies each array once more, and lets no other thread run meanwhile."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
                member.write(array.reshape(-1).view(np.uint8).data)
