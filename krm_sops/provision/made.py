"""Sources that make a value of random bytes: texts, and key pairs."""

from __future__ import annotations

import string

from krm_sops.errors import ConfigError
from krm_sops.tree import Branch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from krm_sops.krm.config import Fields
    from krm_sops.provision.base import Run, Source
    from krm_sops.tree import Node

ALPHABETS = {
    "alphanumeric": string.ascii_letters + string.digits,
    "letters": string.ascii_letters,
    "digits": string.digits,
    "hex": string.digits + "abcdef",
    "base64url": string.ascii_letters + string.digits + "-_",
    "printable": string.ascii_letters + string.digits + string.punctuation,
}
_LONGEST = 4096
_SSH = ("ed25519", "rsa")
_RSA_BITS = 4096


class Random:
    """Each character is chosen on its own, all equally likely.  characters: an alphabet of one's own."""

    fields: ClassVar[tuple[str, ...]] = ("length", "alphabet", "characters")
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._length = fields.number("length") if fields.has("length") else 32
        if not 1 <= self._length <= _LONGEST:
            raise ConfigError(f"value.length must be from 1 to {_LONGEST}")
        self._own = fields.text("characters")
        if self._own and fields.has("alphabet"):
            raise ConfigError("value.alphabet and value.characters exclude each other")
        self._alphabet = fields.choice("alphabet", tuple(ALPHABETS), "alphanumeric")
        if self._own and (len(self._own) < 2 or len(set(self._own)) < len(self._own)):
            raise ConfigError("value.characters needs two or more, none of them twice")

    def told(self) -> str:
        return f"{self._length} of {self._own or self._alphabet}"

    def canonical(self) -> dict[str, Node]:
        named: dict[str, Node] = {"characters": self._own} if self._own else {"alphabet": self._alphabet}
        return {"length": self._length, **named}

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        from secrets import choice

        characters = self._own or ALPHABETS[self._alphabet]
        return "".join(choice(characters) for _ in range(self._length))


class AgeKeyPair:
    """private: AGE-SECRET-KEY-…  public: the recipient."""

    fields: ClassVar[tuple[str, ...]] = ("postQuantum",)
    parts: ClassVar[tuple[str, ...]] = ("private", "public")

    def __init__(self, fields: Fields) -> None:
        self._post_quantum = fields.flag("postQuantum")

    def told(self) -> str:
        return "a new ML-KEM and X25519 key" if self._post_quantum else "a new X25519 key"

    def canonical(self) -> dict[str, Node]:
        return {"postQuantum": self._post_quantum}

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        from krm_sops.age.keygen import generate

        recipient, secret = generate(post_quantum=self._post_quantum)
        return _pair(secret, recipient)


class SshKeyPair:
    """private: in OpenSSH's format, without a passphrase.  public: the line for authorized_keys."""

    fields: ClassVar[tuple[str, ...]] = ("algorithm", "comment")
    parts: ClassVar[tuple[str, ...]] = ("private", "public")

    def __init__(self, fields: Fields) -> None:
        self._algorithm = fields.choice("algorithm", _SSH, _SSH[0])
        self._comment = fields.text("comment")
        if not self._comment.isprintable():
            raise ConfigError("value.comment must be one line")

    def told(self) -> str:
        return f"a new {self._algorithm} key"

    def canonical(self) -> dict[str, Node]:
        return {"algorithm": self._algorithm, "comment": self._comment}

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
        if self._algorithm == "rsa":
            key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        else:
            key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return _pair(private, f"{public} {self._comment}".rstrip())


def _pair(private: str, public: str) -> Branch:
    return Branch([Entry("private", private), Entry("public", public)])


_: tuple[type[Source], ...] = (Random, AgeKeyPair, SshKeyPair)
