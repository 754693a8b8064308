"""The MLKEM768-X25519 recipient type (post-quantum): ``age1pq1…`` and ``AGE-SECRET-KEY-PQ-1…``.

A file key is sealed by HPKE (RFC 9180, base mode) with the KEM of draft-ietf-hpke-pq (X-Wing), HKDF-SHA256 and
ChaCha20Poly1305: all of it is `cryptography`'s. Its modules, and the keys, are made when first needed.
"""

from __future__ import annotations

from krm_sops.age import HeaderError, IdentityError, bech32
from krm_sops.age.x25519 import agree
from krm_sops.primitives import is_invalid_tag, x25519_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from krm_sops.age.base import Unwrap
    from krm_sops.age.format import Stanza

PREFIX = "AGE-SECRET-KEY-PQ-"
STANZA = "mlkem768x25519"
INFO = b"age-encryption.org/mlkem768x25519"
_MLKEM_CIPHERTEXT = 1088
ENCAPSULATED = _MLKEM_CIPHERTEXT + 32


class HybridIdentity:
    __slots__ = ("_keys", "_recipient", "_seed")

    costly = False

    def __init__(self, seed: bytes) -> None:
        """seed: 32 bytes, from which both keys are derived."""
        self._seed = seed
        self._keys: tuple[Any, Any] | None = None
        self._recipient = ""

    @classmethod
    def parse(cls, text: str) -> HybridIdentity:
        """Raises IdentityError."""
        try:
            prefix, seed = bech32.decode(text)
        except ValueError as error:
            raise IdentityError(f"malformed age identity: {error}") from None
        if prefix != PREFIX or len(seed) != 32:
            raise IdentityError("malformed age identity: not 32 bytes under AGE-SECRET-KEY-PQ-1")
        return cls(seed)

    def _derived(self) -> tuple[Any, Any]:
        """The ML-KEM-768 and the X25519 private key: SHAKE256 of the seed gives a 64-byte seed, then a scalar."""
        if self._keys is None:
            from hashlib import shake_256

            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

            expanded = shake_256(self._seed).digest(96)
            try:
                self._keys = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), x25519_private(expanded[64:])
            except UnsupportedAlgorithm:
                raise IdentityError("post-quantum age keys need a `cryptography` built with ML-KEM") from None
        return self._keys

    @property
    def recipient(self) -> str:
        if not self._recipient:
            public = b"".join(key.public_key().public_bytes_raw() for key in self._derived())
            self._recipient = bech32.encode("age1pq", public)
        return self._recipient

    def secret(self) -> str:
        """``AGE-SECRET-KEY-PQ-1…``, for an identity file only."""
        return bech32.encode(PREFIX, self._seed).upper()

    @property
    def label(self) -> str:
        return self.recipient[:16] + "…"

    def opener_for(self, recipient: str) -> Unwrap | None:
        return self.unwrap if recipient.startswith("age1pq1") and recipient == self.recipient else None

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        for stanza in stanzas:
            if stanza.type == STANZA:
                file_key = self._open(stanza)
                if file_key is not None:
                    return file_key
        return None

    def _open(self, stanza: Stanza) -> bytes | None:
        from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

        encapsulated = stanza.argument(0, ENCAPSULATED, count=1)
        if len(stanza.body) != 32:
            raise HeaderError("age header: the mlkem768x25519 stanza wraps no file key of 16 bytes")
        mlkem, x25519 = self._derived()
        # HPKE's decryption tells a low-order share from a wrong key by nothing; the specification wants it refused.
        agree(x25519, encapsulated[_MLKEM_CIPHERTEXT:], stanza.type)
        suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
        try:
            return suite.decrypt(encapsulated + stanza.body, MLKEM768X25519PrivateKey(mlkem, x25519), INFO)
        except Exception as error:
            if is_invalid_tag(error):
                return None
            raise
