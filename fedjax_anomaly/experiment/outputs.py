"""The files of a run: a folder of its own, every file written whole or not at all."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from fedjax_anomaly.config import Config, load_config
from fedjax_anomaly.reporting.atomic import write_atomically

_PACKAGES = (
    "fedjax_anomaly",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scikit-learn",
    "dp-accounting",
    "jax-privacy",
)


def open_output_dir(config: Config) -> Path:
    """Makes the run's folder, or checks that it can be continued.

    Args:
      config: with `output_dir` and `resume`.

    Raises:
      ValueError: when the folder holds another run, or a run of another configuration to resume.
      FileNotFoundError: when there is no run to resume.
      OSError: when the folder cannot be written.
    """
    if config.resume and not config.output_dir:
        raise ValueError("resume needs to know which run: give its folder as --output_dir.")
    directory = Path(config.output_dir or _new_name(config))
    stored = directory / "config.json"
    if config.resume:
        if not stored.exists():
            raise FileNotFoundError(f"output_dir={directory} holds no run to resume; start without --resume.")
        if differences := config.differences(load_config(stored)):
            raise ValueError(
                f"output_dir={directory} holds a run of another configuration ({'; '.join(differences)}); resume with "
                "the settings of its config.json, or start anew in another --output_dir."
            )
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(
            f"output_dir={directory} is not empty, it may hold another run; give --resume to continue that run, or "
            "another --output_dir."
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(stored, config.stored().to_json().encode())
    write_atomically(directory / "environment.json", json.dumps(environment(), indent=2).encode())
    return directory


def environment() -> dict[str, Any]:
    """Versions, devices and, in a checkout, the commit."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    device = jax.devices()[0]
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device.device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "cpu_cores": os.cpu_count(),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of the checkout that the package is imported from, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _new_name(config: Config) -> Path:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.dataset}-{now}"
