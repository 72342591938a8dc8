"""The gradient-leakage audit of a run: one step's update in the clear, clipped and noised, and in a secure sum."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from fedjax_anomaly.auditing.leakage import (
    Inversion,
    Inverter,
    Prior,
    WindowGradient,
    gradient_inverter,
    matched_errors,
)
from fedjax_anomaly.experiment.build import Experiment
from fedjax_anomaly.federated.algorithm import TrainClient
from fedjax_anomaly.federated.local_training import local_training
from fedjax_anomaly.federated.private_local_training import private_local_training
from fedjax_anomaly.federated.secure_sum import secure_sum
from fedjax_anomaly.privacy import mechanisms
from fedjax_anomaly.types import ClientData

_ROUNDING = 2e-7
"""Of a float32 gradient, over its root mean square."""

_LEAST_STD = 0.05
"""Of the attacker's prior, for columns that are constant in training."""

_NOISE_WITHOUT_DP = 1.0

_SUMMED = 4
"""Clients of the secure sum unless told otherwise; four take a minute, twenty much longer."""

_RESTARTS = 5
"""Of a search; fewer for sums of more clients, each of which takes long."""


@dataclasses.dataclass(frozen=True)
class Leak:
    """What an attack on one kind of update brought to light.

    Attributes:
      name: of the case.
      seen: what the attacker sees, in words.
      true: Float[B, T, F], the windows.
      found: Float[B, T, F], the reconstructions, in the order of the true ones.
      errors: Float[B], each reconstruction's distance from the truth over that of the mean of normal windows.
      misfit: of the gradient, in units of the noise; far above 1 where the search failed.
      iterations: of the search.
      seconds: of the search.
    """

    name: str
    seen: str
    true: np.ndarray
    found: np.ndarray
    errors: np.ndarray
    misfit: float
    iterations: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The numbers for `audit.json`."""
        return {
            "seen": self.seen,
            "relative_errors": self.errors.tolist(),
            "median_relative_error": float(np.median(self.errors)),
            "least_relative_error": float(self.errors.min()),
            "misfit": self.misfit,
            "iterations": self.iterations,
            "seconds": self.seconds,
        }


def leakage_audit(
    experiment: Experiment,
    *,
    num_targets: int = 3,
    num_summed: int = 0,
    max_iterations: int = 60,
    seed: int = 0,
) -> tuple[Leak, ...]:
    """Inverts the update that a client makes of one window in one step of SGD from the initial model.

    This is what leaks most: later models, more windows and steps, and optimizers that divide by the gradient's size
    say less of a single window. Updates come from the package's own local training, example-level privacy and secure
    aggregation. The attacker knows the model, the learning rate, the numbers of windows, the noise, and the mean and
    deviation of every column of normal data.

    Args:
      experiment: of the run; its learning rate, clip norm and noise are used, noise multiplier 1 where it has none.
      num_targets: windows, of different clients where there are as many, that are attacked one by one.
      num_summed: clients of the secure sum, one window each; 0 takes 4, or all where there are fewer. Their windows
        are sought together, which takes time as the cube of their number.
      max_iterations: of each restart of a search.
      seed: of the choice of windows, the model, noise and masks, and restarts.

    Raises:
      ValueError: for sizes out of range.
    """
    num_clients = experiment.federation.num_clients
    num_summed = num_summed or min(_SUMMED, num_clients)
    if not 1 <= num_targets <= num_clients:
        raise ValueError(f"leakage_targets={num_targets} must lie between 1 and num_clients={num_clients}.")
    if not 2 <= num_summed <= num_clients:
        raise ValueError(f"leakage_clients={num_summed} must lie between 2 and num_clients={num_clients}.")
    key_model, key_noise, key_sum = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0x1EAC), 3)
    scene = _Scene(experiment, key_model, max_iterations, seed)
    targets = scene.windows(max(num_targets, num_summed))
    return (
        scene.attack_each("plain", targets[:num_targets]),
        scene.attack_each("clipped and noised", targets[:num_targets], key_noise),
        scene.attack_sum(targets[:num_summed], key_sum),
    )


class _Scene:
    """A run's model at its start, and what its clients send of single windows."""

    def __init__(self, experiment: Experiment, key: jax.Array, max_iterations: int, seed: int) -> None:
        self._experiment, self._max_iterations, self._seed = experiment, max_iterations, seed
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 0x1EAD]))
        self._params = jax.jit(experiment.model.init)(key)
        self._learning_rate = experiment.config.learning_rate
        train, length = experiment.federation.train, experiment.federation.window_length
        self._shape = (length, train.series.shape[-1])
        rows = np.concatenate(
            [
                train.series[client, (starts[mask][:, None] + np.arange(length)).ravel()]
                for client, (starts, mask) in enumerate(zip(train.starts, train.mask, strict=True))
            ]
        ).astype(np.float64)
        deviation = np.maximum(rows.std(axis=0), _LEAST_STD)
        self._prior = Prior(np.tile(rows.mean(axis=0), length), np.tile(deviation, length))

    def windows(self, count: int) -> np.ndarray:
        """Float32[count, T, F], a random training window of each of so many clients."""
        train, length = self._experiment.federation.train, self._experiment.federation.window_length
        clients = self._rng.permutation(len(train.mask))[:count]
        starts = [self._rng.choice(train.starts[client][train.mask[client]]) for client in clients]
        return np.stack([train.series[c, s : s + length] for c, s in zip(clients, starts, strict=True)])

    def attack_each(self, name: str, targets: np.ndarray, key_noise: jax.Array | None = None) -> Leak:
        """One window's update after the other; with a key, of example-level private training."""
        begin = time.perf_counter()
        config, privacy = self._experiment.config, self._experiment.privacy
        clip_norm, noise, gradient = None, 0.0, self._window_gradient(None)
        seen = "one client's update of one window"
        train = local_training(
            self._experiment.model.loss, optax.sgd(self._learning_rate), window_length=self._shape[0], batch_size=1
        )
        if key_noise is not None:
            multiplier = _NOISE_WITHOUT_DP if privacy is None else privacy.noise_multiplier
            clip_norm, noise = config.clip_norm, multiplier * config.clip_norm
            gradient = self._window_gradient(clip_norm)
            seen += f", clipped to norm {clip_norm:g} with noise multiplier {multiplier:.3g}"
            train = private_local_training(
                self._experiment.model.loss,
                optax.sgd(self._learning_rate),
                mechanisms.gaussian(clip_norm, multiplier),
                window_length=self._shape[0],
                batch_size=1,
            )
        key = jax.random.key(0) if key_noise is None else key_noise
        sent = self._updates(train, key, targets)
        inverter = self._inverter(gradient, 1)
        found = [self._invert(inverter, update, noise, 1) for update in np.asarray(sent)]
        windows = np.concatenate([one.windows for one in found])
        errors = np.array(
            [
                matched_errors(target[None], window[None], self._prior.mean)[0][0]
                for target, window in zip(targets.reshape(len(targets), -1), windows, strict=True)
            ]
        )
        misfit, iterations = max(one.misfit for one in found), sum(one.iterations for one in found)
        seconds = time.perf_counter() - begin
        return Leak(name, seen, targets, windows.reshape(targets.shape), errors, misfit, iterations, seconds)

    def attack_sum(self, targets: np.ndarray, key: jax.Array) -> Leak:
        """All windows of a secure sum at once."""
        begin = time.perf_counter()
        train = local_training(
            self._experiment.model.loss, optax.sgd(self._learning_rate), window_length=self._shape[0], batch_size=1
        )
        key_train, key_sum = jax.random.split(key)
        bound = self._experiment.config.secagg_clip
        aggregator = secure_sum("secagg", max_weight=1.0, clip=bound)
        updates = self._updates(train, key_train, targets)
        weights = jnp.ones(len(targets))
        _, summed = jax.jit(aggregator.aggregate)(key_sum, aggregator.init(self._params), updates, weights)
        step = len(targets) * bound / 2.0**30
        rounding = step * np.sqrt(len(targets) / 12.0) / len(targets) / self._learning_rate
        mean = np.asarray(summed.total, np.float64) / float(summed.weight)
        inverter = self._inverter(self._window_gradient(None), len(targets))
        found = self._invert(inverter, mean, float(rounding), len(targets))
        flat = targets.reshape(len(targets), -1)
        errors, matched = matched_errors(flat, found.windows, self._prior.mean)
        seconds = time.perf_counter() - begin
        seen = f"the secure sum of {len(targets)} clients' updates, of one window each"
        return Leak(
            "secure sum", seen, targets, matched.reshape(targets.shape), errors, found.misfit, found.iterations, seconds
        )

    def _updates(self, train: TrainClient, key: jax.Array, targets: np.ndarray) -> jax.Array:
        """Float[B, P], the update of a client that holds one window, for each of the windows."""
        one = (jnp.zeros((1,), jnp.int32), jnp.ones((1,), bool))

        def update(number: jax.Array, window: jax.Array) -> jax.Array:
            sent = train(jax.random.fold_in(key, number), self._params, ClientData(window, *one))
            return ravel_pytree(sent.delta)[0]

        numbers = jnp.arange(len(targets))
        return jax.jit(lambda pairs: jax.lax.map(lambda pair: update(*pair), pairs))((numbers, jnp.asarray(targets)))

    def _window_gradient(self, clip_norm: float | None) -> WindowGradient:
        """What a window adds to a gradient; with a clip norm, after the clip, which the attacker knows too."""
        clip = (lambda tree: tree) if clip_norm is None else mechanisms.gaussian(clip_norm, 0.0).clip

        def gradient(flat: jax.Array) -> jax.Array:
            window = flat.reshape(1, *self._shape)
            return ravel_pytree(clip(jax.grad(lambda p: self._experiment.model.loss(p, window)[0])(self._params)))[0]

        return gradient

    def _inverter(self, gradient: WindowGradient, num_windows: int) -> Inverter:
        return gradient_inverter(
            gradient,
            self._prior,
            num_windows=num_windows,
            max_iterations=self._max_iterations,
            max_restarts=max(1, _RESTARTS * _SUMMED // max(num_windows, _SUMMED)),
        )

    def _invert(self, inverter: Inverter, update: np.ndarray, noise: float, num_windows: int) -> Inversion:
        """Turns an update into the gradient of its step, with the rounding of the one taken for noise on the other."""
        observed = -update.astype(np.float64) / self._learning_rate
        weights = np.asarray(ravel_pytree(self._params)[0])
        of_update = np.sqrt(np.mean(np.spacing(np.abs(weights)).astype(np.float64) ** 2) / 12.0) / self._learning_rate
        of_gradient = _ROUNDING * np.sqrt(np.mean(observed**2))
        std = float(np.sqrt(noise**2 + of_update**2 / num_windows + of_gradient**2))
        return inverter(observed, std, self._seed)
