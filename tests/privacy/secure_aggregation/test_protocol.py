"""The protocol among simulated clients: sums, dropouts, and what is sent."""

import random

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from scipy import stats

from fedjax_anomaly.privacy.secure_aggregation import ciphers, client, messages, protocol, shamir
from fedjax_anomaly.privacy.secure_aggregation.cost import client_seconds, client_traffic
from fedjax_anomaly.privacy.secure_aggregation.graph import MaskGraph, mask_graph
from fedjax_anomaly.privacy.secure_aggregation.protocol import run_protocol

COMPLETE = mask_graph("secagg", 7)
SPARSE = MaskGraph(num_clients=9, num_neighbours=4, threshold=2)
SIZE = 10


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**32, (count, SIZE), dtype=np.uint32)


def aggregate(graph, fails_at=None, seed=0, codes=None):
    source = random.Random(seed)
    order = source.sample(range(graph.num_clients), graph.num_clients)
    codes = vectors(graph.num_clients) if codes is None else codes
    return run_protocol(codes, graph, order, source.randbytes, fails_at)


@pytest.mark.parametrize("graph", [mask_graph("secagg", 9), SPARSE], ids=["complete", "sparse"])
@pytest.mark.parametrize(
    ("fails_at", "senders_lost"),
    [
        ({}, ()),
        ({3: "keys"}, (3,)),
        ({3: "shares"}, (3,)),
        ({3: "vector"}, (3,)),
        ({3: "unmask"}, ()),
        ({3: "vector", 5: "unmask"}, (3,)),
        ({0: "vector", 6: "shares"}, (0, 6)),
    ],
    ids=str,
)
def test_the_total_is_the_sum_of_the_vectors_that_arrived(graph, fails_at, senders_lost):
    done = aggregate(graph, fails_at)
    senders = [c for c in range(graph.num_clients) if c not in senders_lost]
    assert done.senders == senders
    expected = vectors(graph.num_clients)[senders].astype(np.uint64).sum(axis=0) % 2**32
    np.testing.assert_array_equal(done.total, expected)


def test_a_total_needs_every_mask_removed():
    """Negative control: the bare sum of the messages is the total only if nobody has masks of their own."""
    done = aggregate(COMPLETE)
    bare = sum(message.astype(np.uint64) for message in done.messages.values()) % 2**32
    assert (bare != done.total).all()
    assert all((done.messages[c] != vectors(7)[c]).all() for c in done.senders)


def test_what_the_server_receives_is_uniform():
    zeros = np.zeros((4, 4000), np.uint32)
    done = aggregate(mask_graph("secagg", 4), codes=zeros)
    for message in done.messages.values():
        assert stats.chisquare(np.bincount(message.view(np.uint8), minlength=256)).pvalue > 1e-4
    assert not done.total.any()


@pytest.mark.parametrize(
    ("fails_at", "message"),
    [
        # Seven clients with six neighbours each and a threshold of 5.
        (dict.fromkeys((0, 1), "keys"), "only 4 neighbours of client . advertised keys, but the threshold is 5"),
        (dict.fromkeys((0, 1), "vector"), "only 4 neighbours of client . sent their vectors, but the threshold is 5"),
        (dict.fromkeys((0, 1), "unmask"), "only 4 neighbours of client . revealed their shares, but the threshold"),
        (
            {0: "vector", 1: "unmask"},
            "only 4 neighbours of client . revealed their shares, but the threshold is 5: too many clients dropped "
            "out, and nothing is revealed; run the round again with the clients that are left",
        ),
    ],
    ids=str,
)
def test_below_the_threshold_it_stops(fails_at, message):
    assert COMPLETE.threshold == 5
    with pytest.raises(ValueError, match=message):
        aggregate(COMPLETE, fails_at)


@pytest.mark.parametrize("graph", [COMPLETE, SPARSE, mask_graph("secagg", 2)], ids=["complete", "sparse", "two"])
def test_traffic_is_the_length_of_the_messages(graph):
    """Counted in a run, computed ahead, and by hand from what the messages hold."""
    k = graph.num_neighbours
    done = aggregate(graph)
    ahead = client_traffic(k, SIZE)
    assert all(own == ahead for own in done.traffic.values())
    # Client number and two public keys; two numbers and two encrypted shares of 33 bytes with a tag of 16; 4 bytes a
    # value; number, kind and share.
    assert ahead.up == {"keys": 4 + 64, "shares": k * (8 + 66 + 16), "vector": 4 * SIZE, "unmask": k * (4 + 1 + 33)}
    assert ahead.down == {"keys": k * 68, "shares": k * 90, "vector": k * 4}


def test_messages_survive_their_bytes():
    keys = [messages.Keys(3, bytes(range(32)), bytes(range(32, 64))), messages.Keys(2**32 - 1, bytes(32), bytes(32))]
    assert messages.unpack_keys(messages.pack_keys(keys)) == keys
    sealed = [messages.SealedShares(1, 2, bytes(range(82)))]
    assert messages.unpack_sealed(messages.pack_sealed(sealed)) == sealed
    revealed = [messages.Revealed(7, False, bytes(range(33))), messages.Revealed(8, True, bytes(33))]
    assert messages.unpack_revealed(messages.pack_revealed(revealed)) == revealed
    assert messages.unpack_clients(messages.pack_clients([5, 2**31])) == [5, 2**31]
    np.testing.assert_array_equal(messages.unpack_vector(messages.pack_vector(vectors(1)[0])), vectors(1)[0])


def exchanged_shares(num_clients: int, threshold: int):
    """Clients after step 1, and the sealed shares for each."""
    source = random.Random(1)
    advertised = [client.advertise_keys(c, source.randbytes) for c in range(num_clients)]
    clients, inbox = {}, {c: b"" for c in range(num_clients)}
    for c in range(num_clients):
        keys = b"".join(message for v, (_, message) in enumerate(advertised) if v != c)
        clients[c], sealed = client.share_seeds(advertised[c][0], threshold, keys, source.randbytes)
        for one in messages.unpack_sealed(sealed):
            inbox[one.receiver] += messages.pack_sealed([one])
    return clients, inbox


def test_a_client_reveals_one_seed_of_a_neighbour_and_never_both():
    """The seed of its own mask where its vector arrived, its mask key where it did not: shares rebuild that."""
    clients, inbox = exchanged_shares(4, threshold=2)
    shares: dict[bool, dict[int, bytes]] = {True: {}, False: {}}
    for holder in (0, 1):
        survivors = messages.pack_clients([v for v in (0, 1, 2) if v != holder])
        revealed = messages.unpack_revealed(client.reveal_shares(clients[holder], 2, inbox[holder], survivors))
        assert sorted(message.owner for message in revealed) == [v for v in range(4) if v != holder]
        assert {message.owner for message in revealed if not message.sent} == {3}
        for message in revealed:
            if message.owner in (2, 3):
                shares[message.sent][holder] = message.share
    assert shamir.rebuild(shares[True], 2) == clients[2].self_seed
    assert shamir.rebuild(shares[False], 2) == clients[3].mask_private


def test_pair_masks_cancel_and_differ_between_pairs():
    clients, _ = exchanged_shares(3, threshold=1)
    masks = {
        (u, v): client.pair_mask(u, clients[u].mask_private, v, clients[u].neighbours[v].mask_key, SIZE)
        for u in range(3)
        for v in range(3)
        if u != v
    }
    for u, v in masks:
        np.testing.assert_array_equal(masks[u, v] + masks[v, u], np.zeros(SIZE, np.uint32))
    assert (masks[0, 1] != masks[0, 2]).all()


def test_a_vector_has_a_mask_of_its_own_beside_those_of_its_pairs():
    clients, inbox = exchanged_shares(2, threshold=1)
    codes = vectors(1)[0]
    message = messages.unpack_vector(client.mask_vector(clients[0], inbox[0], codes))
    pair = client.pair_mask(0, clients[0].mask_private, 1, clients[0].neighbours[1].mask_key, SIZE)
    assert (message - pair != codes).all()
    np.testing.assert_array_equal(message - pair - ciphers.keystream(clients[0].self_seed, SIZE), codes)


def test_the_server_cannot_read_the_shares_that_it_hands_on():
    """Seeds and their shares are in no message; a neighbour cannot open what is meant for another."""
    clients, inbox = exchanged_shares(4, threshold=1)
    # With a threshold of 1 every share is the seed itself.
    everything = b"".join(inbox.values())
    assert all(own.self_seed not in everything and own.mask_private not in everything for own in clients.values())
    meant_for_1 = [message for message in messages.unpack_sealed(inbox[1]) if message.sender == 0]
    stolen = messages.pack_sealed([meant_for_1[0]._replace(receiver=2)])
    with pytest.raises(InvalidTag):
        client.reveal_shares(clients[2], 1, stolen, messages.pack_clients([0, 1]))


def test_the_time_of_a_client_is_that_of_its_steps():
    seconds = client_seconds(COMPLETE, SIZE, random.Random(0).randbytes)
    assert all(0.0 < step < 1.0 for step in seconds)
    assert seconds._fields == protocol.STEPS
