"""Who shares a mask with whom, and how many shares rebuild a seed."""

import math

import numpy as np
import pytest

from fedjax_anomaly.privacy.secure_aggregation.graph import (
    MaskGraph,
    complete_threshold,
    feasible_threshold,
    mask_graph,
    ring_neighbours,
)


def hypergeometric(total: int, marked: int, drawn: int) -> list[float]:
    """The chance of each number of marked ones among `drawn` of `total`, from binomial coefficients."""
    return [
        math.comb(marked, m) * math.comb(total - marked, drawn - m) / math.comb(total, drawn) for m in range(drawn + 1)
    ]


@pytest.mark.parametrize("num_clients", [100, 1000])
def test_the_bounds_hold_and_no_fewer_neighbours_do(num_clients):
    """One client in five corrupt and one in five dropped; the tails are summed by hand."""
    graph = mask_graph("secaggplus", num_clients)
    k, t, fifth = graph.num_neighbours, graph.threshold, math.ceil(num_clients / 5)
    others = num_clients - 1
    assert k % 2 == 0
    assert k < others
    assert num_clients * sum(hypergeometric(others, fifth, k)[t:]) <= 2.0**-40
    assert num_clients * sum(hypergeometric(others, others - fifth, k)[:t]) <= 2.0**-30
    assert num_clients * hypergeometric(num_clients, 2 * fifth, k // 2)[k // 2] <= 2.0**-40
    assert feasible_threshold(num_clients, k) == t
    assert feasible_threshold(num_clients, k - 2) is None


def test_neighbours_grow_slowly():
    """A hundred times the clients take less than three times the neighbours."""
    few, many = (mask_graph("secaggplus", n).num_neighbours for n in (100, 10_000))
    assert many < 3 * few


def test_secagg_is_complete_with_a_threshold_above_two_thirds():
    assert mask_graph("secagg", 20) == MaskGraph(20, 19, 13)
    for neighbours in range(1, 40):
        threshold = complete_threshold(neighbours)
        assert 3 * threshold > 2 * neighbours >= 3 * (threshold - 1)


def test_few_clients_are_all_neighbours_in_both_protocols():
    for num_clients in (2, 3, 10):
        assert mask_graph("secaggplus", num_clients) == mask_graph("secagg", num_clients)


@pytest.mark.parametrize("graph", [MaskGraph(9, 8, 6), MaskGraph(8, 7, 5), MaskGraph(11, 4, 3), MaskGraph(2, 1, 1)])
def test_neighbours_are_mutual_and_as_many_as_stated(graph):
    around = [ring_neighbours(graph, position) for position in range(graph.num_clients)]
    assert {len(own) for own in around} == {graph.num_neighbours}
    adjacent = np.zeros((graph.num_clients, graph.num_clients), bool)
    for position, own in enumerate(around):
        adjacent[position, own] = True
    np.testing.assert_array_equal(adjacent, adjacent.T)
    assert not adjacent.diagonal().any()


def test_a_sum_of_one_is_refused():
    with pytest.raises(ValueError, match="num_clients=1: masks are shared by at least 2 clients"):
        mask_graph("secagg", 1)
