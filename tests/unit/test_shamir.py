"""Shares: any threshold of them is the secret, fewer are not."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.shamir import combine, split

SECRET = bytes(range(32))
SOPS_SHARES = [
    bytes.fromhex("37df466cb1eb85f81e3fbdd3deeb05b31a7358741108d95c9595421de88a1f5901"),
    bytes.fromhex("6ea68add75c21be224657fa0b3da186c04d586dd1e2f9381191aaa17ef281c9302"),
    bytes.fromhex("5978ceb2c02c981d3253c878613c13d00eb7ccba1b325cca9496f2111bbf1dd503"),
]
"""Made by sops 3.13 with a threshold of 2."""


@pytest.mark.parametrize("shares", [list(pair) for pair in combinations(SOPS_SHARES, 2)] + [SOPS_SHARES])
def test_shares_that_sops_made_are_joined(shares):
    assert combine(shares) == SECRET


@given(secret=st.binary(min_size=1, max_size=40), parts=st.integers(2, 7), data=st.data())
def test_any_shares_of_the_threshold_are_the_secret(secret, parts, data):
    threshold = data.draw(st.integers(2, parts))
    shares = split(secret, parts, threshold)
    assert [share[-1] for share in shares] == list(range(1, parts + 1))
    assert {len(share) for share in shares} == {len(secret) + 1}
    chosen = data.draw(st.permutations(shares))[: data.draw(st.integers(threshold, parts))]
    assert combine(chosen) == secret


@pytest.mark.parametrize("chosen", list(combinations(range(4), 2)))
def test_fewer_than_the_threshold_are_something_else(chosen):
    shares = split(SECRET, 4, 3)
    assert combine([shares[at] for at in chosen]) != SECRET


def test_the_shares_are_new_each_time_and_hide_the_secret():
    """One share has every value equally often: with another polynomial each byte of it is another."""
    seen = {split(b"\x42", 2, 2)[0][0] for _ in range(4000)}
    assert len(seen) > 240


def test_the_most_shares_there_may_be():
    shares = split(SECRET, 255, 255)
    assert combine(shares) == SECRET
    assert combine(shares[1:]) != SECRET


@pytest.mark.parametrize(
    ("secret", "parts", "threshold"), [(b"", 3, 2), (SECRET, 2, 3), (SECRET, 3, 1), (SECRET, 3, 0), (SECRET, 256, 2)]
)
def test_what_cannot_be_shared_is_refused(secret, parts, threshold):
    with pytest.raises(ValueError, match=r"secret|threshold"):
        split(secret, parts, threshold)


@pytest.mark.parametrize(
    "shares",
    [
        [],
        SOPS_SHARES[:1],
        [SOPS_SHARES[0], SOPS_SHARES[0]],
        [SOPS_SHARES[0], SOPS_SHARES[1][1:]],
        [SOPS_SHARES[0], SOPS_SHARES[1][:-1] + b"\0"],
        [b"", b""],
    ],
)
def test_what_does_not_belong_together_is_refused(shares):
    with pytest.raises(ValueError, match="shares"):
        combine(shares)
