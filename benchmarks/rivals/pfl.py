"""pfl (Apple's pfl-research): its simulated backend over as many processes as divide the cohort, one thread each."""

import dataclasses
import functools
import itertools
import math
import os
import socket
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from rivals.protocol import Task, Turns, leave_parameters, task_from_command_line
from rivals.torch_model import initial_model, trained_tensors, windows_of

RANK = int(os.environ.get("PFL_WORKER_RANK", 0))


def start_other_processes(count: int) -> None:
    """Starts this program once more for each further rank; pfl reads who is who from the environment."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    os.environ["PFL_WORKER_ADDRESSES"] = ",".join(f"localhost:{port + rank}" for rank in range(count))
    os.environ["PFL_WORKER_RANK"] = "0"
    for rank in range(1, count):
        command = [sys.executable, "-m", "rivals.pfl", *sys.argv[1:]]
        subprocess.Popen(command, env=os.environ | {"PFL_WORKER_RANK": str(rank)})


def federated_averaging(task: Task, turns: Turns | None) -> torch.nn.Module:
    """All rounds of the task; returns the model.

    Args:
      task: the workload.
      turns: of the process that talks to the parent; the others wait for it.
    """
    # pfl looks for its other processes when it is imported.
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data import FederatedDataset
    from pfl.data.dataset import Dataset
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.internal.ops.selector import get_framework_module
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel
    from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism

    class WithoutEvaluation(FederatedAveraging):
        def simulate_one_user(self, model: Any, user_dataset: Any, central_context: Any) -> Any:
            context = dataclasses.replace(central_context, do_evaluation=False)
            return super().simulate_one_user(model, user_dataset, context)

    class WaitForTurn(TrainingProcessCallback):
        def on_train_begin(self, *, model: Any) -> Any:
            if turns is not None:
                turns.ask()
            barrier()
            return Metrics()

        def after_central_iteration(self, aggregate_metrics: Any, model: Any, *, central_iteration: int) -> Any:
            if turns is not None:
                turns.after_round()
            barrier()
            return False, Metrics()

    def barrier() -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()

    def user_dataset(user: tuple[int, int]) -> Any:
        round, place = user
        order = torch.from_numpy(task.batches[round, place].reshape(-1).astype(np.int64))
        return Dataset((windows(int(task.cohorts[round, place]))[order],), user_id=str(user))

    settings = task.settings
    windows = functools.cache(functools.partial(windows_of, task))
    model = initial_model(task)
    model.metrics = None  # pfl wants the name; nothing is evaluated.
    adapter = PyTorchModel(
        model,
        local_optimizer_create=functools.partial(torch.optim.SGD, fused=True),
        central_optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
    )
    assert get_framework_module().distributed.world_size == len(
        os.environ.get("PFL_WORKER_ADDRESSES", "localhost").split(",")
    )
    users = itertools.product(range(len(task.cohorts)), range(settings.cohort_size))
    data = FederatedDataset(user_dataset, lambda: next(users, (0, 0)))
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
        adapter,
        NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=settings.learning_rate, local_batch_size=settings.batch_size
        ),
        callbacks=[WaitForTurn()],
        send_metrics_to_platform=False,
    )
    return model


def main() -> None:
    torch.set_num_threads(1)
    np.random.seed(0)  # noqa: NPY002  pfl draws its noise, the same in each process, by this global state.
    task = task_from_command_line()
    if RANK > 0:
        federated_averaging(task, None)
        return
    turns = Turns()
    start_other_processes(math.gcd(task.settings.cohort_size, os.cpu_count() or 1))
    leave_parameters(trained_tensors(federated_averaging(task, turns)))


if __name__ == "__main__":
    main()
