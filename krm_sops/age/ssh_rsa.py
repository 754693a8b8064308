"""The ssh-rsa recipient type: RSA-OAEP with SHA-256.  Source: FiloSottile/age 1.3.2, agessh/agessh.go."""

from __future__ import annotations

from krm_sops.age import HeaderError
from krm_sops.age.format import FILE_KEY_LENGTH
from krm_sops.age.ssh_ed25519 import fingerprint, label_of, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from krm_sops.age.base import Unwrap
    from krm_sops.age.format import Stanza

TYPE = "ssh-rsa"
LABEL = b"age-encryption.org/v1/ssh-rsa"


class SshRsaIdentity:
    __slots__ = ("_key", "blob")

    costly = False

    def __init__(self, key: RSAPrivateKey, blob: bytes) -> None:
        """blob: the public key in SSH's wire format."""
        self._key = key
        self.blob = blob

    @property
    def label(self) -> str:
        return label_of(TYPE, self.blob)

    def opener_for(self, recipient: str) -> Unwrap | None:
        return self.unwrap if names(recipient, TYPE, self.blob) else None

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        for stanza in stanzas:
            if stanza.type == TYPE:
                file_key = self._open(stanza)
                if file_key is not None:
                    return file_key
        return None

    def _open(self, stanza: Stanza) -> bytes | None:
        from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
        from cryptography.hazmat.primitives.hashes import SHA256

        if len(stanza.args) != 1:
            raise HeaderError(f"age header: the ssh-rsa stanza has {len(stanza.args)} arguments instead of 1")
        if stanza.args[0] != fingerprint(self.blob):
            return None
        try:
            file_key = self._key.decrypt(stanza.body, OAEP(MGF1(SHA256()), SHA256(), LABEL))
        except ValueError:
            return None  # whatever failed after the private key was used, the answer is the same (S19)
        return file_key if len(file_key) == FILE_KEY_LENGTH else None
