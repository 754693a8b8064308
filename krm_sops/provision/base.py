"""What every source type is, and what the fields of several have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from krm_sops.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import ClassVar

    from krm_sops.host import Host
    from krm_sops.krm.config import Fields
    from krm_sops.tree import Branch, Node

_SPACES = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""What Haskell's isSpace calls one. str.strip takes a few more."""
_STRIPS = ("left", "right", "both")
_NEWLINES = {"lf": "\n", "crlf": "\r\n"}


class Run:
    """What sources may touch while they make values."""

    __slots__ = ("folder", "host", "open_file", "passed", "show_stderr")

    def __init__(
        self,
        host: Host,
        folder: str,
        open_file: Callable[[str], Branch],
        *,
        passed: Sequence[str] = (),
        show_stderr: bool = False,
    ) -> None:
        """folder: what paths in the specification are relative to.

        open_file: decrypts a SOPS file.  passed: variables that every program sees besides the usual ones.
        show_stderr: whether what programs say on stderr is let through.
        """
        self.host = host
        self.folder = folder
        self.open_file = open_file
        self.passed = passed
        self.show_stderr = show_stderr


class Source(Protocol):
    fields: ClassVar[tuple[str, ...]]
    """All that may stand in its `value`."""
    parts: ClassVar[tuple[str, ...]]
    """The keys below its path that it makes values for; none where it makes one value."""

    def __init__(self, fields: Fields) -> None:
        """Raises ConfigError."""
        ...

    def told(self) -> str:
        """In a few words where the value comes from. Foreign text in it is not yet escaped."""
        ...

    def canonical(self) -> dict[str, Node]:
        """Its fields with their defaults, as opsops' normalize has them."""
        ...

    def make(self, run: Run, path: tuple[str, ...]) -> Node:
        """A scalar, or a mapping with `parts`.  path: the secret's.  Raises KrmSopsError without any output of it."""
        ...


class Ending:
    """The fields `strip` and `trailingNewline`, in that order."""

    FIELDS = ("strip", "trailingNewline")

    def __init__(self, fields: Fields) -> None:
        self._strip = fields.choice("strip", _STRIPS, _STRIPS[0]) if fields.has("strip") else None
        newlines = tuple(_NEWLINES)
        self._newline = fields.choice("trailingNewline", newlines, "lf") if fields.has("trailingNewline") else None

    def applied(self, text: str) -> str:
        if self._strip in ("left", "both"):
            text = text.lstrip(_SPACES)
        if self._strip in ("right", "both"):
            text = text.rstrip(_SPACES)
        return text + _NEWLINES[self._newline] if self._newline else text

    def canonical(self) -> dict[str, Node]:
        return {"strip": self._strip, "trailingNewline": self._newline}


def needed(fields: Fields, name: str) -> str:
    """Raises ConfigError where it is missing or empty."""
    text = fields.text(name)
    if not text:
        raise ConfigError(f"{fields.where}.{name} is needed")
    return text


def texts(fields: Fields, name: str) -> list[str]:
    """A list of strings, empty where it is not there. Raises ConfigError."""
    return fields.names(name) if fields.has(name) else []
