"""BlazeFL: its FedAvg server, and its pool of threads, one for each core."""

import os
import queue
import threading
from typing import Any

import torch
from blazefl.contrib.fedavg import FedAvgBaseServerHandler, FedAvgDownlinkPackage, FedAvgUplinkPackage
from blazefl.core import ThreadPoolClientTrainer

from rivals.protocol import Task, Turns, leave_parameters, task_from_command_line
from rivals.torch_model import LocalTraining, trained_tensors, training_in_this_process


class Server(FedAvgBaseServerHandler):
    """FedAvg on the task's cohorts; BlazeFL has no privacy, so that the noise is added here."""

    def __init__(self, task: Task, params: torch.Tensor) -> None:
        self._settings = task.settings
        self.params = params
        self.num_clients_per_round = self._settings.cohort_size
        self.round = 0
        self.client_buffer_cache: list[FedAvgUplinkPackage] = []

    def global_update(self, buffer: list[Any]) -> None:
        """Adds the mean of the clients' updates: that of their parameters would round away digits of what changed."""
        settings = self._settings
        mean = self.aggregate([one.model_parameters for one in buffer], [one.data_size for one in buffer])
        if settings.clip_norm is not None:
            noise_std = settings.clip_norm * settings.noise_multiplier / settings.cohort_size
            mean.add_(torch.randn_like(mean), alpha=noise_std)
        self.params = self.params + mean

    def downlink_package(self) -> FedAvgDownlinkPackage:
        """The parameters to start from."""
        return FedAvgDownlinkPackage(self.params)


class Clients(ThreadPoolClientTrainer):
    """Trains the places of a cohort in a pool of threads, a model in each."""

    def __init__(self, task: Task) -> None:
        self.num_parallels = os.cpu_count() or 1
        self.device = "cpu"
        self.stop_event = threading.Event()
        self.cache: list[FedAvgUplinkPackage] = []
        self.round = 0
        self._task = task
        self._idle: queue.SimpleQueue[LocalTraining] = queue.SimpleQueue()
        for _ in range(self.num_parallels):
            self._idle.put(LocalTraining(task))

    def worker(self, cid: int, device: str, payload: Any, stop_event: Any) -> FedAvgUplinkPackage:
        """Local training at one place."""
        training = self._idle.get()
        update = training.update(payload.model_parameters, self.round, cid)
        package = FedAvgUplinkPackage(cid, update, training.num_windows)
        self._idle.put(training)
        return package

    def uplink_package(self) -> list[FedAvgUplinkPackage]:
        """What the clients sent; empties the list."""
        packages, self.cache = self.cache, []
        return packages


def main() -> None:
    turns, task = Turns(), task_from_command_line()
    training = training_in_this_process(task.folder)
    server, clients = Server(task, training.flat.clone()), Clients(task)
    while count := turns.ask():
        for _ in range(count):
            clients.round = server.round
            clients.local_process(server.downlink_package(), list(range(task.settings.cohort_size)))
            for package in clients.uplink_package():
                server.load(package)
        turns.done()
    training.flat.copy_(server.params)
    leave_parameters(trained_tensors(training.model))


if __name__ == "__main__":
    main()
