"""age files made for tests: what the library only reads, written from the specification, with room for faults."""

from __future__ import annotations

import base64
import hashlib
import hmac
import textwrap
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from krm_sops.age import bech32

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE_KEY = b"YELLOW SUBMARINE"
IDENTITY = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
"""A throw-away key published by the C2SP test kit."""
OTHER_IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
"""The example of the age specification."""


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def recipient_of(identity: str) -> str:
    public = X25519PrivateKey.from_private_bytes(bech32.decode(identity)[1]).public_key().public_bytes_raw()
    return bech32.encode("age", public)


def stanza(kind: str, args: Sequence[str], body: bytes) -> str:
    lines = textwrap.wrap(b64(body), 64)
    if not lines or len(lines[-1]) == 64:
        lines.append("")
    return "\n".join([" ".join(["->", kind, *args]), *lines, ""])


def for_recipient(recipient: str, file_key: bytes = FILE_KEY) -> str:
    public = bech32.decode(recipient)[1]
    ephemeral = X25519PrivateKey.from_private_bytes(hashlib.sha256(public).digest())
    share = ephemeral.public_key().public_bytes_raw()
    secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    wrapping = hkdf(secret, share + public, b"age-encryption.org/v1/X25519")
    return stanza("X25519", [b64(share)], ChaCha20Poly1305(wrapping).encrypt(bytes(12), file_key, None))


def make(stanzas: Sequence[str], plaintext: bytes, file_key: bytes = FILE_KEY, mac_key: bytes = FILE_KEY) -> bytes:
    """One age file, not armored. mac_key: another one than file_key makes a header that was tampered with."""
    head = "age-encryption.org/v1\n" + "".join(stanzas) + "---"
    mac = hmac.new(hkdf(mac_key, b"", b"header"), head.encode(), "sha256").digest()
    aead = ChaCha20Poly1305(hkdf(file_key, bytes(16), b"payload"))
    chunks = [plaintext[at : at + 65536] for at in range(0, len(plaintext), 65536)] or [b""]
    payload = b"".join(
        aead.encrypt(number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]), chunk, None)
        for number, chunk in enumerate(chunks)
    )
    return f"{head} {b64(mac)}\n".encode() + bytes(16) + payload


def armor(raw: bytes, end: str = "\n") -> bytes:
    lines = textwrap.wrap(base64.b64encode(raw).decode(), 64)
    return end.join(["-----BEGIN AGE ENCRYPTED FILE-----", *lines, "-----END AGE ENCRYPTED FILE-----", ""]).encode()


def enc(identity: str, data_key: bytes, **faults: bytes) -> str:
    """What stands in `sops.age[].enc`."""
    return armor(make([for_recipient(recipient_of(identity))], data_key, **faults)).decode()


def protected(plaintext: bytes, passphrase: str = "secret", work: str = "2") -> bytes:
    """An age file behind a passphrase; work: as written, the file is only openable for a plain number."""
    salt = b"0123456789abcdef"
    n = 1 << int(work) if work.isdecimal() and 0 < int(work) < 12 else 2
    key = Scrypt(b"age-encryption.org/v1/scrypt" + salt, length=32, n=n, r=8, p=1).derive(passphrase.encode())
    body = ChaCha20Poly1305(key).encrypt(bytes(12), FILE_KEY, None)
    return make([stanza("scrypt", [b64(salt), work], body)], plaintext)
