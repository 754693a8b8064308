"""Symmetric ciphers by their OpenPGP numbers: CFB and AEAD decryption, and the digests around them."""

from __future__ import annotations

from krm_sops.pgp.packets import OpenPgpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _sha1() -> Callable[[bytes], Any]:
    try:
        from _sha1 import sha1  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # an interpreter built without its own digests
        from hashlib import sha1
    return sha1  # type: ignore[no-any-return,unused-ignore]


sha1 = _sha1()

AES256 = 9

CIPHERS = {
    2: ("TripleDES", 24, 8),
    3: ("CAST5", 16, 8),
    7: ("AES", 16, 16),
    8: ("AES", 24, 16),
    9: ("AES", 32, 16),
    11: ("Camellia", 16, 16),
    12: ("Camellia", 24, 16),
    13: ("Camellia", 32, 16),
}
"""Number -> name in `cryptography`, bytes of key, bytes of block."""

AEADS = {2: ("AESOCB3", 15), 3: ("AESGCM", 12)}
"""Number -> name in `cryptography`, bytes of nonce. EAX (1) is missing: `cryptography` has none."""

TAG = 16
"""Bytes of an AEAD tag, for all of them."""

HASHES = {
    1: "md5",
    2: "sha1",
    3: "ripemd160",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3_256",
    14: "sha3_512",
}


def cfb_decrypt(cipher: int, key: bytes, iv: bytes, data: bytes) -> bytes:
    """cipher: in CIPHERS. Raises OpenPgpError where the OpenSSL at hand lacks it (old ciphers come from a provider)."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    name = CIPHERS[cipher][0]
    if name == "AES":
        algorithm: Any = algorithms.AES
    else:
        from cryptography.hazmat.decrepit.ciphers import algorithms as old

        algorithm = getattr(old, name)
    try:
        decryptor = Cipher(algorithm(key), CFB(iv)).decryptor()
    except UnsupportedAlgorithm:
        raise OpenPgpError(f"the OpenSSL of this installation has no {name}") from None
    return decryptor.update(data) + decryptor.finalize()


def cfb_encrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """With AES."""
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    encryptor = Cipher(algorithms.AES(key), CFB(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def check_aead(cipher: int, aead: int) -> None:
    """Raises OpenPgpError unless `aead_decryptor` can do this pair."""
    if CIPHERS.get(cipher, ("",))[0] != "AES":
        raise OpenPgpError(f"authenticated encryption with cipher {cipher} is not supported, only AES is")
    if aead not in AEADS:
        what = "EAX" if aead == 1 else f"mode {aead}"
        raise OpenPgpError(f"authenticated encryption in {what} is not supported, only OCB and GCM are")


def aead_decryptor(aead: int, key: bytes) -> Callable[[bytes, bytes, bytes], bytes | None]:
    """What maps nonce, ciphertext with tag, additional data to plaintext, or to None for a wrong tag."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import aead as modes

    decrypt = getattr(modes, AEADS[aead][0])(key).decrypt

    def open_one(nonce: bytes, data: bytes, additional: bytes) -> bytes | None:
        try:
            opened: bytes = decrypt(nonce, data, additional)
        except InvalidTag:
            return None
        return opened

    return open_one


def hkdf(digest: str, secret: bytes, length: int, *, salt: bytes = b"", info: bytes) -> bytes:
    """RFC 5869. digest: "SHA256" or "SHA512"."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(getattr(hashes, digest)(), length, salt or None, info).derive(secret)


def same(left: bytes, right: bytes) -> bool:
    """Whether two digests are equal, in a time that does not tell where they differ."""
    return int.from_bytes(left, "big") ^ int.from_bytes(right, "big") == 0 and len(left) == len(right)
