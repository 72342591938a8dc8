"""Matrix products whose operands may be rounded to bfloat16, which accelerators multiply several times faster."""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

MatmulDtype = Literal["float32", "bfloat16"]
"""Of the operands: "float32" leaves them as they are."""


def product(a: Float[jax.Array, "M N"], b: Float[jax.Array, "N P"], dtype: MatmulDtype) -> Float[jax.Array, "M P"]:
    """The matrix product, summed and returned in the precision that `a` has, whatever its operands are rounded to.

    In its derivative by JAX only one operand would be rounded: gradients are written with it by hand.
    """
    result = a.dtype
    if dtype == "bfloat16":
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return jnp.matmul(a, b, preferred_element_type=result)


def dense(width: int, dtype: MatmulDtype, name: str) -> Callable[[jax.Array], jax.Array]:
    """Flax's dense layer, for rows [B, M]; its parameters, its result and their gradients are float32.

    Guarantees:
      All products, those of the gradient too, take operands of the dtype (test:
      `tests/models/test_products.py::test_every_product_takes_operands_of_the_dtype`).
    """
    return nn.Dense(width, dot_general=None if dtype == "float32" else _bfloat16_dot_general, name=name)


def _bfloat16_dot_general(rows: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
    """In place of `jax.lax.dot_general`, for the one contraction that a dense layer asks it for."""
    return _bfloat16_product(rows, kernel)


@jax.custom_vjp
def _bfloat16_product(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    return product(rows, kernel, "bfloat16")


def _forward_and_save(rows: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(rows, kernel, "bfloat16"), (rows, kernel)


def _backward(kept: tuple[jax.Array, jax.Array], d_product: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, kernel = kept
    return product(d_product, kernel.T, "bfloat16"), product(rows.T, d_product, "bfloat16")


_bfloat16_product.defvjp(_forward_and_save, _backward)
