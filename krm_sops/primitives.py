"""The cryptographic primitives of the hot path: `cryptography`'s own, without the imports of its public modules.

`lean` reaches into the compiled core of `cryptography` (4 ms instead of 26 at start); where that is not as expected,
`public` gives the same from the documented modules. Both are tested.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def lean() -> tuple[Any, Any, Callable[[bytes], Any], Callable[[bytes], Any]]:
    from cryptography.hazmat.bindings._rust import openssl

    return (
        openssl.aead.AESGCM,
        openssl.aead.ChaCha20Poly1305,
        openssl.x25519.from_private_bytes,
        openssl.x25519.from_public_bytes,
    )


def public() -> tuple[Any, Any, Callable[[bytes], Any], Callable[[bytes], Any]]:
    from cryptography.hazmat.primitives.asymmetric import x25519
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    return (
        AESGCM,
        ChaCha20Poly1305,
        x25519.X25519PrivateKey.from_private_bytes,
        x25519.X25519PublicKey.from_public_bytes,
    )


def lean_hashes() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from _sha2 import sha256, sha512  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # before Python 3.12
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
        from _sha512 import sha512  # type: ignore[import-not-found,unused-ignore]
    return sha256, sha512


def public_hashes() -> tuple[Callable[..., Any], Callable[..., Any]]:
    from hashlib import sha256, sha512

    return sha256, sha512


try:
    AESGCM, ChaCha20Poly1305, x25519_private, x25519_public = lean()
except (ImportError, AttributeError):
    AESGCM, ChaCha20Poly1305, x25519_private, x25519_public = public()
try:
    sha256, sha512 = lean_hashes()
except ImportError:
    sha256, sha512 = public_hashes()


def is_invalid_tag(error: Exception) -> bool:
    """Whether an AEAD of this module refused the tag (its exception class costs an import, so it is asked for late)."""
    from cryptography.exceptions import InvalidTag

    return isinstance(error, InvalidTag)


_INNER = bytes(b ^ 0x36 for b in range(256))
_OUTER = bytes(b ^ 0x5C for b in range(256))


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104. key: at most 64 bytes."""
    padded = key.ljust(64, b"\0")
    inner: bytes = sha256(padded.translate(_INNER) + message).digest()
    outer: bytes = sha256(padded.translate(_OUTER) + inner).digest()
    return outer


def hkdf_sha256(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with one block of output: 32 bytes. salt: at most 64 bytes."""
    return hmac_sha256(hmac_sha256(salt, secret), info + b"\x01")
