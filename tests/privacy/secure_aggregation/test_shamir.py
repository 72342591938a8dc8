"""Shamir's secret sharing."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedjax_anomaly.privacy.secure_aggregation import shamir

SECRETS = st.binary(min_size=32, max_size=32)


def is_probably_prime(number: int) -> bool:
    """Miller and Rabin's test with 40 random bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (random.Random(seed).randrange(2, number - 1) for seed in range(40)):
        value = pow(base, odd, number)
        if value in (1, number - 1):
            continue
        if all(pow(value, 2**power, number) != number - 1 for power in range(1, twos)):
            return False
    return True


def test_the_modulus_is_the_least_prime_above_every_secret():
    assert is_probably_prime(shamir.PRIME)
    assert not any(is_probably_prime(number) for number in range(2**256 + 1, shamir.PRIME, 2))


def value_at(points: dict[int, int], x: int) -> int:
    """The polynomial through the points, at x: Lagrange's formula, written out."""
    total = 0
    for own, y in points.items():
        term = y
        for other in points:
            if other != own:
                term = term * (x - other) * pow(own - other, -1, shamir.PRIME)
        total += term
    return total % shamir.PRIME


@settings(max_examples=40, deadline=None)
@given(secret=SECRETS, threshold=st.integers(1, 7), more=st.integers(0, 5), seed=st.integers(0, 999))
def test_any_shares_of_threshold_number_rebuild_the_secret(secret, threshold, more, seed):
    chosen = random.Random(seed)
    holders = chosen.sample(range(1000), threshold + more)
    shares = shamir.share(secret, holders, threshold, chosen.randbytes)
    assert {len(one) for one in shares.values()} == {shamir.SHARE_BYTES}
    some = dict(chosen.sample(list(shares.items()), threshold))
    assert shamir.rebuild(some, threshold) == secret
    assert shamir.rebuild(shares, threshold) == secret
    points = {holder + 1: int.from_bytes(share) for holder, share in some.items()}
    assert value_at(points, 0) == int.from_bytes(secret)


@settings(max_examples=25, deadline=None)
@given(secret=SECRETS, guess=SECRETS, threshold=st.integers(2, 6), seed=st.integers(0, 999))
def test_fewer_shares_than_the_threshold_fit_every_secret(secret, guess, threshold, seed):
    """For any other secret there is exactly one polynomial of the same degree through the t - 1 shares seen.

    The polynomial through the guess and the t - 1 shares has degree t - 1 at most, so it could have been the one drawn;
    as all are drawn alike, the shares say nothing.
    """
    source = random.Random(seed)
    shares = shamir.share(secret, range(threshold + 2), threshold, source.randbytes)
    seen = {holder + 1: int.from_bytes(shares[holder]) for holder in range(threshold - 1)}
    fitted = {0: int.from_bytes(guess)} | seen
    faked = {holder: value_at(fitted, holder + 1).to_bytes(33) for holder in range(threshold)}
    assert all(faked[holder] == shares[holder] for holder in range(threshold - 1))
    assert shamir.rebuild(faked, threshold) == guess


def test_in_a_small_field_two_of_three_shares_take_every_value_once_whatever_the_secret(monkeypatch):
    """All 121 polynomials of degree 2 over the field of 11 elements, for every secret: nothing is left to chance."""
    monkeypatch.setattr(shamir, "PRIME", 11)
    for secret in range(11):
        seen = set()
        for drawn in itertools.product(range(11), repeat=2):
            source = (value.to_bytes(33) for value in drawn)
            shares = shamir.share(secret.to_bytes(32), [0, 4, 8], 3, lambda size, source=source: next(source))
            assert int.from_bytes(shamir.rebuild(shares, 3)) == secret
            seen.add((shares[0], shares[8]))
        assert len(seen) == 121


def test_one_share_less_rebuilds_another_secret():
    secret = bytes(range(32))
    for threshold in range(2, 6):
        shares = shamir.share(secret, range(threshold), threshold, random.Random(4).randbytes)
        del shares[0]
        assert shamir.rebuild(shares, threshold - 1) != secret


def test_shares_of_one_secret_look_uniform_and_unrelated():
    """One share of a fixed secret, over many sharings; with threshold 1 it is the secret."""
    source = random.Random(0)
    shares = [shamir.share(bytes(32), [3, 4], 2, source.randbytes)[3] for _ in range(3000)]
    for byte in (1, 32):
        assert stats.chisquare(np.bincount([share[byte] for share in shares], minlength=256)).pvalue > 1e-4
    assert int.from_bytes(shamir.share(bytes(32), [3], 1, source.randbytes)[3]) == 0


def test_a_wrong_share_gives_another_secret():
    source = random.Random(1)
    shares = shamir.share(bytes(range(32)), range(5), 3, source.randbytes)
    shares[1] = (int.from_bytes(shares[1]) ^ 1).to_bytes(33)
    assert shamir.rebuild(shares, 3) != bytes(range(32))
    # One share of threshold 1 is the value itself, which may be larger than any secret.
    with pytest.raises(ValueError, match="do not belong to one secret of 32 bytes"):
        shamir.rebuild({0: (2**256).to_bytes(33)}, 1)


def test_below_the_threshold_it_stops():
    shares = shamir.share(bytes(32), range(5), 3, random.Random(2).randbytes)
    with pytest.raises(ValueError, match="2 shares are fewer than the threshold of 3"):
        shamir.rebuild(dict(list(shares.items())[:2]), 3)


@pytest.mark.parametrize(
    ("secret", "threshold", "message"),
    [
        (bytes(31), 2, "the secret has 31 bytes, but must have 32"),
        (bytes(32), 0, "threshold=0 must lie between 1 and the number of holders, 4"),
        (bytes(32), 5, "threshold=5 must lie between 1 and the number of holders, 4"),
    ],
)
def test_what_cannot_be_shared_is_refused(secret, threshold, message):
    with pytest.raises(ValueError, match=message):
        shamir.share(secret, range(4), threshold, random.Random(3).randbytes)
