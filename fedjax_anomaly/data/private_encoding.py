"""The encoding under differential privacy: each client adds noise to its own histograms and sums before they leave it.

Every training window is in three noisy releases of its client: the counts of categories, which pick those that get a
bucket; the histograms of numeric columns in whole units of the signed log1p, which pick the range of each; then the
sums and squares of the values within that range, where noise in proportion to the range is small.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from fedjax_anomaly.data.encoding import Encoder, EncodingScope, signed_log1p
from fedjax_anomaly.data.table import Table

LARGEST_LOG = 24
"""Public bound on the absolute signed log1p: values beyond 2.6e10 count as that."""

_NUM_BINS = 2 * LARGEST_LOG + 1
_MOMENTS_OF_ONE = 1.25
"""Largest squared norm of (u, u^2 - 1/2) for u in [-1, 1]."""
_FALSE_BINS = 1e-3
"""Expected number of empty bins that the noise lifts into the ranges of all columns together."""
_MOST_ROWS = 0.9
"""Share of the rows that a range is to hold; the others count as its ends."""


@dataclasses.dataclass(frozen=True)
class EncodingNoise:
    """What the noise on an encoding is drawn by.

    Attributes:
      multiplier: z; each release gets Gaussian noise of z times its L2 sensitivity on every coordinate.
      vocabulary_delta: bound on the probability that a category is told which one window alone has at its client.
      window_length: T, rows that one window adds; windows have no row in common.
      seed: of the noise.
    """

    multiplier: float
    vocabulary_delta: float
    window_length: int
    seed: int

    def __post_init__(self) -> None:
        if not self.multiplier > 0.0:
            raise ValueError(f"multiplier={self.multiplier} must be positive; fit without noise by `fit_encoder`.")
        if not 0.0 < self.vocabulary_delta < 1.0:
            raise ValueError(f"vocabulary_delta={self.vocabulary_delta} must lie in (0, 1).")

    def histogram_std(self, num_columns: int) -> float:
        """Of the noise on each count of the histograms of so many columns, released together."""
        return self.multiplier * histogram_sensitivity(num_columns, self.window_length)


@dataclasses.dataclass(frozen=True)
class Histograms:
    """How often each value occurs at one client; with or without noise.

    Attributes:
      numeric: Float[P, B], by whole units of the signed log1p from -LARGEST_LOG to LARGEST_LOG.
      categories: for each categorical column the count of each value that occurs.
    """

    numeric: Float[np.ndarray, "P B"]
    categories: tuple[dict[str, float], ...]


def bounded_logs(rows: Table) -> Float[np.ndarray, "L P"]:
    """The signed log1p within its public bound."""
    return np.clip(signed_log1p(rows.numeric.astype(np.float64)), -LARGEST_LOG, LARGEST_LOG)


def histograms(rows: Table) -> Histograms:
    """Those of one client's rows, without noise.

    Guarantees:
      One window of T rows moves those of P columns by at most `histogram_sensitivity(P, T)` (test:
      `tests/data/test_private_encoding.py::test_no_window_moves_a_release_by_more_than_its_sensitivity`).
    """
    bins = np.rint(bounded_logs(rows)).astype(np.int64) + LARGEST_LOG
    numeric = np.stack([np.bincount(column, minlength=_NUM_BINS) for column in bins.T]) if bins.shape[1] else bins.T
    categories = []
    for column in rows.categorical:
        frequency = np.bincount(column.codes, minlength=len(column.names))
        categories.append({name: float(n) for name, n in zip(column.names, frequency, strict=True) if n})
    return Histograms(numeric.astype(np.float64), tuple(categories))


def histogram_sensitivity(num_columns: int, window_length: int) -> float:
    """L2 of what the T rows of a window add to the histograms of some columns, all in one bin of each at worst."""
    return window_length * math.sqrt(num_columns)


def range_moments(rows: Table, low: Float[np.ndarray, " P"], high: Float[np.ndarray, " P"]) -> Float[np.ndarray, "2 P"]:
    """The sums of u and of u^2 - 1/2 over one client's rows, u being the log scaled from [low, high] to [-1, 1].

    Guarantees:
      One window of T rows moves them by at most `moments_sensitivity(P, T)` (test:
      `tests/data/test_private_encoding.py::test_no_window_moves_a_release_by_more_than_its_sensitivity`).
    """
    scaled = np.clip((bounded_logs(rows) - 0.5 * (low + high)) / (0.5 * (high - low)), -1.0, 1.0)
    return np.stack([scaled.sum(axis=0), (np.square(scaled) - 0.5).sum(axis=0)])


def moments_sensitivity(num_numeric: int, window_length: int) -> float:
    """L2 of what the T rows of a window add to the moments of P columns."""
    return window_length * math.sqrt(_MOMENTS_OF_ONE * num_numeric)


def category_threshold(noise_std: float, num_columns: int, window_length: int, delta: float) -> float:
    """The noisy count from which on a client tells the name of a category.

    A window may hold names that no other window of its client has: in each column one name T times, or up to T names
    once. The tail of the noise is convex there, so these two are the worst, and the threshold is such that the
    probability to tell any of them, in any column, is at most `delta`.

    Args:
      noise_std: of the noise on a count.
      num_columns: Q.
      window_length: T.
      delta: the bound.

    References:
      Korolova et al. 2009, "Releasing Search Queries and Clicks Privately", section 4.
      Wilkins, Kifer, Zhang and Karrer 2024, "Exact Privacy Analysis of the Gaussian Sparse Histogram Mechanism".
    """
    normal, each = NormalDist(), delta / max(num_columns, 1)
    same = window_length - noise_std * normal.inv_cdf(each)
    different = 1.0 - noise_std * normal.inv_cdf(each / window_length)
    return max(same, different)


def noisy_histograms(exact: Histograms, noise: EncodingNoise, rng: np.random.Generator) -> Histograms:
    """What one client tells: noise on every count, and only the categories whose noisy count is large enough."""
    numeric = exact.numeric + rng.normal(0.0, noise.histogram_std(len(exact.numeric)), exact.numeric.shape)
    std = noise.histogram_std(len(exact.categories))
    least = category_threshold(std, len(exact.categories), noise.window_length, noise.vocabulary_delta)
    told = []
    for counts in exact.categories:
        noisy = np.fromiter(counts.values(), float) + rng.normal(0.0, std, len(counts))
        told.append({name: float(n) for name, n in zip(counts, noisy, strict=True) if n >= least})
    return Histograms(numeric, tuple(told))


def numeric_ranges(
    numeric: Float[np.ndarray, "P B"], num_rows: int, noise_std: float
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """The least and the largest log of each column, as far as its histogram stands out of the noise.

    Bins are joined by twos until those that stand out, with all between them, hold most rows; where none do, the range
    is all that a value may be.

    Args:
      numeric: noisy histograms.
      num_rows: that they count.
      noise_std: of the noise on each count.
    """
    noise_floor = -noise_std * NormalDist().inv_cdf(_FALSE_BINS / max(numeric.size, 1))
    ranges = np.array([_range(counts, num_rows, noise_floor) for counts in numeric]).reshape(-1, 2)
    return ranges[:, 0] - LARGEST_LOG - 0.5, ranges[:, 1] - LARGEST_LOG - 0.5


def _range(counts: Float[np.ndarray, " B"], num_rows: int, noise_floor: float) -> tuple[int, int]:
    """The first bin of one column's range and the one after its last."""
    width = 1
    while width < _NUM_BINS:
        joined = np.add.reduceat(counts, np.arange(0, _NUM_BINS, width))
        full = np.flatnonzero(joined > noise_floor * math.sqrt(width))
        if len(full):
            first, last = int(full[0]) * width, min(int(full[-1] + 1) * width, _NUM_BINS)
            if counts[first:last].sum() >= _MOST_ROWS * num_rows:
                return first, last
        width *= 2
    return 0, _NUM_BINS


def fit_private_encoders(
    client_rows: Sequence[Table],
    column_names: tuple[str, ...],
    noise: EncodingNoise,
    *,
    scope: EncodingScope = "global",
    clip: float = 5.0,
    deviation_floor: float = 0.05,
    min_category_count: int = 10,
    vocabularies: tuple[tuple[str, ...], ...] | None = None,
) -> tuple[tuple[Encoder, ...], int]:
    """Fits the encoding of each client from noisy releases alone.

    Args:
      client_rows: the rows of each client's training windows, normal ones only; their number is public.
      column_names: the P + Q columns, numeric ones first.
      noise: of every client; each draws its own.
      scope: whose releases standardise numeric columns.
      clip: see `fit_encoder`, and so are the others.
      deviation_floor: a deviation is also no less than the noise lets one tell.
      min_category_count: of the noisy counts that clients tell, together.
      vocabularies: categories with a bucket of their own in place of those told here.

    Returns:
      One encoder per client, and the bytes that the clients send in all.

    Raises:
      ValueError: when an anomalous row is among the rows.

    Guarantees:
      Three releases of each window, Gaussian with the noise multiplier, and the vocabulary's delta; the same seed gives
      the same releases, with given `vocabularies` too (tests: `tests/data/test_private_encoding.py`).
    """
    if any(rows.label.any() for rows in client_rows):
        raise ValueError("rows to fit the encoding on are anomalous; fit it on normal training rows only.")
    seeds = np.random.SeedSequence([noise.seed, 0xE4C0]).spawn(len(client_rows))
    clients = [_Client(rows, np.random.default_rng(seed)) for rows, seed in zip(client_rows, seeds, strict=True)]
    told = [noisy_histograms(histograms(client.rows), noise, client.rng) for client in clients]
    if vocabularies is None:
        vocabularies = _common_categories(told, min_category_count)
    alone = [[client] for client in range(len(clients))]
    encoders = []
    for group in [list(range(len(clients)))] if scope == "global" else alone:
        numeric = np.sum([told[c].numeric for c in group], axis=0)
        mean, deviation = _mean_and_deviation([clients[c] for c in group], numeric, noise)
        encoder = Encoder(mean, np.maximum(deviation, deviation_floor), vocabularies, clip, column_names)
        encoders += [encoder] * len(group)
    sent = 4 * sum(len(counts) for histogram in told for counts in histogram.categories)
    if scope == "global":
        sent += 8 * sum(histogram.numeric.size + 2 * len(histogram.numeric) for histogram in told)
    return tuple(encoders), sent


@dataclasses.dataclass(frozen=True)
class _Client:
    """One client's rows and where its noise comes from."""

    rows: Table
    rng: np.random.Generator


def _common_categories(told: Sequence[Histograms], min_count: int) -> tuple[tuple[str, ...], ...]:
    """Of each categorical column, the names that were told often enough by all clients together."""
    totals = [
        sum((Counter(counts) for counts in column), Counter())
        for column in zip(*(h.categories for h in told), strict=True)
    ]
    return tuple(tuple(sorted(name for name, n in total.items() if n >= min_count)) for total in totals)


def _mean_and_deviation(
    clients: Sequence[_Client], numeric: Float[np.ndarray, "P B"], noise: EncodingNoise
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Of the logs of clients that are standardised together, whose noisy histograms add up to `numeric`."""
    num_numeric, root = len(numeric), math.sqrt(len(clients))
    num_rows = sum(len(client.rows) for client in clients)
    low, high = numeric_ranges(numeric, num_rows, root * noise.histogram_std(num_numeric))
    std = noise.multiplier * moments_sensitivity(num_numeric, noise.window_length)
    total = np.zeros((2, num_numeric))
    for client in clients:
        total += range_moments(client.rows, low, high) + client.rng.normal(0.0, std, total.shape)
    num_rows = max(num_rows, 1)
    mean = np.clip(total[0] / num_rows, -1.0, 1.0)
    noise_floor = root * std / num_rows
    variance = np.maximum(total[1] / num_rows + 0.5 - np.square(mean), noise_floor)
    half = 0.5 * (high - low)
    return low + half * (1.0 + mean), half * np.sqrt(variance)
