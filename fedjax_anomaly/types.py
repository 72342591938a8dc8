"""The legend of dimensions and the containers that flow between folders.

The same letters everywhere: C clients, S clients of a cohort, K clusters, N windows, T time steps, F encoded features,
P numeric columns, Q categorical columns, L rows, B batch, H hidden, Z latent, R rounds.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

PyTree = Any


class ClientData(NamedTuple):
    """Every client's training rows and windows, as NumPy or JAX arrays; every leaf leads with C.

    Windows are gathered from `series` when they are needed and never stored T-fold. A slice `tree.map(lambda x: x[c])`
    is one client's data.

    Attributes:
      series: each client's encoded rows, in order, padded with zeros.
      starts: the first row of each window, padded with zeros.
      mask: True for a real window, False for padding.
    """

    series: Float[Any, "C L F"]
    starts: Int[Any, "C N"]
    mask: Bool[Any, "C N"]


class RowSet(NamedTuple):
    """Rows to be scored, of all clients together: clients differ in size and nothing is padded to the largest.

    Attributes:
      series: encoded rows, a client's rows consecutive and in order.
      starts: the first row of each window; together the windows cover every row.
      client: the client of each row.
      row: the row's index in the table it came from, or -1 for padding of a segment shorter than a window.
    """

    series: Float[np.ndarray, "L F"]
    starts: Int[np.ndarray, " N"]
    client: Int[np.ndarray, " L"]
    row: Int[np.ndarray, " L"]


class FeatureLayout(NamedTuple):
    """How an encoded row is laid out: numeric columns first, then one one-hot block per categorical column.

    Hashable, so it can be closed over by compiled functions.

    Attributes:
      num_numeric: P.
      block_sizes: the width of each of the Q one-hot blocks.
    """

    num_numeric: int
    block_sizes: tuple[int, ...] = ()

    @property
    def num_features(self) -> int:
        """F, the width of an encoded row."""
        return self.num_numeric + sum(self.block_sizes)

    @property
    def num_columns(self) -> int:
        """P + Q, the number of columns that are scored."""
        return self.num_numeric + len(self.block_sizes)

    def column_slices(self) -> tuple[slice, ...]:
        """The encoded features of each of the P + Q columns."""
        slices = [slice(p, p + 1) for p in range(self.num_numeric)]
        begin = self.num_numeric
        for size in self.block_sizes:
            slices.append(slice(begin, begin + size))
            begin += size
        return tuple(slices)
