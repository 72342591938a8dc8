"""The primitives against the test vectors of their RFCs."""

import random

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag

from fedjax_anomaly.privacy.secure_aggregation import ciphers


def test_key_agreement_is_that_of_rfc_7748():
    """Section 6.1: Bob's keys, Alice's public one, and the secret that they share."""
    alice_public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    bob_public = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    assert ciphers.public_key(bob) == bob_public
    secret = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert ciphers.agree(bob, alice_public, b"masks") == ciphers.derive(secret, b"masks")
    assert ciphers.agree(bob, alice_public, b"shares") != ciphers.derive(secret, b"masks")


def test_both_sides_agree_on_one_key():
    source = random.Random(0)
    (private, public), (other_private, other_public) = (ciphers.key_pair(source.randbytes) for _ in range(2))
    assert ciphers.agree(private, other_public, b"masks") == ciphers.agree(other_private, public, b"masks")


def test_key_derivation_is_that_of_rfc_5869():
    """Appendix A, test case 1."""
    derived = ciphers.derive(
        bytes.fromhex("0b" * 22), bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), bytes(range(13)), length=42
    )
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert derived.hex() == expected


def test_the_key_stream_is_that_of_rfc_8439():
    """Appendix A.1, test vectors 1 and 2: blocks 0 and 1 of the zero key."""
    expected = (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    stream = ciphers.keystream(bytes(32), 32)
    assert stream.astype("<u4").tobytes().hex() == expected
    np.testing.assert_array_equal(stream[:5], ciphers.keystream(bytes(32), 5))


def test_a_sealed_message_opens_with_its_key_only():
    source = random.Random(0)
    key, other, message = source.randbytes(32), source.randbytes(32), source.randbytes(66)
    sealed = ciphers.seal(key, message)
    assert len(sealed) == len(message) + ciphers.TAG_BYTES
    assert ciphers.unseal(key, sealed) == message
    for wrong_key, wrong in ((other, sealed), (key, sealed[:-1] + bytes([sealed[-1] ^ 1]))):
        with pytest.raises(InvalidTag):
            ciphers.unseal(wrong_key, wrong)
