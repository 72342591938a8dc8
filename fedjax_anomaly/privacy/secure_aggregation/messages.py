"""What clients and server send to each other, as bytes; integers are little-endian."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt

from fedjax_anomaly.privacy.secure_aggregation.ciphers import KEY_BYTES, TAG_BYTES
from fedjax_anomaly.privacy.secure_aggregation.shamir import SHARE_BYTES


class Keys(NamedTuple):
    """A client's public keys, by the server to its neighbours.

    Attributes:
      client: whose.
      mask_key: agrees on the seeds of masks.
      share_key: agrees on the keys that shares are encrypted with.
    """

    client: int
    mask_key: bytes
    share_key: bytes


class SealedShares(NamedTuple):
    """The shares of one client's seeds for one neighbour, encrypted for it."""

    sender: int
    receiver: int
    sealed: bytes


class Revealed(NamedTuple):
    """One neighbour's share of one seed of a client.

    Attributes:
      owner: whose seed.
      sent: True: the client's vector arrived, and this is a share of the seed of its own mask. False: it dropped out,
        and this is a share of its private mask key.
      share: see `shamir.share`.
    """

    owner: int
    sent: bool
    share: bytes


_KEYS = struct.Struct(f"<I{KEY_BYTES}s{KEY_BYTES}s")
_SEALED = struct.Struct(f"<II{2 * SHARE_BYTES + TAG_BYTES}s")
_REVEALED = struct.Struct(f"<I?{SHARE_BYTES}s")


def pack_keys(messages: Iterable[Keys]) -> bytes:
    """Public keys, of one client or of many."""
    return b"".join(_KEYS.pack(*message) for message in messages)


def unpack_keys(data: bytes) -> list[Keys]:
    """The inverse of `pack_keys`."""
    return [Keys(*fields) for fields in _KEYS.iter_unpack(data)]


def pack_sealed(messages: Iterable[SealedShares]) -> bytes:
    """Encrypted shares, of one client for all its neighbours or the other way round."""
    return b"".join(_SEALED.pack(*message) for message in messages)


def unpack_sealed(data: bytes) -> list[SealedShares]:
    """The inverse of `pack_sealed`."""
    return [SealedShares(*fields) for fields in _SEALED.iter_unpack(data)]


def pack_clients(clients: Iterable[int]) -> bytes:
    """Numbers of clients: the neighbours whose vectors arrived."""
    return np.asarray(list(clients), "<u4").tobytes()


def unpack_clients(data: bytes) -> list[int]:
    """The inverse of `pack_clients`."""
    return np.frombuffer(data, "<u4").tolist()


def pack_vector(masked: UInt[np.ndarray, " P"]) -> bytes:
    """A masked vector."""
    return masked.astype("<u4").tobytes()


def unpack_vector(data: bytes) -> UInt[np.ndarray, " P"]:
    """The inverse of `pack_vector`."""
    return np.frombuffer(data, "<u4").astype(np.uint32)


def pack_revealed(messages: Iterable[Revealed]) -> bytes:
    """The shares that one client reveals."""
    return b"".join(_REVEALED.pack(*message) for message in messages)


def unpack_revealed(data: bytes) -> list[Revealed]:
    """The inverse of `pack_revealed`."""
    return [Revealed(*fields) for fields in _REVEALED.iter_unpack(data)]
