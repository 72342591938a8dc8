"""The PyTorch loop over as many processes as there are cores, one thread each."""

import os
from multiprocessing.connection import Connection

import torch
import torch.multiprocessing

from rivals.protocol import Turns, leave_parameters, task_from_command_line
from rivals.torch_model import LocalTraining, server_step, trained_tensors, training_in_this_process


def main() -> None:
    turns, task = Turns(), task_from_command_line()
    num_processes = os.cpu_count() or 1
    context = torch.multiprocessing.get_context("spawn")
    ends = []
    for rank in range(num_processes):
        ours, theirs = context.Pipe()
        context.Process(target=work, args=(theirs, rank, num_processes), daemon=True).start()
        ends.append(ours)
    training = LocalTraining(task)
    params = training.flat.clone()
    round = 0
    while count := turns.ask():
        for _ in range(count):
            for end in ends:
                end.send((round, params.numpy()))
            server_step(task, params, sum(torch.from_numpy(end.recv()) for end in ends))
            round += 1
        turns.done()
    training.flat.copy_(params)
    leave_parameters(trained_tensors(training.model))


def work(requests: Connection, rank: int, num_processes: int) -> None:
    """Trains every `num_processes`-th client of each cohort and sends back the sum of their updates."""
    task = task_from_command_line()
    training = training_in_this_process(task.folder)
    while True:
        round, start = requests.recv()
        start = torch.from_numpy(start)
        total = torch.zeros_like(start)
        for place in range(rank, task.settings.cohort_size, num_processes):
            total += training.update(start, round, place)
        requests.send(total.numpy())


if __name__ == "__main__":
    main()
