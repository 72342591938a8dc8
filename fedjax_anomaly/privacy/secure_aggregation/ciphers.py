"""The cryptography of the protocol: key agreement, key derivation, stream cipher and authenticated encryption."""

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt

from fedjax_anomaly.privacy.secure_aggregation.shamir import RandomBytes

KEY_BYTES = 32
TAG_BYTES = 16
"""What authenticated encryption adds to a message."""

_ZERO_NONCE = bytes(12)
"""Every key here encrypts one message only, so that the nonce need not differ."""


def key_pair(random_bytes: RandomBytes) -> tuple[bytes, bytes]:
    """A private and a public X25519 key, 32 bytes each."""
    private = random_bytes(KEY_BYTES)
    return private, public_key(private)


def public_key(private: bytes) -> bytes:
    """The X25519 public key that belongs to a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, purpose: bytes) -> bytes:
    """The key that two parties share for a purpose: HKDF-SHA256 of their X25519 secret.

    Args:
      private: of one party.
      public: of the other.
      purpose: keys of different purposes are unrelated.

    Raises:
      ValueError: when the public key is one of the few that give the same secret with everyone.

    References:
      RFC 7748, section 6.1. RFC 5869.
    """
    secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return derive(secret, purpose)


def derive(secret: bytes, purpose: bytes, salt: bytes | None = None, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869)."""
    return HKDF(SHA256(), length, salt, purpose).derive(secret)


def keystream(seed: bytes, num_values: int) -> UInt[np.ndarray, " P"]:
    """The mask of a seed: `num_values` 32-bit words of its ChaCha20 key stream from block 0 (RFC 8439)."""
    # The first 4 of the 16 bytes are the block counter.
    encryptor = Cipher(ChaCha20(seed, bytes(4) + _ZERO_NONCE), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * num_values)), "<u4")


def seal(key: bytes, message: bytes) -> bytes:
    """Encrypts one message under a key of its own: ChaCha20-Poly1305 (RFC 8439)."""
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, message, None)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Decrypts what `seal` encrypted.

    Raises:
      cryptography.exceptions.InvalidTag: when it was changed on the way, or the key is another.
    """
    return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, None)
