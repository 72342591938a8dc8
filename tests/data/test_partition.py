import dataclasses
from typing import get_args

import numpy as np
import pytest

from fedjax_anomaly.data.partition import Scheme, partition
from fedjax_anomaly.data.table import Categorical
from tests.fleet import dataset, table

SERVICES = tuple(f"s{i}" for i in range(8))


def make(row_order="none", num_rows=4000):
    return dataset(table(num_rows, protocols=SERVICES), table(num_rows // 2, seed=1, protocols=SERVICES), row_order)


def shares(column: Categorical, client: np.ndarray, num_clients: int) -> np.ndarray:
    counts = np.zeros((len(column.names), num_clients))
    np.add.at(counts, (column.codes, client), 1)
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_every_row_goes_to_one_client_and_the_seed_decides(scheme):
    data = make()
    train, test = partition(data, scheme, 5, seed=3)
    assert len(train) == 4000
    assert len(test) == 2000
    assert set(np.unique(train)) == set(range(5))
    again = partition(data, scheme, 5, seed=3)
    np.testing.assert_array_equal(train, again[0])
    np.testing.assert_array_equal(test, again[1])
    if scheme != "natural":
        assert (train != partition(data, scheme, 5, seed=4)[0]).any()


def test_iid_gives_every_client_the_same_share_of_every_category():
    data = make()
    train, _ = partition(data, "iid", 5, seed=0)
    # 500 rows per category on average: an equal cut is off by at most one row.
    np.testing.assert_allclose(shares(data.train.column("protocol"), train, 5), 0.2, atol=0.01)


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    protocols = tuple(f"p{i}" for i in range(400))
    data = dataset(table(80_000, protocols=protocols), table(10, protocols=protocols))
    train, _ = partition(data, "dirichlet", 4, seed=0, alpha=0.5)
    drawn = shares(data.train.column("protocol"), train, 4)
    # Symmetric Dirichlet with C = 4, alpha = 0.5: mean 1/4, variance (1/4)(3/4) / (4 * 0.5 + 1) = 1/16.
    np.testing.assert_allclose(drawn.mean(axis=0), 0.25, atol=0.04)
    np.testing.assert_allclose(drawn.var(axis=0), 1.0 / 16.0, atol=0.012)


def test_quantity_changes_sizes_but_not_mixtures():
    data = make(num_rows=16_000)
    train, _ = partition(data, "quantity", 4, seed=1, alpha=1.0)
    drawn = shares(data.train.column("protocol"), train, 4)
    assert np.bincount(train).max() > 2 * np.bincount(train).min()
    np.testing.assert_allclose(drawn, drawn.mean(axis=0, keepdims=True).repeat(8, axis=0), atol=0.01)


def test_natural_keeps_a_category_whole_and_clients_even():
    data = make()
    train, _ = partition(data, "natural", 4, seed=0)
    assert (
        (shares(data.train.column("protocol"), train, 4) == 0) | (shares(data.train.column("protocol"), train, 4) == 1)
    ).all()
    assert np.bincount(train).max() < 1.2 * np.bincount(train).min()


def of_sizes(sizes: list[int], row_order="capture"):
    """Categories of the given numbers of training and of test rows."""
    column = Categorical(
        np.repeat(np.arange(len(sizes), dtype=np.int32), sizes), tuple(f"s{i}" for i in range(len(sizes)))
    )
    rows = dataclasses.replace(table(sum(sizes)), categorical=(column,))
    return dataset(rows, rows, row_order)


def test_shards_are_dealt_out_whole():
    # 4 clients of 2 shards: 8 shards of 100 rows, and every category is a whole number of them.
    data = of_sizes([300, 100, 200, 200])
    train, test = partition(data, "shards", 4, seed=0)
    np.testing.assert_array_equal(np.bincount(train), [200] * 4)
    np.testing.assert_array_equal(train, test)
    rows = shares(data.train.column("protocol"), train, 4) * np.array([[300], [100], [200], [200]])
    np.testing.assert_allclose(rows % 100, 0.0, atol=1e-9)
    assert (rows > 0).sum(axis=0).max() == 2


@pytest.mark.parametrize("shards_per_client", [1, 2, 4])
def test_a_shard_spans_two_categories_at_most_where_categories_are_larger(shards_per_client):
    data = make(num_rows=16_000)
    train, _ = partition(data, "shards", 10, seed=0, shards_per_client=shards_per_client)
    drawn = shares(data.train.column("protocol"), train, 10)
    np.testing.assert_allclose(np.bincount(train), 1600, atol=8)
    # 8 categories of about 2000 rows; a shard has at most 1600.
    assert (drawn > 0).sum(axis=0).max() <= 2 * shards_per_client
    if shards_per_client == 1:
        # Ten shards and eight categories have at most 17 places where both meet.
        assert (drawn > 0).sum() <= 17


def test_a_category_without_normal_training_rows_is_shared_out_evenly():
    data = of_sizes([400, 400, 100], "none")
    attack = Categorical.from_strings(["normal"] * 800 + ["flood"] * 100)
    train, _ = partition(
        dataclasses.replace(data, train=dataclasses.replace(data.train, attack=attack)), "shards", 4, seed=0
    )
    np.testing.assert_array_equal(np.bincount(train[800:]), [25] * 4)
    np.testing.assert_array_equal(np.bincount(train[:800]), [200] * 4)


@pytest.mark.parametrize("scheme", ["feature_shift", "concept_shift"])
def test_shifted_clients_hold_the_rows_of_an_iid_partition(scheme):
    for shifted, iid in zip(partition(make(), scheme, 5, seed=2), partition(make(), "iid", 5, seed=2), strict=True):
        np.testing.assert_array_equal(shifted, iid)


@pytest.mark.parametrize("scheme", ["dirichlet", "shards"])
def test_test_rows_follow_the_shares_of_training_rows(scheme):
    data = make(num_rows=40_000)
    train, test = partition(data, scheme, 5, seed=0)
    np.testing.assert_allclose(
        shares(data.train.column("protocol"), train, 5), shares(data.test.column("protocol"), test, 5), atol=0.01
    )


@pytest.mark.parametrize("scheme", ["dirichlet", "shards"])
def test_ordered_rows_are_cut_into_contiguous_pieces(scheme):
    data = make("capture")
    train, _ = partition(data, scheme, 5, seed=0)
    for code in range(8):
        assert (np.diff(train[data.train.column("protocol").codes == code]) >= 0).all()


def test_rows_without_order_are_dealt_at_random():
    data = make("none")
    train, _ = partition(data, "iid", 2, seed=0)
    own = train[data.train.column("protocol").codes == 0]
    assert 0.4 < own[: len(own) // 2].mean() < 0.6


def test_attack_rows_do_not_count_as_rows_to_train_on():
    rows = table(40, attack=["flood"] * 39 + ["normal"])
    with pytest.raises(ValueError, match="leaves a client with 0 normal training rows"):
        partition(dataset(rows, rows), "iid", 2, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "zipf"}, "partition='zipf' is unknown; the schemes are iid"),
        ({"num_clients": 0}, "num_clients=0 must be at least 1"),
        ({"alpha": 0.0}, "dirichlet_alpha=0.0 must be positive"),
        ({"shards_per_client": 0}, "shards_per_client=0 must be at least 1"),
        ({"scheme": "natural", "num_clients": 9}, "needs at least num_clients=9 values of 'protocol'"),
        ({"column": "city"}, "no categorical column 'city'"),
        ({"min_normal_rows": 5000}, "fewer than the 5000 it needs"),
    ],
)
def test_what_cannot_be_done_is_refused(settings, message):
    arguments = {"scheme": "iid", "num_clients": 2, "seed": 0} | settings
    with pytest.raises(ValueError, match=message):
        partition(make(), **arguments)
