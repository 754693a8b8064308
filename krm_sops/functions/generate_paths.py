"""Wildcards in the paths of a config: ``*``, ``?`` and ``[…]`` in a name, ``**`` for any folders.

Names that begin with a dot are found only where the pattern has the dot; ``**`` does not follow links.
"""

from __future__ import annotations

import os

from krm_sops.errors import ConfigError, LimitError, shown
from krm_sops.roots import open_below, relative

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.functions.files import Files

_FOLDER = os.O_RDONLY | os.O_DIRECTORY


def has_wildcards(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def matching(pattern: str, files: Files) -> list[str]:
    """The files that a pattern means, sorted by their paths; each as it would be written in the pattern's place.

    Raises ConfigError where there is none, PolicyError for a pattern that leads out of the root.
    """
    parts = pattern.split("/")
    first = next(at for at, part in enumerate(parts) if has_wildcards(part))
    if ".." in parts[first:]:
        raise ConfigError(f"{shown(pattern)}: .. behind a wildcard")
    rest = [part for part in parts[first:] if part not in ("", ".")]
    search = _Search(files)
    found = sorted(set(search.below("/".join([*parts[:first], ""]), [*rest, "*"] if rest[-1] == "**" else rest)))
    if not found:
        raise ConfigError(
            f"{shown(pattern)} matches no file", hint="wildcards: * ? [abc] in a name, ** for any folders"
        )
    return found


class _Search:
    def __init__(self, files: Files) -> None:
        self.files = files
        self.left = files.limits.run_nodes

    def below(self, folder: str, parts: list[str]) -> Iterator[str]:
        """folder: "" or with a slash at its end."""
        part, rest = parts[0], parts[1:]
        entries = self._entries(folder)
        if part == "**":
            yield from self.below(folder, rest)
            for name, kind in entries:
                if kind == "folder" and not name.startswith("."):
                    yield from self.below(f"{folder}{name}/", parts)
            return
        for name, kind in entries:
            if not matches(part, name):
                continue
            if not rest and kind != "folder":
                yield folder + name
            elif rest and kind != "file":
                yield from self.below(f"{folder}{name}/", rest)

    def _entries(self, folder: str) -> list[tuple[str, str]]:
        """Names, each with "folder", "file" or "link" (which may be either)."""
        files = self.files
        path = relative(files.root, folder or ".", files.folder)
        try:
            descriptor = open_below(files.root, path, _FOLDER)
        except OSError as error:
            if error.errno in (20, 40):  # a link to a file, or in circles
                return []
            raise ConfigError(
                f"cannot list {shown(folder or '.')}: {(error.strerror or 'unreadable').lower()}"
            ) from None
        try:
            with os.scandir(descriptor) as entries:
                found = [(entry.name, _kind(entry)) for entry in entries]
        finally:
            os.close(descriptor)
        self.left -= len(found)
        if self.left < 0:
            raise LimitError(f"wildcards meet more than {files.limits.run_nodes} names (the limit run_nodes)")
        return sorted(found)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    return "folder" if entry.is_dir(follow_symlinks=False) else "file"


def matches(pattern: str, name: str) -> bool:
    """Whether a name fits one part of a pattern. In time proportional to both lengths."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    signs = _signs(pattern)
    at = number = mark = 0
    star = -1
    while at < len(name):
        if number < len(signs) and signs[number] == "*":
            star, mark = number, at
            number += 1
        elif number < len(signs) and _fits(signs[number], name[at]):
            number += 1
            at += 1
        elif star >= 0:
            number = star + 1
            mark += 1
            at = mark
        else:
            return False
    return all(sign == "*" for sign in signs[number:])


def _signs(pattern: str) -> list[str]:
    """A pattern's characters, a class in brackets as one of them."""
    signs: list[str] = []
    at = 0
    while at < len(pattern):
        end = (
            pattern.find("]", at + 3 if pattern[at + 1 : at + 2] in ("!", "^") else at + 2)
            if pattern[at] == "["
            else -1
        )
        signs.append(pattern[at : end + 1] if end > 0 else pattern[at])
        at += len(signs[-1])
    return signs


def _fits(sign: str, c: str) -> bool:
    if len(sign) == 1:
        return sign in ("?", c)
    body = sign[1:-1]
    negated = body[0] in "!^"
    return _in_class(body[1:] if negated else body, c) is not negated


def _in_class(body: str, c: str) -> bool:
    at = 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            if body[at] <= c <= body[at + 2]:
                return True
            at += 3
        else:
            if body[at] == c:
                return True
            at += 1
    return False
