"""Who shares a mask with whom: everyone with everyone, or each with k neighbours on a ring in random order."""

import functools
from typing import Any, Literal, NamedTuple

import numpy as np

Protocol = Literal["secagg", "secaggplus"]
"""SecAgg (complete graph) or SecAgg+ (k-regular graph)."""

CORRUPT_SHARE, DROPOUT_SHARE = 0.2, 0.2
"""SecAgg+ is planned for a server that colludes with one client in five, and for one client in five dropping out."""
SECURITY_BITS, CORRECTNESS_BITS = 40, 30
"""The chance that one round of SecAgg+ exposes a client is at most 2^-40, that it stops at these dropouts 2^-30."""


class MaskGraph(NamedTuple):
    """How the clients of one sum share masks and seeds.

    Attributes:
      num_clients: n.
      num_neighbours: k, clients that each client shares a mask with, and that hold the shares of its seeds.
      threshold: t, neighbours whose shares are needed to rebuild a seed.
    """

    num_clients: int
    num_neighbours: int
    threshold: int


def mask_graph(protocol: Protocol, num_clients: int) -> MaskGraph:
    """The graph of a protocol for `num_clients` clients.

    SecAgg takes all others as neighbours and the least threshold above two thirds of them. SecAgg+ takes the least even
    k for which there is a t such that, in a random order, (1) no client has t corrupt neighbours, (2) no run of k / 2
    consecutive clients is corrupt or dropped, so the rest stays connected, (3) every client keeps t neighbours; (1) and
    (2) but for 2^-40, (3) but for 2^-30, each by a union bound over clients. Where that is everyone, it is SecAgg.

    Raises:
      ValueError: when there is no second client to share a mask with.

    Guarantees:
      The bounds hold (test:
      `tests/privacy/secure_aggregation/test_graph.py::test_the_bounds_hold_and_no_fewer_neighbours_do`).

    References:
      Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", section 6.
      Bell et al. 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", section 3.
    """
    if num_clients < 2:
        raise ValueError(f"num_clients={num_clients}: masks are shared by at least 2 clients; sum over more clients.")
    if protocol == "secaggplus":
        sparse = _sparse(num_clients)
        if sparse is not None:
            return sparse
    return MaskGraph(num_clients, num_clients - 1, complete_threshold(num_clients - 1))


def complete_threshold(num_neighbours: Any) -> Any:
    """The least number above two thirds of the neighbours, an integer or a traced one."""
    return 2 * num_neighbours // 3 + 1


@functools.cache
def _sparse(num_clients: int) -> MaskGraph | None:
    """The sparsest k-regular graph that meets the bounds; None where only the complete one does."""
    for k in range(2, num_clients - 1, 2):
        threshold = feasible_threshold(num_clients, k)
        if threshold is not None:
            return MaskGraph(num_clients, k, threshold)
    return None


def feasible_threshold(num_clients: int, num_neighbours: int) -> int | None:
    """The largest threshold that meets the bounds for k neighbours, or None.

    Args:
      num_clients: n.
      num_neighbours: k.
    """
    from scipy import stats  # Slow to import, and needed for SecAgg+ only.

    corrupt, dropped = (int(np.ceil(share * num_clients)) for share in (CORRUPT_SHARE, DROPOUT_SHARE))
    run = stats.hypergeom.pmf(num_neighbours // 2, num_clients, corrupt + dropped, num_neighbours // 2)
    if num_clients * run > 2.0**-SECURITY_BITS:
        return None
    threshold = np.arange(1, num_neighbours + 1)
    others = num_clients - 1
    exposed = num_clients * stats.hypergeom.sf(threshold - 1, others, corrupt, num_neighbours)
    stopped = num_clients * stats.hypergeom.cdf(threshold - 1, others, others - dropped, num_neighbours)
    feasible = threshold[(exposed <= 2.0**-SECURITY_BITS) & (stopped <= 2.0**-CORRECTNESS_BITS)]
    return int(feasible[-1]) if len(feasible) else None


def ring_neighbours(graph: MaskGraph, position: int) -> list[int]:
    """The positions on the ring that share a mask with one position, in order."""
    n, reach = graph.num_clients, (graph.num_neighbours + 1) // 2
    around = {(position + offset) % n for offset in range(-reach, reach + 1)}
    return sorted(around - {position})
