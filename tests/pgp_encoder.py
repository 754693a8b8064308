"""A tiny OpenPGP encoder, written apart from krm_sops.pgp: throw-away keys and messages, good ones and broken ones."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from typing import Any

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DATA_KEY = bytes(range(200, 232))
WILDCARD = bytes(8)


def armor(label: str, data: bytes, *headers: str) -> bytes:
    text = base64.encodebytes(data).decode()
    head = "".join(f"{line}\n" for line in headers)
    return f"-----BEGIN PGP {label}-----\n{head}\n{text}-----END PGP {label}-----\n".encode()


def packet(tag: int, body: bytes) -> bytes:
    return bytes((0xC0 | tag, 255)) + len(body).to_bytes(4, "big") + body


def old_packet(tag: int, body: bytes, *, indeterminate: bool = False) -> bytes:
    if indeterminate:
        return bytes((0x83 | tag << 2,)) + body
    return bytes((0x81 | tag << 2,)) + len(body).to_bytes(2, "big") + body


def partial_packet(tag: int, body: bytes, power: int = 1) -> bytes:
    size = 1 << power
    out = bytes((0xC0 | tag,))
    while len(body) > size:
        out += bytes((224 + power,)) + body[:size]
        body = body[size:]
    return out + bytes((len(body),)) + body


def mpi(number: int | bytes) -> bytes:
    value = number if isinstance(number, int) else int.from_bytes(number, "big")
    return value.bit_length().to_bytes(2, "big") + value.to_bytes((value.bit_length() + 7) // 8, "big")


def literal(data: bytes = DATA_KEY, form: bytes = b"b", name: bytes = b"") -> bytes:
    return packet(11, form + bytes((len(name),)) + name + bytes(4) + data)


def checksum(data: bytes) -> bytes:
    return (sum(data) % 65536).to_bytes(2, "big")


# Symmetric parts


def cfb(key: bytes, iv: bytes, data: bytes, algorithm: Any = algorithms.AES) -> bytes:
    encryptor = Cipher(algorithm(key), CFB(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def seipd1(
    session: bytes, inside: bytes, *, algorithm: Any = algorithms.AES, block: int = 16, mdc: bytes = b""
) -> bytes:
    start = os.urandom(block)
    clear = start + start[-2:] + inside + b"\xd3\x14"
    return packet(18, b"\1" + cfb(session, bytes(block), clear + (mdc or hashlib.sha1(clear).digest()), algorithm))


def ocb(session: bytes, inside: bytes, chunk: int = 0, cipher: int = 9) -> bytes:
    """GnuPG's packet of type 20."""
    nonce = os.urandom(15)
    header = bytes((0xD4, 1, cipher, 2, chunk))
    return packet(
        20,
        header[1:]
        + nonce
        + _chunks(AESOCB3(session), nonce[:7], int.from_bytes(nonce[7:], "big"), inside, chunk, header, True),
    )


def seipd2(session: bytes, inside: bytes, aead: int = 2, chunk: int = 0, cipher: int = 9) -> bytes:
    salt = os.urandom(32)
    header = bytes((0xD2, 2, cipher, aead, chunk))
    octets = {2: 15, 3: 12}[aead]
    derived = HKDF(hashes.SHA256(), len(session) + octets - 8, salt, header).derive(session)
    mode = {2: AESOCB3, 3: AESGCM}[aead](derived[: len(session)])
    return packet(18, header[1:] + salt + _chunks(mode, derived[len(session) :], 0, inside, chunk, header, False))


def _chunks(mode: Any, fixed: bytes, start: int, inside: bytes, chunk: int, header: bytes, indexed: bool) -> bytes:
    size = 1 << (chunk + 6)
    out = b""
    index = 0
    for at in range(0, len(inside), size):
        additional = header + (index.to_bytes(8, "big") if indexed else b"")
        out += mode.encrypt(fixed + (start ^ index).to_bytes(8, "big"), inside[at : at + size], additional)
        index += 1
    additional = header + (index.to_bytes(8, "big") if indexed else b"") + len(inside).to_bytes(8, "big")
    return out + mode.encrypt(fixed + (start ^ index).to_bytes(8, "big"), b"", additional)


# Keys


@cache
def rsa_numbers(bits: int = 2048, which: int = 0) -> rsa.RSAPrivateNumbers:
    return rsa.generate_private_key(65537, bits).private_numbers()


class Key:
    """A version 4 secret key: its public part, its secret fields, and how to wrap a session key for it."""

    algorithm = 0

    def public(self) -> bytes:
        raise NotImplementedError

    def secret(self) -> bytes:
        raise NotImplementedError

    def wrap(self, payload: bytes) -> bytes:
        raise NotImplementedError

    def head(self) -> bytes:
        return b"\x04" + bytes(4) + bytes((self.algorithm,)) + self.public()

    @property
    def fingerprint(self) -> bytes:
        return hashlib.sha1(b"\x99" + len(self.head()).to_bytes(2, "big") + self.head()).digest()

    @property
    def key_id(self) -> bytes:
        return self.fingerprint[-8:]

    def packet(self, tag: int = 7, protection: bytes | None = None) -> bytes:
        """protection: the bytes from the usage octet on, for a locked key."""
        return packet(tag, self.head() + (protection or b"\0" + self.secret() + checksum(self.secret())))

    def locked(self, s2k: bytes, derived: bytes, usage: int = 254) -> bytes:
        """s2k: the specifier.  derived: the key it gives for the passphrase, 32 bytes."""
        iv = os.urandom(16)
        clear = self.secret()
        clear += hashlib.sha1(clear).digest() if usage == 254 else checksum(clear)
        return bytes((usage, 9)) + s2k + iv + cfb(derived, iv, clear)

    def armored(self, **how: Any) -> bytes:
        return armor("PRIVATE KEY BLOCK", self.packet(**how))

    def pkesk(
        self, session: bytes, cipher: int = 9, *, recipient: bytes | None = None, payload: bytes | None = None
    ) -> bytes:
        if payload is None:
            payload = bytes((cipher,)) + session + checksum(session)
        wrapped = self.wrap(payload)
        return packet(1, b"\3" + (self.key_id if recipient is None else recipient) + bytes((self.algorithm,)) + wrapped)


class RsaKey(Key):
    algorithm = 1

    def __init__(self, which: int = 0, bits: int = 2048) -> None:
        self.numbers = rsa_numbers(bits, which)

    def public(self) -> bytes:
        public = self.numbers.public_numbers
        return mpi(public.n) + mpi(public.e)

    def secret(self) -> bytes:
        n = self.numbers
        return mpi(n.d) + mpi(n.p) + mpi(n.q) + mpi(pow(n.p, -1, n.q))

    def wrap(self, payload: bytes) -> bytes:
        return mpi(self.numbers.public_numbers.public_key().encrypt(payload, PKCS1v15()))

    def raw(self, number: int) -> bytes:
        """A session key packet around RSA without any padding."""
        public = self.numbers.public_numbers
        return packet(1, b"\3" + self.key_id + b"\1" + mpi(pow(number, public.e, public.n)))


CURVE25519 = bytes.fromhex("2b060104019755010501")
P256 = bytes.fromhex("2a8648ce3d030107")


class EcdhKey(Key):
    algorithm = 18

    def __init__(self, oid: bytes = CURVE25519, kdf: bytes = b"\x01\x08\x07") -> None:
        self.oid = oid
        self.kdf = kdf
        self.private: Any = (
            X25519PrivateKey.generate() if oid == CURVE25519 else ec.generate_private_key(ec.SECP256R1())
        )

    def point(self, private: Any) -> bytes:
        if self.oid == CURVE25519:
            return b"\x40" + bytes(private.public_key().public_bytes_raw())
        return bytes(private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    def public(self) -> bytes:
        return bytes((len(self.oid),)) + self.oid + mpi(self.point(self.private)) + b"\x03" + self.kdf

    def secret(self) -> bytes:
        if self.oid == CURVE25519:
            return mpi(self.private.private_bytes_raw()[::-1])
        return mpi(self.private.private_numbers().private_value)

    def wrap(self, payload: bytes, *, ephemeral_point: bytes = b"", pad: bytes | None = None) -> bytes:
        if self.oid == CURVE25519:
            ephemeral: Any = X25519PrivateKey.generate()
            shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.point(self.private)[1:]))
        else:
            ephemeral = ec.generate_private_key(ec.SECP256R1())
            shared = ephemeral.exchange(ec.ECDH(), self.private.public_key())
        bound = bytes((len(self.oid),)) + self.oid + b"\x12\x03" + self.kdf + b"Anonymous Sender    " + self.fingerprint
        derived = hashlib.sha256(b"\0\0\0\1" + shared + bound).digest()
        count = max(16 - len(payload), 8 - len(payload) % 8)
        padding = bytes((count,)) * count if pad is None else pad
        wrapped = aes_key_wrap(derived[: {7: 16, 8: 24, 9: 32}[self.kdf[2]]], payload + padding)
        return mpi(ephemeral_point or self.point(ephemeral)) + bytes((len(wrapped),)) + wrapped


def message(key: Key, inside: bytes | None = None, *, recipient: bytes | None = None) -> bytes:
    """A whole armored message with an AES-256 session key and a modification detection code."""
    session = os.urandom(32)
    content = literal() if inside is None else inside
    return armor("MESSAGE", key.pkesk(session, recipient=recipient) + seipd1(session, content))
