"""Shamir's secret sharing of 32 bytes over a prime field."""

from collections.abc import Callable, Mapping, Sequence

PRIME = 2**256 + 297
"""The least prime above 2^256, so that any 32 bytes are an element of the field."""
SECRET_BYTES, SHARE_BYTES = 32, 33

RandomBytes = Callable[[int], bytes]
"""Number of bytes -> so many random bytes, as `secrets.token_bytes`."""


def share(secret: bytes, holders: Sequence[int], threshold: int, random_bytes: RandomBytes) -> dict[int, bytes]:
    """Shares a secret among holders, any `threshold` of whom can rebuild it.

    Args:
      secret: 32 bytes.
      holders: distinct numbers of the holders, at least 0.
      threshold: t.
      random_bytes: source of randomness.

    Returns:
      The share of each holder, 33 bytes: the value at `holder + 1` of a random polynomial of degree t - 1 whose
      value at 0 is the secret.

    Raises:
      ValueError: when the secret is not of 32 bytes, or `threshold` is not between 1 and the number of holders.

    Guarantees:
      Fewer than t shares are consistent with every secret (test:
      `tests/privacy/secure_aggregation/test_shamir.py::test_fewer_shares_than_the_threshold_fit_every_secret`).

    References:
      Shamir 1979, "How to Share a Secret".
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the secret has {len(secret)} bytes, but must have {SECRET_BYTES}.")
    if not 1 <= threshold <= len(holders):
        raise ValueError(f"threshold={threshold} must lie between 1 and the number of holders, {len(holders)}.")
    coefficients = [int.from_bytes(secret), *(_random_element(random_bytes) for _ in range(threshold - 1))]
    return {holder: _value_at(coefficients, holder + 1).to_bytes(SHARE_BYTES) for holder in holders}


def rebuild(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Rebuilds a secret from at least `threshold` shares, by interpolation at 0.

    Raises:
      ValueError: when there are fewer shares, or they are not of one secret.
    """
    if len(shares) < threshold:
        raise ValueError(f"{len(shares)} shares are fewer than the threshold of {threshold}; more holders must answer.")
    used = list(shares)[:threshold]
    value = sum(
        weight * int.from_bytes(shares[holder]) for holder, weight in zip(used, lagrange_at_0(used), strict=True)
    )
    try:
        return (value % PRIME).to_bytes(SECRET_BYTES)
    except OverflowError:
        raise ValueError("the shares do not belong to one secret of 32 bytes.") from None


def lagrange_at_0(holders: Sequence[int]) -> list[int]:
    """The weight of each holder's share in the value of the polynomial at 0."""
    weights = []
    for own in holders:
        numerator, denominator = 1, 1
        for other in holders:
            if other != own:
                numerator = numerator * (other + 1) % PRIME
                denominator = denominator * (other - own) % PRIME
        weights.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return weights


def _value_at(coefficients: Sequence[int], point: int) -> int:
    """Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


def _random_element(random_bytes: RandomBytes) -> int:
    """Uniform in the field, by rejection of 257-bit numbers that are too large."""
    while True:
        value = int.from_bytes(random_bytes(SHARE_BYTES)) & (2**257 - 1)
        if value < PRIME:
            return value
