"""ASCII armor <-> bytes: RFC 9580, section 6."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

from krm_sops.errors import shown
from krm_sops.pgp.packets import OpenPgpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGIN = b"-----BEGIN PGP "
_END = b"-----END PGP "
_DASHES = b"-----"
_COLUMNS = 64


def blocks(data: bytes) -> list[tuple[str, bytes]]:
    """The label ("MESSAGE", "PRIVATE KEY BLOCK") and the content of each armor block; text around blocks is skipped.

    Binary data is one block with the label "". Raises OpenPgpError.
    """
    if data[:1] >= b"\x80" and data[:3] != b"\xef\xbb\xbf":  # every packet starts with this bit; a byte order mark too
        return [("", data)]
    found = []
    lines = iter(data.splitlines())
    for line in lines:
        begin = line.find(_BEGIN)
        if begin >= 0:
            label = line[begin + len(_BEGIN) :].rstrip().removesuffix(_DASHES).decode("latin-1")
            found.append((label, _block(label, [*_until_end(label, lines)])))
    return found


def _until_end(label: str, lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        text = line.strip()
        if text.startswith(_END):
            return
        yield text
    raise OpenPgpError(f"the armor of a PGP {shown(label)} has no end line")


def _block(label: str, lines: list[bytes]) -> bytes:
    """The checksum at the end is not looked at: RFC 9580 forbids to refuse for it, and no secret rests on it."""
    start = 0
    while start < len(lines) and b":" in lines[start]:
        start += 1
    content = [line for line in lines[start:] if line]
    if content and len(content[-1]) == 5 and content[-1].startswith(b"="):
        content.pop()
    try:
        return a2b_base64(b"".join(content), strict_mode=True)
    except Error:
        raise OpenPgpError(f"the armor of a PGP {shown(label)} is no base64") from None


def armored(label: str, data: bytes) -> str:
    """With the checksum that old programs ask for; no LF at the end."""
    text = b2a_base64(data, newline=False).decode("ascii")
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    checksum = b2a_base64(_crc24(data).to_bytes(3, "big"), newline=False).decode("ascii")
    return "\n".join([f"-----BEGIN PGP {label}-----", "", *lines, f"={checksum}", f"-----END PGP {label}-----"])


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc
