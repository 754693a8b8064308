"""Bech32 (BIP 173) without its length limit: how age writes recipients and identities."""

from __future__ import annotations

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH = 6


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            if top >> bit & 1:
                checksum ^= factor
    return checksum


def _expanded(prefix: str) -> list[int]:
    codes = prefix.lower().encode()
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def encode(prefix: str, data: bytes) -> str:
    """Lower case. prefix: the part before the last ``1``, printable ASCII."""
    padding = -len(data) * 8 % 5
    number = int.from_bytes(data, "big") << padding
    count = (len(data) * 8 + padding) // 5
    values = [number >> 5 * (count - 1 - place) & 31 for place in range(count)]
    checksum = _polymod(_expanded(prefix) + values + [0] * _CHECKSUM_LENGTH) ^ 1
    values += [checksum >> 5 * (_CHECKSUM_LENGTH - 1 - place) & 31 for place in range(_CHECKSUM_LENGTH)]
    return prefix.lower() + "1" + "".join([_CHARSET[value] for value in values])


def decode(text: str) -> tuple[str, bytes]:
    """The prefix as it is written, and the data.

    Raises ValueError, which quotes nothing (the text may be a secret): mixed case, characters, checksum, padding.
    """
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("characters outside of bech32")
    lower = text.lower()
    if text not in (lower, text.upper()):
        raise ValueError("mixed case")
    prefix, _, symbols = lower.rpartition("1")
    if not prefix or len(symbols) < _CHECKSUM_LENGTH:
        raise ValueError("too short, or no separator")
    try:
        values = [_VALUES[symbol] for symbol in symbols]
    except KeyError:
        raise ValueError("characters outside of bech32") from None
    if _polymod(_expanded(prefix) + values) != 1:
        raise ValueError("wrong checksum (a typo, or cut off)")
    number = 0
    for value in values[:-_CHECKSUM_LENGTH]:
        number = number << 5 | value
    length, spare = divmod((len(values) - _CHECKSUM_LENGTH) * 5, 8)
    if spare >= 5 or number & (1 << spare) - 1:
        raise ValueError("wrong padding")
    return text[: len(prefix)], (number >> spare).to_bytes(length, "big")
