"""Encrypted data packets: nothing leaves them before its integrity is checked. RFC 9580 5.13, LibrePGP 5.16."""

from __future__ import annotations

from krm_sops.pgp.ciphers import AEADS, CIPHERS, TAG, aead_decryptor, cfb_decrypt, check_aead, hkdf, same, sha1
from krm_sops.pgp.packets import ENCRYPTED, ENCRYPTED_OCB, Fields, OpenPgpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from krm_sops.pgp.algorithms import SessionKey

    class EncryptedData(Protocol):
        session_version: int
        """The version of the session key packets that belong to it."""

        def open(self, session: SessionKey) -> bytes | None:
            """The packets inside; None when the integrity check fails, for whatever reason."""
            ...


def read_encrypted(tag: int, body: bytes) -> EncryptedData:
    """Raises OpenPgpError for versions and algorithms that are not supported (the packet says them in clear)."""
    fields = Fields(body)
    version = fields.number()
    if tag == ENCRYPTED and version == 1:
        return WithModificationDetection(fields.rest())
    if tag == ENCRYPTED and version == 2:
        return Chunked(fields, salted=True)
    if tag == ENCRYPTED_OCB and version == 1:
        return Chunked(fields, salted=False)
    raise OpenPgpError(f"encrypted data of type {tag}, version {version} is not supported")


class WithModificationDetection:
    """CFB, with a SHA-1 of everything as the last packet inside."""

    session_version = 3

    def __init__(self, sealed: bytes) -> None:
        self._sealed = sealed

    def open(self, session: SessionKey) -> bytes | None:
        block = CIPHERS[session.cipher][2]
        try:
            clear = cfb_decrypt(session.cipher, session.key, bytes(block), self._sealed)
        except OpenPgpError:  # a cipher that only the session key knows of: no other answer than for a damaged one
            return None
        if len(clear) < block + 2 + 22 or clear[-22:-20] != b"\xd3\x14":
            return None
        return clear[block + 2 : -22] if same(sha1(clear[:-20]).digest(), clear[-20:]) else None


class Chunked:
    """AEAD over chunks and a final tag over nothing but the total length.

    salted: version 2 of the encrypted data packet, which derives its key and nonce; else GnuPG's packet of type 20.
    """

    def __init__(self, fields: Fields, *, salted: bool) -> None:
        self._salted = salted
        self.session_version = 6 if salted else 3
        self._cipher, self._aead, size = fields.number(), fields.number(), fields.number()
        check_aead(self._cipher, self._aead)
        if size > 16:
            raise OpenPgpError(f"encrypted data in chunks of 2^{size + 6} bytes is not supported")
        self._chunk = 1 << (size + 6)
        self._header = bytes((0xC0 | ENCRYPTED, 2) if salted else (0xC0 | ENCRYPTED_OCB, 1))
        self._header += bytes((self._cipher, self._aead, size))
        self._nonce = fields.take(32 if salted else AEADS[self._aead][1])
        self._sealed = fields.rest()

    def open(self, session: SessionKey) -> bytes | None:
        length = CIPHERS[self._cipher][1]
        # GnuPG's packet names its cipher once more, and must not disagree with the session key.
        wrong = len(session.key) != length or (not self._salted and session.cipher != self._cipher)
        sealed, last = self._sealed[:-TAG], self._sealed[-TAG:]
        if wrong or len(last) != TAG:
            return None
        decrypt, nonce = self._keyed(session.key)
        clear = []
        index = 0
        for start in range(0, len(sealed), self._chunk + TAG):
            part = decrypt(nonce(index), sealed[start : start + self._chunk + TAG], self._additional(index))
            if part is None:
                return None
            clear.append(part)
            index += 1
        opened = b"".join(clear)
        total = len(opened).to_bytes(8, "big")
        return None if decrypt(nonce(index), last, self._additional(index) + total) is None else opened

    def _additional(self, index: int) -> bytes:
        return self._header if self._salted else self._header + index.to_bytes(8, "big")

    def _keyed(self, key: bytes) -> tuple[Callable[[bytes, bytes, bytes], bytes | None], Callable[[int], bytes]]:
        octets = AEADS[self._aead][1]
        if not self._salted:
            start = int.from_bytes(self._nonce, "big")
            return aead_decryptor(self._aead, key), lambda index: (start ^ index).to_bytes(octets, "big")
        derived = hkdf("SHA256", key, len(key) + octets - 8, salt=self._nonce, info=self._header)
        fixed = derived[len(key) :]
        return aead_decryptor(self._aead, derived[: len(key)]), lambda index: fixed + index.to_bytes(8, "big")
