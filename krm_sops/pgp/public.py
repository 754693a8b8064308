"""Public keys: rings and keyboxes of them, and which key of a certificate gpg would encrypt to.

A certificate says by its own signatures which subkeys are its, what each may do, until when, and what was revoked. All
of these are checked: a key file may come from anywhere, and only the fingerprint in a rule says whose it is.
Source: RFC 9580, sections 5.2 and 10.1; GnuPG 2.2, g10/getkey.c (finish_lookup) and kbx/keybox-blob.c.
"""

from __future__ import annotations

from krm_sops.pgp.algorithms import ALGORITHMS
from krm_sops.pgp.armor import blocks
from krm_sops.pgp.ciphers import sha1
from krm_sops.pgp.packets import (
    PUBLIC_KEY,
    PUBLIC_SUBKEY,
    SECRET_KEY,
    SECRET_SUBKEY,
    SIGNATURE,
    USER_ATTRIBUTE,
    USER_ID,
    Fields,
    OpenPgpError,
    packets,
)
from krm_sops.pgp.signatures import Signature, public_length

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.pgp.algorithms import Algorithm

_DIRECT, _REVOKED = 0x1F, 0x20
_BINDING, _BINDING_REVOKED = 0x18, 0x28
_CERTIFICATIONS, _CERTIFICATION_REVOKED = (0x10, 0x11, 0x12, 0x13), 0x30
_MAY_ENCRYPT = 0x0C
"""Key flags: communications, storage. gpg takes either."""
_ENCRYPTION = (1, 2, 16, 18, 25, 26)
_ELGAMAL = 16
_KEYBOX_MAGIC = b"KBXf"
_KEYBOX_OPENPGP = 2


class PublicKey:
    """A primary key or subkey of version 4.  body: its packet, the public part.  created: seconds since 1970."""

    __slots__ = ("algorithm", "body", "created", "fingerprint", "signatures")

    def __init__(self, body: bytes) -> None:
        """Raises OpenPgpError."""
        fields = Fields(body)
        version = fields.number()
        if version != 4:
            raise OpenPgpError(f"an OpenPGP key of version {version}; only those of version 4 can be encrypted to")
        self.created = fields.number(4)
        self.algorithm = fields.number()
        self.body = body
        self.fingerprint: bytes = sha1(self.hashed()).digest()
        self.signatures: list[Signature] = []

    @property
    def name(self) -> str:
        return self.fingerprint.hex().upper()

    @property
    def key_id(self) -> bytes:
        return self.fingerprint[-8:]

    def hashed(self) -> bytes:
        """How signatures and fingerprints cover it."""
        return b"\x99" + len(self.body).to_bytes(2, "big") + self.body

    def material(self) -> Algorithm:
        """Raises OpenPgpError."""
        return ALGORITHMS[self.algorithm](Fields(self.body[6:]))


class UserId:
    """covered: how signatures cover it."""

    __slots__ = ("covered", "signatures")

    def __init__(self, tag: int, body: bytes) -> None:
        self.covered = (b"\xb4" if tag == USER_ID else b"\xd1") + len(body).to_bytes(4, "big") + body
        self.signatures: list[Signature] = []


class Recipient:
    """A key to encrypt to.  ciphers: the symmetric ones that its owner prefers, by number, best first."""

    __slots__ = ("ciphers", "key")

    def __init__(self, key: PublicKey, ciphers: bytes) -> None:
        self.key = key
        self.ciphers = ciphers


class Certificate:
    """A primary key with its user ids and subkeys. Nothing in it is believed before its signature is checked."""

    __slots__ = ("_subkeys", "_users", "primary")

    def __init__(self, primary: PublicKey) -> None:
        self.primary = primary
        self._subkeys: list[PublicKey] = []
        self._users: list[UserId] = []

    def add(self, part: PublicKey | UserId) -> None:
        if isinstance(part, PublicKey):
            self._subkeys.append(part)
        else:
            self._users.append(part)

    def has(self, fingerprint: str) -> bool:
        """fingerprint: upper-case hexadecimal, of the primary key or a subkey, or the last 16 digits of it."""
        return any(key.name.endswith(fingerprint) for key in (self.primary, *self._subkeys))

    def recipient(self, fingerprint: str, now: int, *, exact: bool) -> Recipient:
        """The key that gpg would choose: the newest subkey that may encrypt, or the primary key if it is the only one.

        exact: this very key, whichever is newest.  now: seconds since 1970.  Raises OpenPgpError, which says why none.
        """
        own = self._own_signature(now)
        reasons: list[str] = []
        found: PublicKey | None = None
        for key in self._subkeys:
            if exact and not key.name.endswith(fingerprint):
                continue
            reason = self._unusable(key, self._binding(key), now)
            if reason:
                reasons.append(f"{key.name[-16:]} {reason}")
            elif found is None or key.created > found.created:
                found = key
        if found is None and (not exact or self.primary.name.endswith(fingerprint)):
            reason = self._unusable(self.primary, own, now)
            if not reason:
                found = self.primary
            elif not reasons:
                reasons.append(f"{self.primary.name[-16:]} {reason}")
        if found is None:
            raise OpenPgpError(f"no key of it can be encrypted to: {', '.join(reasons)}")
        if found.algorithm == _ELGAMAL:
            raise OpenPgpError("ElGamal keys are not supported")
        return Recipient(found, own.preferred_ciphers)

    def _own_signature(self, now: int) -> Signature:
        """The newest one that says what the primary key is for. Raises OpenPgpError where the key is not valid."""
        primary = self.primary
        covered = primary.hashed()
        direct = [s for s in primary.signatures if s.kind == _DIRECT and self._made(s, covered)]
        # Of a key that may revoke this one the signature is believed unseen: gpg decides, where there is one.
        revokers = {fingerprint[-8:] for signature in direct for fingerprint in signature.revokers}
        for signature in primary.signatures:
            if signature.kind == _REVOKED and (signature.issuer in revokers or self._made(signature, covered)):
                raise OpenPgpError("it was revoked")
        users = [found for found in map(self._certification, self._users) if found]
        newest = _newest([s for s in (*users, *direct) if not s.expired(now)])
        if newest is None:
            raise OpenPgpError("it has no user id that it signed, or all were revoked or have expired")
        lifetime = next((s.key_lifetime for s in (_newest(direct), newest) if s and s.key_lifetime is not None), 0)
        if primary.created > now:
            raise OpenPgpError("it was made in the future: is this machine's clock right?")
        if lifetime and primary.created + lifetime <= now:
            raise OpenPgpError("it has expired")
        return newest

    def _certification(self, user: UserId) -> Signature | None:
        """The newest one that the primary key made for a user id; None where it revoked it later."""
        covered = self.primary.hashed() + user.covered
        kinds = (*_CERTIFICATIONS, _CERTIFICATION_REVOKED)
        newest = _newest([s for s in user.signatures if s.kind in kinds and self._made(s, covered)])
        return newest if newest is not None and newest.kind != _CERTIFICATION_REVOKED else None

    def _binding(self, subkey: PublicKey) -> Signature | None:
        """The newest one by which the primary key says that this subkey is its, or that it no longer is."""
        covered = self.primary.hashed() + subkey.hashed()
        made = [s for s in subkey.signatures if s.kind in (_BINDING, _BINDING_REVOKED) and self._made(s, covered)]
        return _newest([s for s in made if s.kind == _BINDING_REVOKED] or made)

    def _made(self, signature: Signature, covered: bytes) -> bool:
        if signature.issuer not in (b"", self.primary.key_id):
            return False
        return signature.verifies(self.primary.algorithm, Fields(self.primary.body[6:]), covered)

    @staticmethod
    def _unusable(key: PublicKey, signature: Signature | None, now: int) -> str:
        """Why nothing can be encrypted to it, or ""."""
        if key.algorithm not in _ENCRYPTION:
            return "is for signatures"
        if signature is None:
            return "is not bound to it by a signature"
        if signature.kind == _BINDING_REVOKED:
            return "was revoked"
        if signature.flags is not None and not signature.flags & _MAY_ENCRYPT:
            return "may not be used for encryption"
        if key.created > now:
            return "was made in the future"
        if signature.expired(now) or (signature.key_lifetime and key.created + signature.key_lifetime <= now):
            return "has expired"
        return ""


def _newest(signatures: list[Signature]) -> Signature | None:
    return max(signatures, key=lambda signature: signature.created, default=None)


def read_certificates(data: bytes) -> list[Certificate]:
    """Those of a keybox (pubring.kbx), a binary ring, or armored blocks; of secret keys, the public parts.

    Keys of other versions are passed over. Raises OpenPgpError.
    """
    found: list[Certificate] = []
    if data[8:12] == _KEYBOX_MAGIC:
        for block in _keybox(data):
            try:
                found += _certificates(block)
            except OpenPgpError:  # one key that cannot be read says nothing of the others
                continue
        return found
    for _, content in blocks(data):
        found += _certificates(content)
    return found


def _keybox(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 16 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length < 5 or at + length > len(data):
            raise OpenPgpError("the keybox is damaged")
        if data[at + 4] == _KEYBOX_OPENPGP:
            start, size = (int.from_bytes(data[at + field : at + field + 4], "big") for field in (8, 12))
            yield data[at + start : at + start + size]
        at += length


def _certificates(content: bytes) -> Iterator[Certificate]:
    certificate: Certificate | None = None
    part: PublicKey | UserId | None = None
    for tag, body in packets(content):
        if tag in (PUBLIC_KEY, SECRET_KEY):
            if certificate is not None:
                yield certificate
            key = _key(tag, body)
            certificate = None if key is None else Certificate(key)
            part = key
        elif certificate is None:
            continue
        elif tag in (PUBLIC_SUBKEY, SECRET_SUBKEY):
            part = _key(tag, body)
        elif tag in (USER_ID, USER_ATTRIBUTE):
            part = UserId(tag, body)
        elif tag == SIGNATURE:
            signature = Signature.read(body)
            if signature is not None and part is not None:
                part.signatures.append(signature)
            continue
        else:
            continue
        if certificate is not None and part is not None and part is not certificate.primary:
            certificate.add(part)
    if certificate is not None:
        yield certificate


def _key(tag: int, body: bytes) -> PublicKey | None:
    try:
        return PublicKey(body if tag in (PUBLIC_KEY, PUBLIC_SUBKEY) else body[: public_length(body)])
    except OpenPgpError:
        return None
