"""How well a row was reconstructed: one error per column, whatever the column's width in the encoding."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from fedjax_anomaly.types import FeatureLayout


def column_errors(
    layout: FeatureLayout, rows: Float[jax.Array, "*batch F"], outputs: Float[jax.Array, "*batch F"]
) -> Float[jax.Array, "*batch columns"]:
    """The reconstruction error of each column: squared error if numeric, cross-entropy if categorical.

    Args:
      layout: of the encoded rows.
      rows: encoded rows.
      outputs: the model's output: values for numeric columns, logits for one-hot blocks.

    Returns:
      P + Q errors per row, non-negative, numeric columns first.

    Guarantees:
      Equal to scikit-learn's `log_loss` and to the squared difference (test:
      `tests/models/test_reconstruction.py::test_column_errors_are_squared_error_and_cross_entropy`).
    """
    numeric, *blocks = layout_slices(layout)
    errors = [jnp.square(rows[..., numeric] - outputs[..., numeric])]
    for block in blocks:
        log_probabilities = jax.nn.log_softmax(outputs[..., block], axis=-1)
        errors.append(-jnp.sum(rows[..., block] * log_probabilities, axis=-1, keepdims=True))
    return jnp.concatenate(errors, axis=-1)


def layout_slices(layout: FeatureLayout) -> list[slice]:
    """The numeric features as one slice, then one slice per one-hot block."""
    slices = [slice(0, layout.num_numeric)]
    for size in layout.block_sizes:
        slices.append(slice(slices[-1].stop, slices[-1].stop + size))
    return slices
