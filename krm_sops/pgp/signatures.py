"""Signatures that a key makes over itself: what they say, and whether it was that key. RFC 9580, section 5.2."""

from __future__ import annotations

from krm_sops.pgp.algorithms import CURVES
from krm_sops.pgp.packets import Fields, OpenPgpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CREATED, _EXPIRES, _KEY_EXPIRES, _CIPHERS, _REVOKER, _ISSUER, _FLAGS, _ISSUER_FINGERPRINT = 2, 3, 9, 11, 12, 16, 27, 33
_KNOWN = frozenset((*range(2, 8), 9, 11, 12, 16, *range(20, 36), 39))
"""Types of subpackets; an unknown one that is marked critical makes a signature count for nothing."""
_CRITICAL = 0x80
_HASHES = {2: "SHA1", 8: "SHA256", 9: "SHA384", 10: "SHA512", 11: "SHA224", 12: "SHA3_256", 14: "SHA3_512"}
"""SHA-1 is what most old keys are signed with; gpg takes it for a key's signatures over itself, as for these."""
_RSA, _DSA, _ECDSA, _EDDSA, _ED25519, _ED448 = (1, 3), 17, 19, 22, 27, 28
_PUBLIC_MPIS = {1: 2, 2: 2, 3: 2, 16: 3, 17: 4}
_PUBLIC_OCTETS = {25: 32, 26: 56, 27: 32, 28: 57}
_ECDH = 18


class Signature:
    """kind: its type.  created: seconds since 1970.  issuer: 8 bytes of a fingerprint, b"" where not stated.

    flags: what the key may do, None where not stated.  key_lifetime: seconds, 0 for ever, None where not stated.
    revokers: fingerprints of keys that may revoke this one.
    """

    __slots__ = (
        "_algorithm",
        "_expires",
        "_hash",
        "_hashed",
        "_left",
        "_values",
        "created",
        "flags",
        "issuer",
        "key_lifetime",
        "kind",
        "preferred_ciphers",
        "revokers",
    )

    def __init__(self, fields: Fields) -> None:
        """fields: of a signature packet of version 4, behind the version. Raises OpenPgpError."""
        head = fields.take(3)
        self.kind, self._algorithm, self._hash = head
        length = fields.take(2)
        hashed = fields.take(int.from_bytes(length, "big"))
        self._hashed = b"\x04" + head + length + hashed
        self.created = self._expires = 0
        self.issuer = self.preferred_ciphers = b""
        self.flags: int | None = None
        self.key_lifetime: int | None = None
        self.revokers: list[bytes] = []
        for kind, body in _subpackets(hashed):
            self._note(kind, body)
        for kind, body in _subpackets(fields.take(fields.number(2))):
            if kind == _ISSUER and not self.issuer:  # where gpg puts it; a wrong one makes the signature fail
                self.issuer = body
        self._left = fields.take(2)
        self._values = fields.rest()

    @classmethod
    def read(cls, body: bytes) -> Signature | None:
        """None for what cannot count: other versions, damaged ones, critical subpackets that nobody knows."""
        fields = Fields(body)
        try:
            return cls(fields) if fields.number() == 4 else None
        except OpenPgpError:
            return None

    def _note(self, kind: int, body: bytes) -> None:
        number = int.from_bytes(body, "big")
        if kind & ~_CRITICAL not in _KNOWN and kind & _CRITICAL:
            raise OpenPgpError("a critical subpacket that is not known")
        kind &= ~_CRITICAL
        if kind == _CREATED:
            self.created = number
        elif kind == _EXPIRES:
            self._expires = number
        elif kind == _KEY_EXPIRES:
            self.key_lifetime = number
        elif kind == _CIPHERS:
            self.preferred_ciphers = body
        elif kind == _REVOKER:
            self.revokers.append(body[2:])
        elif kind == _ISSUER:
            self.issuer = body
        elif kind == _ISSUER_FINGERPRINT and body[:1] == b"\x04":
            self.issuer = body[-8:]
        elif kind == _FLAGS:
            self.flags = body[0] if body else 0

    def expired(self, now: int) -> bool:
        return bool(self._expires) and self.created + self._expires <= now

    def verifies(self, algorithm: int, public: Fields, covered: bytes) -> bool:
        """Whether the key with these public parameters made it over `covered`."""
        if algorithm != self._algorithm or self._hash not in _HASHES:
            return False
        import hashlib

        data = covered + self._hashed + b"\x04\xff" + len(self._hashed).to_bytes(4, "big")
        name = _HASHES[self._hash]
        digest = hashlib.new(name.lower(), data, usedforsecurity=False).digest()
        return digest[:2] == self._left and _verify(algorithm, public, Fields(self._values), digest, name)


def _subpackets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type, with its critical bit, and content of each."""
    fields = Fields(data)
    while fields.at < len(data):
        length = fields.number()
        if length == 255:
            length = fields.number(4)
        elif length >= 192:
            length = ((length - 192) << 8) + fields.number() + 192
        body = fields.take(length)
        if not body:
            raise OpenPgpError("an empty subpacket")
        yield body[0], body[1:]


def _verify(algorithm: int, public: Fields, values: Fields, digest: bytes, name: str) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes

    try:
        if algorithm in _RSA:
            _verify_rsa(public, values, digest, getattr(hashes, name)())
        elif algorithm == _DSA:
            _verify_dsa(public, values, digest, getattr(hashes, name)())
        elif algorithm == _ECDSA:
            _verify_ecdsa(public, values, digest, getattr(hashes, name)())
        elif algorithm in (_EDDSA, _ED25519, _ED448):
            _verify_eddsa(algorithm, public, values, digest)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, OpenPgpError, ValueError):
        return False
    return True


def _verify_rsa(public: Fields, values: Fields, digest: bytes, hash_: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    n, e = (int.from_bytes(public.mpi(), "big") for _ in range(2))
    signature = values.mpi().rjust((n.bit_length() + 7) // 8, b"\0")
    RSAPublicNumbers(e, n).public_key().verify(signature, digest, PKCS1v15(), Prehashed(hash_))


def _pair(values: Fields) -> bytes:
    """The two numbers of a signature, as `cryptography` wants them."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    r, s = (int.from_bytes(values.mpi(), "big") for _ in range(2))
    return encode_dss_signature(r, s)


def _verify_dsa(public: Fields, values: Fields, digest: bytes, hash_: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric.dsa import DSAParameterNumbers, DSAPublicNumbers
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    p, q, g, y = (int.from_bytes(public.mpi(), "big") for _ in range(4))
    DSAPublicNumbers(y, DSAParameterNumbers(p, q, g)).public_key().verify(_pair(values), digest, Prehashed(hash_))


def _verify_ecdsa(public: Fields, values: Fields, digest: bytes, hash_: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    name = CURVES.get(public.take(public.number()), "")
    if not name:
        raise OpenPgpError("an elliptic curve that is not supported")
    key = ec.EllipticCurvePublicKey.from_encoded_point(getattr(ec, name)(), public.mpi())
    key.verify(_pair(values), digest, ec.ECDSA(Prehashed(hash_)))


def _verify_eddsa(algorithm: int, public: Fields, values: Fields, digest: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if algorithm == _ED448:
        Ed448PublicKey.from_public_bytes(public.take(57)).verify(values.take(114), digest)
        return
    if algorithm == _ED25519:
        point, signature = public.take(32), values.take(64)
    else:
        public.take(public.number())  # the curve, of which there is one with keys of this length
        point = public.mpi().removeprefix(b"\x40")
        signature = values.mpi().rjust(32, b"\0") + values.mpi().rjust(32, b"\0")
    Ed25519PublicKey.from_public_bytes(point).verify(signature, digest)


def public_length(body: bytes) -> int:
    """Where the public part of a secret key's packet, of version 4, ends. Raises OpenPgpError."""
    fields = Fields(body)
    fields.take(5)
    algorithm = fields.number()
    for _ in range(_PUBLIC_MPIS.get(algorithm, 0)):
        fields.mpi()
    fields.take(_PUBLIC_OCTETS.get(algorithm, 0))
    if algorithm in (_ECDH, _ECDSA, _EDDSA):
        fields.take(fields.number())
        fields.mpi()
        if algorithm == _ECDH:
            fields.take(fields.number())
    return fields.at
