"""Strict settings for the whole session: what JAX lets pass quietly is an error here."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

# Four CPU devices, so that sharding over clients is tested; must be set before the first computation.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# Compiling is what the suite spends its time on: do it without optimising, by the emitter that compiles twice as fast,
# in one part as no core is idle, and each program once, also in processes of their own.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
if jax.__version_info__ < (0, 11):  # XLA aborts on a flag that it does not know, and these come and go.
    _FAST_COMPILATION = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FAST_COMPILATION}".strip()
jax.config.update("jax_disable_most_optimizations", True)
_compilation_cache = tempfile.TemporaryDirectory()
os.environ["JAX_COMPILATION_CACHE_DIR"] = _compilation_cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
jax.config.update("jax_compilation_cache_dir", _compilation_cache.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture
def optax_promotion() -> Iterator[None]:
    """For tests that use optax's adaptive optimizers, whose bias correction mixes int32 and float32 (optax 0.2.8)."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """The folder `../shared/data` beside the repository; continuous integration must have it, others may skip."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        reason = f"the real data is not in {folder}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder
