"""The PyTorch loop over the clients on a GPU, with cuDNN's LSTM."""

import os

import torch

from rivals.protocol import Task, Turns, leave_parameters, task_from_command_line
from rivals.torch_model import initial_model, trained_tensors, windows_of


class Training:
    """Parameters stay where cuDNN wants them; to load, to step and to add up is one call for all of them."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.model = initial_model(task).cuda()
        for lstm in (self.model.encoder, self.model.decoder):
            lstm.flatten_parameters()
        self._own = list(trained_tensors(self.model).values())
        self._params = [value.clone() for value in self._own]
        self._windows: dict[int, torch.Tensor] = {}

    def round(self, round: int) -> None:
        """Trains the cohort, one client after the other, and adds the mean of their updates."""
        total = [torch.zeros_like(value) for value in self._own]
        orders = torch.from_numpy(self._task.batches[round].astype("int64")).cuda()
        for client, order in zip(self._task.cohorts[round].tolist(), orders, strict=True):
            torch._foreach_copy_(self._own, self._params)
            self._train(client, order)
            torch._foreach_add_(total, torch._foreach_sub(self._own, self._params))
        torch._foreach_add_(self._params, total, alpha=1.0 / len(orders))

    def load(self) -> None:
        """Puts the parameters of the server into the model."""
        torch._foreach_copy_(self._own, self._params)

    def _train(self, client: int, order: torch.Tensor) -> None:
        if client not in self._windows:
            self._windows[client] = windows_of(self._task, client).cuda()
        windows = self._windows[client]
        trained = [value for value in self.model.parameters() if value.requires_grad]
        for batch in order:
            gradients = torch.autograd.grad(self.model.loss(windows[batch]), trained)
            torch._foreach_add_(self._own, gradients, alpha=-self._task.settings.learning_rate)


def main() -> None:
    tf32 = os.environ["ALLOW_TF32"] == "1"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    turns, task = Turns(), task_from_command_line()
    training = Training(task)
    round = 0
    while count := turns.ask():
        for _ in range(count):
            training.round(round)
            round += 1
        torch.cuda.synchronize()
        turns.done()
    training.load()
    leave_parameters({name: value.cpu() for name, value in trained_tensors(training.model).items()})


if __name__ == "__main__":
    main()
