"""Who takes part in `peers.py`, in which environment and with which settings."""

import dataclasses
import os
from collections.abc import Mapping

from peers_environments import Environment

TORCH = "torch==2.13.0"
CORES = os.cpu_count() or 1

# Freed memory is kept and not handed back to the system: without it every batch maps and clears its pages anew.
TUNED_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of every table.

    Attributes:
      name: its module in the package `rivals`, and its name for `--rivals`.
      label: what it is, in words.
      settings: what it runs with, for the reader.
      environment: what to install; None is the environment that runs this script.
      variables: of its process.
    """

    name: str
    label: str
    settings: str
    environment: Environment | None
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)


OURS = Contestant("ours", "fedjax_anomaly", f"{CORES} host devices, one client at a time on each", None)

RIVALS = (
    Contestant(
        "torch_loop",
        "PyTorch loop",
        "one thread per core, glibc's malloc keeps its memory, parameters and gradients in one vector each",
        Environment("torch", (TORCH, "numpy")),
        TUNED_MALLOC,
    ),
    Contestant(
        "torch_processes",
        f"PyTorch, {CORES} processes",
        "one thread per process, glibc's malloc keeps its memory, parameters and gradients in one vector each",
        Environment("torch", (TORCH, "numpy")),
        TUNED_MALLOC | ONE_THREAD,
    ),
)

MATRIX_PRODUCTS = (
    Contestant("matmul_jax", "matrix product, JAX", "all cores", None),
    Contestant("matmul_torch", "matrix product, PyTorch", "all cores", Environment("torch", (TORCH, "numpy"))),
)
