"""The scrypt recipient type: a passphrase. SOPS has it for identity files only, never for data keys (S21)."""

from __future__ import annotations

from krm_sops.age import HeaderError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.age.base import Unwrap
    from krm_sops.age.format import Stanza

_LABEL = b"age-encryption.org/v1/scrypt"


class ScryptIdentity:
    __slots__ = ("_most_work", "_passphrase")

    costly = True
    label = "passphrase"

    def __init__(self, passphrase: Callable[[], str], most_work: int) -> None:
        """passphrase: asked for only where a stanza needs it.  most_work: base-two logarithm; 18 takes a second."""
        self._passphrase = passphrase
        self._most_work = most_work

    def opener_for(self, recipient: str) -> Unwrap | None:  # noqa: ARG002 - a passphrase has no recipient
        return None

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        for stanza in stanzas:
            if stanza.type == "scrypt":
                return self._open(stanza)
        return None

    def _open(self, stanza: Stanza) -> bytes | None:
        salt = stanza.argument(0, 16, count=2)
        work = stanza.args[1]
        if not work.isdecimal() or work.startswith("0") or len(work) > 4:
            raise HeaderError("age header: the scrypt stanza's work factor is no plain number")
        if int(work) > self._most_work:
            raise HeaderError(f"age header: scrypt work factor {work} is more than {self._most_work}")
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        passphrase = self._passphrase().encode()
        return stanza.open_body(Scrypt(_LABEL + salt, length=32, n=1 << int(work), r=8, p=1).derive(passphrase))
