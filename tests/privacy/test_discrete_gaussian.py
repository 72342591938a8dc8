"""The sampler against the definition of the discrete Gaussian."""

import decimal

import jax
import numpy as np
from scipy import stats

from fedjax_anomaly.privacy import discrete_gaussian as dg


def test_the_table_is_within_the_stated_distance_of_the_pmf():
    """To the last bit: the table is integers, and the pmf's normaliser is sigma sqrt(2 pi) by Poisson summation.

    What the summation leaves out is of order exp(-2 pi^2 sigma^2), far below 2^-96.
    """
    table = dg.alias_table()
    high, middle, low = table.threshold.tolist()
    mass = [0] * len(low)
    for column, alias in enumerate(table.alias.tolist()):
        keep = (high[column] << 64) + (middle[column] << 32) + low[column]
        mass[column] += keep
        mass[alias] += 2**96 - keep
    assert sum(mass) == 2**96 * len(mass)
    with decimal.localcontext(prec=50):
        pi = decimal.Decimal("3.1415926535897932384626433832795028841971693993751")
        normaliser, rate = dg.NOISE_STD * (2 * pi).sqrt(), decimal.Decimal(-1) / (2 * dg.NOISE_STD**2)
        total = decimal.Decimal(sum(mass))
        distance = decimal.Decimal(0)
        for x, exact in enumerate(mass):
            distance += abs(exact / total - (x * x * rate).exp() / normaliser * (2 if x else 1))
    tail = stats.norm.sf(dg.LARGEST / dg.NOISE_STD) * 2.0
    assert (float(distance) + tail) / 2.0 <= dg.TOTAL_VARIATION


def pvalues(drawn: np.ndarray) -> tuple[float, float]:
    """Chi-square of cells of the pmf, and of the residues modulo 16, which only integer noise of step 1 fills."""
    x = np.arange(-dg.LARGEST, dg.LARGEST + 1)
    pmf = np.exp(-(x.astype(float) ** 2) / (2.0 * dg.NOISE_STD**2))
    pmf /= pmf.sum()
    cell = np.minimum((np.cumsum(pmf) * 100).astype(int), 99)
    expected = np.bincount(cell, pmf) * len(drawn)
    counts = np.bincount(cell[drawn + dg.LARGEST], minlength=len(expected))
    residues = np.bincount(drawn % 16, minlength=16)
    return stats.chisquare(counts, expected).pvalue, stats.chisquare(residues).pvalue


def test_samples_are_discrete_gaussian():
    """And noise of half the deviation, or on a grid twice as coarse, is told apart (controls)."""
    drawn = np.asarray(jax.jit(lambda key: dg.sample(key, (200_000,)))(jax.random.key(0)))
    assert min(pvalues(drawn)) > 1e-3
    assert pvalues(drawn // 2)[0] < 1e-12
    assert pvalues(drawn // 2 * 2)[1] < 1e-12


def test_draws_below_a_threshold_keep_their_magnitude(monkeypatch):
    """All three words decide: with a threshold of 2^64 + 2, draws of that number and more take the alias."""
    threshold = np.zeros((3, dg.LARGEST + 1), np.uint32)
    threshold[:, 5] = (1, 0, 2)
    monkeypatch.setattr(dg, "alias_table", lambda: dg.AliasTable(threshold, np.full(dg.LARGEST + 1, 7, np.int32)))
    draws = [(0, 2**32 - 1, 2**32 - 1), (1, 0, 1), (1, 0, 2), (1, 1, 0), (2, 0, 0)]
    bits = np.array([(5 + (i % 2) * 2**31, *draw) for i, draw in enumerate(draws)], np.uint32).T
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jax.numpy.asarray(bits))
    assert dg.sample(None, (5,)).tolist() == [5, -5, 7, -7, 7]
