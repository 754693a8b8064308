"""``.krmignore``: which files of a folder are left aside, in the syntax of ``.gitignore``.

Patterns come with the repository, so nothing here backtracks further than to its last wildcard (S22).
"""

from __future__ import annotations

from krm_sops.errors import LimitError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    Part = TypeVar("Part")
    Element = TypeVar("Element")

NAME = ".krmignore"
_LONGEST = 1000
_ANY = "**"


class Rule:
    """One line. parts: its components, from the folder of the file.  keeps: it takes back what a line before said."""

    __slots__ = ("folders_only", "keeps", "parts")

    def __init__(self, line: str) -> None:
        self.keeps = line.startswith("!")
        line = line[self.keeps :]
        self.folders_only = line.endswith("/")
        inner = line.rstrip("/")
        anchored = "/" in inner
        parts = [part for part in inner.split("/") if part]
        if parts[-1:] == [_ANY]:  # what is inside, not the folder itself
            parts.insert(-1, "*")
        self.parts = [_ANY] * (not anchored) + parts

    def covers(self, path: Sequence[str], *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return _match(self.parts, path, _ANY, _is_name)


def read(text: str, where: str) -> list[Rule]:
    """where: the file, for errors. Raises LimitError for a line of more than 1,000 characters."""
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if len(line) > _LONGEST:
            raise LimitError(f"{shown(where)}: line {number} is longer than {_LONGEST} characters")
        bare = line.rstrip()
        if bare.endswith("\\") and bare != line:  # an escaped space
            bare += " "
        if bare and not bare.startswith("#"):
            rules.append(Rule(bare))
    return rules


def is_ignored(rules: Sequence[Rule], path: Sequence[str], *, is_folder: bool) -> bool:
    """path: components from the folder of the rules. The last rule that covers it decides."""
    for rule in reversed(rules):
        if rule.covers(path, is_folder=is_folder):
            return not rule.keeps
    return False


def _is_name(pattern: str, name: str) -> bool:
    """One component."""
    return _match(_characters(pattern), name, "*", _is_character)


def _characters(pattern: str) -> list[str]:
    """``*``, ``?``, sets as ``[…``, and for a character itself a backslash and it."""
    found = []
    at = 0
    while at < len(pattern):
        c = pattern[at]
        end = pattern.find("]", at + 2) if c == "[" else -1
        if c in "*?":
            found.append(c)
        elif end > 0:
            found.append(pattern[at:end])
            at = end
        else:
            at += c == "\\" and at + 1 < len(pattern)
            found.append("\\" + pattern[at])
        at += 1
    return found


def _is_character(wanted: str, c: str) -> bool:
    if wanted == "?":
        return True
    if wanted[0] == "\\":
        return wanted[1] == c
    negated = wanted[1] in "!^"
    inside = wanted[1 + negated :]
    found = False
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            found = found or inside[at] <= c <= inside[at + 2]
            at += 3
        else:
            found = found or inside[at] == c
            at += 1
    return found is not negated


def _match(
    pattern: Sequence[Part], given: Sequence[Element], star: Part, fits: Callable[[Part, Element], bool]
) -> bool:
    """Whether a pattern covers a whole sequence, `star` standing for any number of elements."""
    at = number = 0
    resume = back = -1
    while at < len(given):
        if number < len(pattern) and pattern[number] == star:
            resume, back = number, at
            number += 1
        elif number < len(pattern) and fits(pattern[number], given[at]):
            number += 1
            at += 1
        elif resume >= 0:
            back += 1
            at, number = back, resume + 1
        else:
            return False
    return all(part == star for part in pattern[number:])
