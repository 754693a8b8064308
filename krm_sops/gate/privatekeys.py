"""Private keys in any text, and in bytes that are none: by what surrounds them, never by trying them.

A mark alone is not enough, since documentation and programs name it too: the beginning of a key must follow. Base64 is
decoded wherever it stands, also twice. All of it takes time in proportion to the text, whatever that is.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BECH32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
_KEY = re.compile(
    rf"(?P<age>AGE-SECRET-KEY-(?:PQ-)?1[{_BECH32}{_BECH32.lower()}]{{20}})"
    rf"|(?P<plugin>AGE-PLUGIN-[A-Z0-9+._-]{{1,64}}?-1[{_BECH32}]{{6}})"
    r"|-----BEGIN (?P<pem>(?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?)-----"
    # Whatever may stand before the first line of base64: blanks, escaped line breaks, quotes, comments, PEM headers.
    r"(?:[\s\"'#*;,>|+/()]|\\++[nrt]|[A-Za-z][A-Za-z-]{0,40}+: [^\r\n\\]{0,200}+)*+[A-Za-z0-9+/]{12}"
)
_MARKS = ("PRIVATE KEY", "AGE-SECRET-KEY-", "AGE-PLUGIN-")
# Not the letter of an escaped line break before it.
_LINE = re.compile(r"(?<![A-Za-z0-9+/])(?:(?<=\\)[nrt])?([A-Za-z0-9+/]{40,})")
_BETWEEN_LINES = " \t\r\n\"'#*;>|,\\nrt"
_ENCODINGS = 2
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{24,}+={0,2}\s*")
_SECRET_KEY_PACKET = 5
_ALGORITHMS = frozenset((1, 2, 3, 16, 17, 18, 19, 22, 25, 26, 27, 28))


class PrivateKey:
    """start: its index in the text.  is_sops: of a kind that opens SOPS documents and is of no other use to anybody."""

    __slots__ = ("is_sops", "start", "what")

    def __init__(self, start: int, what: str, is_sops: bool) -> None:
        self.start = start
        self.what = what
        self.is_sops = is_sops


def find(text: str, encodings: int = _ENCODINGS) -> Iterator[PrivateKey]:
    """Those in plain text, then those in base64, each with where its base64 begins.

    encodings: how often they may be in base64.
    """
    yield from _spelled(text)
    if encodings:
        for start, raw in _encoded(text):
            inner = {(key.what, key.is_sops) for key in find(raw, encodings - 1)}
            yield from (PrivateKey(start, what, is_sops) for what, is_sops in sorted(inner))


def _spelled(text: str) -> Iterator[PrivateKey]:
    for match in _KEY.finditer(text) if any(mark in text for mark in _MARKS) else ():
        pem = match["pem"]
        if match["age"]:
            yield PrivateKey(match.start(), "an age secret key", True)
        elif match["plugin"]:
            yield PrivateKey(match.start(), "an age plugin identity", True)
        elif pem.startswith("PGP "):
            yield PrivateKey(match.start(), "an OpenPGP private key", True)
        else:
            yield PrivateKey(match.start(), f"a private key ({pem})", False)


def _encoded(text: str) -> Iterator[tuple[int, str]]:
    """What the base64 in a text stands for, one character a byte, and where it begins.

    Lines that follow each other belong together, unless one has a length that no line but the last can have.
    """
    lines: list[str] = []
    start = end = 0
    for line in _LINE.finditer(text):
        gap = text[end : line.start(1)] if line.start() - end < 100 else "far"
        if lines and (len(lines[-1]) % 4 or gap.strip(_BETWEEN_LINES)):
            yield start, _bytes(lines)
            lines = []
        start = start if lines else line.start(1)
        lines.append(line[1])
        end = line.end()
    if lines:
        yield start, _bytes(lines)


def _bytes(lines: list[str]) -> str:
    from binascii import a2b_base64

    text = "".join(lines)
    return a2b_base64(text[: len(text) // 4 * 4]).decode("latin-1")


def decoded(text: str) -> str:
    """What the base64 stands for, one character a byte; "" for what is no base64, or too short to hold a key."""
    if not _BASE64.fullmatch(text):
        return ""
    from binascii import Error, a2b_base64

    try:
        return a2b_base64("".join(text.split()), strict_mode=True).decode("latin-1")
    except (Error, ValueError):
        return ""


def is_key_ring(text: str) -> bool:
    """Whether an OpenPGP private key begins here, not in armor.  text: one character a byte."""
    if len(text) < 12 or ord(text[0]) & 0xC0 not in (0x80, 0xC0):
        return False
    first, second = ord(text[0]), ord(text[1])
    if first & 0x40:
        tag, at = first & 0x3F, 2 if second < 192 else 3 if second < 224 else 6
    else:
        tag, at = first >> 2 & 0x0F, 1 + (1, 2, 4, 0)[first & 3]
    version, algorithm = ord(text[at]), ord(text[at + 5])
    return tag == _SECRET_KEY_PACKET and version in (4, 5, 6) and algorithm in _ALGORITHMS
