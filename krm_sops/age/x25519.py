"""The X25519 recipient type: ``age1…`` and ``AGE-SECRET-KEY-1…``."""

from __future__ import annotations

from krm_sops.age import HeaderError, IdentityError, bech32
from krm_sops.primitives import hkdf_sha256, x25519_private, x25519_public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from krm_sops.age.base import Unwrap
    from krm_sops.age.format import Stanza

PREFIX = "AGE-SECRET-KEY-"
LABEL = b"age-encryption.org/v1/X25519"


def agree(private: Any, share: bytes, stanza_type: str) -> bytes:
    """The shared secret, 32 bytes. Raises HeaderError where it would be all zero (a share of low order)."""
    try:
        secret: bytes = private.exchange(x25519_public(share))
    except ValueError:
        raise HeaderError(f"age header: the {stanza_type} stanza has a share of low order") from None
    return secret


class X25519Identity:
    __slots__ = ("private", "public", "recipient")

    costly = False

    def __init__(self, scalar: bytes) -> None:
        """scalar: 32 bytes, clamped or not."""
        self.private = x25519_private(scalar)
        self.public: bytes = self.private.public_key().public_bytes_raw()
        self.recipient = bech32.encode("age", self.public)

    @classmethod
    def parse(cls, text: str) -> X25519Identity:
        """Raises IdentityError."""
        try:
            prefix, scalar = bech32.decode(text)
        except ValueError as error:
            raise IdentityError(f"malformed age identity: {error}") from None
        if prefix != PREFIX or len(scalar) != 32:
            raise IdentityError("malformed age identity: not 32 bytes under AGE-SECRET-KEY-1")
        return cls(scalar)

    def secret(self) -> str:
        """``AGE-SECRET-KEY-1…``, for an identity file only."""
        return bech32.encode(PREFIX, self.private.private_bytes_raw()).upper()

    @property
    def label(self) -> str:
        return self.recipient

    def opener_for(self, recipient: str) -> Unwrap | None:
        return self.unwrap if recipient == self.recipient else None

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        for stanza in stanzas:
            if stanza.type == "X25519":
                share = stanza.argument(0, 32, count=1)
                secret = agree(self.private, share, stanza.type)
                file_key = stanza.open_body(hkdf_sha256(secret, share + self.public, LABEL))
                if file_key is not None:
                    return file_key
        return None
