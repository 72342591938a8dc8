"""FedJAX: its training of each client, which is compiled step by step, on one host device for each core."""

import os

os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={os.cpu_count()}"

from collections.abc import Iterator

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
from fedjax.algorithms.fed_avg import create_train_for_each_client

from rivals.protocol import Task, Turns, leave_parameters, task_from_command_line

Params = dict[str, jax.Array]


def lstm(params: Params, name: str, sequence: jax.Array) -> jax.Array:
    """Float[B, T, inputs] -> Float[B, T, H], all gates by one product."""
    weights_in, weights_own = params[f"{name}.weight_ih_l0"].T, params[f"{name}.weight_hh_l0"].T
    bias = params[f"{name}.bias_ih_l0"]

    def step(carry: tuple[jax.Array, jax.Array], rows: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        state, cell = carry
        i, f, g, o = jnp.split(rows @ weights_in + state @ weights_own + bias, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        state = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (state, cell), state

    zeros = jnp.zeros((len(sequence), len(weights_own)))
    return jax.lax.scan(step, (zeros, zeros), sequence.swapaxes(0, 1))[1].swapaxes(0, 1)


def linear(params: Params, name: str, values: jax.Array) -> jax.Array:
    """A linear layer."""
    return values @ params[f"{name}.weight"].T + params[f"{name}.bias"]


def loss(params: Params, batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """The mean squared error of the reconstruction."""
    latent = linear(params, "latent", lstm(params, "encoder", batch["x"]))
    output = linear(params, "output", lstm(params, "decoder", latent))
    return jnp.mean(jnp.square(output - batch["x"]))


def clipped(delta: Params, clip_norm: float) -> Params:
    """The update, scaled down to the norm; FedJAX has no privacy."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in delta.values()))
    return jax.tree_util.tree_map(lambda leaf: leaf * jnp.minimum(1.0, clip_norm / norm), delta)


def noisy(total: Params, noise_std: float, key: jax.Array) -> Params:
    """The sum with Gaussian noise on every coordinate."""
    keys = dict(zip(total, jax.random.split(key, len(total)), strict=True))
    return {name: leaf + noise_std * jax.random.normal(keys[name], leaf.shape) for name, leaf in total.items()}


class FederatedAveraging:
    """FedAvg by FedJAX's parts, on given batches."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._settings = task.settings
        self._train = create_train_for_each_client(jax.grad(loss), fedjax.optimizers.sgd(self._settings.learning_rate))
        self._windows: dict[int, np.ndarray] = {}
        self._clip = jax.jit(clipped, static_argnums=1)
        self._add_noise = jax.jit(noisy, static_argnums=1)

    def round(self, params: Params, number: int) -> Params:
        """The parameters after one more round."""
        settings = self._settings
        key = jax.random.PRNGKey(number)
        clients = [(place, self._batches(number, place), key) for place in range(settings.cohort_size)]
        total = fedjax.tree_util.tree_zeros_like(params)
        for _, delta in self._train(params, clients):
            if settings.clip_norm is not None:
                delta = self._clip(delta, settings.clip_norm)
            total = fedjax.tree_util.tree_add(total, delta)
        if settings.clip_norm is not None:
            total = self._add_noise(total, settings.clip_norm * settings.noise_multiplier, key)
        mean = fedjax.tree_util.tree_inverse_weight(total, settings.cohort_size)
        # FedJAX's updates point from the new parameters to the old ones.
        return jax.tree_util.tree_map(lambda leaf, step: leaf - step, params, mean)

    def _batches(self, number: int, place: int) -> Iterator[dict[str, np.ndarray]]:
        client = int(self._task.cohorts[number, place])
        if client not in self._windows:
            self._windows[client] = self._task.windows(client)
        return ({"x": self._windows[client][batch]} for batch in self._task.batches[number, place])


def main() -> None:
    turns, task = Turns(), task_from_command_line()
    # FedJAX expects what `pmap` did before JAX 0.4.
    jax.config.update("jax_pmap_no_rank_reduction", False)
    fedjax.set_for_each_client_backend("pmap")
    fedavg = FederatedAveraging(task)
    params = {name: jnp.asarray(value) for name, value in task.initial.items()}
    number = 0
    while count := turns.ask():
        for _ in range(count):
            params = fedavg.round(params, number)
            number += 1
        jax.block_until_ready(params)
        turns.done()
    leave_parameters(params)


if __name__ == "__main__":
    main()
