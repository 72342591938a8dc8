"""What one writes in an afternoon: a PyTorch loop over the clients in one process."""

import os
import time

import torch

from rivals.protocol import Turns, leave_parameters, task_from_command_line
from rivals.torch_model import LocalTraining, server_step, trained_tensors


def faster_number_of_threads(training: LocalTraining) -> int:
    """One thread or one for each core: what trains a client in less time, the second time."""
    seconds = {}
    for threads in {1, os.cpu_count() or 1}:
        torch.set_num_threads(threads)
        for _ in range(2):
            begin = time.perf_counter()
            training.update(training.flat.clone(), 0, 0)
            seconds[threads] = time.perf_counter() - begin
    return min(seconds, key=seconds.__getitem__)


def main() -> None:
    torch.set_num_threads(1)
    turns, task = Turns(), task_from_command_line()
    training = LocalTraining(task)
    params = training.flat.clone()
    round = 0
    while count := turns.ask():
        for _ in range(count):
            total = torch.zeros_like(params)
            for place in range(task.settings.cohort_size):
                total += training.update(params, round, place)
            server_step(task, params, total)
            round += 1
        turns.done()
        if round == count:
            torch.set_num_threads(faster_number_of_threads(training))
    training.flat.copy_(params)
    leave_parameters(trained_tensors(training.model))


if __name__ == "__main__":
    main()
