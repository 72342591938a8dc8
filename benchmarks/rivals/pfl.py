"""pfl (Apple's pfl-research) in as many processes as divide the cohort, up to one for each core."""

import math
import os
import socket
import subprocess
import sys

import numpy as np
import torch

from rivals.protocol import Turns, leave_parameters, task_from_command_line
from rivals.torch_model import trained_tensors


def start_other_processes(count: int) -> None:
    """Starts this program once more for each further rank; pfl reads who is who from the environment."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # pfl meets at the first address and only counts the others.
    os.environ["PFL_WORKER_ADDRESSES"] = ",".join([f"localhost:{port}"] * count)
    os.environ["PFL_WORKER_RANK"] = "0"
    for rank in range(1, count):
        command = [sys.executable, "-m", "rivals.pfl", *sys.argv[1:]]
        subprocess.Popen(command, env=os.environ | {"PFL_WORKER_RANK": str(rank)})


def main() -> None:
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002  pfl draws its noise, the same in each process, by this global state.
    task = task_from_command_line()
    turns = None
    if "PFL_WORKER_RANK" not in os.environ:
        turns = Turns()
        start_other_processes(math.gcd(task.settings.cohort_size, os.cpu_count() or 1))
    # pfl connects its processes when it is imported.
    from rivals.pfl_training import federated_averaging

    model = federated_averaging(task, turns)
    if turns is not None:
        leave_parameters(trained_tensors(model))


if __name__ == "__main__":
    main()
