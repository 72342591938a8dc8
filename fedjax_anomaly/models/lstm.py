"""An LSTM over whole sequences, with a gradient by hand: a step in time does only what cannot be done at once.

    i, f, o = sigmoid(...)    g = tanh(...)    c_t = f c_(t-1) + i g    h_t = o tanh(c_t)

The gates stand side by side in the columns of every matrix, in the order i, f, g, o. One tanh serves all of them:
sigmoid(x) = (1 + tanh(x / 2)) / 2, and the columns of i, f and o are halved beforehand.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fedjax_anomaly.models import lstm_kernel
from fedjax_anomaly.models.products import MatmulDtype, product
from fedjax_anomaly.types import PyTree

_LONGEST_UNROLLED = 16
"""Sequences up to this length become straight-line code; longer ones would take too long to compile."""


class LSTMWeights(NamedTuple):
    """The parameters of one layer, gates side by side in the order i, f, g, o."""

    input_kernel: Float[jax.Array, "F 4H"]
    recurrent_kernel: Float[jax.Array, "H 4H"]
    bias: Float[jax.Array, " 4H"]


class LSTM(nn.Module):
    """One layer, its parameters those of `LSTMWeights`; each gate is initialised like that of Flax's `LSTMCell`.

    Attributes:
      hidden_size: H.
      matmul_dtype: see `lstm`.
    """

    hidden_size: int
    matmul_dtype: MatmulDtype = "float32"

    @nn.compact
    def __call__(self, inputs: Float[jax.Array, "T B F"], num_steps: int) -> Float[jax.Array, "T B H"]:
        """See `lstm`."""
        width = 4 * self.hidden_size
        kernel, recurrent = _each_gate(nn.initializers.lecun_normal()), _each_gate(nn.initializers.orthogonal())
        weights = LSTMWeights(
            self.param("input_kernel", kernel, (inputs.shape[-1], width)),
            self.param("recurrent_kernel", recurrent, (self.hidden_size, width)),
            self.param("bias", nn.initializers.zeros_init(), (width,)),
        )
        return lstm(inputs, weights, num_steps, self.matmul_dtype)


def _each_gate(init: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Four gates side by side, each drawn by itself."""

    def init_gates(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
        gates = jax.vmap(lambda key: init(key, (shape[0], shape[1] // 4)))(jax.random.split(key, 4))
        return jnp.concatenate(list(gates), axis=1)

    return init_gates


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def lstm(
    inputs: Float[jax.Array, "T B F"], weights: LSTMWeights, num_steps: int, matmul_dtype: MatmulDtype = "float32"
) -> Float[jax.Array, "T B H"]:
    """Runs one layer over a batch of sequences, from states of zero.

    Args:
      inputs: time leads; or [1, B, F], the same input at every step, which is then projected once.
      weights: of the layer.
      num_steps: T.
      matmul_dtype: of the operands of all matrix products, those of the gradient too; their sums, the states, the
        gates and the gradients keep the dtype of the weights.

    Returns:
      The hidden state after each step.

    Guarantees:
      Outputs and gradients are those of Flax's `OptimizedLSTMCell` (test:
      `tests/models/test_lstm.py::test_outputs_and_gradients_are_those_of_flax`), and gradients those of finite
      differences in float64 (test: `...::test_gradients_are_those_of_finite_differences`), also where the gradient is
      differentiated once more, forward. With bfloat16 they are off by what rounding the operands explains (test:
      `tests/models/test_products.py::test_bfloat16_is_near_float32`).

    References:
      Hochreiter and Schmidhuber 1997, "Long Short-Term Memory"; Gers et al. 2000, "Learning to Forget", section 3.
    """
    return _forward(inputs, weights, num_steps, matmul_dtype)[0]


def _forward(
    inputs: jax.Array, weights: LSTMWeights, num_steps: int, matmul_dtype: MatmulDtype
) -> tuple[jax.Array, list[jax.Array]]:
    """The states, and what the gradient needs of each step: the tanh of the gates, c before it and the tanh of c."""
    scale = _gate_scale(weights)
    projected = _product(inputs, weights.input_kernel * scale, matmul_dtype)
    projected = jnp.broadcast_to(projected, (num_steps, *projected.shape[1:]))
    states, *saved = _steps_on_this_device(
        _forward_steps,
        lstm_kernel.forward,
        matmul_dtype,
        (projected, weights.bias[None] * scale, weights.recurrent_kernel * scale),
    )
    return states, saved


def _forward_steps(matmul_dtype: MatmulDtype, projected: jax.Array, bias: jax.Array, recurrent: jax.Array) -> PyTree:
    def step(carry: tuple[jax.Array, jax.Array] | None, projected: jax.Array) -> tuple[Any, Any]:
        before_tanh = projected + bias
        if carry is not None:
            before_tanh = before_tanh + product(carry[1], recurrent, matmul_dtype)
        gates = jnp.tanh(before_tanh)
        i, f, g, o = _gate_values(gates)
        c_before = jnp.zeros_like(i) if carry is None else carry[0]
        c = f * c_before + i * g
        squashed = jnp.tanh(c)
        h = o * squashed
        return (c, h), (h, gates, c_before, squashed)

    return _scan(step, projected)


def _forward_and_save(
    inputs: jax.Array, weights: LSTMWeights, num_steps: int, matmul_dtype: MatmulDtype
) -> tuple[jax.Array, Any]:
    states, saved = _forward(inputs, weights, num_steps, matmul_dtype)
    return states, (inputs, weights, states, saved)


def _backward(
    num_steps: int, matmul_dtype: MatmulDtype, kept: Any, d_states: jax.Array
) -> tuple[jax.Array, LSTMWeights]:
    """The gradient of each step's gates in a scan backward; then every other gradient as one product over all steps."""
    inputs, weights, states, saved = kept
    scale = _gate_scale(weights)
    d_gates = _steps_on_this_device(
        _backward_steps,
        lstm_kernel.backward,
        matmul_dtype,
        (d_states, *saved, weights.recurrent_kernel * scale),
    )
    d_projected = d_gates if len(inputs) == num_steps else jnp.sum(d_gates, axis=0, keepdims=True)
    d_inputs = _product(d_projected, (weights.input_kernel * scale).T, matmul_dtype)

    before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
    inputs = jnp.broadcast_to(inputs, (num_steps, *inputs.shape[1:]))
    seen = jnp.concatenate([inputs, before, jnp.ones_like(before[..., :1])], axis=-1)
    d_weights = product(_rows(seen).T, _rows(d_gates), matmul_dtype) * scale
    width = inputs.shape[-1]
    return d_inputs, LSTMWeights(d_weights[:width], d_weights[width:-1], d_weights[-1])


lstm.defvjp(_forward_and_save, _backward)


def _backward_steps(
    matmul_dtype: MatmulDtype,
    d_states: jax.Array,
    gates: jax.Array,
    c_before: jax.Array,
    squashed: jax.Array,
    recurrent: jax.Array,
) -> jax.Array:
    recurrent_transposed = recurrent.T

    def step(later: tuple[jax.Array, ...] | None, of_step: tuple[jax.Array, ...]) -> tuple[Any, jax.Array]:
        dh, gates, c_before, squashed = of_step
        i, f, g, o = _gate_values(gates)
        slope_i, slope_f, slope_g, slope_o = _gate_slopes(gates)
        if later is not None:
            dh = dh + product(later[0], recurrent_transposed, matmul_dtype)
        dc = dh * (o * (1.0 - jnp.square(squashed)))
        if later is not None:
            _, dc_later, f_later = later
            # This is dc + f_later dc_later. Written like this, dc_later meets the product above in one operation, and
            # XLA keeps it; otherwise it computes it anew for each use, with all later steps in it (W1: 1.4 x the time).
            dc = f_later * (dc_later - dc) + (1.0 + f_later) * dc
        d_gates = jnp.concatenate(
            [dc * (g * slope_i), dc * (c_before * slope_f), dc * (i * slope_g), dh * (squashed * slope_o)], axis=-1
        )
        return (d_gates, dc, f), d_gates

    gradient: jax.Array = _scan(step, (d_states, gates, c_before, squashed), reverse=True)
    return gradient


def _steps_on_this_device(
    steps: Callable[..., PyTree],
    kernel: Callable[..., PyTree],
    matmul_dtype: MatmulDtype,
    operands: tuple[jax.Array, ...],
) -> PyTree:
    """All steps, by the kernel where it applies; forward derivatives, which it has none of, are those of `steps`."""
    sequence, recurrent = operands[0], operands[-1]
    if not lstm_kernel.applies(sequence.shape[1], len(recurrent), sequence.dtype):
        return steps(matmul_dtype, *operands)
    in_one = jax.custom_jvp(partial(kernel, matmul_dtype))
    in_one.defjvp(lambda primals, tangents: jax.jvp(partial(steps, matmul_dtype), primals, tangents))
    return in_one(*operands)


def _scan(step: Callable[[Any, Any], tuple[Any, Any]], inputs: PyTree, reverse: bool = False) -> PyTree:
    """The outputs of all steps, stacked; the first one gets None for a carry where it is unrolled, and else zeros."""
    step = jax.jit(step)
    num_steps = len(jax.tree.leaves(inputs)[0])
    if num_steps > _LONGEST_UNROLLED:
        carry, _ = jax.eval_shape(step, None, jax.tree.map(lambda leaf: leaf[0], inputs))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), carry)
        return jax.lax.scan(step, zeros, inputs, reverse=reverse)[1]
    carry, outputs = None, []
    for t in reversed(range(num_steps)) if reverse else range(num_steps):
        carry, output = step(carry, jax.tree.map(lambda leaf, t=t: leaf[t], inputs))
        outputs.append(output)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(reversed(outputs) if reverse else outputs))


def _gate_scale(weights: LSTMWeights) -> jax.Array:
    """Float[1, 4H], by which the columns of the gates are multiplied before the tanh."""
    return jnp.asarray(np.repeat([[0.5, 0.5, 1.0, 0.5]], len(weights.recurrent_kernel), axis=1), weights.bias.dtype)


def _gate_values(gates: jax.Array) -> tuple[jax.Array, ...]:
    """i, f, g, o, from the tanh of all four side by side."""
    return lstm_kernel.gate_values(jnp.split(gates, 4, axis=-1))


def _gate_slopes(gates: jax.Array) -> tuple[jax.Array, ...]:
    """The derivatives of i, f, g, o by what went into their tanh."""
    i, f, g, o = jnp.split(1.0 - jnp.square(gates), 4, axis=-1)
    return 0.5 * i, 0.5 * f, g, 0.5 * o


def _rows(sequence: jax.Array) -> jax.Array:
    return sequence.reshape(-1, sequence.shape[-1])


def _product(sequence: jax.Array, kernel: jax.Array, matmul_dtype: MatmulDtype) -> jax.Array:
    """One matrix product for all steps; of rows, as XLA's on CPU is several times slower over two leading axes."""
    return product(_rows(sequence), kernel, matmul_dtype).reshape(*sequence.shape[:-1], -1)
