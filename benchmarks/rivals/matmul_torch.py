"""The machine's float32 matrix product by PyTorch, on all cores; a round is one product of N x N."""

import os

import torch

from rivals.protocol import MATMUL_SIZE, Turns


def main() -> None:
    turns = Turns()
    torch.set_num_threads(os.cpu_count() or 1)
    left, right = torch.rand(2, MATMUL_SIZE, MATMUL_SIZE)
    product = torch.empty_like(left)
    while count := turns.ask():
        for _ in range(count):
            torch.mm(left, right, out=product)
        turns.done()


if __name__ == "__main__":
    main()
