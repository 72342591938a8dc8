"""A client's four steps of the protocol; each takes and gives the bytes that travel."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt

from fedjax_anomaly.privacy.secure_aggregation import ciphers, messages, shamir
from fedjax_anomaly.privacy.secure_aggregation.messages import Keys, Revealed, SealedShares
from fedjax_anomaly.privacy.secure_aggregation.shamir import RandomBytes

_MASK = b"fedjax_anomaly pair mask"
_SHARES = b"fedjax_anomaly shares"


class Client(NamedTuple):
    """What a client knows.

    Attributes:
      number: its own.
      mask_private: agrees on the seeds of masks.
      share_private: agrees on the keys that shares are encrypted with.
      self_seed: of its own mask.
      neighbours: their public keys, by number.
    """

    number: int
    mask_private: bytes
    share_private: bytes
    self_seed: bytes
    neighbours: dict[int, Keys]


def advertise_keys(number: int, random_bytes: RandomBytes) -> tuple[Client, bytes]:
    """Step 0: fresh keys for this round, and the message with the public ones."""
    mask_private, mask_key = ciphers.key_pair(random_bytes)
    share_private, share_key = ciphers.key_pair(random_bytes)
    client = Client(number, mask_private, share_private, random_bytes(shamir.SECRET_BYTES), {})
    return client, messages.pack_keys([Keys(number, mask_key, share_key)])


def share_seeds(client: Client, threshold: int, keys: bytes, random_bytes: RandomBytes) -> tuple[Client, bytes]:
    """Step 1: shares the client's two seeds among its neighbours.

    Args:
      client: of step 0.
      threshold: shares that rebuild a seed.
      keys: the neighbours' public keys, from the server.
      random_bytes: source of randomness.

    Raises:
      ValueError: when fewer neighbours are there than the threshold.
    """
    client = client._replace(neighbours={own.client: own for own in messages.unpack_keys(keys)})
    numbers = list(client.neighbours)
    check_enough(client.number, len(numbers), threshold, "advertised keys")
    of_key = shamir.share(client.mask_private, numbers, threshold, random_bytes)
    of_seed = shamir.share(client.self_seed, numbers, threshold, random_bytes)
    sealed = [
        SealedShares(client.number, v, ciphers.seal(_sealing_key(client, client.number, v), of_key[v] + of_seed[v]))
        for v in numbers
    ]
    return client, messages.pack_sealed(sealed)


def mask_vector(client: Client, sealed: bytes, codes: UInt[np.ndarray, " P"]) -> bytes:
    """Step 2: the client's vector with its own mask and those of the neighbours whose shares arrived on it.

    Args:
      client: of step 1.
      sealed: the shares from those neighbours, by the server.
      codes: the encoded vector.
    """
    masked = codes + ciphers.keystream(client.self_seed, len(codes))
    for neighbour in (message.sender for message in messages.unpack_sealed(sealed)):
        masked = masked + pair_mask(
            client.number, client.mask_private, neighbour, client.neighbours[neighbour].mask_key, len(codes)
        )
    return messages.pack_vector(masked)


def reveal_shares(client: Client, threshold: int, sealed: bytes, survivors: bytes) -> bytes:
    """Step 3: of every neighbour the share of one seed, never of both.

    Args:
      client: of step 1.
      threshold: as in step 1.
      sealed: as in step 2.
      survivors: the neighbours whose vectors arrived.

    Raises:
      ValueError: when they are fewer than the threshold.
    """
    sent = set(messages.unpack_clients(survivors))
    check_enough(client.number, len(sent), threshold, "sent their vectors")
    revealed = []
    for message in messages.unpack_sealed(sealed):
        shares = ciphers.unseal(_sealing_key(client, message.sender, client.number), message.sealed)
        of_key, of_seed = shares[: shamir.SHARE_BYTES], shares[shamir.SHARE_BYTES :]
        arrived = message.sender in sent
        revealed.append(Revealed(message.sender, arrived, of_seed if arrived else of_key))
    return messages.pack_revealed(revealed)


def pair_mask(number: int, mask_private: bytes, other: int, mask_key: bytes, num_values: int) -> np.ndarray:
    """What a client adds for one neighbour; the two of a pair add up to zero.

    Args:
      number: of the client.
      mask_private: its private key.
      other: number of the neighbour.
      mask_key: the neighbour's public key.
      num_values: P.
    """
    mask = ciphers.keystream(ciphers.agree(mask_private, mask_key, _MASK), num_values)
    return mask if number < other else -mask


def check_enough(number: int, there: int, threshold: int, what: str) -> None:
    """Stops below the threshold.

    Raises:
      ValueError: naming the client, the numbers and the way out.
    """
    if there < threshold:
        raise ValueError(
            f"only {there} neighbours of client {number} {what}, but the threshold is {threshold}: too many clients "
            "dropped out, and nothing is revealed; run the round again with the clients that are left."
        )


def _sealing_key(client: Client, sender: int, receiver: int) -> bytes:
    """The key for shares from `sender` to `receiver`, one of whom is the client."""
    other = receiver if sender == client.number else sender
    purpose = _SHARES + messages.pack_clients([sender, receiver])
    return ciphers.agree(client.share_private, client.neighbours[other].share_key, purpose)
