"""Gradient leakage: from an update back to the windows it was computed on."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float

WindowGradient = Callable[[jax.Array], jax.Array]
"""One window, flat [D] -> what it adds to a gradient, flat [P]; differentiable."""


class Prior(NamedTuple):
    """What an attacker knows of normal windows beforehand: a mean and a deviation of every value."""

    mean: Float[np.ndarray, " D"]
    std: Float[np.ndarray, " D"]


class Inversion(NamedTuple):
    """The windows that explain a gradient best.

    Attributes:
      windows: in no particular order.
      misfit: mean squared residual of the gradient in units of the noise; about 1 or less for an explanation.
      iterations: of all restarts together.
    """

    windows: Float[np.ndarray, "B D"]
    misfit: float
    iterations: int


Inverter = Callable[[Float[np.ndarray, " P"], float, int], Inversion]
"""(the observed mean gradient, the deviation of the noise on each coordinate, seed) -> the windows."""


def gradient_inverter(
    window_gradient: WindowGradient,
    prior: Prior,
    *,
    num_windows: int = 1,
    max_iterations: int = 60,
    max_restarts: int = 5,
) -> Inverter:
    """Builds the function that finds the windows whose mean gradient is the one observed, by L2 matching.

    It is the most probable answer for Gaussian noise on the gradient and a Gaussian prior on windows, found by
    Levenberg and Marquardt's method with exact Jacobians. Descent methods (Adam or L-BFGS, on L2 or cosine) come to
    nothing on LSTM autoencoders: the Jacobian of a gradient by its window has singular values from 1e-1 to 1e-10, so
    that descent sees a few directions only, while a step of this method solves for all at once. The noise is taken for
    larger than it is at first and lowered in thirds, which keeps early steps within reach of the truth.

    Args:
      window_gradient: what one window adds.
      prior: what is known of windows; with a noise that drowns the gradient the answer is its mean.
      num_windows: B, known to the attacker.
      max_iterations: of one restart; each solves B D linear equations.
      max_restarts: from other random windows, until the gradient is explained to within the noise.

    Returns:
      The inverter. Its noise must be positive: where there is none, give the rounding error.

    Guarantees:
      An LSTM autoencoder's window, and several from their mean gradient, are found to within a percent (test:
      `tests/auditing/test_leakage.py::test_windows_are_found_in_their_mean_gradient`).

    References:
      Zhu, Liu and Han 2019, "Deep Leakage from Gradients", algorithm 1 (the objective). Geiping et al. 2020,
      "Inverting Gradients", section 3 (a prior and restarts). Nocedal and Wright 2006, "Numerical Optimization",
      section 10.3 (the method).
    """
    shape = (num_windows, len(prior.mean))
    everywhere = Prior(np.tile(prior.mean, num_windows), np.tile(prior.std, num_windows))

    @jax.jit
    def gradient(flat: jax.Array) -> jax.Array:
        return jnp.mean(jax.lax.map(window_gradient, flat.reshape(shape)), axis=0)

    @jax.jit
    def jacobian(flat: jax.Array) -> jax.Array:
        columns = jnp.swapaxes(jax.lax.map(jax.jacfwd(window_gradient), flat.reshape(shape)), 0, 1)
        return columns.reshape(len(columns), -1) / num_windows

    def jacobian_at(flat: np.ndarray) -> np.ndarray:
        return np.asarray(jacobian(jnp.asarray(flat, jnp.float32)), np.float64)

    def invert(observed: np.ndarray, noise_std: float, seed: int) -> Inversion:
        def residual(flat: np.ndarray) -> np.ndarray:
            return np.asarray(gradient(jnp.asarray(flat, jnp.float32)), np.float64) - observed

        rng = np.random.default_rng(np.random.SeedSequence([seed, 0x1EAC]))
        best, iterations = Inversion(everywhere.mean.reshape(shape), np.inf, 0), 0
        for _ in range(max_restarts):
            begin = everywhere.mean + 0.3 * everywhere.std * rng.normal(size=everywhere.mean.shape)
            found, used = _most_probable(residual, jacobian_at, begin, everywhere, noise_std, max_iterations)
            iterations += used
            misfit = float(np.mean(np.square(residual(found)))) / noise_std**2
            if misfit < best.misfit:
                best = Inversion(found.reshape(shape), misfit, iterations)
            if misfit < 2.0:
                break
        return best._replace(iterations=iterations)

    return invert


def _most_probable(
    residual: Callable[[np.ndarray], np.ndarray],
    jacobian: Callable[[np.ndarray], np.ndarray],
    begin: np.ndarray,
    prior: Prior,
    noise_std: float,
    max_iterations: int,
) -> tuple[np.ndarray, int]:
    """Least squares of the residual over the noise and of the distance from the prior; and the iterations it took."""
    at, off = begin, residual(begin)
    noise, damping = max(noise_std, float(np.sqrt(np.mean(off**2)))), 1e-3
    precision = 1.0 / prior.std**2

    def cost(at: np.ndarray, off: np.ndarray) -> float:
        return 0.5 * (float(off @ off) / noise**2 + float(np.square(at - prior.mean) @ precision))

    for iteration in range(1, max_iterations + 1):
        slopes = jacobian(at) / noise
        curvature = slopes.T @ slopes
        curvature[np.diag_indices_from(curvature)] += precision
        downhill = slopes.T @ off / noise + (at - prior.mean) * precision
        before, gain = cost(at, off), 0.0
        for _ in range(8):
            damped = curvature.copy()
            damped[np.diag_indices_from(damped)] *= 1.0 + damping
            factor = scipy.linalg.cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
            proposed = at - scipy.linalg.cho_solve(factor, downhill, check_finite=False)
            off_there = residual(proposed)
            gain = before - cost(proposed, off_there)
            if gain > 0.0:
                at, off, damping = proposed, off_there, max(damping / 5.0, 1e-9)
                break
            damping *= 4.0
        if gain < 1e-2 * before:
            if noise <= noise_std:
                return at, iteration
            noise = max(noise_std, noise / 3.0)
    return at, max_iterations


def matched_errors(
    true: Float[np.ndarray, "B D"], found: Float[np.ndarray, "B D"], guess: Float[np.ndarray, " D"]
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, "B D"]]:
    """How much of each true window stays unknown after the attack.

    Args:
      true: the windows.
      found: by the attack, in any order.
      guess: the best that can be said of all windows without an update: their mean.

    Returns:
      The distance of each true window from the one it was matched with, over its distance from the guess: 0 is
      exact, 1 no better than the guess; and the matched windows in the order of the true ones. Windows are matched so
      that the sum of squared distances is the least.
    """
    distances = np.sum(np.square(true[:, None] - found[None]), axis=-1)
    _, match = scipy.optimize.linear_sum_assignment(distances)
    errors = np.sqrt(distances[np.arange(len(true)), match] / np.sum(np.square(true - guess), axis=-1))
    return errors, found[match]
