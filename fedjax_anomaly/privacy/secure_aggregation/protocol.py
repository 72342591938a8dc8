"""One round of secure aggregation among simulated clients and a server, with every message as the bytes it is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt

from fedjax_anomaly.privacy.secure_aggregation import ciphers, client, messages, shamir
from fedjax_anomaly.privacy.secure_aggregation.client import Client
from fedjax_anomaly.privacy.secure_aggregation.graph import MaskGraph, ring_neighbours
from fedjax_anomaly.privacy.secure_aggregation.messages import Keys, SealedShares
from fedjax_anomaly.privacy.secure_aggregation.shamir import RandomBytes

Step = Literal["keys", "shares", "vector", "unmask"]
"""What a client sends in the four steps."""
STEPS: tuple[Step, ...] = ("keys", "shares", "vector", "unmask")


class Traffic(NamedTuple):
    """Bytes from a client to the server and back, in each step."""

    up: dict[Step, int]
    down: dict[Step, int]


class Aggregate(NamedTuple):
    """What the server has at the end.

    Attributes:
      total: the sum modulo 2^32 of the vectors that arrived.
      senders: whose vectors these are.
      messages: the masked vectors as received.
      traffic: of each client.
    """

    total: UInt[np.ndarray, " P"]
    senders: list[int]
    messages: dict[int, UInt[np.ndarray, " P"]]
    traffic: dict[int, Traffic]


def run_protocol(
    vectors: UInt[np.ndarray, "n P"],
    graph: MaskGraph,
    order: Sequence[int],
    random_bytes: RandomBytes,
    fails_at: Mapping[int, Step] | None = None,
) -> Aggregate:
    """Aggregates the clients' encoded vectors.

    Keys are made anew in every round. The channel between a client and the server is taken to be authenticated.

    Args:
      vectors: encoded, client c's in row c.
      graph: of n clients.
      order: the clients in their random order on the ring, drawn for this round and known to all.
      random_bytes: source of all randomness, `secrets.token_bytes` outside of tests.
      fails_at: the first step in which a client sends nothing any more; clients not named do not fail.

    Raises:
      ValueError: when so many clients fail that a client or a seed has fewer neighbours left than the threshold, with
        the numbers and the way out.

    Guarantees:
      The total is the sum of the vectors of `senders`, bit for bit (test:
      `tests/privacy/secure_aggregation/test_protocol.py::test_the_total_is_the_sum_of_the_vectors_that_arrived`).
      The traffic is the length of what was sent (test:
      `tests/privacy/secure_aggregation/test_protocol.py::test_traffic_is_the_length_of_the_messages`).

    References:
      Bonawitz et al. 2017, figure 4, without the parts against a server that lies (the signatures and the consistency
      check). Bell et al. 2020, algorithm 2, for the graph.
    """
    fails_at = fails_at or {}
    around = _neighbours(graph, order)
    traffic: dict[int, Traffic] = defaultdict(lambda: Traffic({}, {}))

    def there(step: Step, of: Sequence[int]) -> list[int]:
        failed = STEPS[: STEPS.index(step) + 1]
        return [c for c in of if fails_at.get(c) not in failed]

    clients, keys = _advertise(there("keys", order), random_bytes, traffic)
    clients, sealed = _share(there("shares", list(clients)), clients, keys, around, graph, random_bytes, traffic)
    arrived = _send_vectors(there("vector", list(sealed)), clients, sealed, vectors, traffic)
    answers = _reveal(there("unmask", list(arrived)), clients, sealed, set(arrived), graph, traffic)
    total = _unmask(arrived, answers, keys, sealed, graph)
    return Aggregate(total, sorted(arrived), arrived, dict(traffic))


def _neighbours(graph: MaskGraph, order: Sequence[int]) -> dict[int, list[int]]:
    return {own: [order[p] for p in ring_neighbours(graph, position)] for position, own in enumerate(order)}


def _advertise(
    present: Sequence[int], random_bytes: RandomBytes, traffic: dict[int, Traffic]
) -> tuple[dict[int, Client], dict[int, Keys]]:
    clients, keys = {}, {}
    for c in present:
        clients[c], message = client.advertise_keys(c, random_bytes)
        traffic[c].up["keys"] = len(message)
        (keys[c],) = messages.unpack_keys(message)
    return clients, keys


def _share(
    present: Sequence[int],
    clients: Mapping[int, Client],
    keys: Mapping[int, Keys],
    around: Mapping[int, Sequence[int]],
    graph: MaskGraph,
    random_bytes: RandomBytes,
    traffic: dict[int, Traffic],
) -> tuple[dict[int, Client], dict[int, bytes]]:
    """The clients with their neighbours' keys, and for each the sealed shares that the server hands on to it."""
    knowing: dict[int, Client] = {}
    inbox: dict[int, list[SealedShares]] = {c: [] for c in present}
    for c in present:
        message = messages.pack_keys(keys[v] for v in around[c] if v in keys)
        traffic[c].down["keys"] = len(message)
        knowing[c], answer = client.share_seeds(clients[c], graph.threshold, message, random_bytes)
        traffic[c].up["shares"] = len(answer)
        for sealed in messages.unpack_sealed(answer):
            if sealed.receiver in inbox:
                inbox[sealed.receiver].append(sealed)
    return knowing, {c: messages.pack_sealed(own) for c, own in inbox.items()}


def _send_vectors(
    present: Sequence[int],
    clients: Mapping[int, Client],
    sealed: Mapping[int, bytes],
    vectors: np.ndarray,
    traffic: dict[int, Traffic],
) -> dict[int, np.ndarray]:
    arrived = {}
    for c in present:
        traffic[c].down["shares"] = len(sealed[c])
        message = client.mask_vector(clients[c], sealed[c], vectors[c])
        traffic[c].up["vector"] = len(message)
        arrived[c] = messages.unpack_vector(message)
    return arrived


def _reveal(
    present: Sequence[int],
    clients: Mapping[int, Client],
    sealed: Mapping[int, bytes],
    arrived: set[int],
    graph: MaskGraph,
    traffic: dict[int, Traffic],
) -> dict[int, bytes]:
    answers = {}
    for c in present:
        survivors = messages.pack_clients(v for v in clients[c].neighbours if v in arrived)
        traffic[c].down["vector"] = len(survivors)
        answers[c] = client.reveal_shares(clients[c], graph.threshold, sealed[c], survivors)
        traffic[c].up["unmask"] = len(answers[c])
    return answers


def _unmask(
    arrived: Mapping[int, np.ndarray],
    answers: Mapping[int, bytes],
    keys: Mapping[int, Keys],
    sealed: Mapping[int, bytes],
    graph: MaskGraph,
) -> np.ndarray:
    """The server's last step: rebuilds the seeds it needs and takes their masks off the sum.

    `sealed` has the clients that shared their seeds, who are those that masks were made for.
    """
    shares: dict[int, dict[int, bytes]] = {c: {} for c in sealed}
    for holder, answer in answers.items():
        for message in messages.unpack_revealed(answer):
            shares[message.owner][holder] = message.share
    total: np.ndarray = np.stack(list(arrived.values())).sum(axis=0, dtype=np.uint32)
    linked = {c: [message.sender for message in messages.unpack_sealed(own)] for c, own in sealed.items()}
    for c in sealed:
        client.check_enough(c, len(shares[c]), graph.threshold, "revealed their shares")
        secret = shamir.rebuild(shares[c], graph.threshold)
        if c in arrived:
            total = total - ciphers.keystream(secret, len(total))
            continue
        for v in (v for v in linked[c] if v in arrived):
            # What the dropped client would have added is what its neighbour's mask is cancelled by.
            total = total + client.pair_mask(c, secret, v, keys[v].mask_key, len(total))
    return total
