"""FedAvg by pfl's simulated backend, in one of its processes."""

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.dataset import Dataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism

from rivals.protocol import Task, Turns
from rivals.torch_model import Autoencoder, initial_model, windows_of


class WithoutEvaluation(FederatedAveraging):
    """FedAvg that trains and does nothing else; pfl would evaluate every client in the first round."""

    def simulate_one_user(self, model: Any, user_dataset: Any, central_context: Any) -> Any:
        """Local training of one client."""
        return super().simulate_one_user(model, user_dataset, dataclasses.replace(central_context, do_evaluation=False))


class WaitForTurn(TrainingProcessCallback):
    """Lets all processes wait until the parent asks for rounds; only one of them has `turns`."""

    def __init__(self, turns: Turns | None) -> None:
        self._turns = turns

    def on_train_begin(self, *, model: Any) -> Metrics:
        """Before the first round."""
        if self._turns is not None:
            self._turns.ask()
        self._barrier()
        return Metrics()

    def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
        """After each round."""
        if self._turns is not None:
            self._turns.after_round()
        self._barrier()
        return False, Metrics()

    def _barrier(self) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()


def federated_averaging(task: Task, turns: Turns | None) -> Autoencoder:
    """All rounds of the task; returns the model.

    Args:
      task: the workload.
      turns: in the process that talks to the parent.
    """
    settings, model = task.settings, initial_model(task)
    model.metrics = None  # pfl asks for the name; nothing is evaluated.
    data = cohorts(task)
    privacy = []
    if settings.clip_norm is not None:
        mechanism = GaussianMechanism(settings.clip_norm, settings.noise_multiplier)
        privacy.append(CentrallyAppliedPrivacyMechanism(mechanism))
    WithoutEvaluation().run(
        NNAlgorithmParams(
            central_num_iterations=len(task.cohorts),
            evaluation_frequency=len(task.cohorts),
            train_cohort_size=settings.cohort_size,
            val_cohort_size=None,
        ),
        SimulatedBackend(data, data, privacy),
        PyTorchModel(
            model,
            local_optimizer_create=functools.partial(torch.optim.SGD, fused=True),
            central_optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        ),
        NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=settings.learning_rate, local_batch_size=settings.batch_size
        ),
        callbacks=[WaitForTurn(turns)],
        send_metrics_to_platform=False,
    )
    return model


def cohorts(task: Task) -> FederatedDataset:
    """The clients, place after place and round after round, each with its windows in the order of its batches."""
    windows = functools.cache(functools.partial(windows_of, task))

    def dataset(user: tuple[int, int]) -> Dataset:
        order = torch.from_numpy(task.batches[user].reshape(-1).astype(np.int64))
        return Dataset((windows(int(task.cohorts[user]))[order],), user_id=str(user))

    users = itertools.product(range(len(task.cohorts)), range(task.settings.cohort_size))
    return FederatedDataset(dataset, lambda: next(users))
