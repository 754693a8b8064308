"""Secret keys: rings of them, their ids, and how they are unlocked. RFC 9580, section 5.5."""

from __future__ import annotations

from _thread import allocate_lock

from krm_sops.pgp.algorithms import ALGORITHMS
from krm_sops.pgp.armor import blocks
from krm_sops.pgp.ciphers import AEADS, CIPHERS, TAG, aead_decryptor, cfb_decrypt, check_aead, hkdf, same, sha1
from krm_sops.pgp.packets import SECRET_KEY, SECRET_SUBKEY, Fields, OpenPgpError, packets
from krm_sops.pgp.s2k import StringToKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from krm_sops.pgp.algorithms import Algorithm, SessionKey

    Passphrases = Callable[["SecretKey"], Iterable[bytes]]
    """What may open a protected key, one guess after the other."""

_CLEAR = 0
_AEAD = 253
_CFB_SHA1 = 254
_CFB_SUM = 255


class SecretKey:
    """One secret key or subkey. fingerprint: 20 bytes (version 4) or 32 (version 6); key_id: 8 bytes of it."""

    __slots__ = (
        "_algorithm",
        "_hint",
        "_lock",
        "_private",
        "_problem",
        "_public",
        "_secret",
        "_tag",
        "_version",
        "fingerprint",
        "key_id",
    )

    def __init__(self, tag: int, version: int, public: bytes, algorithm: Algorithm, secret: bytes) -> None:
        """public: the packet up to the end of its public parameters.  secret: what follows them."""
        self._tag = tag
        self._version = version
        self._public = public
        self._algorithm = algorithm
        self._secret = secret
        self._private: Any = None
        self._problem = self._hint = ""
        self._lock = allocate_lock()
        if version == 4:
            self.fingerprint: bytes = sha1(b"\x99" + len(public).to_bytes(2, "big") + public).digest()
            self.key_id = self.fingerprint[-8:]
        else:
            from krm_sops.primitives import sha256

            self.fingerprint = sha256(b"\x9b" + len(public).to_bytes(4, "big") + public).digest()
            self.key_id = self.fingerprint[:8]

    @classmethod
    def read(cls, tag: int, body: bytes) -> SecretKey | None:
        """None for a key that nothing can be encrypted to, or of a version other than 4 and 6. Raises OpenPgpError."""
        fields = Fields(body)
        version = fields.number()
        fields.take(4)  # created
        algorithm = ALGORITHMS.get(fields.number())
        if algorithm is None or version not in (4, 6):
            return None
        if version == 6:
            fields.take(4)  # length of the public parameters
        material = algorithm(fields)
        return cls(tag, version, body[: fields.at], material, fields.rest())

    def __repr__(self) -> str:
        return f"SecretKey({self.name})"

    @property
    def name(self) -> str:
        name: str = self.key_id.hex().upper()
        return name

    def open(self, algorithm: int, wrapped: bytes, version: int, passphrases: Passphrases) -> SessionKey | None:
        """The session key, random when anything about it is wrong; None when it is for another algorithm.

        wrapped: the algorithm's own fields of a session key packet of `version` 3 or 6.
        Raises OpenPgpError when this secret key cannot be used at all.
        """
        if ALGORITHMS.get(algorithm) is not type(self._algorithm):
            return None
        return self._algorithm.open(self._unlocked(passphrases), Fields(wrapped), version, self.fingerprint)

    def _unlocked(self, passphrases: Passphrases) -> Any:
        """The private key; made, and its passphrase asked for, once. So is a failure kept."""
        with self._lock:
            if self._private is None and not self._problem:
                try:
                    self._private = self._algorithm.load(self._clear_secret(passphrases))
                except OpenPgpError as error:
                    self._problem = f"secret key {self.name} cannot be used: {error}"
                    self._hint = error.hint
            if self._problem:
                raise OpenPgpError(self._problem, hint=self._hint)
            return self._private

    def _clear_secret(self, passphrases: Passphrases) -> Fields:
        fields = Fields(self._secret)
        usage = fields.number()
        if usage == _CLEAR:
            if self._version == 4:
                return _summed(fields.rest()) or _damaged()
            return Fields(fields.rest())
        protection = _Protection(usage, fields, 0xC0 | self._tag, self._version, self._public)
        asked = False
        for passphrase in passphrases(self):
            asked = True
            clear = protection.remove(passphrase)
            if clear is not None:
                return clear
        raise OpenPgpError(
            "it is protected by a passphrase" + (", and that was not it" if asked else ""),
            hint="hand in a copy of the OpenPGP key that has no passphrase, or decrypt at a terminal",
        )


class _Protection:
    """What a passphrase has to take away from the secret part. Layout: RFC 9580, section 5.5.3."""

    def __init__(self, usage: int, fields: Fields, packet: int, version: int, public: bytes) -> None:
        """packet: first byte of the key's packet; AEAD binds the secret part to it, the version and the public part."""
        if usage not in (_AEAD, _CFB_SHA1, _CFB_SUM):
            raise OpenPgpError(f"its passphrase protection (usage {usage}) is not supported")
        if version == 6:
            fields.take(1)  # length of the fields up to the nonce
        self._usage = usage
        self._cipher = fields.number()
        self._aead = fields.number() if usage == _AEAD else 0
        if version == 6:
            fields.take(1)  # length of the string-to-key fields
        self._s2k = StringToKey(fields)
        if self._s2k.missing:
            raise OpenPgpError(self._s2k.missing)
        if self._cipher not in CIPHERS:
            raise OpenPgpError(f"its passphrase protection uses cipher {self._cipher}, which is not supported")
        if usage == _AEAD:
            check_aead(self._cipher, self._aead)
        self._nonce = fields.take(AEADS[self._aead][1] if usage == _AEAD else CIPHERS[self._cipher][2])
        self._info = bytes((packet, version, self._cipher, self._aead))
        self._additional = bytes((packet,)) + public
        self._sealed = fields.rest()

    def remove(self, passphrase: bytes) -> Fields | None:
        """The secret numbers; None for a wrong passphrase."""
        length = CIPHERS[self._cipher][1]
        secret = self._s2k.derive(passphrase, length)
        if self._usage == _AEAD:
            if len(self._sealed) < TAG:
                _damaged()
            derived = hkdf("SHA256", secret, length, info=self._info)
            opened = aead_decryptor(self._aead, derived)(self._nonce, self._sealed, self._additional)
            return None if opened is None else Fields(opened)
        clear = cfb_decrypt(self._cipher, secret, self._nonce, self._sealed)
        if self._usage == _CFB_SUM:
            return _summed(clear)
        return Fields(clear[:-20]) if same(sha1(clear[:-20]).digest(), clear[-20:]) else None


def _summed(data: bytes) -> Fields | None:
    """The fields before a 2-byte sum of all their bytes; None when the sum is wrong."""
    return Fields(data[:-2]) if sum(data[:-2]) & 0xFFFF == int.from_bytes(data[-2:], "big") else None


def _damaged() -> Fields:
    raise OpenPgpError("its secret part is damaged")


def read_ring(data: bytes) -> list[SecretKey]:
    """Every secret key and subkey that can open messages, from armored blocks or a binary ring; not the public ones.

    Raises OpenPgpError.
    """
    found = []
    armored = blocks(data)
    if not armored:
        raise OpenPgpError("no OpenPGP key: neither armored (-----BEGIN PGP PRIVATE KEY BLOCK-----) nor binary")
    for _, content in armored:
        for tag, body in packets(content):
            if tag in (SECRET_KEY, SECRET_SUBKEY):
                key = SecretKey.read(tag, body)
                if key is not None:
                    found.append(key)
    return found
