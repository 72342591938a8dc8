"""This library, as a user of it would write the run."""

import functools
import os

import jax
from contest.weights import to_torch_names
from workloads import KEY, Workload, algorithm, client_data

from fedjax_anomaly import federated
from fedjax_anomaly.compiler_options import compiler_options
from fedjax_anomaly.federated.algorithm import FederatedState
from fedjax_anomaly.federated.parallel import everywhere, place_clients
from rivals.protocol import Turns, leave_parameters, task_from_command_line


def main() -> None:
    turns, task = Turns(), task_from_command_line()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    workload = Workload(**vars(task.settings))
    mesh = federated.clients_mesh()
    data = place_clients(client_data(workload), mesh)
    fedavg = algorithm(workload, federated.client_map(mesh=mesh))
    key = jax.random.key(KEY)

    # One program for any number of rounds up to those of a repetition.
    @functools.partial(jax.jit, donate_argnums=0, compiler_options=compiler_options())
    def run(state: FederatedState, stop_round: int) -> FederatedState:
        return federated.run(fedavg, key, state, data, workload.rounds_per_repetition, stop_round=stop_round)[0]

    state = jax.device_put(jax.jit(fedavg.init)(key, data), everywhere(mesh))
    done = 0
    while count := turns.ask():
        done += count
        state = jax.block_until_ready(run(state, done))
        turns.done()
    leave_parameters(to_torch_names(jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.params))))


if __name__ == "__main__":
    main()
