"""The age file: armor, header, payload. Strict, as the specification asks: one file has one spelling.

The header's MAC is checked before the payload is looked at, and no plaintext is given out before its end was seen.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from krm_sops.age import ArmorError, HeaderError, MacError, NoMatch, PayloadError
from krm_sops.primitives import ChaCha20Poly1305, hkdf_sha256, hmac_sha256, is_invalid_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.age.base import Identity

ARMOR_BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
ARMOR_END = b"-----END AGE ENCRYPTED FILE-----"
COLUMNS = 64
_MOST_WHITESPACE = 1024

INTRO = b"age-encryption.org/v1\n"
_MOST_HEADER = 2 << 20
_MOST_STANZAS = 1024
_MOST_ARGUMENTS = 128
FILE_KEY_LENGTH = 16
_TAG_LENGTH = 16
NONCE_LENGTH = 16
CHUNK = 64 * 1024


def dearmor(text: bytes) -> bytes:
    """The bytes inside of the armor. LF or CRLF; white space only before and after, in lines of its own.

    Raises ArmorError.  Source: FiloSottile/age 1.3.2, armor/armor.go.
    """
    body = text.strip()
    start = len(text) - len(text.lstrip())
    after = text[start + len(body) :]
    if start > _MOST_WHITESPACE or len(after) >= _MOST_WHITESPACE:
        raise ArmorError("age armor: too much white space around it")
    lines = body.split(b"\n")
    if b"\r" in body:
        lines = [line.removesuffix(b"\r") for line in lines]
    if lines[0] != ARMOR_BEGIN or (start and text[start - 1 : start] != b"\n"):
        raise ArmorError("age armor: does not begin with its BEGIN line")
    if lines[-1] != ARMOR_END or not (after in (b"", b"\r") or after.startswith((b"\n", b"\r\n"))):
        raise ArmorError("age armor: does not end with its END line")
    del lines[0], lines[-1]
    for line in lines[:-1]:
        if len(line) != COLUMNS:
            raise ArmorError(f"age armor: a line within it has {len(line)} columns instead of {COLUMNS}")
    if lines and not 0 < len(lines[-1]) <= COLUMNS:
        raise ArmorError(f"age armor: its last line has {len(lines[-1])} columns")
    encoded = b"".join(lines)
    try:
        raw = a2b_base64(encoded)
    except Base64Error:
        raise ArmorError("age armor: broken base64") from None
    if b2a_base64(raw, newline=False) != encoded:
        raise ArmorError("age armor: base64 that is not canonical")
    return raw


def from_base64(text: str) -> bytes:
    """Canonical base64 without padding, the only kind inside of an age file. Raises ValueError."""
    raw = a2b_base64(text + "=" * (-len(text) % 4))
    if to_base64(raw) != text:
        raise ValueError("base64 that is not canonical")
    return raw


def to_base64(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).decode().rstrip("=")


class Stanza:
    """One recipient's part of a header; also one message of the plugin protocol."""

    __slots__ = ("args", "body", "type")

    def __init__(self, type: str, args: Sequence[str] = (), body: bytes = b"") -> None:  # noqa: A002 - age's word
        self.type = type
        self.args = tuple(args)
        self.body = body

    @classmethod
    def read(cls, first_line: bytes, next_line: Callable[[], bytes]) -> Stanza:
        """Lines come without their LF. Raises HeaderError."""
        mark, *args = _words(first_line)
        if mark != "->" or not args:
            raise HeaderError("age header: a stanza does not begin with '-> ' and its type")
        lines = []
        while True:
            line = next_line()
            lines.append(line)
            if len(line) < COLUMNS:
                break
            if len(line) > COLUMNS:
                raise HeaderError("age header: a line of a stanza is too long")
        try:
            body = from_base64(b"".join(lines).decode("ascii"))
        except ValueError:
            raise HeaderError("age header: a stanza's body is no canonical base64 ending in a short line") from None
        return cls(args[0], args[1:], body)

    def write(self) -> bytes:
        encoded = to_base64(self.body)
        lines = [encoded[at : at + COLUMNS] for at in range(0, len(encoded) + 1, COLUMNS)]
        return "\n".join([" ".join(("->", self.type, *self.args)), *lines, ""]).encode()

    def argument(self, index: int, length: int, count: int) -> bytes:
        """The bytes of one argument. count: how many arguments there must be.  Raises HeaderError."""
        if len(self.args) != count:
            raise HeaderError(f"age header: the {self.type} stanza has {len(self.args)} arguments instead of {count}")
        try:
            raw = from_base64(self.args[index])
        except ValueError:
            raise HeaderError(f"age header: an argument of the {self.type} stanza is no canonical base64") from None
        if len(raw) != length:
            raise HeaderError(f"age header: the {self.type} stanza has {len(raw)} bytes where {length} belong")
        return raw

    def open_body(self, wrapping_key: bytes) -> bytes | None:
        """The file key in the body; None where the key is not the one. Raises HeaderError for a body of another length.

        The length is checked first: a longer one would let its maker probe several keys at once.
        """
        if len(self.body) != FILE_KEY_LENGTH + _TAG_LENGTH:
            raise HeaderError(f"age header: the {self.type} stanza wraps no file key of {FILE_KEY_LENGTH} bytes")
        return _decrypt(ChaCha20Poly1305(wrapping_key), bytes(12), self.body)


def _words(line: bytes) -> list[str]:
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    words = text.split(" ")
    if not text.isprintable() or "" in words or len(words) > _MOST_ARGUMENTS + 2:
        raise HeaderError("age header: a line with characters, spaces or more words than there may be")
    return words


def _decrypt(aead: ChaCha20Poly1305, nonce: bytes, ciphertext: bytes) -> bytes | None:
    try:
        plaintext: bytes = aead.decrypt(nonce, ciphertext, None)
    except Exception as error:
        if is_invalid_tag(error):
            return None
        raise
    return plaintext


class File:
    """A parsed age file that nobody has opened yet."""

    __slots__ = ("_authenticated", "_mac", "_rest", "stanzas")

    def __init__(self, raw: bytes) -> None:
        """raw: without armor. Raises HeaderError."""
        if not raw.startswith(INTRO):
            raise HeaderError("age header: this is no age-encryption.org/v1 file" if raw else "age header: empty")
        # No line of a stanza can begin with "---", so the first line that does is the last of the header.
        mark = raw.find(b"\n---", len(INTRO) - 1, _MOST_HEADER)
        end = raw.find(b"\n", mark + 1, _MOST_HEADER)
        if mark < 0 or end < 0:
            raise HeaderError("age header: no end of it in its first 2 MiB")
        words = _words(raw[mark + 1 : end])
        try:
            self._mac = from_base64(words[1]) if len(words) == 2 and words[0] == "---" else b""
        except ValueError:
            self._mac = b""
        if len(self._mac) != 32:
            raise HeaderError("age header: its MAC is malformed")
        self._authenticated = raw[: mark + 4]
        self._rest = raw[end + 1 :]
        lines = iter(raw[len(INTRO) : mark + 1].split(b"\n")[:-1])
        self.stanzas: list[Stanza] = []
        try:
            for line in lines:
                self.stanzas.append(Stanza.read(line, lines.__next__))
                if len(self.stanzas) > _MOST_STANZAS:
                    raise HeaderError(f"age header: more than {_MOST_STANZAS} stanzas")
        except StopIteration:
            raise HeaderError("age header: a stanza does not end in a short line") from None
        if not self.stanzas:
            raise HeaderError("age header: no stanza")
        # Differs from age, which checks this only where a passphrase is tried.
        if len(self.stanzas) > 1 and any(stanza.type == "scrypt" for stanza in self.stanzas):
            raise HeaderError("age header: an scrypt stanza must be the only one")

    def open(self, file_key: bytes, limit: int) -> bytes:
        """The whole plaintext. limit: its bytes at most.  Raises MacError, HeaderError (no nonce), PayloadError."""
        key = hkdf_sha256(file_key, b"", b"header")
        # Compared under the key once more, so that the time it takes says nothing about the MAC.
        if hmac_sha256(key, hmac_sha256(key, self._authenticated)) != hmac_sha256(key, self._mac):
            raise MacError("age header: its MAC does not match; it was altered")
        nonce = self._rest[:NONCE_LENGTH]
        if len(nonce) != NONCE_LENGTH:
            raise HeaderError("age header: nothing follows it")
        return _payload(hkdf_sha256(file_key, nonce, b"payload"), self._rest[NONCE_LENGTH:], limit)


def _payload(key: bytes, ciphertext: bytes, limit: int) -> bytes:
    sealed = CHUNK + _TAG_LENGTH
    count = -(-len(ciphertext) // sealed)
    if count == 0:
        raise PayloadError("age payload: missing")
    if len(ciphertext) - count * _TAG_LENGTH > limit:
        raise PayloadError(f"age payload: more than {limit} bytes")
    aead = ChaCha20Poly1305(key)
    chunks = []
    for index in range(count):
        last = index == count - 1
        nonce = index.to_bytes(11, "big") + (b"\x01" if last else b"\x00")
        sealed_chunk = ciphertext[index * sealed : (index + 1) * sealed]
        chunk = _decrypt(aead, nonce, sealed_chunk) if len(sealed_chunk) >= _TAG_LENGTH else None
        if chunk is None or (not chunk and index):
            raise PayloadError("age payload: altered or cut off")
        chunks.append(chunk)
    return chunks[0] if count == 1 else b"".join(chunks)


def decrypt(raw: bytes, identities: Sequence[Identity], limit: int) -> bytes:
    """The plaintext of an age file, without armor, for the first of the identities that opens it. Raises AgeError."""
    file = File(raw)
    for identity in identities:
        file_key = identity.unwrap(file.stanzas)
        if file_key is not None:
            return file.open(file_key, limit)
    raise NoMatch(f"none of {len(identities)} identities is a recipient")
