"""Matrix products whose operands may be rounded to bfloat16, which accelerators multiply several times faster."""

from functools import partial
from typing import Literal

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


class Dense(nn.Module):
    """A dense layer, with the parameters and the initial weights of Flax's; its gradient is by hand.

    Attributes:
      width: N.
      matmul_dtype: of the operands of all products; parameters, results and gradients are float32.
    """

    width: int
    matmul_dtype: MatmulDtype = "float32"

    @nn.compact
    def __call__(self, rows: Float[jax.Array, "B M"]) -> Float[jax.Array, "B N"]:
        """See `affine`."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (rows.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        return affine(rows, kernel, bias, self.matmul_dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def affine(
    rows: Float[jax.Array, "B M"], kernel: Float[jax.Array, "M N"], bias: Float[jax.Array, " N"], dtype: MatmulDtype
) -> Float[jax.Array, "B N"]:
    """rows @ kernel + bias.

    The gradients of kernel and bias are one product, with the bias as the weight of a column of ones: XLA's CPU
    product with a narrow operand took 1.6 times as long without that column (64 x 1024 by 1024 x 8).

    Guarantees:
      Values and gradients are those of Flax's dense layer, and all products, those of the gradient too, take operands
      of the dtype (tests: `tests/models/test_products.py::test_a_dense_layer_is_that_of_flax`,
      `...::test_every_product_takes_operands_of_the_dtype`).
    """
    return product(rows, kernel, dtype) + bias[None]


def _forward_and_save(
    rows: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: MatmulDtype
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(rows, kernel, dtype) + bias[None], (rows, kernel)


def _backward(
    dtype: MatmulDtype, kept: tuple[jax.Array, jax.Array], d_outputs: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    rows, kernel = kept
    seen = jnp.concatenate([rows, jnp.ones_like(rows[:, :1])], axis=1)
    d_weights = product(seen.T, d_outputs, dtype)
    return product(d_outputs, kernel.T, dtype), d_weights[:-1], d_weights[-1]


affine.defvjp(_forward_and_save, _backward)
