"""An encrypted message: session key packets, then one packet of encrypted data. RFC 9580, section 10.3."""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, WrongKey, shown
from krm_sops.pgp.armor import blocks
from krm_sops.pgp.content import literal
from krm_sops.pgp.encrypted import read_encrypted
from krm_sops.pgp.packets import (
    ENCRYPTED,
    ENCRYPTED_OCB,
    ENCRYPTED_WITHOUT_INTEGRITY,
    MARKER,
    PADDING,
    PKESK,
    SKESK,
    Fields,
    OpenPgpError,
    packets,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.pgp.keys import Passphrases, SecretKey

_SIZE = 1 << 18
"""Bytes of a message: with its data key and 16 recipients it has some thousands."""
_RECIPIENTS = 16


class WrappedSessionKey:
    """A session key encrypted to one recipient. recipient: key id, fingerprint, or b"" for an anonymous one.

    version: 3 or 6.
    """

    __slots__ = ("algorithm", "recipient", "version", "wrapped")

    def __init__(self, body: bytes) -> None:
        fields = Fields(body)
        self.version = fields.number()
        if self.version == 3:
            self.recipient = fields.take(8)
            if not any(self.recipient):
                self.recipient = b""
        else:
            self.recipient = fields.take(fields.number())[1:]  # after the version of that key
        self.algorithm = fields.number()
        self.wrapped = fields.rest()

    def is_for(self, key: SecretKey) -> bool:
        return self.recipient in (b"", key.key_id, key.fingerprint)

    @property
    def name(self) -> str:
        return self.recipient.hex().upper() or "an anonymous recipient"


class Message:
    """content: the whole message, binary."""

    __slots__ = ("_data", "_recipients", "content")

    def __init__(self, content: bytes, recipients: Sequence[WrappedSessionKey], data: tuple[int, bytes]) -> None:
        """data: type and body of the packet of encrypted data."""
        self.content = content
        self._recipients = recipients
        self._data = data

    @classmethod
    def read(cls, text: bytes) -> Message:
        """text: armored or binary. Raises OpenPgpError for everything that is not one message, encrypted with integrity
        to public keys: passphrases, signatures alone, clear literals and packets without integrity are refused."""
        found = blocks(text)
        if len(found) != 1 or found[0][0] not in ("", "MESSAGE"):
            what = f"a PGP {shown(found[0][0])}" if len(found) == 1 else f"{len(found)} of them"
            raise OpenPgpError(f"not one OpenPGP message but {what if found else 'something else'}")
        content = found[0][1]
        if len(content) > _SIZE:
            raise OpenPgpError(f"an OpenPGP message of {len(content)} bytes holds no data key (at most {_SIZE})")
        recipients = []
        data = None
        for tag, body in packets(content):
            if tag in (MARKER, PADDING):
                continue
            if data is not None:
                raise OpenPgpError(f"a packet of type {tag} follows the encrypted data")
            if tag == PKESK:
                recipients.append(body)
                if len(recipients) > _RECIPIENTS:
                    raise OpenPgpError(f"an OpenPGP message for more than {_RECIPIENTS} recipients")
            elif tag in (ENCRYPTED, ENCRYPTED_OCB):
                data = tag, body
            else:
                raise OpenPgpError(_refused(tag))
        if data is None or not recipients:
            raise OpenPgpError(f"an OpenPGP message without {'recipients' if data else 'encrypted data'}")
        return cls(content, [WrappedSessionKey(body) for body in recipients if body[:1] in (b"\3", b"\6")], data)

    def open(self, keys: Sequence[SecretKey], passphrases: Passphrases) -> bytes:
        """The content, at most 4 KiB. Keys are chosen by their id alone: no flags, no expiry, no revocation.

        Raises WrongKey when it is for none of `keys`, KeyUnavailable when it is but cannot be opened. What failed after
        a private key was used is never said (S19).
        """
        data = read_encrypted(*self._data)
        recipients = [one for one in self._recipients if one.version == data.session_version]
        problems: list[str] = []
        hint = ""
        ours: list[str] = []
        for recipient in recipients:
            for key in keys:
                if not recipient.is_for(key):
                    continue
                try:
                    session = key.open(recipient.algorithm, recipient.wrapped, recipient.version, passphrases)
                except OpenPgpError as error:
                    problems.append(error.message)
                    hint = hint or error.hint
                    continue
                clear = None if session is None else data.open(session)
                if clear is not None:
                    return literal(clear)
                if recipient.recipient:
                    ours.append(key.name)
        if ours:
            problems.append(f"the message does not open with secret key {', '.join(ours)}: damaged, or not made for it")
        if problems:
            raise KeyUnavailable("; ".join(dict.fromkeys(problems)), hint=hint)
        names = ", ".join(dict.fromkeys(one.name for one in recipients)) or "its data"
        raise WrongKey(f"no secret key for {names} ({len(keys)} at hand)")


def _refused(tag: int) -> str:
    if tag == ENCRYPTED_WITHOUT_INTEGRITY:
        return "the message has no integrity protection (packet type 9): anybody could have altered it"
    if tag == SKESK:
        return "the message is encrypted with a passphrase, not only to public keys"
    return f"the message is not encrypted (it holds a packet of type {tag})"
