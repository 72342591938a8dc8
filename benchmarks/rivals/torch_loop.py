"""What one writes in an afternoon: a PyTorch loop over the clients in one process."""

import torch

from rivals.protocol import Turns, leave_parameters, task_from_command_line
from rivals.torch_model import LocalTraining, server_step, trained_tensors


def main() -> None:
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
    training.flat.copy_(params)
    leave_parameters(trained_tensors(training.model))


if __name__ == "__main__":
    main()
