"""Making an age file: header, payload, armor, as age writes them."""

from __future__ import annotations

from binascii import b2a_base64
from os import urandom

from krm_sops.age.format import (
    ARMOR_BEGIN,
    ARMOR_END,
    CHUNK,
    COLUMNS,
    FILE_KEY_LENGTH,
    INTRO,
    NONCE_LENGTH,
    to_base64,
)
from krm_sops.primitives import ChaCha20Poly1305, hkdf_sha256, hmac_sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.age.recipients import Recipient


def encrypt(plaintext: bytes, recipient: Recipient) -> bytes:
    """An age file for one recipient (sops puts several of them in files of their own), without armor.

    Raises RecipientError.
    """
    file_key = urandom(FILE_KEY_LENGTH)
    head = INTRO + b"".join([stanza.write() for stanza in recipient.wrap(file_key)]) + b"---"
    mac = hmac_sha256(hkdf_sha256(file_key, b"", b"header"), head)
    nonce = urandom(NONCE_LENGTH)
    return (
        head + f" {to_base64(mac)}\n".encode() + nonce + _payload(hkdf_sha256(file_key, nonce, b"payload"), plaintext)
    )


def _payload(key: bytes, plaintext: bytes) -> bytes:
    aead = ChaCha20Poly1305(key)
    chunks = [plaintext[at : at + CHUNK] for at in range(0, len(plaintext), CHUNK)] or [b""]
    sealed = []
    for index, chunk in enumerate(chunks):
        last = index == len(chunks) - 1
        sealed.append(aead.encrypt(index.to_bytes(11, "big") + (b"\x01" if last else b"\x00"), chunk, None))
    return b"".join(sealed)


def armored(raw: bytes) -> bytes:
    """With LF at every line's end, also the last one's."""
    encoded = b2a_base64(raw, newline=False)
    lines = [encoded[at : at + COLUMNS] for at in range(0, len(encoded), COLUMNS)]
    return b"\n".join([ARMOR_BEGIN, *lines, ARMOR_END, b""])
