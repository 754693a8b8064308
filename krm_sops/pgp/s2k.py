"""String-to-key: passphrase -> symmetric key. RFC 9580, section 3.7, and GnuPG's extension for missing keys."""

from __future__ import annotations

from krm_sops.pgp.ciphers import HASHES
from krm_sops.pgp.packets import OpenPgpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.pgp.packets import Fields

_SALTED = 1
_ITERATED = 3
_ARGON2 = 4
_GNU = 101
_STUBS = {
    1: "gpg exported a stub without its secret part (gpg --export-secret-subkeys does so for primary keys)",
    2: "its secret part is on a smart card",
}
_MEMORY = 18
"""The largest Argon2 memory, as a power of two of KiB: 256 MiB."""
_WORK = 1 << 22
"""The most Argon2 may write in all its passes, in KiB: 4 GiB, some seconds."""


class StringToKey:
    """missing: why there is no key to protect at all, or ""."""

    __slots__ = ("_count", "_hash", "_kind", "_lanes", "_memory", "_passes", "_salt", "missing")

    def __init__(self, fields: Fields) -> None:
        """Raises OpenPgpError for a kind that is unknown or too costly."""
        self._kind = fields.number()
        self.missing = ""
        self._salt = b""
        self._count = 0
        if self._kind == _ARGON2:
            self._salt = fields.take(16)
            self._passes, self._lanes, self._memory = fields.number(), fields.number(), fields.number()
            if self._memory > _MEMORY or self._passes << self._memory > _WORK:
                raise OpenPgpError("its passphrase protection asks for more than 256 MiB of memory or 4 GiB of work")
            return
        self._hash = fields.number()
        if self._kind == _GNU and fields.take(3) == b"GNU":
            self.missing = _STUBS.get(fields.number(), "its secret part is kept elsewhere by gpg")
            return
        if self._kind not in (0, _SALTED, _ITERATED):
            raise OpenPgpError(f"its passphrase protection (string-to-key {self._kind}) is not supported")
        if self._hash not in HASHES:
            raise OpenPgpError(f"its passphrase protection uses hash {self._hash}, which is not supported")
        if self._kind != 0:
            self._salt = fields.take(8)
        if self._kind == _ITERATED:
            coded = fields.number()
            self._count = (16 + (coded & 15)) << ((coded >> 4) + 6)

    def derive(self, passphrase: bytes, length: int) -> bytes:
        if self._kind == _ARGON2:
            return self._argon2(passphrase, length)
        import hashlib

        salted = self._salt + passphrase
        total = max(self._count, len(salted))
        portion = salted * (65536 // len(salted) + 1) if salted else b""
        derived = b""
        round_ = 0
        while len(derived) < length:
            try:
                digest = hashlib.new(HASHES[self._hash], b"\0" * round_, usedforsecurity=False)
            except ValueError:
                raise OpenPgpError(f"this installation has no {HASHES[self._hash]}") from None
            left = total
            while left > 0:
                digest.update(portion[:left])
                left -= len(portion)
            derived += digest.digest()
            round_ += 1
        return derived[:length]

    def _argon2(self, passphrase: bytes, length: int) -> bytes:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        try:
            return Argon2id(
                salt=self._salt,
                length=length,
                iterations=self._passes,
                lanes=self._lanes,
                memory_cost=1 << self._memory,
            ).derive(passphrase)
        except (ValueError, UnsupportedAlgorithm, MemoryError):
            raise OpenPgpError("its passphrase protection (Argon2) cannot be computed here") from None
