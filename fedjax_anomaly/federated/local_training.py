"""Local training of one client: epochs of mini-batches over its padded, masked windows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from fedjax_anomaly.federated.algorithm import ClientUpdate, TrainClient
from fedjax_anomaly.types import ClientData, PyTree

Loss = Callable[[PyTree, jax.Array], jax.Array]
"""(parameters, windows [B, T, F]) -> loss of each window [B]."""

TrainingLoss = Callable[[PyTree, jax.Array, jax.Array], jax.Array]
"""(parameters, windows [B, T, F], key) -> loss of each window [B]; the key is for what is random in training."""

_LOSS_KEY = 1 << 30
"""Epochs are numbered from 0; the keys of their losses start here."""


def gather_windows(series: Float[jax.Array, "L F"], starts: jax.Array, window_length: int) -> Float[jax.Array, "N T F"]:
    """Cuts windows out of one sequence.

    Args:
      series: rows.
      starts: Int[N], first rows.
      window_length: T.
    """
    return jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(series, start, window_length))(starts)


def local_training(
    loss: TrainingLoss,
    optimizer: optax.GradientTransformation,
    *,
    window_length: int,
    batch_size: int,
    local_epochs: int = 1,
    proximal_mu: float | jax.Array = 0.0,
) -> TrainClient:
    """Builds the function that trains one client.

    Every epoch visits the client's windows once in a new random order. A batch's gradient is the mean over its real
    windows; batches of padding only are not run, so a small client costs what its own windows cost and the optimizer's
    state never sees padding.

    Args:
      loss: of each window of a batch.
      optimizer: any optax optimizer; its state starts anew in every round.
      window_length: T.
      batch_size: B.
      local_epochs: passes over the client's windows.
      proximal_mu: weight of FedProx's term mu/2 ||params - start||^2; may be traced.

    Guarantees:
      Padding changes nothing (test: `tests/federated/test_local_training.py::test_padding_changes_nothing`).

    References:
      McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", algorithm 1.
      Li et al. 2020, "Federated Optimization in Heterogeneous Networks" (FedProx), section 3.
    """
    for name, value in {"batch_size": batch_size, "local_epochs": local_epochs, "window_length": window_length}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")

    def objective(
        params: PyTree, start: PyTree, windows: jax.Array, mask: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        losses = jnp.where(mask, loss(params, windows, key), 0.0)
        value = jnp.sum(losses) / jnp.maximum(jnp.sum(mask.astype(losses.dtype)), 1.0)
        if not (isinstance(proximal_mu, float) and proximal_mu == 0.0):
            value += 0.5 * proximal_mu * optax.tree.norm(optax.tree.sub(params, start), squared=True)
        return value, jnp.sum(losses)

    def train_client(key: jax.Array, start: PyTree, data: ClientData) -> ClientUpdate:
        num_windows = jnp.sum(data.mask.astype(jnp.int32))
        num_batches = (num_windows + batch_size - 1) // batch_size

        def epoch(carry: tuple[PyTree, PyTree], number: jax.Array) -> tuple[tuple[PyTree, PyTree], jax.Array]:
            order = shuffle_real_windows_first(jax.random.fold_in(key, number), data.mask, batch_size)
            loss_key = jax.random.fold_in(key, _LOSS_KEY + number)

            def step(i: jax.Array, carry: tuple[PyTree, PyTree, jax.Array]) -> tuple[PyTree, PyTree, jax.Array]:
                params, optimizer_state, loss_sum = carry
                batch = jax.lax.dynamic_slice_in_dim(order, i * batch_size, batch_size)
                windows = gather_windows(data.series, data.starts[batch], window_length)
                mask = i * batch_size + jnp.arange(batch_size) < num_windows
                step_key = jax.random.fold_in(loss_key, i)
                gradient, losses = jax.grad(objective, has_aux=True)(params, start, windows, mask, step_key)
                updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
                return optax.apply_updates(params, updates), optimizer_state, loss_sum + losses

            *carry, loss_sum = jax.lax.fori_loop(0, num_batches, step, (*carry, jnp.zeros(())))
            return tuple(carry), loss_sum

        carry = (start, optimizer.init(start))
        (params, _), loss_sums = jax.lax.scan(epoch, carry, jnp.arange(local_epochs))
        weight = num_windows.astype(jnp.float32)
        return ClientUpdate(optax.tree.sub(params, start), weight, loss_sums[-1] / jnp.maximum(weight, 1.0))

    return train_client


def shuffle_real_windows_first(key: jax.Array, mask: jax.Array, batch_size: int) -> jax.Array:
    """Window indices in random order, padding last, as many as fill whole batches."""
    order = jnp.argsort(jnp.where(mask, jax.random.uniform(key, mask.shape), 2.0))
    return jnp.pad(order, (0, -len(mask) % batch_size))
