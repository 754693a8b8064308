"""Making a message that one key can open, as gpg 2.2 and sops make it: RFC 4880's, which every program reads."""

from __future__ import annotations

from os import urandom

from krm_sops.pgp.armor import armored
from krm_sops.pgp.ciphers import CIPHERS, cfb_encrypt, sha1
from krm_sops.pgp.packets import ENCRYPTED, LITERAL, PKESK, packet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.pgp.public import Recipient

_AES = (9, 8, 7)
"""AES by its numbers, best first; the last is what every program must know."""
_MDC_HEADER = b"\xd3\x14"


def encrypt(plaintext: bytes, recipient: Recipient) -> str:
    """An armored message, without LF at its end.  Raises OpenPgpError for a key that cannot be used."""
    cipher = next((number for number in _AES if number in recipient.ciphers), _AES[-1])
    _, key_length, block = CIPHERS[cipher]
    session = urandom(key_length)
    key = recipient.key
    wrapped = key.material().wrap(session, cipher, key.fingerprint)
    literal = packet(LITERAL, b"b\0" + bytes(4) + plaintext)
    start = urandom(block)
    clear = start + start[-2:] + literal + _MDC_HEADER
    sealed = cfb_encrypt(session, bytes(block), clear + sha1(clear).digest())
    message = packet(PKESK, b"\3" + key.key_id + bytes((key.algorithm,)) + wrapped) + packet(ENCRYPTED, b"\1" + sealed)
    return armored("MESSAGE", message)
