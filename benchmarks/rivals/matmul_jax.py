"""The machine's float32 matrix product by JAX, on all cores; a round is one product of N x N."""

import jax

from rivals.protocol import MATMUL_SIZE, Turns


def main() -> None:
    turns = Turns()
    left, right = jax.random.uniform(jax.random.key(0), (2, MATMUL_SIZE, MATMUL_SIZE))
    multiply = jax.jit(lambda a, b: a @ b)
    while count := turns.ask():
        for _ in range(count):
            jax.block_until_ready(multiply(left, right))
        turns.done()


if __name__ == "__main__":
    main()
