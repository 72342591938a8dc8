import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from fedjax_anomaly.data import private_encoding
from fedjax_anomaly.data.clients import federate
from fedjax_anomaly.data.encoding import encoding_sums, fit_encoder
from fedjax_anomaly.data.private_encoding import (
    EncodingNoise,
    category_threshold,
    fit_private_encoders,
    histogram_sensitivity,
    histograms,
    moments_sensitivity,
    noisy_histograms,
    range_moments,
)
from fedjax_anomaly.data.table import Categorical, Table
from tests.fleet import dataset, table

NAMES = ("bytes", "count", "protocol")
NOISE = EncodingNoise(multiplier=1.5, vocabulary_delta=1e-6, window_length=1, seed=3)
LOW, HIGH = np.array([-0.5, 1.5]), np.array([2.5, 4.5])


def released(rows: Table) -> list[np.ndarray]:
    """The releases of a client without noise, as vectors; names in a fixed order."""
    found = histograms(rows)
    named = np.array([found.categories[0].get(name, 0.0) for name in ("icmp", "tcp", "udp", "odd")])
    return [found.numeric.ravel(), named, range_moments(rows, LOW, HIGH).ravel()]


def hostile_rows() -> Table:
    """Forty rows, among them windows of values that no bound was made for."""
    rows = table(40)
    numeric = rows.numeric.copy()
    numeric[4:8] = 3e38
    numeric[8:12] = -3e38
    numeric[16:20] = np.expm1([2.5, 4.5])  # The upper ends of the ranges, four times over.
    protocols = np.array(rows.categorical[0].names)[rows.categorical[0].codes]
    protocols[16:20] = "odd"
    return dataclasses.replace(rows, numeric=numeric, categorical=(Categorical.from_strings(protocols),))


@pytest.mark.parametrize("length", [1, 4])
def test_no_window_moves_a_release_by_more_than_its_sensitivity(length):
    """By brute force: each window is emptied in turn, and the worst one reaches the bound."""
    rows = hostile_rows()
    whole, moved = released(rows), [[], [], []]
    for begin in range(0, 40, length):
        without = released(rows.take(np.delete(np.arange(40), np.arange(begin, begin + length))))
        for norms, before, after in zip(moved, whole, without, strict=True):
            norms.append(np.linalg.norm(before - after))
    bounds = histogram_sensitivity(2, length), histogram_sensitivity(1, length), moments_sensitivity(2, length)
    for norms, bound in zip(moved, bounds, strict=True):
        assert max(norms) == pytest.approx(bound, rel=1e-6)


def test_each_release_has_the_noise_that_was_promised():
    rows, rng = table(60), np.random.default_rng(0)
    loud = dataclasses.replace(NOISE, window_length=4)
    # Every name is told where a billion rows have it, so the noise on all counts is seen.
    many = private_encoding.Histograms(histograms(rows).numeric, ({"tcp": 1e9, "udp": 1e9},))
    draws = [noisy_histograms(many, loud, rng) for _ in range(200)]
    numeric = np.array([draw.numeric - many.numeric for draw in draws])
    counts = np.array([list(draw.categories[0].values()) for draw in draws]) - 1e9
    # z T sqrt(columns), z T being 1.5 * 4; two columns are numeric, one is categorical.
    assert numeric.std() == pytest.approx(6.0 * math.sqrt(2.0), rel=0.03)
    assert counts.std() == pytest.approx(6.0, rel=0.15)


def test_the_standardisation_has_the_noise_that_was_promised():
    """Over many seeds a column's mean is off by the noise on its sum over the rows, in units of half its range."""
    rows = dataclasses.replace(table(4000), numeric=np.full((4000, 2), np.expm1(3.2), np.float32))
    means = []
    for seed in range(300):
        encoders, _ = fit_private_encoders([rows], NAMES, dataclasses.replace(NOISE, seed=seed))
        means.append(encoders[0].mean - 3.2)
    # Range 2.5 to 3.5; z sqrt(1.25 * 2) = 2.372 on the sum of 4,000 rows.
    assert np.std(means) == pytest.approx(0.5 * 1.5 * math.sqrt(2.5) / 4000, rel=0.15)
    assert np.abs(np.mean(means)) < 1e-4


@pytest.mark.parametrize("names", [["odd"] * 4, ["odd", "odder", "oddest", "oddity"]])
def test_a_category_of_one_window_is_told_as_rarely_as_promised(names):
    noise = EncodingNoise(2.0, 0.1, 4, 0)
    rows = dataclasses.replace(table(4), categorical=(Categorical.from_strings(names),))
    exact, rng = histograms(rows), np.random.default_rng(0)
    told = np.mean([bool(noisy_histograms(exact, noise, rng).categories[0]) for _ in range(4000)])
    assert told < 0.1 + 3.0 * math.sqrt(0.09 / 4000)
    assert told > 0.01


def test_the_threshold_for_categories_bounds_every_way_to_fill_a_window():
    std, length, columns, delta = 3.0, 5, 2, 1e-4
    least = category_threshold(std, columns, length, delta)
    partitions = [[5], [4, 1], [3, 2], [3, 1, 1], [2, 2, 1], [2, 1, 1, 1], [1] * 5]
    told = [1.0 - np.prod([stats.norm.cdf(least, n, std) for n in counts]) ** columns for counts in partitions]
    assert 0.9 * delta < max(told) <= delta


@pytest.mark.parametrize("scope", ["global", "client"])
def test_many_rows_give_the_encoding_without_noise(scope):
    clients = [table(20_000, seed=seed) for seed in range(3)]
    found, num_bytes = fit_private_encoders(clients, NAMES, NOISE, scope=scope)
    for client, encoder in enumerate(found):
        own = clients if scope == "global" else [clients[client]]
        exact = fit_encoder([encoding_sums(rows) for rows in own], NAMES)
        np.testing.assert_allclose(encoder.mean, exact.mean, atol=0.01)
        np.testing.assert_allclose(encoder.deviation, exact.deviation, rtol=0.05)
        assert encoder.vocabularies == exact.vocabularies
    # Three names, and with one scale for all 49 bins and two sums of two columns in float64.
    assert num_bytes == 3 * (3 * 4 + (2 * (49 + 2) * 8 if scope == "global" else 0))


def test_given_vocabularies_change_nothing_else_of_the_releases():
    clients = [table(500, seed=seed) for seed in range(2)]
    (own, shared), _ = fit_private_encoders(clients, NAMES, NOISE)
    (given, _), _ = fit_private_encoders(clients, NAMES, NOISE, vocabularies=(("tcp",),))
    np.testing.assert_array_equal(given.mean, own.mean)
    np.testing.assert_array_equal(given.deviation, own.deviation)
    assert given.vocabularies == (("tcp",),)
    assert own is shared


def test_held_out_rows_are_in_no_release_on_training_rows():
    """The ledger composes both in parallel: a record is in one of them."""
    rows = table(243, source=["a"] * 243)  # Blocks of 12 rows in time order, every fifth held out, and 3 rows more.
    settings = {"window_length": 4, "window_stride": 4, "scoring_stride": 2, "validation_fraction": 0.2, "seed": 0}
    client = np.zeros(243, int)

    def encoded(train: Table):
        return federate(dataset(train, rows, "sequence"), client, client, **settings, encoding_noise=loud)

    loud = dataclasses.replace(NOISE, window_length=4)
    first = encoded(rows)
    held_out = first.validation.row
    starts = first.train.starts[0][first.train.mask[0]]
    trained = np.flatnonzero(~np.isin(np.arange(243), held_out))[np.add.outer(starts, np.arange(4)).ravel()]
    assert len(held_out) == 4 * len(first.validation.starts) == 48
    changed = rows.numeric.copy()
    in_no_window = np.setdiff1d(np.arange(243), trained)
    assert len(in_no_window) == 48 + 3
    changed[in_no_window] = 1e6
    second = encoded(dataclasses.replace(rows, numeric=changed))
    np.testing.assert_array_equal(first.encoder.mean, second.encoder.mean)
    np.testing.assert_array_equal(first.train.series[0][starts], second.train.series[0][starts])
    changed[trained[0]] = 1e6
    third = encoded(dataclasses.replace(rows, numeric=changed))
    assert np.abs(first.encoder.mean - third.encoder.mean).max() > 0.0


@pytest.mark.parametrize("settings", [{"multiplier": 0.0}, {"vocabulary_delta": 0.0}, {"vocabulary_delta": 1.0}])
def test_noise_without_a_guarantee_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        dataclasses.replace(NOISE, **settings)


def test_anomalous_rows_are_refused():
    with pytest.raises(ValueError, match="anomalous"):
        fit_private_encoders([table(3, attack=["normal", "flood", "normal"])], NAMES, NOISE)
