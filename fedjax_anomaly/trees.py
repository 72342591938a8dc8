"""Pytree arithmetic that optax.tree lacks."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from fedjax_anomaly.types import PyTree


def weighted_sum(trees: PyTree, weights: Float[jax.Array, " C"]) -> PyTree:
    """Sums a stack of trees over its leading axis: sum_c weights[c] * trees[c].

    A tree of weight zero adds exactly zero, also where it holds NaN or infinities.
    """
    used = weights != 0.0

    def leaf_sum(leaf: jax.Array) -> jax.Array:
        shape = (-1,) + (1,) * (leaf.ndim - 1)
        return jnp.tensordot(weights.astype(leaf.dtype), jnp.where(used.reshape(shape), leaf, 0.0), axes=1)

    return jax.tree.map(leaf_sum, trees)


def scale_used(tree: PyTree, weight: Float[jax.Array, ""]) -> PyTree:
    """One summand of `weighted_sum`: weight * tree, and exactly zero for a weight of zero."""
    return jax.tree.map(lambda leaf: jnp.where(weight != 0.0, weight.astype(leaf.dtype) * leaf, 0.0), tree)


def where(condition: Bool[jax.Array, ""], if_true: PyTree, if_false: PyTree) -> PyTree:
    """Chooses one of two trees, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def stack(tree: PyTree, copies: int) -> PyTree:
    """Repeats a tree along a new leading axis."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (copies, *leaf.shape)), tree)


def num_bytes(tree: PyTree) -> int:
    """Bytes of all leaves, from their shapes and dtypes."""
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def num_elements(tree: PyTree) -> int:
    """Elements of all leaves."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
