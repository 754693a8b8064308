"""Public-key algorithms: the parameters of a key, the session key from what was encrypted to it, and the way back.

Implicit rejection (S19): once the private key has worked on a message, nothing here says that it went wrong. Whatever
does not check out becomes a random session key, with which the data then fails its own integrity check.
"""

from __future__ import annotations

from os import urandom

from krm_sops.pgp.ciphers import AES256, CIPHERS, HASHES, hkdf
from krm_sops.pgp.packets import Fields, OpenPgpError, mpi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Algorithm(Protocol):
        def __init__(self, public: Fields) -> None:
            """Reads the public parameters. Raises OpenPgpError."""
            ...

        def load(self, secret: Fields) -> Any:
            """The private key of `cryptography`. Raises OpenPgpError, also when it is not the public one's."""
            ...

        def open(self, private: Any, wrapped: Fields, version: int, fingerprint: bytes) -> SessionKey:
            """wrapped: the algorithm's own fields of a session key packet of `version` 3 or 6. Raises OpenPgpError
            only for fields that are not there at all."""
            ...

        def wrap(self, session: bytes, cipher: int, fingerprint: bytes) -> bytes:
            """The algorithm's own fields of a session key packet of version 3.  session: a key for `cipher`.

            fingerprint: that of this key.  Raises OpenPgpError for a key that cannot be encrypted to.
            """
            ...


class SessionKey:
    """cipher: its number; 0 where the encrypted data says it (version 6)."""

    __slots__ = ("cipher", "key")

    def __init__(self, cipher: int, key: bytes) -> None:
        self.cipher = cipher
        self.key = key

    @classmethod
    def random(cls) -> SessionKey:
        return cls(AES256, urandom(32))

    @classmethod
    def from_payload(cls, payload: bytes, version: int) -> SessionKey:
        """payload: [cipher] key checksum. Random if it is anything else."""
        key = payload[1:-2] if version == 3 else payload[:-2]
        cipher = payload[0] if version == 3 and payload else 0
        good = len(payload) > 2 and sum(key) & 0xFFFF == int.from_bytes(payload[-2:], "big")
        return cls(cipher, key) if good and (version != 3 or _fits(cipher, key)) else cls.random()


def _payload(session: bytes, cipher: int) -> bytes:
    """What `SessionKey.from_payload` reads, of version 3."""
    return bytes((cipher,)) + session + (sum(session) & 0xFFFF).to_bytes(2, "big")


def _fits(cipher: int, key: bytes) -> bool:
    return cipher in CIPHERS and CIPHERS[cipher][1] == len(key)


_SMALLEST_RSA = 1024
"""Bits that a key must have to be encrypted to."""


def _mismatch() -> OpenPgpError:
    return OpenPgpError("its secret and public numbers do not belong together")


class Rsa:
    def __init__(self, public: Fields) -> None:
        self._n = int.from_bytes(public.mpi(), "big")
        self._e = int.from_bytes(public.mpi(), "big")

    def load(self, secret: Fields) -> Any:
        from cryptography.hazmat.primitives.asymmetric import rsa

        version = _openssl_version()
        if not rejects_implicitly(version):
            raise OpenPgpError(f"RSA needs a `cryptography` built on OpenSSL 3.2 or later, this one is on {version}")
        d, p, q, u = (int.from_bytes(secret.mpi(), "big") for _ in range(4))
        # What OpenSSL's own check adds to this is that p and q are prime, at 100 times the cost.
        if not (
            p > 1 < q
            and p & q & 1
            and p * q == self._n
            and self._e * d % (p - 1) == 1
            and self._e * d % (q - 1) == 1
            and u * p % q == 1
        ):
            raise _mismatch()
        # OpenPGP's u is p^-1 mod q where PKCS #1 wants q^-1 mod p: hence q in the place of p.
        numbers = rsa.RSAPrivateNumbers(q, p, d, d % (q - 1), d % (p - 1), u, rsa.RSAPublicNumbers(self._e, self._n))
        try:
            return numbers.private_key(unsafe_skip_rsa_key_validation=True)
        except ValueError:
            raise OpenPgpError(f"OpenSSL refuses it (RSA of {self._n.bit_length()} bits)") from None

    def open(self, private: Any, wrapped: Fields, version: int, fingerprint: bytes) -> SessionKey:  # noqa: ARG002
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

        ciphertext = wrapped.mpi().lstrip(b"\0").rjust((self._n.bit_length() + 7) // 8, b"\0")
        try:
            payload = private.decrypt(ciphertext, PKCS1v15())
        except ValueError:  # longer or larger than the modulus: anybody can see that
            return SessionKey.random()
        return SessionKey.from_payload(payload, version)

    def wrap(self, session: bytes, cipher: int, fingerprint: bytes) -> bytes:  # noqa: ARG002
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

        if self._n.bit_length() < _SMALLEST_RSA:
            raise OpenPgpError(f"RSA of {self._n.bit_length()} bits, less than {_SMALLEST_RSA}")
        try:
            public = RSAPublicNumbers(self._e, self._n).public_key()
            return mpi(public.encrypt(_payload(session, cipher), PKCS1v15()))
        except ValueError:
            raise OpenPgpError("malformed RSA key") from None


def rejects_implicitly(version: str) -> bool:
    """Whether this OpenSSL answers a bad padding with a random message; without that, time is Bleichenbacher's oracle.

    version: as OpenSSL says it. LibreSSL, BoringSSL and AWS-LC do not.
    """
    name, _, rest = version.partition(" ")
    numbers = [int(part) if part.isdecimal() else 0 for part in rest.split(".")[:2]]
    return name == "OpenSSL" and numbers >= [3, 2]


def _openssl_version() -> str:
    try:
        from cryptography.hazmat.bindings._rust import openssl  # the public way to it costs 5 ms more

        return str(openssl.openssl_version_text())
    except (ImportError, AttributeError):
        from cryptography.hazmat.backends.openssl.backend import backend

        return backend.openssl_version_text()


class ElGamal:
    def __init__(self, public: Fields) -> None:
        for _ in range(3):
            public.mpi()

    def load(self, secret: Fields) -> Any:  # noqa: ARG002
        raise OpenPgpError("ElGamal keys are not supported")

    def open(self, private: Any, wrapped: Fields, version: int, fingerprint: bytes) -> SessionKey:
        raise NotImplementedError

    def wrap(self, session: bytes, cipher: int, fingerprint: bytes) -> bytes:  # noqa: ARG002
        raise OpenPgpError("ElGamal keys are not supported")


_CURVE25519 = bytes.fromhex("2b060104019755010501")
CURVES = {
    bytes.fromhex("2a8648ce3d030107"): "SECP256R1",
    bytes.fromhex("2b81040022"): "SECP384R1",
    bytes.fromhex("2b81040023"): "SECP521R1",
    bytes.fromhex("2b8104000a"): "SECP256K1",
    bytes.fromhex("2b2403030208010107"): "BrainpoolP256R1",
    bytes.fromhex("2b240303020801010b"): "BrainpoolP384R1",
    bytes.fromhex("2b240303020801010d"): "BrainpoolP512R1",
}
_NATIVE = b"\x40"
"""Stands before a point that is in the curve's own encoding."""


class Ecdh:
    """RFC 9580, section 11.5: a shared point, a one-step KDF bound to the key's fingerprint, AES key wrap."""

    def __init__(self, public: Fields) -> None:
        self._oid = public.take(public.number())
        self._point = public.mpi()
        kdf = Fields(public.take(public.number()))
        self._kdf = kdf.take(3)

    def load(self, secret: Fields) -> Any:
        scalar = secret.mpi()
        self._check_derivation()
        if self._oid == _CURVE25519:
            # An MPI is big-endian and the curve's scalar little-endian, so OpenPGP keeps it reversed.
            return _x25519(scalar.rjust(32, b"\0")[::-1], self._point.removeprefix(_NATIVE))
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        curve = self._curve()
        try:
            private = ec.derive_private_key(int.from_bytes(scalar, "big"), curve)
        except UnsupportedAlgorithm:
            raise OpenPgpError(f"the OpenSSL of this installation has no {curve.name}") from None
        except ValueError:
            raise _mismatch() from None
        if private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) != self._point:
            raise _mismatch()
        return private

    def _check_derivation(self) -> None:
        if self._kdf[0] != 1 or self._kdf[1] not in (8, 9, 10) or self._kdf[2] not in (7, 8, 9):
            raise OpenPgpError("its key derivation is not supported (SHA-2 and AES are)")

    def _curve(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import ec

        if self._oid not in CURVES:
            raise OpenPgpError(f"its elliptic curve is not supported (object identifier {self._oid.hex()})")
        return getattr(ec, CURVES[self._oid])()

    def _wrapping_key(self, shared: bytes, fingerprint: bytes) -> bytes:
        import hashlib

        bound = bytes((len(self._oid),)) + self._oid + b"\x12\x03" + self._kdf + b"Anonymous Sender    " + fingerprint
        digest = hashlib.new(HASHES[self._kdf[1]], b"\0\0\0\x01" + shared + bound).digest()
        return digest[: CIPHERS[self._kdf[2]][1]]

    def open(self, private: Any, wrapped: Fields, version: int, fingerprint: bytes) -> SessionKey:
        point = wrapped.mpi()
        sealed = wrapped.take(wrapped.number())
        shared = self._exchange(private, point)
        padded = _unwrap(self._wrapping_key(shared, fingerprint), sealed)
        count = padded[-1] if padded else 0
        if not 0 < count <= len(padded) or padded[-count:] != bytes((count,)) * count:
            return SessionKey.random()
        return SessionKey.from_payload(padded[:-count], version)

    def wrap(self, session: bytes, cipher: int, fingerprint: bytes) -> bytes:
        from cryptography.hazmat.primitives.keywrap import aes_key_wrap

        self._check_derivation()
        point, shared = self._fresh()
        payload = _payload(session, cipher)
        count = 8 - len(payload) % 8
        sealed = aes_key_wrap(self._wrapping_key(shared, fingerprint), payload + bytes((count,)) * count)
        return mpi(point) + bytes((len(sealed),)) + sealed

    def _fresh(self) -> tuple[bytes, bytes]:
        """A fresh point, encoded, and the secret that it shares with this key's."""
        if self._oid == _CURVE25519:
            from krm_sops.primitives import x25519_private

            ephemeral = x25519_private(urandom(32))
            try:
                shared = _x25519_exchange(ephemeral, self._point.removeprefix(_NATIVE))
            except ValueError:
                raise OpenPgpError("its public key is no point of the curve") from None
            return _NATIVE + ephemeral.public_key().public_bytes_raw(), shared
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        curve = self._curve()
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(curve, self._point)
            private = ec.generate_private_key(curve)
        except UnsupportedAlgorithm:
            raise OpenPgpError(f"the OpenSSL of this installation has no {curve.name}") from None
        except ValueError:
            raise OpenPgpError("its public key is no point of the curve") from None
        point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return point, private.exchange(ec.ECDH(), public)

    def _exchange(self, private: Any, point: bytes) -> bytes:
        """The shared secret; a random one for what is no point of this curve."""
        try:
            if self._oid == _CURVE25519:
                return _x25519_exchange(private, point.removeprefix(_NATIVE))
            from cryptography.hazmat.primitives.asymmetric import ec

            shared: bytes = private.exchange(
                ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(private.curve, point)
            )
        except ValueError:
            return urandom(32)
        return shared


class X25519:
    """RFC 9580, section 5.1.6."""

    _octets = 32

    def __init__(self, public: Fields) -> None:
        self._point = public.take(self._octets)

    def load(self, secret: Fields) -> Any:
        return _x25519(secret.take(32), self._point)

    def open(self, private: Any, wrapped: Fields, version: int, fingerprint: bytes) -> SessionKey:  # noqa: ARG002
        ephemeral = wrapped.take(self._octets)
        sealed = Fields(wrapped.take(wrapped.number()))
        cipher = sealed.number() if version == 3 else 0
        try:
            shared = self._exchange(private, ephemeral)
        except ValueError:  # a point of low order
            return SessionKey.random()
        key = _unwrap(self._derive(ephemeral + self._point + shared), sealed.rest())
        return SessionKey(cipher, key) if key and (version != 3 or _fits(cipher, key)) else SessionKey.random()

    def wrap(self, session: bytes, cipher: int, fingerprint: bytes) -> bytes:  # noqa: ARG002
        from cryptography.hazmat.primitives.keywrap import aes_key_wrap

        private = self._ephemeral()
        ephemeral: bytes = private.public_key().public_bytes_raw()
        try:
            shared = self._exchange(private, self._point)
        except ValueError:
            raise OpenPgpError("its public key is a point of low order") from None
        sealed = aes_key_wrap(self._derive(ephemeral + self._point + shared), session)
        return ephemeral + bytes((len(sealed) + 1, cipher)) + sealed

    def _ephemeral(self) -> Any:
        from krm_sops.primitives import x25519_private

        return x25519_private(urandom(32))

    def _exchange(self, private: Any, point: bytes) -> bytes:
        return _x25519_exchange(private, point)

    def _derive(self, secret: bytes) -> bytes:
        return hkdf("SHA256", secret, 16, info=b"OpenPGP X25519")


class X448(X25519):
    """RFC 9580, section 5.1.7."""

    _octets = 56

    def load(self, secret: Fields) -> Any:
        from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey

        private = X448PrivateKey.from_private_bytes(secret.take(56))
        if private.public_key().public_bytes_raw() != self._point:
            raise _mismatch()
        return private

    def _ephemeral(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey

        return X448PrivateKey.generate()

    def _exchange(self, private: Any, point: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.x448 import X448PublicKey

        shared: bytes = private.exchange(X448PublicKey.from_public_bytes(point))
        return shared

    def _derive(self, secret: bytes) -> bytes:
        return hkdf("SHA512", secret, 32, info=b"OpenPGP X448")


def _x25519(scalar: bytes, point: bytes) -> Any:
    from krm_sops.primitives import x25519_private

    if len(scalar) != 32:
        raise _mismatch()
    private = x25519_private(scalar)
    if private.public_key().public_bytes_raw() != point:
        raise _mismatch()
    return private


def _x25519_exchange(private: Any, point: bytes) -> bytes:
    """Raises ValueError for what is no point, or one of low order."""
    from krm_sops.primitives import x25519_public

    shared: bytes = private.exchange(x25519_public(point))
    return shared


def _unwrap(key: bytes, sealed: bytes) -> bytes:
    """RFC 3394; b"" for what was not wrapped with `key`."""
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    try:
        return aes_key_unwrap(key, sealed)
    except InvalidUnwrap:
        return b""


ALGORITHMS: dict[int, type[Algorithm]] = {1: Rsa, 2: Rsa, 3: Rsa, 16: ElGamal, 18: Ecdh, 25: X25519, 26: X448}
