"""Compiled programs are kept on disk, so that the next start of the same configuration need not compile them again."""

import hashlib
import platform
import shutil
import tempfile
import warnings
from pathlib import Path

import jax

from fedjax_anomaly.data.files import default_cache_dir

_MOST_BYTES = 2**30
_LEAST_FREE_BYTES = 2**27


def keep_programs(folder: str | Path = "") -> Path | None:
    """Turns JAX's persistent compilation cache on; call it before the first computation.

    A program is looked up by its text, the versions of JAX's libraries, the compiler's options and the devices, all of
    which are in JAX's key. Code for a CPU may use any of its instructions, so that each kind of CPU has a folder of its
    own: a home folder may be shared between machines. The oldest programs go when there is more than 1 GiB of them.

    Args:
      folder: where; empty takes what JAX was told (`JAX_COMPILATION_CACHE_DIR`) or else `compiled` in the user's cache
        folder, `none` keeps nothing.

    Returns:
      The folder in use, or None. A folder that cannot be used is told by a `UserWarning`; nothing is kept then.

    Guarantees:
      A second start compiles nothing, and a damaged or full folder costs time only (tests:
      `tests/test_compilation_cache.py`).
    """
    if folder == "none":
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    if not folder and (chosen := jax.config.values["jax_compilation_cache_dir"]):
        return Path(chosen)
    path = Path(folder or default_cache_dir() / "compiled") / _cpu_name()
    try:
        _prepare(path)
    except OSError as error:
        warnings.warn(
            f"compilation_cache={path.parent} cannot be used ({error.strerror or error}), so that every start compiles "
            "anew; give another --compilation_cache, or none.",
            stacklevel=2,
        )
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Many small programs take longer than one large one; none is too small to be kept.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return path


def _prepare(path: Path) -> None:
    """Makes the folder, shows that it can be written, and removes the oldest programs.

    Raises:
      OSError: when it cannot be written or its disk is nearly full.
    """
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass
    if shutil.disk_usage(path).free < _LEAST_FREE_BYTES:
        raise OSError("its disk is full")
    entries = sorted(((entry.stat(), entry) for entry in path.iterdir()), key=lambda pair: -pair[0].st_mtime)
    total = 0
    for stat, entry in entries:
        total += stat.st_size
        if total > _MOST_BYTES:
            entry.unlink(missing_ok=True)


def _cpu_name() -> str:
    """The architecture, and a digest of the instructions that the CPU has where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    features = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
