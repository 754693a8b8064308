"""Packets and the fields in them: RFC 9580, sections 3 and 4. Both packet formats, all kinds of lengths."""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PKESK = 1
SIGNATURE = 2
SKESK = 3
ONE_PASS_SIGNATURE = 4
SECRET_KEY = 5
PUBLIC_KEY = 6
SECRET_SUBKEY = 7
COMPRESSED = 8
ENCRYPTED_WITHOUT_INTEGRITY = 9
MARKER = 10
LITERAL = 11
USER_ID = 13
PUBLIC_SUBKEY = 14
USER_ATTRIBUTE = 17
ENCRYPTED = 18
ENCRYPTED_OCB = 20
PADDING = 21

_STREAMED = frozenset((COMPRESSED, ENCRYPTED_WITHOUT_INTEGRITY, LITERAL, ENCRYPTED, ENCRYPTED_OCB))


class OpenPgpError(KeyUnavailable):
    """Bytes that are no OpenPGP, or a use of it that is refused or not supported."""


class Fields:
    """Reads the fields of one packet from front to back. Every method raises OpenPgpError past the end."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self._data):
            raise OpenPgpError("an OpenPGP packet ends in the middle of a field")
        taken = self._data[self.at : end]
        self.at = end
        return taken

    def number(self, octets: int = 1) -> int:
        return int.from_bytes(self.take(octets), "big")

    def mpi(self) -> bytes:
        """A multiprecision integer: big-endian, as many bytes as its stated bits need."""
        return self.take((self.number(2) + 7) // 8)

    def rest(self) -> bytes:
        return self.take(len(self._data) - self.at)


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each packet's type and body. Raises OpenPgpError."""
    fields = Fields(data)
    while fields.at < len(data):
        first = fields.number()
        if not first & 0x80:
            raise OpenPgpError("no OpenPGP data, or damaged: a packet starts with a wrong byte")
        if first & 0x40:
            yield first & 0x3F, _body(fields, first & 0x3F)
        elif first & 3 == 3:
            yield first >> 2 & 0xF, fields.rest()
        else:
            yield first >> 2 & 0xF, fields.take(fields.number(1 << (first & 3)))


def _body(fields: Fields, tag: int) -> bytes:
    parts = []
    while True:
        first = fields.number()
        if 224 <= first < 255:
            if tag not in _STREAMED:
                raise OpenPgpError(f"a packet of type {tag} has a partial length")
            parts.append(fields.take(1 << (first & 0x1F)))
            continue
        if first < 192:
            length = first
        elif first < 224:
            length = ((first - 192) << 8) + fields.number() + 192
        else:
            length = fields.number(4)
        parts.append(fields.take(length))
        return b"".join(parts)


def packet(tag: int, body: bytes) -> bytes:
    """In the new format, in one piece."""
    length = len(body)
    if length < 192:
        head = bytes((length,))
    elif length < 8384:
        head = bytes(((length - 192 >> 8) + 192, length - 192 & 0xFF))
    else:
        head = b"\xff" + length.to_bytes(4, "big")
    return bytes((0xC0 | tag,)) + head + body


def mpi(number: bytes) -> bytes:
    """number: big-endian."""
    value = number.lstrip(b"\0")
    bits = len(value) * 8 - 8 + value[0].bit_length() if value else 0
    return bits.to_bytes(2, "big") + value
