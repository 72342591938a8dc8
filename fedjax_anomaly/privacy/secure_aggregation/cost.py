"""What the protocol costs one client in a round: bytes of the messages, and seconds of its own work."""

import time
from typing import NamedTuple

import numpy as np

from fedjax_anomaly.privacy.secure_aggregation import ciphers, client, messages, shamir
from fedjax_anomaly.privacy.secure_aggregation.graph import MaskGraph
from fedjax_anomaly.privacy.secure_aggregation.messages import Keys, Revealed, SealedShares
from fedjax_anomaly.privacy.secure_aggregation.protocol import Traffic
from fedjax_anomaly.privacy.secure_aggregation.shamir import RandomBytes


def client_traffic(num_neighbours: int, num_values: int) -> Traffic:
    """Bytes of the messages of one client in a round without dropouts.

    Args:
      num_neighbours: k.
      num_values: P, coordinates of a vector.

    Guarantees:
      As a run of the protocol counts them (test:
      `tests/privacy/secure_aggregation/test_protocol.py::test_traffic_is_the_length_of_the_messages`).
    """
    keys = Keys(0, bytes(ciphers.KEY_BYTES), bytes(ciphers.KEY_BYTES))
    sealed = messages.pack_sealed(
        [SealedShares(0, 0, bytes(2 * shamir.SHARE_BYTES + ciphers.TAG_BYTES))] * num_neighbours
    )
    revealed = messages.pack_revealed([Revealed(0, True, bytes(shamir.SHARE_BYTES))] * num_neighbours)
    return Traffic(
        up={
            "keys": len(messages.pack_keys([keys])),
            "shares": len(sealed),
            "vector": len(messages.pack_vector(np.zeros(num_values, np.uint32))),
            "unmask": len(revealed),
        },
        down={
            "keys": len(messages.pack_keys([keys] * num_neighbours)),
            "shares": len(sealed),
            "vector": len(messages.pack_clients(range(num_neighbours))),
        },
    )


class ClientSeconds(NamedTuple):
    """Seconds of one client's work in each step."""

    keys: float
    shares: float
    vector: float
    unmask: float


def client_seconds(graph: MaskGraph, num_values: int, random_bytes: RandomBytes) -> ClientSeconds:
    """Times one client's four steps among neighbours that all stay.

    Args:
      graph: how many neighbours, and the threshold.
      num_values: P.
      random_bytes: source of randomness.
    """
    neighbours = range(1, graph.num_neighbours + 1)
    advertised = [client.advertise_keys(number, random_bytes) for number in neighbours]
    begin = time.perf_counter()
    own, own_keys = client.advertise_keys(0, random_bytes)
    after_keys = time.perf_counter()
    own, _ = client.share_seeds(own, graph.threshold, b"".join(keys for _, keys in advertised), random_bytes)
    after_shares = time.perf_counter()
    # Each neighbour needs to share its seeds with this client only, for this client's work to be the real one.
    inbox = b"".join(client.share_seeds(other, 1, own_keys, random_bytes)[1] for other, _ in advertised)
    before_vector = time.perf_counter()
    client.mask_vector(own, inbox, np.zeros(num_values, np.uint32))
    after_vector = time.perf_counter()
    client.reveal_shares(own, graph.threshold, inbox, messages.pack_clients(neighbours))
    end = time.perf_counter()
    return ClientSeconds(
        after_keys - begin, after_shares - after_keys, after_vector - before_vector, end - after_vector
    )
