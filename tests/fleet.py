"""Small data for tests: tables by hand, and clients with windows of their own."""

import numpy as np

from fedjax_anomaly.data.table import Categorical, Dataset, RowOrder, Table
from fedjax_anomaly.types import ClientData


def table(
    num_rows: int,
    *,
    seed: int = 0,
    attack: list[str] | None = None,
    source: list[str] | None = None,
    protocols: tuple[str, ...] = ("icmp", "tcp", "udp"),
) -> Table:
    """Two numeric columns and one categorical column of random values."""
    rng = np.random.default_rng(seed)
    return Table(
        numeric=rng.lognormal(size=(num_rows, 2)).astype(np.float32),
        numeric_names=("bytes", "count"),
        categorical=(Categorical.from_strings(rng.choice(protocols, size=num_rows)),),
        categorical_names=("protocol",),
        attack=Categorical.from_strings(attack or ["normal"] * num_rows),
        time=None,
        source=None if source is None else Categorical.from_strings(source),
    )


def dataset(train: Table, test: Table, row_order: RowOrder = "none") -> Dataset:
    """A data set of two tables, partitioned by protocol."""
    groups = (("bytes", "count"), ("protocol",)) if row_order == "none" else None
    return Dataset("tiny", train, test, row_order, groups, category_columns=("protocol",))


def client_data(sizes: list[int], *, num_features: int = 3, window_length: int = 4, seed: int = 0) -> ClientData:
    """Clients with the given numbers of windows, padded to the largest."""
    rng = np.random.default_rng(seed)
    largest = max(sizes)
    series = rng.normal(size=(len(sizes), largest + window_length - 1, num_features)).astype(np.float32)
    starts = np.tile(np.arange(largest, dtype=np.int32), (len(sizes), 1))
    mask = np.arange(largest)[None] < np.asarray(sizes)[:, None]
    return ClientData(series, starts * mask, mask)
