"""A model small enough to check by hand: one vector, squared distance to each window's first row."""

import jax
import jax.numpy as jnp
import numpy as np

NUM_FEATURES = 3


def init(key: jax.Array) -> dict[str, jax.Array]:
    return {"center": jax.random.normal(key, (NUM_FEATURES,)), "scale": jnp.ones(())}


def loss(params: dict[str, jax.Array], windows: jax.Array, key: jax.Array | None = None) -> jax.Array:
    offset = windows[:, 0] * params["scale"] - params["center"][None]
    return 0.5 * jnp.sum(jnp.square(offset), axis=-1)


def numpy_sgd_step(center: np.ndarray, scale: float, rows: np.ndarray, rate: float) -> tuple[np.ndarray, float]:
    """One step on the mean loss of the rows; the gradient is written out."""
    offset = rows * scale - center
    return center + rate * offset.mean(axis=0), scale - rate * (offset * rows).sum(axis=1).mean()
