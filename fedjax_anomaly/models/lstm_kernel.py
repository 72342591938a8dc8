"""The recurrent part of an LSTM as one kernel on a GPU: weights and states stay on the chip over all steps.

A step by XLA is several kernels, each of them shorter than its launch. Here a program of the grid takes some sequences
of one client through all steps; `vmap` over clients adds an axis to the grid. Without a GPU, in tests, the kernels are
interpreted.
"""

import functools
import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from fedjax_anomaly.models.products import MatmulDtype

_SEQUENCES = 16
"""Of one program: the smallest tile of the matrix units. Larger ones were slower, as fewer programs share the chip."""

_HIDDEN_SIZES = (16, 32, 64)
"""Whose recurrent weights stay in the registers of one program; with 128 the kernel hardly gains on XLA's steps."""

_PRECISION: dict[MatmulDtype, Any] = {
    # Three products of TF32 for one, within float32's rounding: hardly slower than a single one.
    "float32": jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3,
    "bfloat16": jax.lax.DotAlgorithmPreset.BF16_BF16_F32,
}


def applies(batch_size: int, hidden_size: int, dtype: Any) -> bool:
    """Whether there is a GPU, JAX has kernels for it, and they take a batch of B sequences and states of H."""
    fits = batch_size % _SEQUENCES == 0 and hidden_size in _HIDDEN_SIZES and dtype == jnp.float32
    return fits and jax.default_backend() == "gpu" and _has_triton()


@functools.cache
def _has_triton() -> bool:
    """JAX 0.11 says that a later one will come without it; XLA's steps are used then."""
    try:
        importlib.import_module("jax.experimental.pallas.triton")
    except ImportError:
        return False
    return True


def forward(
    matmul_dtype: MatmulDtype,
    projected: Float[jax.Array, "T B 4H"],
    bias: Float[jax.Array, "1 4H"],
    recurrent: Float[jax.Array, "H 4H"],
) -> list[jax.Array]:
    """All steps from states of zero.

    Args:
      matmul_dtype: of the operands of the products.
      projected: the inputs' part of what goes into the tanh of the gates i, f, g, o.
      bias: added to it.
      recurrent: weights of the states' part.

    Returns:
      Of each step the state [T, B, H], the tanh of the gates [T, B, 4H], c before it and the tanh of c [T, B, H].

    Guarantees:
      They, the gradients and their derivatives are those of XLA's steps (tests: `tests/models/test_lstm_kernel.py`).
    """
    narrow = (*projected.shape[:2], len(recurrent))
    results = [narrow, projected.shape, narrow, narrow]
    return _call(_forward, results, matmul_dtype, projected + bias[None], recurrent=recurrent)


def backward(
    matmul_dtype: MatmulDtype,
    d_states: Float[jax.Array, "T B H"],
    gates: Float[jax.Array, "T B 4H"],
    c_before: Float[jax.Array, "T B H"],
    squashed: Float[jax.Array, "T B H"],
    recurrent: Float[jax.Array, "H 4H"],
) -> Float[jax.Array, "T B 4H"]:
    """The gradient of what goes into the tanh of the gates, at every step.

    Args:
      matmul_dtype: of the operands of the products.
      d_states: the gradient of each state, without its part through later states.
      gates: this and the next two as `forward` returned them.
      c_before: see there.
      squashed: see there.
      recurrent: as `forward` had it.
    """
    return _call(_backward, [gates.shape], matmul_dtype, d_states, gates, c_before, squashed, recurrent=recurrent)[0]


def _call(
    kernel: Callable[..., None],
    results: list[tuple[int, ...]],
    matmul_dtype: MatmulDtype,
    *sequences: jax.Array,
    recurrent: jax.Array,
) -> list[jax.Array]:
    """Runs a kernel over blocks of sequences; it gets the weights, then its operands, then what it writes."""
    # Only a GPU needs them, and they are slow to import.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    num_steps, batch_size, _ = sequences[0].shape
    interpret = jax.default_backend() != "gpu"
    precision = jax.lax.Precision.HIGHEST if interpret else _PRECISION[matmul_dtype]

    def block(shape: tuple[int, ...]) -> Any:
        return pl.BlockSpec((num_steps, _SEQUENCES, shape[-1]), lambda program: (0, program, 0))

    return pl.pallas_call(
        partial(kernel, dot=partial(jnp.dot, precision=precision)),
        grid=(batch_size // _SEQUENCES,),
        in_specs=[
            pl.BlockSpec(recurrent.shape, lambda program: (0, 0)),
            *(block(operand.shape) for operand in sequences),
        ],
        out_specs=[block(shape) for shape in results],
        out_shape=[jax.ShapeDtypeStruct(shape, recurrent.dtype) for shape in results],
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
    )(recurrent, *sequences)


def _forward(
    recurrent: Any, before_tanh: Any, states: Any, gates: Any, c_before: Any, squashed: Any, *, dot: Callable[..., Any]
) -> None:
    columns = _columns(states)
    weights = [recurrent[:, gate] for gate in columns]

    def step(t: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        c, h = carry
        tanh = [jnp.tanh(before_tanh[t, :, gate] + dot(h, own)) for gate, own in zip(columns, weights, strict=True)]
        for gate, value in zip(columns, tanh, strict=True):
            gates[t, :, gate] = value
        i, f, g, o = gate_values(tanh)
        c_before[t] = c
        c = f * c + i * g
        tanh_c = jnp.tanh(c)
        h = o * tanh_c
        squashed[t], states[t] = tanh_c, h
        return c, h

    zeros = jnp.zeros(states.shape[1:], states.dtype)
    jax.lax.fori_loop(0, len(states), step, (zeros, zeros))


def _backward(
    recurrent: Any, d_states: Any, gates: Any, c_before: Any, squashed: Any, d_gates: Any, *, dot: Callable[..., Any]
) -> None:
    columns = _columns(d_states)
    transposed = [recurrent[:, gate].T for gate in columns]
    last = len(d_states) - 1

    def step(k: jax.Array, later: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        t = last - k
        dh, tanh = d_states[t] + later[0], [gates[t, :, gate] for gate in columns]
        i, f, g, o = gate_values(tanh)
        dc = later[1] + dh * (o * (1.0 - jnp.square(squashed[t])))
        d_values = dc * g, dc * c_before[t], dc * i, dh * squashed[t]
        halves = 0.5, 0.5, 1.0, 0.5
        parts = [d * (half * (1.0 - jnp.square(v))) for d, half, v in zip(d_values, halves, tanh, strict=True)]
        for gate, part in zip(columns, parts, strict=True):
            d_gates[t, :, gate] = part
        dh_before = sum(dot(part, own) for part, own in zip(parts, transposed, strict=True))
        return dh_before, dc * f

    zeros = jnp.zeros(d_states.shape[1:], d_states.dtype)
    jax.lax.fori_loop(0, len(d_states), step, (zeros, zeros))


def _columns(states: Any) -> list[slice]:
    """Of each gate."""
    size = states.shape[-1]
    return [slice(gate * size, (gate + 1) * size) for gate in range(4)]


def gate_values(tanh: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """The gates i, f, g, o, from the tanh of all four."""
    i, f, g, o = tanh
    return 0.5 * i + 0.5, 0.5 * f + 0.5, g, 0.5 * o + 0.5
