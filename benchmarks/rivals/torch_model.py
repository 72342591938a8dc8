"""The autoencoder and its local training in PyTorch, for every contestant that uses PyTorch."""

import functools
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rivals.protocol import Task


class Autoencoder(nn.Module):
    """Encoder LSTM, a latent at every step, decoder LSTM, linear output."""

    def __init__(self, num_features: int, hidden_size: int, latent_size: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(num_features, hidden_size, batch_first=True)
        self.latent = nn.Linear(hidden_size, latent_size)
        self.decoder = nn.LSTM(latent_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, num_features)
        for lstm in (self.encoder, self.decoder):
            # cuDNN's second bias adds to the first and would double its step: it stays zero.
            nn.init.zeros_(lstm.bias_hh_l0).requires_grad_(False)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Reconstructs windows [B, T, F]."""
        return self.output(self.decoder(self.latent(self.encoder(windows)[0]))[0])

    def loss(self, windows: torch.Tensor) -> torch.Tensor:
        """The mean squared error of the reconstruction."""
        return nn.functional.mse_loss(self(windows), windows)


def initial_model(task: Task) -> Autoencoder:
    """The model with the task's initial weights."""
    settings = task.settings
    model = Autoencoder(settings.num_features, settings.hidden_size, settings.latent_size)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in task.initial.items()}, strict=False)
    return model


def windows_of(task: Task, client: int) -> torch.Tensor:
    """Float[N, T, F], a client's windows."""
    return torch.from_numpy(task.windows(client))


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that train, by PyTorch's names; they share the model's memory."""
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


class LocalTraining:
    """A model whose parameters and gradients are two flat vectors: to load, to step and to subtract are one call each.

    Attributes:
      model: the model.
      flat: Float[P], its parameters; writing into it writes into the model.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._windows: dict[int, torch.Tensor] = {}
        self.model = initial_model(task)
        trained = [value for value in self.model.parameters() if value.requires_grad]
        self.flat = torch.cat([value.detach().reshape(-1) for value in trained])
        self._gradient = torch.zeros_like(self.flat)
        begin = 0
        for value in trained:
            end = begin + value.numel()
            value.data = self.flat[begin:end].view(value.shape)
            value.grad = self._gradient[begin:end].view(value.shape)
            begin = end

    @property
    def num_windows(self) -> int:
        """N, of every client."""
        return self._task.settings.num_windows

    def update(self, start: torch.Tensor, round: int, place: int) -> torch.Tensor:
        """Float[P], what training of the client at a place of the cohort adds to `start`, clipped where asked for."""
        self.flat.copy_(start)
        self.train(round, place)
        delta = self.flat - start
        clip_norm = self._task.settings.clip_norm
        if clip_norm is not None:
            delta *= min(1.0, clip_norm / max(float(delta.norm()), 1e-30))
        return delta

    def train(self, round: int, place: int) -> None:
        """Plain SGD on the client at a place of the cohort, from the parameters that the model has."""
        windows = self.windows(int(self._task.cohorts[round, place]))
        for batch in torch.from_numpy(self._task.batches[round, place].astype(np.int64)):
            self._gradient.zero_()
            self.model.loss(windows[batch]).backward()
            self.flat.sub_(self._gradient, alpha=self._task.settings.learning_rate)

    def windows(self, client: int) -> torch.Tensor:
        """Float[N, T, F], the client's windows, kept from the first use on."""
        if client not in self._windows:
            self._windows[client] = windows_of(self._task, client)
        return self._windows[client]


@functools.cache
def training_in_this_process(folder: Path) -> LocalTraining:
    """A model and the windows that it has seen, kept from client to client in a worker of one thread."""
    torch.set_num_threads(1)
    return LocalTraining(Task(folder))


def server_step(task: Task, params: torch.Tensor, total: torch.Tensor) -> None:
    """Adds the mean of the cohort's updates, all clients being of one size, with noise where asked for."""
    settings = task.settings
    if settings.clip_norm is not None:
        total.add_(torch.randn_like(total), alpha=settings.clip_norm * settings.noise_multiplier)
    params.add_(total, alpha=1.0 / settings.cohort_size)
