"""What leaks in most published pipelines, each with a test that fails on the leaky version."""

import dataclasses

import numpy as np
import pytest

from fedjax_anomaly.data.clients import Federation, federate
from fedjax_anomaly.data.table import Categorical, Dataset, Table
from tests.fleet import dataset, table

LENGTH = 4


def federation(data: Dataset, train_client: np.ndarray, test_client: np.ndarray, **settings) -> Federation:
    defaults = dict(
        window_length=1 if data.row_order == "none" else LENGTH,
        window_stride=1,
        scoring_stride=1,
        validation_fraction=0.2,
        min_category_count=1,
        seed=0,
    )
    return federate(data, train_client, test_client, **(defaults | settings))


def marked(attacks: list[str], *, first: int = 0) -> Table:
    """Rows whose number can be read back from their first column."""
    rows = table(len(attacks), attack=attacks)
    numbers = np.arange(first, first + len(attacks), dtype=np.float32)
    return dataclasses.replace(rows, numeric=np.stack([numbers, rows.numeric[:, 1]], axis=1))


def row_numbers(fed: Federation, encoded: np.ndarray) -> np.ndarray:
    return np.rint(fed.encoder.numeric_values(encoded.reshape(-1, encoded.shape[-1]))[:, 0]).astype(int)


def training_windows(fed: Federation, client: int) -> list[list[int]]:
    starts = fed.train.starts[client][fed.train.mask[client]]
    return [row_numbers(fed, fed.train.series[client, s : s + fed.window_length]).tolist() for s in starts]


WIDE = {"clip": 1e9, "deviation_floor": 1e-3}


def test_the_encoding_does_not_depend_on_test_anomalous_or_held_out_rows():
    attacks = ["normal", "flood"] * 200
    data = dataset(marked(attacks), marked(["normal"] * 50, first=1000), "capture")
    client = np.arange(400) // 200
    test_client = np.arange(50) // 25
    fed = federation(data, client, test_client, window_length=1)
    changed = data.train.numeric.copy()
    trained_on = set(row_numbers(fed, fed.train.series[fed.train.mask]))
    unseen = np.array([row not in trained_on for row in range(400)])
    assert unseen[1::2].all()
    assert unseen.sum() > 200
    changed[unseen] *= 1000.0
    other = dataclasses.replace(
        data,
        train=dataclasses.replace(data.train, numeric=changed),
        test=dataclasses.replace(data.test, numeric=data.test.numeric * 1000.0),
    )
    again = federation(other, client, test_client, window_length=1)
    np.testing.assert_array_equal(fed.encoder.mean, again.encoder.mean)
    np.testing.assert_array_equal(fed.encoder.deviation, again.encoder.deviation)
    np.testing.assert_array_equal(fed.train.series, again.train.series)


def test_no_training_window_holds_or_bridges_an_anomalous_row():
    attacks = (["normal"] * 10 + ["flood"]) * 20
    data = dataset(marked(attacks), marked(attacks, first=1000), "capture")
    fed = federation(data, np.zeros(220, int), np.zeros(220, int), **WIDE)
    windows = training_windows(fed, 0)
    assert len(windows) > 20
    for window in windows:
        # Consecutive row numbers: nothing was left out in between, and no 11th row, which is the anomalous one.
        assert window == list(range(window[0], window[0] + LENGTH))
        assert not any(number % 11 == 10 for number in window)


def test_training_and_held_out_rows_never_share_a_window():
    data = dataset(marked(["normal"] * 400), marked(["normal"] * 20, first=1000), "capture")
    fed = federation(data, np.zeros(400, int), np.zeros(20, int), **WIDE)
    trained = {number for window in training_windows(fed, 0) for number in window}
    assert trained.isdisjoint(fed.validation.row.tolist())
    assert len(fed.validation.row) >= 40


def test_no_window_crosses_the_border_of_clients():
    data = dataset(marked(["normal"] * 300), marked(["normal"] * 60, first=1000), "capture")
    client = np.arange(300) // 100
    fed = federation(data, client, np.arange(60) // 20, **WIDE)
    for c in range(3):
        assert {number // 100 for window in training_windows(fed, c) for number in window} == {c}
    for rows in (fed.validation, fed.test):
        for start in rows.starts:
            assert len(set(rows.client[start : start + LENGTH])) == 1


def test_no_window_crosses_the_border_of_sources_or_a_missing_row():
    source = ["api"] * 50 + ["db"] * 50
    train = dataclasses.replace(marked(["normal"] * 100), source=Categorical.from_strings(source))
    test = dataclasses.replace(marked(["normal"] * 100, first=1000), source=Categorical.from_strings(source))
    data = dataset(train, test, "time")
    client = np.zeros(100, int)
    client[70] = 1
    fed = federation(data, client, np.zeros(100, int), min_windows=0, **WIDE)
    for window in training_windows(fed, 0):
        assert not {49, 50} <= set(window)
        assert not {69, 71} <= set(window)
    for start in fed.test.starts:
        assert not {49, 50} <= set(fed.test.row[start : start + LENGTH].tolist())


def test_no_window_crosses_a_leap_in_time():
    # The api is sampled every minute and the db every two; one sample jitters, and 20 minutes of each are missing.
    source = ["api"] * 60 + ["db"] * 40
    time = np.concatenate([60.0 * np.arange(60), 120.0 * np.arange(40)])
    time[10] += 1.0
    time[30:60] += 1200.0
    time[80:] += 1200.0
    rows = dataclasses.replace(marked(["normal"] * 100), source=Categorical.from_strings(source), time=time)
    test = dataclasses.replace(rows, numeric=marked(["normal"] * 100, first=1000).numeric)
    fed = federation(dataset(rows, test, "time"), np.zeros(100, int), np.zeros(100, int), **WIDE)
    starts = {int(fed.test.row[start]) for start in fed.test.starts}
    inside = {start for first, last in ((0, 30), (30, 60), (60, 80), (80, 100)) for start in range(first, last - 3)}
    assert starts == inside
    for window in training_windows(fed, 0):
        assert not any({first - 1, first} <= set(window) for first in (30, 60, 80))


def test_rows_without_order_are_never_joined_into_a_window():
    data = dataset(marked(["normal"] * 50), marked(["normal"] * 10, first=1000), "none")
    with pytest.raises(ValueError, match="window_length=4 would mix rows of 'tiny', whose row order means nothing"):
        federation(data, np.zeros(50, int), np.zeros(10, int), window_length=4)


def test_every_test_row_is_scored_exactly_once_also_in_short_runs():
    client = np.array([0] * 30 + [1] * 2 + [2] * 8)
    data = dataset(marked(["normal"] * 300), marked(["normal"] * 40, first=1000), "capture")
    fed = federation(data, np.arange(300) // 100, client)
    rows = fed.test.row[fed.test.row >= 0]
    assert sorted(rows.tolist()) == list(range(40))
    np.testing.assert_array_equal(fed.test.client[fed.test.row >= 0], client[rows])
    covered = np.zeros(len(fed.test.row), int)
    for start in fed.test.starts:
        covered[start : start + LENGTH] += 1
    assert (covered > 0).all()


def test_a_category_first_seen_in_test_is_scored():
    train = table(60, protocols=("tcp",))
    test = table(10, protocols=("sctp",))
    fed = federation(dataset(train, test), np.zeros(60, int), np.zeros(10, int))
    np.testing.assert_array_equal(fed.test.series[:, 2:], np.tile([0.0, 1.0], (10, 1)))


def test_a_client_with_too_few_windows_is_named():
    data = dataset(marked(["normal"] * 60), marked(["normal"] * 10, first=1000), "capture")
    client = np.zeros(60, int)
    client[57:] = 1
    with pytest.raises(ValueError, match="client 1 has 0 normal training windows of 4 rows, fewer than the 1"):
        federation(data, client, np.zeros(10, int))


def test_a_validation_fraction_out_of_range_is_refused():
    data = dataset(marked(["normal"] * 60), marked(["normal"] * 10, first=1000))
    with pytest.raises(ValueError, match=r"validation_fraction=0.9 must lie in \(0, 0.5\]"):
        federation(data, np.zeros(60, int), np.zeros(10, int), validation_fraction=0.9)


def test_a_client_of_its_own_scope_is_encoded_as_if_it_were_alone():
    rows, test = table(400, seed=1), table(100, seed=2)
    scale = np.where(np.arange(400) < 200, 1.0, 1000.0)[:, None].astype(np.float32)
    rows = dataclasses.replace(rows, numeric=rows.numeric * scale)
    data = dataset(rows, test, "capture")
    client, test_client = np.arange(400) // 200, np.arange(100) // 50
    both = federation(data, client, test_client, encoding_scope="client")
    for c in range(2):
        alone = federation(
            dataset(rows.take(client == c), test.take(test_client == c), "capture"),
            np.zeros(200, int),
            np.zeros(50, int),
        )
        np.testing.assert_allclose(both.encoders[c].mean, alone.encoder.mean)
        np.testing.assert_allclose(both.encoders[c].deviation, alone.encoder.deviation)
        np.testing.assert_allclose(both.test.series[both.test.client == c], alone.test.series, rtol=1e-6)
        np.testing.assert_allclose(both.train.series[c], alone.train.series[0], rtol=1e-6)


def test_sums_of_numeric_columns_stay_at_home_in_a_scope_of_its_own():
    data = dataset(table(200), table(50), "capture")
    client, test_client = np.arange(200) // 100, np.arange(50) // 25
    shared, own = (federation(data, client, test_client, encoding_scope=scope) for scope in ("global", "client"))
    assert shared.encoders[0] is shared.encoders[1]
    # Two clients keep a count, two totals and two sums of squares, 8 bytes each; counts of categories are still sent.
    assert shared.encoding_upload_bytes - own.encoding_upload_bytes == 2 * 8 * 5
    assert own.encoders[0].vocabularies == own.encoders[1].vocabularies == shared.encoder.vocabularies
