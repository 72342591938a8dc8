"""The models of a live detector: the run's own, those that were trained since, and which one is in use.

`models/0001/detector`, `models/0002/detector`, ... are whole or not there, and the file `models/current` names the one
in use; without it that is the run's own. Nothing is ever overwritten or deleted.
"""

import os
import shutil
from pathlib import Path

from fedjax_anomaly.live.bundle import Bundle, read_bundle, write_bundle
from fedjax_anomaly.reporting.atomic import write_atomically

ORIGINAL = ""
"""The name of the run's own model."""

_CURRENT = "current"


class Versions:
    """The models of one output folder.

    Guarantees:
      A process that dies at any moment leaves the old model or the new one in use, and it can be read (test:
      `tests/live/test_versions.py::test_whatever_fails_leaves_a_model_that_can_be_used`).
    """

    def __init__(self, run: str | Path, folder: str | Path) -> None:
        """Looks at a folder, which need not be there.

        Args:
          run: the folder of the run, with its own model.
          folder: `models` of an output folder.
        """
        self._run, self._folder = Path(run), Path(folder)

    @property
    def current(self) -> str:
        """The name of the model in use."""
        pointer = self._folder / _CURRENT
        return pointer.read_text().strip() if pointer.is_file() else ORIGINAL

    def place(self, name: str) -> Path:
        """The folder that holds the folder `detector` of a model."""
        return self._run if name == ORIGINAL else self._folder / name

    def read(self, name: str) -> Bundle:
        """Reads a model.

        Raises:
          FileNotFoundError: when there is none of this name.
          ValueError: when it is damaged.
        """
        if name != ORIGINAL and not self.place(name).is_dir():
            raise FileNotFoundError(
                f"{self._folder / _CURRENT} names the model {name}, which is not there; write another name into it, or "
                "remove it to go back to the run's own model."
            )
        return read_bundle(self.place(name))

    def next_name(self) -> str:
        """Of a model that is not there yet."""
        taken = [int(path.name) for path in self._folder.glob("[0-9]*") if path.name.isdecimal()]
        return f"{max(taken, default=0) + 1:04d}"

    def add(self, bundle: Bundle, name: str) -> None:
        """Adds a model; it is not in use yet.

        Raises:
          OSError: when it cannot be written, or there is one of this name.
        """
        unfinished = self._folder / f".{name}.{os.getpid()}"
        try:
            write_bundle(unfinished, bundle)
            os.rename(unfinished, self.place(name))
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def use(self, name: str) -> None:
        """Makes a model the one in use, from the next start on.

        Raises:
          OSError: when that cannot be written.
        """
        write_atomically(self._folder / _CURRENT, f"{name}\n".encode())
