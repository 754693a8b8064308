"""Private keys in any text, and in bytes that are none: by what surrounds them, never by trying them.

A mark alone is not enough, since documentation and programs name it too: the beginning of a key must follow.
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


def find(text: str) -> Iterator[PrivateKey]:
    for match in _KEY.finditer(text):
        pem = match["pem"]
        if match["age"]:
            yield PrivateKey(match.start(), "an age secret key", True)
        elif match["plugin"]:
            yield PrivateKey(match.start(), "an age plugin identity", True)
        elif pem.startswith("PGP "):
            yield PrivateKey(match.start(), "an OpenPGP private key", True)
        else:
            yield PrivateKey(match.start(), f"a private key ({pem})", False)


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
