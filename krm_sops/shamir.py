"""Shamir's secret sharing over GF(2^8) as in HashiCorp Vault and SOPS: splitting a secret, joining shares.

A share is the y bytes followed by its x coordinate, so one byte longer than the secret.
Source: getsops/sops 3.13, shamir/shamir.go; field polynomial x^8 + x^4 + x^3 + x + 1.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def _tables() -> tuple[list[int], list[int]]:
    exp, log = [0] * 510, [0] * 256
    value = 1
    for power in range(255):
        exp[power] = exp[power + 255] = value
        log[value] = power
        value ^= (value << 1) ^ (0x11B if value & 0x80 else 0)  # times the generator 3
    return exp, log


_EXP, _LOG = _tables()


def _multiply(a: int, b: int) -> int:
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


def _divide(a: int, b: int) -> int:
    return _EXP[_LOG[a] - _LOG[b] + 255] if a else 0


def split(secret: bytes, parts: int, threshold: int) -> list[bytes]:
    """`parts` shares, of which any `threshold` give the secret and fewer say nothing about it.

    Raises ValueError for an empty secret, or numbers other than 2 <= threshold <= parts <= 255.
    """
    if not secret:
        raise ValueError("an empty secret")
    if threshold < 2:
        raise ValueError(f"a threshold of {threshold}, which must be at least 2")
    if not threshold <= parts <= 255:
        raise ValueError(f"a threshold of {threshold} for {parts} shares, of which there may be 255")
    from posix import urandom

    # For each byte of the secret a random polynomial, whose value at 0 it is; highest coefficients first.
    coefficients = [*(urandom(len(secret)) for _ in range(threshold - 1)), secret]
    shares = []
    for x in range(1, parts + 1):
        values = bytes(len(secret))
        for row in coefficients:
            values = bytes(_multiply(value, x) ^ c for value, c in zip(values, row, strict=True))
        shares.append(values + bytes([x]))
    return shares


def combine(shares: Sequence[bytes]) -> bytes:
    """The secret that these shares were split from; garbage where they are fewer than the threshold.

    Raises ValueError for fewer than two shares, unequal lengths, an x of zero, or an x that occurs twice.
    """
    if len(shares) < 2:
        raise ValueError("fewer than two shares")
    length = len(shares[0])
    xs = [share[-1] if share else 0 for share in shares]
    if length < 2 or any(len(share) != length for share in shares):
        raise ValueError("shares of unequal length")
    if 0 in xs or len(set(xs)) != len(xs):
        raise ValueError("shares that do not belong together")
    weights = []
    for x in xs:
        weight = 1
        for other in xs:
            if other != x:
                weight = _multiply(weight, _divide(other, other ^ x))
        weights.append(weight)
    secret = bytearray(length - 1)
    for share, weight in zip(shares, weights, strict=True):
        for index in range(length - 1):
            secret[index] ^= _multiply(share[index], weight)
    return bytes(secret)
