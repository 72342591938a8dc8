import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from fedjax_anomaly.data.heterogeneity import heterogeneity, jensen_shannon_distance
from fedjax_anomaly.data.partition import partition
from fedjax_anomaly.data.table import Categorical, Table
from tests.fleet import dataset, table

SERVICES = tuple(f"s{i}" for i in range(12))


def measured(numeric: np.ndarray, client: np.ndarray, protocol: np.ndarray | None = None, **settings):
    rows = Table(
        np.asarray(numeric, np.float32),
        tuple(f"c{i}" for i in range(numeric.shape[1])),
        () if protocol is None else (Categorical.from_strings(protocol),),
        () if protocol is None else ("protocol",),
        Categorical.from_strings(["normal"] * len(numeric)),
    )
    return heterogeneity(rows, client, **settings)


def test_the_distance_of_two_distributions_is_scipys():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(7, 0.3), size=(2, 50))
    p[:, 2] = 0.0
    p /= p.sum(axis=1, keepdims=True)
    expected = [jensenshannon(*pair, base=2) for pair in zip(p, q, strict=True)]
    np.testing.assert_allclose(jensen_shannon_distance(p, q), expected)
    np.testing.assert_allclose(jensen_shannon_distance(p, p), 0.0, atol=1e-7)


def test_distances_are_those_of_scipy_in_a_loop():
    rng = np.random.default_rng(1)
    client = np.repeat(np.arange(4), [200, 100, 300, 150])
    numeric = rng.normal(size=(750, 2)) * np.array([1.0, 30.0]) + client[:, None]
    protocol = np.where(rng.random(750) < 0.2 * client, "tcp", "udp")
    logs = np.sign(numeric) * np.log1p(np.abs(numeric.astype(np.float32).astype(float)))
    standardised = np.clip((logs - logs.mean(axis=0)) / logs.std(axis=0), -5, 5)
    columns = [
        [np.histogram(standardised[client == c, p], bins=20, range=(-5, 5))[0] for c in range(4)] for p in range(2)
    ]
    columns.append([[(protocol[client == c] == name).sum() for name in ("tcp", "udp")] for c in range(4)])
    distances = [
        np.mean([jensenshannon(column[a], column[b], base=2) for column in columns])
        for a in range(4)
        for b in range(a + 1, 4)
    ]
    found = measured(numeric, client, protocol)
    np.testing.assert_allclose(found.mean_pairwise_distance, np.mean(distances), rtol=1e-6)
    np.testing.assert_allclose(found.max_pairwise_distance, np.max(distances), rtol=1e-6)


def test_clients_with_nothing_in_common_are_at_distance_one():
    client = np.repeat([0, 1], 500)
    found = measured(np.where(client == 0, -1.0, 1.0)[:, None], client, np.where(client == 0, "tcp", "udp"))
    assert found.mean_pairwise_distance == found.max_pairwise_distance == 1.0
    assert found.iid_reference < 0.1


def test_clients_alike_are_at_the_reference():
    numeric = np.random.default_rng(2).normal(size=(8000, 10))
    found = measured(numeric, np.arange(8000) % 8)
    np.testing.assert_allclose(found.mean_pairwise_distance, found.iid_reference, rtol=0.1)
    assert found.iid_reference > 0.01


def test_the_distance_grows_as_dirichlet_shares_get_more_skewed():
    protocols = table(12_000, protocols=SERVICES)
    service = protocols.categorical[0].codes
    numeric = protocols.numeric * (1.0 + service[:, None]).astype(np.float32)
    data = dataset(dataclasses.replace(protocols, numeric=numeric), protocols)

    def distance(scheme, alpha=0.5):
        found = heterogeneity(data.train, partition(data, scheme, 6, seed=0, alpha=alpha)[0])
        return found.mean_pairwise_distance, found.iid_reference

    strong, mild, none = distance("dirichlet", 0.1), distance("dirichlet", 1.0), distance("iid")
    assert strong[0] > 1.3 * mild[0]
    assert mild[0] > 1.3 * mild[1]
    # Every client has the same number of rows of each service, so that protocols differ less than by chance.
    assert none[0] < none[1]


def test_one_rare_value_of_one_client_is_seen():
    # Client 0 alone has a column stuck at zero, where 99 of 100 clients' rows are one.
    client = np.arange(10_000) % 100
    stuck = measured((client != 0).astype(float)[:, None], client)
    assert stuck.max_pairwise_distance == 1.0
    # 99 of the 4950 pairs; the mean is over 2000 of them.
    np.testing.assert_allclose(stuck.mean_pairwise_distance, 0.02, atol=0.01)


def test_a_sample_says_nearly_what_all_rows_say():
    rng = np.random.default_rng(3)
    client = rng.integers(0, 4, size=20_000)
    numeric = rng.normal(size=(20_000, 5)) + 0.8 * client[:, None]
    sample = measured(numeric, client, max_rows_per_client=1000)
    whole = measured(numeric, client, max_rows_per_client=20_000)
    np.testing.assert_allclose(sample.mean_pairwise_distance, whole.mean_pairwise_distance, rtol=0.05)
    # The floor falls with the square root of the rows: 5000 against 1000 a client.
    np.testing.assert_allclose(sample.iid_reference / whole.iid_reference, np.sqrt(5.0), rtol=0.2)


def test_anomalous_rows_are_not_measured():
    rows = table(400, attack=["normal", "flood"] * 200)
    client = np.repeat([0, 1], 200)
    moved = rows.numeric.copy()
    moved[1:200:2] = 1e6
    assert heterogeneity(rows, client) == heterogeneity(dataclasses.replace(rows, numeric=moved), client)


@pytest.mark.parametrize(
    ("sizes", "gini"),
    [
        ([5, 5, 5], 0.0),
        # The Lorenz curve runs through (1/2, 1/10), so the area between it and the diagonal is 2/5 of the triangle's.
        ([10, 90], 0.4),
        # Three clients have 1 row each of 100: 1 - 1/4 - 2 * (0.01 + 0.02 + 0.03) / 4 by trapezoids.
        ([1, 1, 1, 97], 0.72),
    ],
)
def test_the_imbalance_of_sizes_is_the_gini_coefficient(sizes, gini):
    client = np.repeat(np.arange(len(sizes)), sizes)
    np.testing.assert_allclose(measured(np.zeros((len(client), 1)), client).size_gini, gini)


def test_a_single_client_differs_from_nobody():
    found = measured(np.zeros((5, 1)), np.zeros(5, int))
    assert dataclasses.astuple(found) == (None, None, None, 0.0)


def test_a_client_without_normal_rows_is_refused():
    with pytest.raises(ValueError, match="client 1 has no normal row"):
        heterogeneity(table(3, attack=["normal", "flood", "normal"]), np.array([0, 1, 0]))
