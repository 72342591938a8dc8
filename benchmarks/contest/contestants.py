"""Who takes part in `peers.py`, in which environment and with which settings."""

import dataclasses
import os
from collections.abc import Mapping

from contest.environments import Environment

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

_TORCH = Environment("torch", (TORCH, "numpy"))

RIVALS = (
    Contestant(
        "torch_loop",
        "a PyTorch loop over the clients",
        f"one thread or {CORES}, whichever trains a client faster; parameters and gradients in one vector each; malloc "
        "keeps its memory",
        _TORCH,
        TUNED_MALLOC,
    ),
    Contestant(
        "torch_processes",
        f"the same loop over {CORES} processes",
        "one thread per process, else as the loop",
        _TORCH,
        TUNED_MALLOC | ONE_THREAD,
    ),
    Contestant(
        "flower",
        "Flower, simulation engine",
        "one CPU per client, a model and windows kept in each of Ray's workers, clients send updates, replies fetched "
        "every 2 ms, telemetry off; malloc keeps its memory",
        Environment("flower", (TORCH, "numpy", "flwr[simulation]==1.42.0")),
        TUNED_MALLOC | ONE_THREAD | {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
    Contestant(
        "pfl",
        "pfl-research, simulated backend",
        f"{CORES} processes of one thread, fused SGD, no evaluation; malloc keeps its memory",
        Environment("pfl", (TORCH, "numpy", "pfl[pytorch]==0.6.0")),
        TUNED_MALLOC | ONE_THREAD,
    ),
    Contestant(
        "blazefl",
        "BlazeFL, thread pool",
        f"{CORES} threads, a model kept for each, clients send updates; malloc keeps its memory. BlazeFL 3 needs "
        "Python 3.14",
        Environment("blazefl", (TORCH, "numpy", "tqdm", "blazefl==2.0.3"), python=(3, 12)),
        TUNED_MALLOC | ONE_THREAD,
    ),
    Contestant(
        "fedjax",
        "FedJAX",
        f"pmap over {CORES} host devices; the newest JAX that it runs on",
        Environment("fedjax", ("fedjax==0.0.17", "jax==0.5.3", "jaxlib==0.5.3", "numpy")),
    ),
)

MATRIX_PRODUCTS = (
    Contestant("matmul_jax", "matrix product, JAX", "all cores", None),
    Contestant("matmul_torch", "matrix product, PyTorch", "all cores", _TORCH, {"OMP_NUM_THREADS": str(CORES)}),
)
