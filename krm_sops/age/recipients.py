"""Recipients: what a file key is wrapped for. Each type is the other side of the identity of its name.

Source: C2SP/C2SP age.md; FiloSottile/age 1.3.2, agessh/agessh.go.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from os import urandom

from krm_sops.age import RecipientError, bech32
from krm_sops.age.format import Stanza, to_base64
from krm_sops.age.ssh_ed25519 import FIELD, fingerprint, montgomery
from krm_sops.age.ssh_ed25519 import LABEL as ED25519_LABEL
from krm_sops.age.ssh_ed25519 import TYPE as ED25519
from krm_sops.age.ssh_rsa import LABEL as RSA_LABEL
from krm_sops.age.ssh_rsa import TYPE as RSA
from krm_sops.age.x25519 import LABEL
from krm_sops.errors import shown
from krm_sops.primitives import ChaCha20Poly1305, hkdf_sha256, x25519_private, x25519_public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from krm_sops.age.base import Ask
    from krm_sops.age.plugin import Start

    class Recipient(Protocol):
        def wrap(self, file_key: bytes) -> Sequence[Stanza]:
            """file_key: 16 bytes. Raises RecipientError."""
            ...


_SMALLEST_RSA = 2048
_EDWARDS_D = -121665 * pow(121666, -1, FIELD) % FIELD


def parse(text: str, start: Start | None = None, ask: Ask | None = None) -> Recipient:
    """A recipient as sops tells the types apart. start, ask: see PluginRecipient.  Raises RecipientError."""
    if text.startswith("age1pq1"):
        return HybridRecipient(_decoded(text, "age1pq", 1184 + 32))
    if text.startswith("age1") and text.count("1") > 1:
        from krm_sops.age.plugin import PluginRecipient

        return PluginRecipient(text, start, ask)
    if text.startswith("age1"):
        return X25519Recipient(_decoded(text, "age", 32))
    if text.startswith("ssh-"):
        return _ssh(text)
    what = f"unknown recipient type: {shown(text, 80)!r}"
    raise RecipientError(what, hint="recipients of age begin with age1, ssh-ed25519 or ssh-rsa")


def _decoded(text: str, prefix: str, length: int) -> bytes:
    try:
        found, data = bech32.decode(text)
    except ValueError as error:
        raise RecipientError(f"malformed age recipient {shown(text, 80)!r}: {error}") from None
    if found != prefix or len(data) != length:
        raise RecipientError(f"malformed age recipient {shown(text, 80)!r}: not {length} bytes under {prefix}1")
    return data


def _sealed(file_key: bytes, wrapping_key: bytes) -> bytes:
    sealed: bytes = ChaCha20Poly1305(wrapping_key).encrypt(bytes(12), file_key, None)
    return sealed


def _agreed(public: bytes) -> tuple[bytes, bytes]:
    """A fresh share, and the secret it makes with `public`. Raises RecipientError where that would be no secret."""
    ephemeral = x25519_private(urandom(32))
    try:
        secret: bytes = ephemeral.exchange(x25519_public(public))
    except ValueError:
        raise RecipientError("malformed age recipient: a point of low order") from None
    return ephemeral.public_key().public_bytes_raw(), secret


class X25519Recipient:
    def __init__(self, public: bytes) -> None:
        self._public = public

    def wrap(self, file_key: bytes) -> list[Stanza]:
        share, secret = _agreed(self._public)
        wrapping_key = hkdf_sha256(secret, share + self._public, LABEL)
        return [Stanza("X25519", [to_base64(share)], _sealed(file_key, wrapping_key))]


class HybridRecipient:
    def __init__(self, public: bytes) -> None:
        """public: 1184 bytes for ML-KEM-768, then 32 for X25519."""
        self._public = public

    def wrap(self, file_key: bytes) -> list[Stanza]:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
        from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite

        from krm_sops.age.hybrid import ENCAPSULATED, INFO, STANZA

        suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
        try:
            mlkem = MLKEM768PublicKey.from_public_bytes(self._public[:-32])
            public = MLKEM768X25519PublicKey(mlkem, x25519_public(self._public[-32:]))
            sealed = suite.encrypt(file_key, public, INFO)
        except UnsupportedAlgorithm:
            raise RecipientError("post-quantum age recipients need a `cryptography` built with ML-KEM") from None
        except ValueError:
            raise RecipientError("malformed age recipient: no ML-KEM-768 and X25519 keys") from None
        return [Stanza(STANZA, [to_base64(sealed[:ENCAPSULATED])], sealed[ENCAPSULATED:])]


def _ssh(line: str) -> Recipient:
    """line: as in authorized_keys, with a comment or not."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    words = line.split()
    if words[0] not in (ED25519, RSA):
        raise RecipientError(
            f"unknown SSH recipient type: {shown(words[0], 40)!r}", hint=f"age takes {ED25519} and {RSA}"
        )
    try:
        key = load_ssh_public_key(" ".join(words[:2]).encode())
        blob = a2b_base64(words[1])
    except (ValueError, IndexError, UnsupportedAlgorithm, Base64Error):
        raise RecipientError(f"malformed SSH recipient {shown(line, 80)!r}") from None
    if isinstance(key, Ed25519PublicKey):
        return SshEd25519Recipient(key.public_bytes_raw(), blob)
    assert isinstance(key, RSAPublicKey)
    if key.key_size < _SMALLEST_RSA:
        raise RecipientError(f"malformed SSH recipient: RSA of {key.key_size} bits, less than {_SMALLEST_RSA}")
    return SshRsaRecipient(key, blob)


class SshEd25519Recipient:
    def __init__(self, point: bytes, blob: bytes) -> None:
        """blob: the public key in SSH's wire format."""
        if not _is_on_curve(point):
            raise RecipientError("malformed SSH recipient: no point of the curve")
        self._public = montgomery(point)
        self._blob = blob

    def wrap(self, file_key: bytes) -> list[Stanza]:
        share, secret = _agreed(self._public)
        tweak = x25519_private(hkdf_sha256(b"", self._blob, ED25519_LABEL))
        wrapping_key = hkdf_sha256(tweak.exchange(x25519_public(secret)), share + self._public, ED25519_LABEL)
        return [Stanza(ED25519, [fingerprint(self._blob), to_base64(share)], _sealed(file_key, wrapping_key))]


def _is_on_curve(point: bytes) -> bool:
    """Whether some x belongs to this y: (y² - 1) / (dy² + 1) is a square."""
    y = int.from_bytes(point, "little") & (1 << 255) - 1
    square = (y * y - 1) * pow(_EDWARDS_D * y * y + 1, -1, FIELD) % FIELD
    return y < FIELD and pow(square, (FIELD - 1) // 2, FIELD) in (0, 1)


class SshRsaRecipient:
    def __init__(self, key: RSAPublicKey, blob: bytes) -> None:
        """blob: the public key in SSH's wire format."""
        self._key = key
        self._blob = blob

    def wrap(self, file_key: bytes) -> list[Stanza]:
        from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
        from cryptography.hazmat.primitives.hashes import SHA256

        sealed = self._key.encrypt(file_key, OAEP(MGF1(SHA256()), SHA256(), RSA_LABEL))
        return [Stanza(RSA, [fingerprint(self._blob)], sealed)]
