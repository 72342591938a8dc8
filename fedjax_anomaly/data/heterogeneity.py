"""How different the clients' training distributions are, as a number, beside what chance alone would show."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from fedjax_anomaly.data.encoding import encoding_sums, fit_encoder
from fedjax_anomaly.data.table import Table

MEASURE = (
    "Jensen-Shannon distance (base 2, from 0 to 1) between the normal training rows of two clients, averaged over "
    "columns; all clients are encoded alike, and a numeric column is a histogram of its standardised values. "
    "iid_reference is the mean distance after the same rows have been dealt out to the clients at random."
)
"""What the distances are, in words."""

_BINS = 20
_CLIP = 5.0
_MAX_PAIRS = 2000


@dataclasses.dataclass(frozen=True)
class Heterogeneity:
    """Distances are None for a single client, which has nobody to differ from.

    Attributes:
      mean_pairwise_distance: over pairs of clients, from 0 to 1.
      max_pairwise_distance: over the same pairs.
      iid_reference: the mean distance that clients of these sizes have by chance; see `MEASURE`.
      size_gini: Gini coefficient of the numbers of normal training rows; 0 where all are equal.
    """

    mean_pairwise_distance: float | None
    max_pairwise_distance: float | None
    iid_reference: float | None
    size_gini: float


def heterogeneity(
    table: Table, client: Int[np.ndarray, " L"], *, seed: int = 0, max_rows_per_client: int = 2000
) -> Heterogeneity:
    """Measures how different clients are before anything of their own, such as an encoding, evens it out.

    Args:
      table: the training rows; anomalous ones are left out.
      client: the client of each row, from 0 on.
      seed: of the samples and the random reassignment.
      max_rows_per_client: rows that are looked at; of larger clients a random sample.

    Returns:
      The distances over all pairs of clients, or 2000 random ones where there are more, and the size imbalance.

    Raises:
      ValueError: when a client has no normal row.

    Guarantees:
      The distances are those of SciPy, pair by pair and column by column (test:
      `tests/data/test_heterogeneity.py::test_distances_are_those_of_scipy_in_a_loop`).

    References:
      Lin 1991, "Divergence measures based on the Shannon entropy".
    """
    normal = np.flatnonzero(~table.label)
    sizes = np.bincount(client[normal], minlength=int(client.max()) + 1)
    if sizes.min() == 0:
        raise ValueError(f"client {sizes.argmin()} has no normal row to measure; give every client at least one.")
    size_gini = float(np.abs(sizes[:, None] - sizes).mean() / (2.0 * sizes.mean()))
    if len(sizes) == 1:
        return Heterogeneity(None, None, None, size_gini)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x4E7E]))
    rows = _sample(normal, client, max_rows_per_client, rng)
    bins, sample_client = _binned(table.take(rows)), client[rows]
    first, second = np.triu_indices(len(sizes), 1)
    if len(first) > _MAX_PAIRS:
        chosen = rng.choice(len(first), _MAX_PAIRS, replace=False)
        first, second = first[chosen], second[chosen]
    distance = _mean_distances(bins, sample_client, first, second)
    by_chance = _mean_distances(bins, rng.permutation(sample_client), first, second)
    return Heterogeneity(float(distance.mean()), float(distance.max()), float(by_chance.mean()), size_gini)


def jensen_shannon_distance(p: Float[np.ndarray, "N bins"], q: Float[np.ndarray, "N bins"]) -> Float[np.ndarray, " N"]:
    """The distance between N pairs of distributions, each summing to 1: base 2, from 0 to 1."""
    divergence = _entropy((p + q) / 2.0) - (_entropy(p) + _entropy(q)) / 2.0
    return np.sqrt(np.clip(divergence, 0.0, 1.0))


def _entropy(p: np.ndarray) -> np.ndarray:
    """Float[N], in bits; an empty bin adds nothing."""
    return -np.sum(p * np.log2(p, out=np.zeros_like(p), where=p > 0.0), axis=-1)


def _sample(rows: np.ndarray, client: np.ndarray, max_rows: int, rng: np.random.Generator) -> np.ndarray:
    """At most `max_rows` of each client's rows."""
    rows = rng.permutation(rows)
    rows = rows[np.argsort(client[rows], kind="stable")]
    own = client[rows]
    place_within_client = np.arange(len(rows)) - np.searchsorted(own, own)
    return rows[place_within_client < max_rows]


def _binned(rows: Table) -> Int[np.ndarray, "columns L"]:
    """The bin of every value, under one encoding for all clients."""
    encoder = fit_encoder([encoding_sums(rows)], rows.numeric_names + rows.categorical_names, clip=_CLIP)
    encoded = encoder.transform(rows)
    num_numeric = encoder.layout.num_numeric
    numeric = np.floor((encoded[:, :num_numeric] + _CLIP) * (_BINS / (2.0 * _CLIP))).astype(np.int64)
    blocks = encoder.layout.column_slices()[num_numeric:]
    return np.stack([*np.minimum(numeric, _BINS - 1).T, *(encoded[:, block].argmax(axis=1) for block in blocks)])


def _mean_distances(
    bins: Int[np.ndarray, "columns L"], client: Int[np.ndarray, " L"], first: np.ndarray, second: np.ndarray
) -> Float[np.ndarray, " pairs"]:
    """The distance between the clients `first` and `second`, averaged over columns."""
    num_clients = int(client.max()) + 1
    total = np.zeros(len(first))
    for column in bins:
        num_bins = int(column.max()) + 1
        counts = np.bincount(client * num_bins + column, minlength=num_clients * num_bins)
        shares = counts.reshape(num_clients, num_bins) / np.bincount(client)[:, None]
        total += jensen_shannon_distance(shares[first], shares[second])
    return total / len(bins)
