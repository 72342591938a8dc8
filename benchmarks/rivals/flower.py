"""Flower: its simulation engine (Ray), message API and FedAvg strategy, with its own wrapper for privacy."""

import os
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from flwr.simulation import run_simulation

from rivals.protocol import Task, Turns, leave_parameters, task_from_command_line
from rivals.torch_model import initial_model, trained_tensors, training_in_this_process


class CohortFedAvg(FedAvg):
    """FedAvg that tells every node which place of the round's cohort it takes."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """A message for each place: the parameters and the place."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for place, message in enumerate(messages):
            own = ConfigRecord({**message.content["config"], "place": place})
            message.content = RecordDict({"arrays": arrays, "config": own})
        return messages


class PrivateUpdates(DifferentialPrivacyServerSideFixedClipping):
    """Flower's clipping and noise for clients that send updates."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages; what arrives is clipped as its difference from zero."""
        messages = super().configure_train(server_round, arrays, config, grid)
        self.current_arrays = ArrayRecord([np.zeros_like(array) for array in arrays.to_numpy_ndarrays()])
        return messages


def client_app(folder: Path) -> ClientApp:
    """Local training as a Flower client."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        local = training_in_this_process(folder)
        config = message.content["config"]
        local.model.load_state_dict(message.content["arrays"].to_torch_state_dict(), strict=False)
        start = local.flat.clone()
        local.train(config["server-round"] - 1, config["place"])
        # The update, not the parameters: their mean in float32 would round away digits of what changed.
        local.flat.sub_(start)
        arrays = ArrayRecord(trained_tensors(local.model))
        metrics = MetricRecord({"num-examples": local.num_windows})
        return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def strategy_of(task: Task) -> Any:
    """FedAvg on the task's cohorts, private where asked for."""
    settings = task.settings
    fedavg = CohortFedAvg(
        fraction_train=settings.cohort_size / settings.num_clients,
        fraction_evaluate=0.0,
        min_train_nodes=settings.cohort_size,
        min_available_nodes=settings.num_clients,
    )
    if settings.clip_norm is None:
        return fedavg
    return PrivateUpdates(fedavg, settings.noise_multiplier, settings.clip_norm, settings.cohort_size)


def main() -> None:
    turns, task = Turns(), task_from_command_line()
    strategy = strategy_of(task)
    aggregate = strategy.aggregate_train
    params = trained_tensors(initial_model(task))

    def step_and_wait(server_round: int, replies: Any) -> Any:
        mean, metrics = aggregate(server_round, replies)
        for name, update in mean.to_torch_state_dict().items():
            params[name] += update
        turns.after_round()
        return ArrayRecord(params), metrics

    strategy.aggregate_train = step_and_wait
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        # By default the server looks for replies every 0.1 s.
        grid.pull_interval = 0.002
        turns.ask()
        strategy.start(grid, ArrayRecord(params), num_rounds=len(task.cohorts))

    try:
        run_simulation(
            server,
            client_app(task.folder),
            num_supernodes=task.settings.num_clients,
            backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": os.cpu_count()}},
        )
    except Exception:
        traceback.print_exc()
        # Flower's server would go on waiting for clients in its thread.
        os._exit(1)
    leave_parameters(params)


if __name__ == "__main__":
    main()
