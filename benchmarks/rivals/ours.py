"""This library, as a user of it would write the run."""

import functools
import os

import jax
from contest.weights import to_torch_names
from workloads import KEY, Workload, algorithm, client_data

from fedjax_anomaly import federated
from fedjax_anomaly.federated.algorithm import FederatedState
from fedjax_anomaly.federated.parallel import place_clients
from rivals.protocol import Turns, leave_parameters, task_from_command_line


def main() -> None:
    turns, task = Turns(), task_from_command_line()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    workload = Workload(**vars(task.settings))
    mesh = federated.clients_mesh()
    data = place_clients(client_data(workload), mesh)
    fedavg = algorithm(workload, federated.client_map(mesh=mesh))
    key = jax.random.key(KEY)

    @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
    def run(state: FederatedState, count: int) -> FederatedState:
        return federated.run(fedavg, key, state, data, count)[0]

    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(jax.jit(fedavg.init)(key, data), everywhere)
    while count := turns.ask():
        state = jax.block_until_ready(run(state, count))
        turns.done()
    leave_parameters(to_torch_names(jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.params))))


if __name__ == "__main__":
    main()
