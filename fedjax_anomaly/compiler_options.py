"""Options of XLA's compiler that pay for training; one that the installed version does not know is left out."""

import functools

import jax

_ON_CPU = {
    # XLA keeps to vectors of 256 bits also where the CPU has wider ones. W1 of the benchmarks: 3 % more rounds.
    "xla_cpu_prefer_vector_width": "512",
}


def compiler_options() -> dict[str, str]:
    """Options for `jax.jit(..., compiler_options=...)` around whole rounds, on the default platform.

    Guarantees:
      An option that XLA does not know is left out (test:
      `tests/test_compiler_options.py::test_an_unknown_option_is_left_out`).
    """
    candidates = _ON_CPU if jax.default_backend() == "cpu" else {}
    return {name: value for name, value in candidates.items() if _is_known(name, value)}


@functools.cache
def _is_known(name: str, value: str) -> bool:
    """Whether XLA compiles the smallest program with it: only XLA knows its options, and they come and go."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
