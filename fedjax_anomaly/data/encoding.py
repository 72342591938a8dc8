"""From columns to numbers, fitted on the clients' normal training rows as sums that a federation could compute.

Numeric columns: signed log1p (telemetry and traffic counts are heavy-tailed), standardised with a floor on the
deviation, clipped. Categorical columns: one-hot with one more bucket for rare and unknown values.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from fedjax_anomaly.data.table import Table
from fedjax_anomaly.types import FeatureLayout

EncodingScope = Literal["global", "client"]
"""Whose rows numeric columns are standardised by: `global` compares clients on one scale, `client` compares each client
with its own normal state and keeps the sums of numeric columns at home."""

OTHER = "<rare or unknown>"
"""The name of the bucket for categories that were rare in training or never seen."""


@dataclasses.dataclass(frozen=True)
class EncodingSums:
    """What one client contributes to the encoding; sums of several clients add up to the sum of their rows.

    Attributes:
      count: number of rows.
      total: Float[P], sum of the signed log1p of each numeric column, float64.
      squares: Float[P], sum of its squares.
      category_counts: for each categorical column, how often each value occurs.
    """

    count: int
    total: np.ndarray
    squares: np.ndarray
    category_counts: tuple[Counter[str], ...]

    def __add__(self, other: "EncodingSums") -> "EncodingSums":
        return EncodingSums(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            tuple(a + b for a, b in zip(self.category_counts, other.category_counts, strict=True)),
        )

    @property
    def num_bytes(self) -> int:
        """What one client sends: the float64 sums and one 4-byte count per category, apart from the names."""
        return 8 * (1 + 2 * len(self.total)) + self.category_bytes

    @property
    def category_bytes(self) -> int:
        """What one client sends where numeric columns are standardised by its own rows."""
        return 4 * sum(len(counts) for counts in self.category_counts)


def signed_log1p(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|): the identity near zero, a logarithm in both tails."""
    return np.sign(values) * np.log1p(np.abs(values))


def encoding_sums(normal_rows: Table) -> EncodingSums:
    """One client's contribution.

    Args:
      normal_rows: the client's normal training rows.

    Raises:
      ValueError: when an anomalous row is among them (test:
        `tests/data/test_encoding.py::test_anomalous_rows_are_refused`).
    """
    if normal_rows.label.any():
        raise ValueError(
            f"{np.count_nonzero(normal_rows.label)} of {len(normal_rows)} rows to fit the encoding on are anomalous; "
            "fit it on normal training rows only."
        )
    values = signed_log1p(normal_rows.numeric.astype(np.float64))
    counts = []
    for column in normal_rows.categorical:
        frequency = np.bincount(column.codes, minlength=len(column.names))
        counts.append(Counter({name: int(n) for name, n in zip(column.names, frequency, strict=True) if n}))
    return EncodingSums(len(normal_rows), values.sum(axis=0), np.square(values).sum(axis=0), tuple(counts))


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The fitted encoding.

    Attributes:
      mean: Float[P], of the signed log1p of each numeric column.
      deviation: Float[P], its standard deviation, at least the floor.
      vocabularies: for each categorical column the values with a bucket of their own; one more bucket follows them.
      clip: bound on the absolute standardised value.
      column_names: the P + Q columns, numeric ones first.
    """

    mean: np.ndarray
    deviation: np.ndarray
    vocabularies: tuple[tuple[str, ...], ...]
    clip: float
    column_names: tuple[str, ...]

    @property
    def layout(self) -> FeatureLayout:
        """The layout of an encoded row."""
        return FeatureLayout(len(self.mean), tuple(len(vocabulary) + 1 for vocabulary in self.vocabularies))

    def transform(self, table: Table) -> np.ndarray:
        """Encodes rows as Float[L, F], float32. A category unknown to the encoder falls into its column's last bucket.

        Raises:
          ValueError: when the table's columns are not those that the encoder was fitted on.
        """
        names = table.numeric_names + table.categorical_names
        if names != self.column_names:
            raise ValueError(f"the table has columns {names}, but the encoder was fitted on {self.column_names}.")
        layout = self.layout
        encoded = np.zeros((len(table), layout.num_features), np.float32)
        standardised = (signed_log1p(table.numeric.astype(np.float64)) - self.mean) / self.deviation
        np.clip(standardised, -self.clip, self.clip, out=encoded[:, : layout.num_numeric], casting="same_kind")
        begin = layout.num_numeric
        for column, vocabulary in zip(table.categorical, self.vocabularies, strict=True):
            bucket = {name: b for b, name in enumerate(vocabulary)}
            bucket_of_code = np.array([bucket.get(name, len(vocabulary)) for name in column.names], np.int64)
            encoded[np.arange(len(table)), begin + bucket_of_code[column.codes]] = 1.0
            begin += len(vocabulary) + 1
        return encoded

    def numeric_values(self, encoded: np.ndarray) -> np.ndarray:
        """Float[L, P], the numeric columns of encoded rows [L, F] in their own units; clipped values stay clipped."""
        logs = encoded[:, : len(self.mean)] * self.deviation + self.mean
        return np.sign(logs) * np.expm1(np.abs(logs))


def fit_encoder(
    client_sums: Sequence[EncodingSums],
    column_names: tuple[str, ...],
    *,
    clip: float = 5.0,
    deviation_floor: float = 0.05,
    min_category_count: int = 10,
    vocabularies: tuple[tuple[str, ...], ...] | None = None,
) -> Encoder:
    """Fits the encoding from the clients' sums, as a server could that only sees their total.

    Args:
      client_sums: one per client.
      column_names: the P + Q columns, numeric ones first.
      clip: bound on the absolute standardised value.
      deviation_floor: least standard deviation, in units of the signed log1p; it keeps a column that is all but
        constant in training from turning any change into a huge value.
      min_category_count: a category that occurs less often in all clients together shares the rare/unknown bucket.
      vocabularies: categories with a bucket of their own, of each categorical column; None takes those that are common
        enough here.

    Guarantees:
      Equal to fitting on all clients' rows at once (test:
      `tests/data/test_encoding.py::test_the_sums_of_clients_give_the_encoder_of_the_pooled_rows`).
    """
    total = client_sums[0]
    for sums in client_sums[1:]:
        total = total + sums
    if total.count == 0:
        raise ValueError("there is no normal training row to fit the encoding on; give training data with normal rows.")
    mean = total.total / total.count
    variance = np.maximum(total.squares / total.count - np.square(mean), 0.0)
    if vocabularies is None:
        vocabularies = tuple(
            tuple(sorted(name for name, n in counts.items() if n >= min_category_count))
            for counts in total.category_counts
        )
    return Encoder(mean, np.maximum(np.sqrt(variance), deviation_floor), vocabularies, clip, column_names)
