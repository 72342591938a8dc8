"""The virtual environments of the rivals, made once in a folder of the user's choice."""

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a rival needs.

    Attributes:
      name: of its folder.
      requirements: for pip, with versions: a figure belongs to a version.
      python: the lowest version of Python that the rival takes.
    """

    name: str
    requirements: tuple[str, ...]
    python: tuple[int, int] = (3, 11)


class NotInstalled(RuntimeError):
    """A rival cannot be installed here; the message is for the table."""


def install(environment: Environment, folder: Path) -> Path:
    """Makes the environment, or finds it as it was made before.

    Args:
      environment: what to install.
      folder: of all environments.

    Returns:
      Its Python.

    Raises:
      NotInstalled: when there is no Python for it, or pip fails.
    """
    home = (folder / environment.name).resolve()
    python = home / "bin" / "python"
    made_from = home / "requirements.txt"
    wanted = "\n".join(environment.requirements) + "\n"
    if made_from.exists() and made_from.read_text() == wanted:
        return python
    print(f"Installing {' '.join(environment.requirements)} into {home}", flush=True)
    base = next(_pythons(environment.python), None)
    if base is None:
        raise NotInstalled("needs Python {}.{} or newer, none was found".format(*environment.python))
    _call([base, "-m", "venv", "--clear", home])
    _call([python, "-m", "pip", "install", "--quiet", *environment.requirements])
    made_from.write_text(wanted)
    return python


def _pythons(lowest: tuple[int, int]) -> Iterator[Path]:
    """The interpreters of at least that version on the path and among pyenv's, the lowest version first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [Path(entry) for entry in os.get_exec_path() if entry != str(pyenv / "shims")]
    folders += pyenv.glob("versions/*/bin")
    for minor in range(lowest[1], 15):
        for folder in folders:
            candidate = folder / f"python{lowest[0]}.{minor}"
            if os.access(candidate, os.X_OK):
                yield candidate


def _call(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-200:]]
        raise NotInstalled(errors[-1].removeprefix("ERROR: ").strip())
