"""Identity files: age's own lines, SSH private keys, and age files that hold identities behind a passphrase."""

from __future__ import annotations

from krm_sops.age import AgeError, IdentityError, NoMatch
from krm_sops.age.format import ARMOR_BEGIN, INTRO, dearmor, decrypt
from krm_sops.age.x25519 import X25519Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.age.base import Ask, Identity, Unwrap
    from krm_sops.age.format import Stanza
    from krm_sops.age.plugin import Start

_LARGEST = 16 << 20
_PEEK = 14
"""As many bytes as sops looks at to tell an age file from lines."""


class Reader:
    """What reading identities may need from its surroundings."""

    __slots__ = ("ask", "most_work", "start")

    def __init__(self, ask: Ask | None = None, start: Start | None = None, most_work: int = 18) -> None:
        """ask, start: see PluginIdentity.  most_work: scrypt's work factor at most, for protected files."""
        self.ask = ask
        self.start = start
        self.most_work = most_work

    def read(
        self, data: bytes, place: str, read_public: Callable[[], bytes] | None = None, *, words: bool = False
    ) -> list[Identity]:
        """The identities of one source; one bad line discards all of it, as in sops.

        place: what a person is shown when asked for a passphrase.  read_public: see ssh_key.read.  words: several
        identities may stand on a line (SOPS_AGE_KEY).  Raises IdentityError, which never quotes the source.
        """
        if data.startswith((INTRO[:_PEEK], ARMOR_BEGIN[:_PEEK])):
            return [ProtectedFile(data, place, self)]
        if b"PRIVATE KEY-----" in data:
            from krm_sops.age import ssh_key

            return [ssh_key.read(data, place, self.ask, read_public)]
        identities = []
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
            line = line.removesuffix("\r")
            if line and not line.startswith("#"):
                try:
                    identities += [self._one(word) for word in (line.split() if words else [line])]
                except IdentityError as error:
                    raise IdentityError(f"line {number}: {error}") from None
        if not identities:
            raise IdentityError("holds no identity")
        return identities

    def _one(self, text: str) -> Identity:
        if text.startswith("AGE-SECRET-KEY-1"):
            return X25519Identity.parse(text)
        if text.startswith("AGE-SECRET-KEY-PQ-1"):
            from krm_sops.age.hybrid import HybridIdentity

            return HybridIdentity.parse(text)
        if text.startswith("AGE-PLUGIN-"):
            from krm_sops.age.plugin import PluginIdentity

            return PluginIdentity(text, self.start, self.ask)
        raise IdentityError("unknown type of identity")


class ProtectedFile:
    """An identity file behind a passphrase. It does not say whose it is, so it is tried last and opened once."""

    __slots__ = ("_data", "_failure", "_identities", "_place", "_reader")

    costly = True
    label = "a passphrase-protected identity file"

    def __init__(self, data: bytes, place: str, reader: Reader) -> None:
        self._data = data
        self._place = place
        self._reader = reader
        self._identities: list[Identity] | None = None
        self._failure: IdentityError | None = None

    def opener_for(self, recipient: str) -> Unwrap | None:
        for identity in self._identities or ():
            opener = identity.opener_for(recipient)
            if opener:
                return opener
        return None

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        for identity in self._opened():
            file_key = identity.unwrap(stanzas)
            if file_key is not None:
                return file_key
        return None

    def _opened(self) -> list[Identity]:
        """Raises IdentityError: the same one again without asking twice."""
        if self._failure:
            raise self._failure
        if self._identities is None:
            from krm_sops.age.scrypt import ScryptIdentity

            passphrase = ScryptIdentity(self._passphrase, self._reader.most_work)
            try:
                raw = self._data if self._data.startswith(INTRO) else dearmor(self._data)
                plain = decrypt(raw, [passphrase], _LARGEST)
                if plain.startswith((INTRO[:_PEEK], ARMOR_BEGIN[:_PEEK])):
                    raise IdentityError("a protected identity file inside of another is not opened")
                self._identities = self._reader.read(plain, self._place)
            except NoMatch:
                self._failure = IdentityError("wrong passphrase, or not protected by one")
            except AgeError as error:
                self._failure = IdentityError(error.message, hint=error.hint)
            if self._identities is None:
                assert self._failure
                raise self._failure
        return self._identities

    def _passphrase(self) -> str:
        if self._reader.ask is None:
            raise IdentityError("the identity file is protected by a passphrase, and there is nobody to ask")
        return self._reader.ask(f"Enter passphrase for identity '{self._place}': ")
