"""Local training by DP-SGD: Poisson-sampled batches, a clipped gradient per window, noise on every sum."""

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from fedjax_anomaly import trees
from fedjax_anomaly.federated.algorithm import ClientUpdate, TrainClient
from fedjax_anomaly.federated.local_training import TrainingLoss, gather_windows
from fedjax_anomaly.privacy.mechanisms import PrivacyMechanism
from fedjax_anomaly.types import ClientData, PyTree


def private_local_training(
    loss: TrainingLoss,
    optimizer: optax.GradientTransformation,
    mechanism: PrivacyMechanism,
    *,
    window_length: int,
    batch_size: int,
    local_epochs: int = 1,
    sampling_rate: float = 0.0,
    local_steps: int = 0,
    copies: int = 1,
    proximal_mu: float | jax.Array = 0.0,
    microbatch_size: int | None = None,
) -> TrainClient:
    """Builds the function that trains one client with differential privacy for each of its windows.

    A client of N windows, a number that is public, takes `local_epochs * ceil(1 / q)` steps, or `local_steps`. Each
    step draws every window by itself with probability q, which is min(1, B / N) or given as `sampling_rate`, clips the
    gradient of each, sums, adds noise to the sum and divides by the public expected batch size q N; an empty batch is
    noise only and a step all the same. What leaves the client is a function of these noisy sums, so the guarantee needs
    no trust in the server or in other clients.

    There is a place for every window of the client in a batch, so no draw is truncated. The batch is processed in
    microbatches and only those that hold a window are run: a step costs what it drew, and memory what a microbatch
    takes.

    Args:
      loss: of each window of a batch.
      optimizer: any optax optimizer, it sees noisy gradients only; its state starts anew in every round.
      mechanism: clips a window's gradient and adds noise to the sum of a batch; see `privacy.gaussian`.
      window_length: T.
      batch_size: B, the expected number of windows of a step; a client with fewer takes all of its windows.
      local_epochs: `ceil(1 / q)` steps each.
      sampling_rate: q of every client, whatever its size; 0 goes by `batch_size`.
      local_steps: steps of every client; 0 goes by `local_epochs`.
      copies: of a window in its own loss, whose mean is taken before the clip, so that what is random in the loss
        cancels at no cost in privacy.
      proximal_mu: weight of FedProx's term; it sees no window and is added after the noise; may be traced.
      microbatch_size: windows whose gradients are in memory at once; None takes 8 on CPU, which stay in the cache,
        and 256 on an accelerator.

    Returns:
      (key, parameters, one client's data) -> its update. The update's `loss` is the mean over the windows drawn in the
      last epoch, or in all steps where `local_steps` are given; it is for the log, has no noise, and is outside of the
      guarantee.

    Guarantees:
      The sum before noise is that of the clipped gradients (test:
      `tests/federated/test_private_local_training.py::test_a_step_is_the_sum_of_clipped_gradients_of_a_plain_loop`);
      noise of the promised deviation is on every step's sum (test: `...::test_the_noise_is_what_was_promised`).
      Windows are drawn independently with probability B / N (test:
      `...::test_windows_are_drawn_independently_with_the_rate_of_the_accountant`).
      Padding changes nothing (test: `...::test_padding_changes_nothing`).
      Copies are averaged before the clip (test: `...::test_copies_of_a_window_are_averaged_before_the_clip`).

    References:
      Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1.
      De et al. 2022, "Unlocking High-Accuracy Differentially Private Image Classification through Scale", section 3.2
      (augmentation multiplicity).
      Chua et al. 2024, "Scalable DP-SGD: Shuffling vs. Poisson Subsampling", section 1, on why shuffled batches must
      not be accounted as Poisson-sampled ones.
    """
    if microbatch_size is None:
        microbatch_size = 8 if jax.default_backend() == "cpu" else 256
    positive = {"batch_size": batch_size, "local_epochs": local_epochs, "window_length": window_length}
    for name, value in (positive | {"microbatch_size": microbatch_size, "copies": copies}).items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if not 0.0 <= sampling_rate <= 1.0 or local_steps < 0:
        raise ValueError(
            f"sampling_rate={sampling_rate} must lie in [0, 1] and local_steps={local_steps} be at least 0; 0 goes by "
            "batch_size and local_epochs."
        )

    def window_gradient(params: PyTree, window: jax.Array, key: jax.Array) -> tuple[jax.Array, PyTree]:
        windows = jnp.broadcast_to(window, (copies, *window.shape))
        value, gradient = jax.value_and_grad(lambda p: jnp.mean(loss(p, windows, key)))(params)
        return value, mechanism.clip(gradient)

    def gradient_sum(params: PyTree, data: ClientData, drawn: jax.Array, key: jax.Array) -> tuple[PyTree, jax.Array]:
        """The sum of the drawn windows' clipped gradients, and of their losses."""
        order, count = _drawn_first(drawn, microbatch_size), jnp.sum(drawn.astype(jnp.int32))

        def add_microbatch(i: jax.Array, sums: tuple[PyTree, jax.Array]) -> tuple[PyTree, jax.Array]:
            index = jax.lax.dynamic_slice_in_dim(order, i * microbatch_size, microbatch_size)
            real = (i * microbatch_size + jnp.arange(microbatch_size) < count).astype(jnp.float32)
            windows = gather_windows(data.series, data.starts[index], window_length)
            keys = jax.vmap(lambda window: jax.random.fold_in(key, window))(index)
            losses, gradients = jax.vmap(window_gradient, in_axes=(None, 0, 0))(params, windows, keys)
            total, loss_sum = sums
            total = optax.tree.add(total, trees.weighted_sum(gradients, real))
            return total, loss_sum + jnp.sum(jnp.where(real > 0.0, losses, 0.0))

        zeros = (optax.tree.zeros_like(params), jnp.zeros(()))
        return jax.lax.fori_loop(0, (count + microbatch_size - 1) // microbatch_size, add_microbatch, zeros)

    def train_client(key: jax.Array, start: PyTree, data: ClientData) -> ClientUpdate:
        num_windows = jnp.sum(data.mask.astype(jnp.int32))
        size = jnp.maximum(num_windows, 1).astype(jnp.float32)
        if sampling_rate:
            rate, epoch_steps = jnp.float32(sampling_rate), jnp.int32(math.ceil(1.0 / sampling_rate))
        else:
            rate = jnp.minimum(jnp.float32(batch_size) / size, 1.0)
            epoch_steps = (num_windows + batch_size - 1) // batch_size
        num_steps = jnp.where(num_windows > 0, local_steps or local_epochs * epoch_steps, 0)
        log_from = 0 if local_steps else num_steps - epoch_steps

        def step(i: jax.Array, carry: tuple[PyTree, PyTree, jax.Array]) -> tuple[PyTree, PyTree, jax.Array]:
            params, optimizer_state, log = carry
            key_draw, key_loss, key_noise = jax.random.split(jax.random.fold_in(key, i), 3)
            drawn = draw_windows(key_draw, data.mask, rate)
            total, loss_sum = gradient_sum(params, data, drawn, key_loss)
            gradient = optax.tree.scale(1.0 / (rate * size), mechanism.add_noise(key_noise, total))
            if not (isinstance(proximal_mu, float) and proximal_mu == 0.0):
                gradient = optax.tree.add_scale(gradient, proximal_mu, optax.tree.sub(params, start))
            updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
            in_last_epoch = (i >= log_from).astype(jnp.float32)
            log += in_last_epoch * jnp.stack([loss_sum, jnp.sum(drawn.astype(jnp.float32))])
            return optax.apply_updates(params, updates), optimizer_state, log

        carry = (start, optimizer.init(start), jnp.zeros(2))
        params, _, log = jax.lax.fori_loop(0, num_steps, step, carry)
        delta = optax.tree.sub(params, start)
        return ClientUpdate(delta, num_windows.astype(jnp.float32), log[0] / jnp.maximum(log[1], 1.0))

    return train_client


def draw_windows(key: jax.Array, mask: Bool[jax.Array, " N"], rate: Float[jax.Array, ""]) -> Bool[jax.Array, " N"]:
    """Draws each real window by itself with probability q; all of them where it is 1.

    A window is drawn where 32 random bits are below q of their range: the probability is q as float32, or below it by
    less than 2^-32, and the accountant is told the same float32.

    Args:
      key: of one step.
      mask: True for a real window.
      rate: q in (0, 1].
    """
    bound = (jnp.where(rate < 1.0, rate, 0.0) * 2.0**32).astype(jnp.uint32)
    below = jax.random.bits(key, mask.shape, jnp.uint32) < bound
    return mask & (below | (rate >= 1.0))


def _drawn_first(drawn: Bool[jax.Array, " N"], multiple: int) -> Int[jax.Array, " M"]:
    """Window indices, the drawn ones first, as many as fill whole microbatches."""
    return jnp.pad(jnp.argsort(~drawn, stable=True), (0, -len(drawn) % multiple))
