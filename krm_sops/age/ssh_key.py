"""SSH private key files as identities: OpenSSH's own format, PKCS#1 and PKCS#8; with a passphrase or not.

An OpenSSH file shows its public key without its passphrase, so that a person is asked only where the key is the one.
Everything but an unprotected Ed25519 key is loaded by `cryptography`, and only when first needed.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64

from krm_sops.age import IdentityError
from krm_sops.age.ssh_ed25519 import TYPE as ED25519
from krm_sops.age.ssh_ed25519 import SshEd25519Identity, age_recipient, fingerprint, label_of, names
from krm_sops.age.ssh_rsa import TYPE as RSA
from krm_sops.errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.age.base import Ask, Identity, Unwrap
    from krm_sops.age.format import Stanza
    from krm_sops.age.ssh_rsa import SshRsaIdentity

_OPENSSH_BEGIN = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_OPENSSH_END = b"-----END OPENSSH PRIVATE KEY-----"
_OPENSSH_MAGIC = b"openssh-key-v1\0"


def read(data: bytes, place: str, ask: Ask | None, read_public: Callable[[], bytes] | None) -> Identity:
    """place: what a person is shown when asked for the passphrase.

    read_public: the ``.pub`` file beside it, needed only for protected keys that are not in OpenSSH's format; may raise
    OSError.  Raises IdentityError.
    """
    if _OPENSSH_BEGIN in data:
        return _openssh(data, place, ask)
    if b"Proc-Type: 4,ENCRYPTED" not in data and b"BEGIN ENCRYPTED PRIVATE KEY" not in data:
        return SshKeyFile(data, b"", place, ask, protected=False)
    try:
        words = read_public().split() if read_public else []
        blob = a2b_base64(words[1]) if len(words) > 1 else b""
    except (OSError, Base64Error):
        blob = b""
    if not blob:
        raise IdentityError(
            "a passphrase-protected PEM key does not say which key it is, and no .pub file beside it does",
            hint="ssh-keygen -p -f FILE rewrites it in OpenSSH's format",
        )
    return SshKeyFile(data, blob, place, ask, protected=True)


def _openssh(data: bytes, place: str, ask: Ask | None) -> Identity:
    """Source: PROTOCOL.key of openssh-portable."""
    encoded = data.partition(_OPENSSH_BEGIN)[2].partition(_OPENSSH_END)[0]
    try:
        raw = a2b_base64(encoded)
        if not raw.startswith(_OPENSSH_MAGIC):
            raise ValueError
        wire = _Wire(raw[len(_OPENSSH_MAGIC) :])
        cipher, _, _, count = wire.string(), wire.string(), wire.string(), wire.number()
        blob, private = wire.string(), wire.string()
        if count != 1:
            raise ValueError
        key_type = _Wire(blob).string().decode("ascii")
        if key_type not in (ED25519, RSA):
            raise IdentityError(f"SSH keys of type {shown(key_type, 40)} cannot be used with age")
        if cipher == b"none" and key_type == ED25519:
            return SshEd25519Identity(_ed25519_seed(private, blob), blob)
    except ValueError:  # binascii's error and Unicode's are ValueErrors too
        raise IdentityError("malformed OpenSSH private key") from None
    return SshKeyFile(data, blob, place, ask, protected=cipher != b"none")


class _Wire:
    """SSH's wire format: big-endian 32-bit numbers, strings behind their length. Too short is a ValueError."""

    def __init__(self, raw: bytes) -> None:
        self.rest = raw

    def take(self, length: int) -> bytes:
        if length > len(self.rest):
            raise ValueError
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())


def _string(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def _ed25519_blob(point: bytes) -> bytes:
    return _string(ED25519.encode()) + _string(point)


def _ed25519_seed(private: bytes, blob: bytes) -> bytes:
    """private: the private section, unencrypted. Raises ValueError."""
    wire = _Wire(private)
    check, again = wire.number(), wire.number()
    key_type, point, seed_and_point = wire.string(), wire.string(), wire.string()
    wire.string()  # the comment
    if (
        check != again
        or key_type.decode("ascii") != ED25519
        or blob != _ed25519_blob(point)
        or len(seed_and_point) != 64
        or seed_and_point[32:] != point
        or wire.rest != bytes(range(1, len(wire.rest) + 1))
    ):
        raise ValueError
    return seed_and_point[:32]


class SshKeyFile:
    """A key that is loaded, and where protected unlocked, when a stanza turns out to be for it."""

    __slots__ = ("_ask", "_blob", "_data", "_failure", "_identity", "_place", "costly")

    def __init__(self, data: bytes, blob: bytes, place: str, ask: Ask | None, *, protected: bool) -> None:
        """blob: the public key in SSH's wire format; empty where the file does not show it without being loaded."""
        self._data = data
        self._blob = blob
        self._place = place
        self._ask = ask
        self._identity: SshEd25519Identity | SshRsaIdentity | None = None
        self._failure: IdentityError | None = None
        self.costly = protected

    @property
    def _type(self) -> str:
        return _Wire(self._blob).string().decode("ascii", "replace")

    @property
    def label(self) -> str:
        if self._identity:
            return self._identity.label
        return label_of(self._type, self._blob) if self._blob else "an SSH key"

    def opener_for(self, recipient: str) -> Unwrap | None:
        if self._identity:
            return self._identity.opener_for(recipient)
        if not self._blob:
            return None
        if names(recipient, self._type, self._blob):
            return self.unwrap
        if self._type == ED25519 and recipient.startswith("age1") and recipient == age_recipient(self._blob[-32:]):
            return lambda stanzas: self._loaded().unwrap(stanzas)
        return None

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        if self._blob and not self._identity:
            mine = fingerprint(self._blob)
            if not any(s.type == self._type and s.args and s.args[0] == mine for s in stanzas):
                return None
        return self._loaded().unwrap(stanzas)

    def _loaded(self) -> SshEd25519Identity | SshRsaIdentity:
        """Raises IdentityError: the same one again without asking twice, so one wrong passphrase is one failure."""
        if self._failure:
            raise self._failure
        if self._identity is None:
            try:
                self._identity = _load(self._data, self._passphrase() if self.costly else None)
                if self._blob and self._identity.blob != self._blob:
                    raise IdentityError("the private SSH key is not the one its public key says")
            except IdentityError as error:
                self._failure = error
                raise
        return self._identity

    def _passphrase(self) -> bytes:
        if self._ask is None:
            raise IdentityError("the SSH key is protected by a passphrase, and there is nobody to ask")
        if _OPENSSH_BEGIN in self._data:
            try:
                __import__("bcrypt")
            except ImportError:
                raise IdentityError(
                    "a passphrase-protected SSH key in OpenSSH's format needs the Python package bcrypt",
                    hint="pip install 'krm-sops[ssh]'",
                ) from None
        return self._ask(f"Enter passphrase for {self._place}: ").encode()


def _load(data: bytes, passphrase: bytes | None) -> SshEd25519Identity | SshRsaIdentity:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    from krm_sops.age.ssh_rsa import SshRsaIdentity

    load = load_ssh_private_key if _OPENSSH_BEGIN in data else load_pem_private_key
    try:
        key = load(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause is left out: it may quote, and an error of OpenSSL says nothing to a person.
        what = "wrong passphrase for the SSH key, or it is damaged" if passphrase else "malformed SSH private key"
        raise IdentityError(what) from None
    if isinstance(key, Ed25519PrivateKey):
        return SshEd25519Identity(key.private_bytes_raw(), _ed25519_blob(key.public_key().public_bytes_raw()))
    if isinstance(key, RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        blob = _string(RSA.encode()) + b"".join(
            _string(value.to_bytes(value.bit_length() // 8 + 1, "big")) for value in (numbers.e, numbers.n)
        )
        return SshRsaIdentity(key, blob)
    raise IdentityError("SSH keys other than Ed25519 and RSA cannot be used with age")
