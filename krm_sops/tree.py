"""The document as SOPS sees it: ordered mappings with duplicate keys and comments as entries.

A *leaf* is everything that is neither a `Branch` nor a list: scalars, null, and comments. Leaves are counted in walk
order: depth first, entries and elements in stored order. That order is what the MAC covers.

Strings may hold bytes that are no UTF-8: they are carried as surrogate escapes (`to_bytes`, `from_bytes`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    Scalar: TypeAlias = "str | int | float | bool | Timestamp | None"
    Node: TypeAlias = "Branch | list[Node] | Scalar | Comment"
    Leaf: TypeAlias = "Scalar | Comment"


CIPHERTEXT = "ENC[AES256_GCM,"
"""What every value that sops encrypted begins with."""


class Comment:
    """text: what follows the comment character, untrimmed. inline: it stood at the end of a line with content."""

    __slots__ = ("inline", "text")

    def __init__(self, text: str, inline: bool = False) -> None:
        self.text = text
        self.inline = inline

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Comment) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return "Comment(…)"


class Timestamp:
    """text: RFC 3339 with at most nine fraction digits, trailing zeros gone, ``Z`` for a zero offset."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return "Timestamp(…)"


class Entry:
    """One line of a mapping. key: a string; a Comment (then value is None); another scalar, which no walk accepts."""

    __slots__ = ("key", "value")

    def __init__(self, key: str | Comment | Scalar, value: Node) -> None:
        self.key = key
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and other.key == self.key and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Entry(…)"


class Branch:
    """An ordered mapping. Duplicate keys are kept."""

    __slots__ = ("entries",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = list(entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Branch) and other.entries == self.entries

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Branch({len(self.entries)} entries)"

    def get(self, key: str) -> Node:
        """The first value under `key`; None where there is none."""
        for entry in self.entries:
            if entry.key == key:
                return entry.value
        return None

    def number(self, key: str) -> int | None:
        """The position of the first entry under `key`; None where there is none."""
        for number, entry in enumerate(self.entries):
            if entry.key == key:
                return number
        return None

    def keys(self) -> list[str]:
        return [entry.key for entry in self.entries if isinstance(entry.key, str)]


def leaves(node: Node) -> Iterator[Leaf]:
    """All leaves below `node` in walk order."""
    if isinstance(node, Branch):
        for entry in node.entries:
            if isinstance(entry.key, Comment):
                yield entry.key
            else:
                yield from leaves(entry.value)
    elif isinstance(node, list):
        for element in node:
            yield from leaves(element)
    else:
        yield node


def with_leaves(node: Node, new: Iterator[Leaf]) -> Node:
    """A copy of `node` whose leaves, in walk order, are taken from `new`.

    A comment entry needs a Comment from `new`; a list element may change from string to Comment and back.
    """
    if isinstance(node, Branch):
        entries = []
        for entry in node.entries:
            if isinstance(entry.key, Comment):
                comment = next(new)
                assert isinstance(comment, Comment)
                entries.append(Entry(comment, None))
            else:
                entries.append(Entry(entry.key, with_leaves(entry.value, new)))
        return Branch(entries)
    if isinstance(node, list):
        return [with_leaves(element, new) for element in node]
    return next(new)


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def from_bytes(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
