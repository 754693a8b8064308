"""OpenPGP secret keys: rings, protection, and keys that are not what they say."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest

from krm_sops.errors import KeyUnavailable
from krm_sops.pgp.algorithms import rejects_implicitly
from krm_sops.pgp.keys import SecretKey, read_ring
from krm_sops.pgp.message import Message
from krm_sops.pgp.packets import OpenPgpError
from tests.pgp_encoder import DATA_KEY, P256, EcdhKey, RsaKey, armor, cfb, checksum, message, mpi, packet

RSA = RsaKey()
ECDH = EcdhKey()
NIST = EcdhKey(P256)
KEYS = [RSA, ECDH, NIST]
PASSPHRASE = b"correct horse"
SALT = bytes(range(8))


def answers(*passphrases: bytes) -> Any:
    def given(key: SecretKey) -> tuple[bytes, ...]:
        return passphrases

    return given


def opened(key: Any, ring: bytes, *passphrases: bytes) -> bytes:
    return Message.read(message(key)).open(read_ring(ring), answers(*passphrases))


def iterated(coded: int, digest: str = "sha256", number: int = 8) -> tuple[bytes, bytes]:
    count = (16 + (coded & 15)) << ((coded >> 4) + 6)
    salted = SALT + PASSPHRASE
    return bytes((3, number)) + SALT + bytes((coded,)), _repeated(salted, count, digest)


def _repeated(salted: bytes, count: int, digest: str) -> bytes:
    total = max(count, len(salted))
    data = (salted * (total // len(salted) + 1))[:total]
    return b"".join(hashlib.new(digest, bytes(zeros) + data).digest() for zeros in range(3))[:32]


S2K = {
    "simple": (b"\0\x08", hashlib.sha256(PASSPHRASE).digest()),
    "salted": (b"\1\x08" + SALT, hashlib.sha256(SALT + PASSPHRASE).digest()),
    "salted SHA-1, two rounds": (b"\1\2" + SALT, _repeated(SALT + PASSPHRASE, 0, "sha1")),
    "salted MD5, two rounds": (b"\1\1" + SALT, _repeated(SALT + PASSPHRASE, 0, "md5")),
    "iterated least": iterated(0),
    "iterated as gpg": iterated(0xC0),
    "iterated SHA-512": iterated(0x60, "sha512", 10),
}


@pytest.mark.parametrize("usage", [254, 255])
@pytest.mark.parametrize("name", S2K)
def test_protected_keys_open_with_their_passphrase_only(name: str, usage: int) -> None:
    specifier, derived = S2K[name]
    for key in KEYS:
        ring = key.armored(protection=key.locked(specifier, derived, usage))
        assert opened(key, ring, b"wrong", PASSPHRASE) == DATA_KEY
        with pytest.raises(KeyUnavailable, match="is protected by a passphrase, and that was not it"):
            opened(key, ring, b"wrong")
        with pytest.raises(KeyUnavailable, match=r"is protected by a passphrase$") as caught:
            opened(key, ring)
        assert "passphrase" in caught.value.hint


def test_a_passphrase_is_asked_for_once_and_so_is_a_failure() -> None:
    ring = read_ring(RSA.armored(protection=RSA.locked(*iterated(0))))
    asked: list[SecretKey] = []

    def given(key: SecretKey) -> list[bytes]:
        asked.append(key)
        return [PASSPHRASE]

    for _ in range(3):
        assert Message.read(message(RSA)).open(ring, given) == DATA_KEY
    assert len(asked) == 1

    ring = read_ring(ECDH.armored(protection=ECDH.locked(*iterated(0))))
    for _ in range(3):
        with pytest.raises(KeyUnavailable, match="protected by a passphrase"):
            Message.read(message(ECDH)).open(ring, answers())


@pytest.mark.parametrize(
    ("protection", "reason"),
    [
        (b"\xff\x09\x65\x02GNU\x01", "gpg exported a stub"),
        (b"\xff\x09\x65\x02GNU\x02\x10" + bytes(16), "on a smart card"),
        (b"\xff\x09\x65\x02GNU\x09", "kept elsewhere"),
        (b"\xfe\x09\x65\x02ABC\x01" + bytes(60), "string-to-key 101"),
        (b"\xfe\x09\x02\x08" + bytes(60), "string-to-key 2"),
        (b"\xfe\x09\x03\x63" + bytes(60), "hash 99"),
        (b"\xfe\x63\x03\x08" + bytes(60), "cipher 99"),
        (b"\x09" + bytes(60), "usage 9"),
        (b"\xfd\x09\x01\x03\x08" + bytes(60), "EAX is not supported"),
        (b"\xfd\x0b\x02\x03\x08" + bytes(60), "only AES is"),
        (b"\xfd\x09\x02\x04" + bytes(16) + b"\x01\x04\x13" + bytes(60), "more than 256 MiB"),
        (b"\xfd\x09\x02\x04" + bytes(16) + b"\xff\x04\x12" + bytes(60), "4 GiB of work"),
        (b"\xfd\x09\x02\x04" + bytes(16) + b"\xff\x04\xff" + bytes(60), "more than 256 MiB"),
        (b"\xfd\x09\x02\x04" + bytes(16) + b"\0\0\0" + bytes(60), "cannot be computed"),
        (b"\xfd\x09\x02\x03\x08" + bytes(9 + 15), "is damaged"),
        (b"\xfe", "middle of a field"),
        (b"", "middle of a field"),
        (b"\0", "middle of a field"),
        (b"\0" + RSA.secret() + b"??", "is damaged"),
        (b"\0" + RSA.secret()[:-1] + checksum(RSA.secret()[:-1]), "middle of a field"),
    ],
)
def test_a_key_that_cannot_be_used_says_why(protection: bytes, reason: str) -> None:
    text = RSA.head() + protection
    with pytest.raises(KeyUnavailable, match=f"^secret key {RSA.key_id.hex().upper()} cannot be used: .*{reason}"):
        opened(RSA, packet(7, text), PASSPHRASE)


def other_numbers() -> dict[str, bytes]:
    n = RSA.numbers
    u = pow(n.p, -1, n.q)
    parts = {
        "d": (n.d + 2, n.p, n.q, u),
        "p and q swapped": (n.d, n.q, n.p, u),
        "p": (n.d, n.p + 2, n.q, u),
        "one": (n.d, 1, n.p * n.q, 1),
        "u": (n.d, n.p, n.q, u + 1),
        "zero": (0, 0, 0, 0),
    }
    return {name: b"".join(mpi(number) for number in numbers) for name, numbers in parts.items()}


@pytest.mark.parametrize("name", other_numbers())
def test_rsa_numbers_that_do_not_belong_together_are_refused(name: str) -> None:
    secret = other_numbers()[name]
    with pytest.raises(KeyUnavailable, match="do not belong together"):
        opened(RSA, RSA.armored(protection=b"\0" + secret + checksum(secret)))


def test_p_and_q_may_stand_in_either_order() -> None:
    n = RSA.numbers
    secret = mpi(n.d) + mpi(n.q) + mpi(n.p) + mpi(pow(n.q, -1, n.p))
    assert opened(RSA, RSA.armored(protection=b"\0" + secret + checksum(secret))) == DATA_KEY


@pytest.mark.parametrize("key", [ECDH, NIST], ids=["Curve25519", "P-256"])
@pytest.mark.parametrize("scalar", [0, 1, 1 << 254, 1 << 600])
def test_a_curve_scalar_of_another_point_is_refused(key: Any, scalar: int) -> None:
    secret = mpi(scalar)
    with pytest.raises(KeyUnavailable, match="do not belong together"):
        opened(key, key.armored(protection=b"\0" + secret + checksum(secret)))


def test_an_unknown_curve_or_key_derivation_is_named() -> None:
    odd = EcdhKey(kdf=b"\x01\x02\x07")
    with pytest.raises(KeyUnavailable, match="key derivation is not supported"):
        opened(odd, odd.armored())
    unknown = EcdhKey(bytes.fromhex("2b656f"))
    with pytest.raises(KeyUnavailable, match=r"curve is not supported .*2b656f"):
        opened(unknown, unknown.armored())


def test_elgamal_is_named() -> None:
    head = b"\4" + bytes(4) + b"\x10" + mpi(23) * 3
    key_id = hashlib.sha1(b"\x99" + len(head).to_bytes(2, "big") + head).digest()[-8:]
    text = packet(1, b"\3" + key_id + b"\x10" + mpi(5) * 2) + packet(18, b"\1" + bytes(60))
    ring = read_ring(packet(5, head + b"\0" + mpi(5) + checksum(mpi(5))))
    with pytest.raises(KeyUnavailable, match="ElGamal keys are not supported"):
        Message.read(text).open(ring, answers())


def test_a_ring_is_several_keys_in_several_blocks_with_anything_between() -> None:
    user = packet(13, b"throw-away <a@b>") + packet(2, os.urandom(30)) + packet(12, b"\0\0")
    dsa = packet(5, b"\4" + bytes(4) + b"\x11" + bytes(20))
    old = packet(5, b"\3" + bytes(30))
    public = armor("PUBLIC KEY BLOCK", packet(6, RSA.head()) + user + packet(14, ECDH.head()))
    private = armor("PRIVATE KEY BLOCK", dsa + user + RSA.packet(tag=5) + old + ECDH.packet(), "Comment: two")
    ring = b"notes\n" + public + b"\n\n" + private + NIST.armored()
    assert [key.fingerprint for key in read_ring(ring)] == [RSA.fingerprint, ECDH.fingerprint, NIST.fingerprint]
    for key in KEYS:
        assert opened(key, ring) == DATA_KEY
    assert [key.name for key in read_ring(RSA.packet(tag=5) + user + ECDH.packet())] == [
        RSA.key_id.hex().upper(),
        ECDH.key_id.hex().upper(),
    ]


def test_a_ring_of_public_keys_has_no_secret_ones() -> None:
    assert read_ring(armor("PUBLIC KEY BLOCK", packet(6, RSA.head()))) == []


@pytest.mark.parametrize("data", [b"", b"AGE-SECRET-KEY-1", b"\x80", b"\xc5\xff", packet(5, b"\4" + bytes(4))])
def test_what_is_no_ring_is_refused(data: bytes) -> None:
    with pytest.raises(OpenPgpError):
        read_ring(data)


def test_a_key_shows_its_id_only() -> None:
    assert repr(read_ring(RSA.armored())[0]) == f"SecretKey({RSA.key_id.hex().upper()})"


def test_s19_rsa_asks_for_an_openssl_with_implicit_rejection() -> None:
    for version in ("OpenSSL 3.2.0 23 Nov 2023", "OpenSSL 3.10.1", "OpenSSL 4.0.3 29 Sep 2026"):
        assert rejects_implicitly(version)
    for version in (
        "OpenSSL 3.1.9 x",
        "OpenSSL 1.1.1 (compatible; AWS-LC 1.5)",
        "LibreSSL 4.1.0",
        "BoringSSL",
        "AWS-LC 4.1",
        "",
    ):
        assert not rejects_implicitly(version)


def test_aead_protection_is_bound_to_the_public_part() -> None:
    """Otherwise a key could be made to compute with somebody else's numbers (KOpenPGP)."""
    from tests.pgp_encoder import AESOCB3, HKDF, hashes

    specifier, derived = iterated(0)
    nonce = os.urandom(15)
    key = HKDF(hashes.SHA256(), 32, None, b"\xc7\x04\x09\x02").derive(derived)

    def protected(public: bytes) -> bytes:
        sealed = AESOCB3(key).encrypt(nonce, RSA.secret(), b"\xc7" + public)
        return RSA.armored(protection=b"\xfd\x09\x02" + specifier + nonce + sealed)

    assert opened(RSA, protected(RSA.head()), PASSPHRASE) == DATA_KEY
    with pytest.raises(KeyUnavailable, match="passphrase"):
        opened(RSA, protected(ECDH.head()), PASSPHRASE)


def test_old_protection_ciphers_open() -> None:
    """gpg 1 protected keys with CAST5."""
    from cryptography.hazmat.decrepit.ciphers.algorithms import CAST5

    specifier, derived = iterated(0x60)
    iv = os.urandom(8)
    clear = RSA.secret() + hashlib.sha1(RSA.secret()).digest()
    ring = RSA.armored(protection=b"\xfe\x03" + specifier + iv + cfb(derived[:16], iv, clear, CAST5))
    assert opened(RSA, ring, PASSPHRASE) == DATA_KEY
