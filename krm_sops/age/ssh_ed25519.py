"""The ssh-ed25519 recipient type, and the native age identity that ssh-to-age makes of such a key (sops-nix).

Both compute with the X25519 key that corresponds to the Ed25519 key: its scalar is the one Ed25519 itself derives from
the seed, its public point the same point on the other curve.  Source: FiloSottile/age 1.3.2, agessh/agessh.go.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from krm_sops.age import HeaderError, bech32
from krm_sops.age.format import to_base64
from krm_sops.age.x25519 import X25519Identity, agree
from krm_sops.primitives import hkdf_sha256, sha256, sha512, x25519_private, x25519_public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.age.base import Unwrap
    from krm_sops.age.format import Stanza

TYPE = "ssh-ed25519"
LABEL = b"age-encryption.org/v1/ssh-ed25519"
_WIRE = 4 + len(TYPE) + 4
"""Bytes before the point in a public key in SSH's wire format."""
FIELD = 2**255 - 19


def fingerprint(blob: bytes) -> str:
    """What age writes into a stanza to say which SSH key it is for. blob: the public key in SSH's wire format."""
    return to_base64(sha256(blob).digest()[:4])


def label_of(key_type: str, blob: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return f"{key_type} SHA256:{to_base64(sha256(blob).digest())}"


def names(recipient: str, key_type: str, blob: bytes) -> bool:
    """Whether a recipient (a line of authorized_keys, with a comment or not) is this public key."""
    return recipient.split()[:2] == [key_type, b2a_base64(blob, newline=False).decode()]


def montgomery(point: bytes) -> bytes:
    """The X25519 public key of an Ed25519 public key, both 32 bytes: u = (1 + y) / (1 - y)."""
    y = int.from_bytes(point, "little") & (1 << 255) - 1
    return ((1 + y) * pow(1 - y, -1, FIELD) % FIELD).to_bytes(32, "little") if y != 1 else bytes(32)


def age_recipient(point: bytes) -> str:
    """The ``age1…`` that ssh-to-age prints for an Ed25519 public key."""
    return bech32.encode("age", montgomery(point))


def native_recipients(text: str) -> list[str]:
    """The ``age1…`` of each Ed25519 key in a .pub file, authorized_keys, or what ssh-keyscan prints."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        words = line.split()
        if TYPE in words[:-1] and not line.startswith("#"):
            try:
                blob = a2b_base64(words[words.index(TYPE) + 1])
            except Base64Error:
                continue
            if len(blob) == _WIRE + 32 and blob[4:].startswith(TYPE.encode()):
                found[age_recipient(blob[_WIRE:])] = None
    return list(found)


def age_identity(seed: bytes) -> X25519Identity:
    """The native identity that ssh-to-age makes of an Ed25519 private key. seed: 32 bytes.

    The scalar is not clamped, so that it is spelled as ssh-to-age spells it; X25519 clamps whatever it is given.
    """
    return X25519Identity(sha512(seed).digest()[:32])


class SshEd25519Identity:
    __slots__ = ("age", "blob")

    costly = False

    def __init__(self, seed: bytes, blob: bytes) -> None:
        """seed: 32 bytes.  blob: the public key in SSH's wire format."""
        self.blob = blob
        self.age = age_identity(seed)

    @property
    def label(self) -> str:
        return label_of(TYPE, self.blob)

    def opener_for(self, recipient: str) -> Unwrap | None:
        return self.unwrap if names(recipient, TYPE, self.blob) else self.age.opener_for(recipient)

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        for stanza in stanzas:
            if stanza.type == TYPE:
                file_key = self._open(stanza)
                if file_key is not None:
                    return file_key
        return self.age.unwrap(stanzas)

    def _open(self, stanza: Stanza) -> bytes | None:
        share = stanza.argument(1, 32, count=2)
        if stanza.args[0] != fingerprint(self.blob):
            return None
        tweak = x25519_private(hkdf_sha256(b"", self.blob, LABEL))
        secret: bytes = tweak.exchange(x25519_public(agree(self.age.private, share, stanza.type)))
        try:
            return stanza.open_body(hkdf_sha256(secret, share + self.age.public, LABEL))
        except HeaderError:
            return None  # another key's stanza: four bytes of fingerprint may well be equal
