"""Bech32 as age uses it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.age import bech32

prefixes = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40).map(str.lower)


@given(prefixes, st.binary(max_size=200))
def test_decoding_gives_what_was_encoded(prefix: str, data: bytes) -> None:
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == (prefix, data)
    assert bech32.decode(text.upper()) == (prefix.upper(), data)


@given(st.binary(min_size=1, max_size=64), st.data())
def test_no_single_wrong_character_is_accepted(data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode("age", data)
    at = draw.draw(st.integers(4, len(text) - 1))
    other = draw.draw(st.sampled_from([c for c in "qpzry9x8gf2tvdw0s3jn54khce6mua7l" if c != text[at]]))
    with pytest.raises(ValueError, match="checksum"):
        bech32.decode(text[:at] + other + text[at + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "A12UEL5L",
        "a12uel5l",
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
        "?1ezyfcl",
        "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
    ],
)
def test_valid_strings_of_bip_173_have_a_valid_checksum(text: str) -> None:
    """Their data is no whole number of bytes where BIP 173 only tests checksums; then padding is what is refused."""
    try:
        bech32.decode(text)
    except ValueError as error:
        assert "padding" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "too short"),
        ("1qzzfhee", "too short"),
        ("pzry9x0s0muk", "too short"),
        ("A1G7SGD8", "checksum"),
        ("x1b4n0q5v", "characters"),
        ("de1lg7wt\xff", "characters"),
        ("age 1qqqqqq", "characters"),
        ("Age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj", "mixed case"),
        ("age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujw", "checksum"),
        ("\u212aage1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj", "characters"),
    ],
)
def test_what_is_no_bech32_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        bech32.decode(text)


def test_bits_that_belong_to_no_byte_must_be_zero() -> None:
    good = bech32.encode("age", b"\xff")  # 8 bits in two symbols of 5: two spare bits
    prefix, symbols = good.split("1")
    charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    values = [charset.index(symbols[0]), charset.index(symbols[1]) | 1]
    checksum = bech32._polymod(bech32._expanded(prefix) + values + [0] * 6) ^ 1
    tail = "".join(charset[checksum >> 5 * (5 - place) & 31] for place in range(6))
    with pytest.raises(ValueError, match="padding"):
        bech32.decode(prefix + "1" + "".join(charset[value] for value in values) + tail)
