"""Sources that take a value which is there already: a variable, a file, a value of another SOPS file."""

from __future__ import annotations

import os

from krm_sops.errors import ConfigError, KrmSopsError, shown
from krm_sops.provision.base import Ending, needed
from krm_sops.tree import Branch, Comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from krm_sops.krm.config import Fields
    from krm_sops.provision.base import Run, Source
    from krm_sops.tree import Node

_MOST_BYTES = 1 << 20


class Variable:
    fields: ClassVar[tuple[str, ...]] = ("name", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._name = needed(fields, "name")
        self._ending = Ending(fields)

    def told(self) -> str:
        return self._name

    def canonical(self) -> dict[str, Node]:
        return {"name": self._name, **self._ending.canonical()}

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        value = run.host.env.get(self._name)
        if value is None:
            raise KrmSopsError(f"the variable {shown(self._name, 80)} is not set")
        return self._ending.applied(value)


class File:
    fields: ClassVar[tuple[str, ...]] = ("path", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._path = needed(fields, "path")
        self._ending = Ending(fields)

    def told(self) -> str:
        return self._path

    def canonical(self) -> dict[str, Node]:
        return {"path": self._path, **self._ending.canonical()}

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        name = shown(self._path)
        try:
            return self._ending.applied(run.host.read(os.path.join(run.folder, self._path), _MOST_BYTES).decode())
        except UnicodeDecodeError:
            raise KrmSopsError(f"{name} is no UTF-8", hint="encode it as base64") from None
        except (OSError, ValueError) as error:
            raise KrmSopsError(f"cannot read {name}: {getattr(error, 'strerror', None) or 'bad name'}") from None


class EncryptedFile:
    """path: keys and list positions with slashes between them, or a list of them."""

    fields: ClassVar[tuple[str, ...]] = ("file", "path", *Ending.FIELDS)
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fields: Fields) -> None:
        self._file = needed(fields, "file")
        listed = fields.node.get("path")
        self._path = fields.names("path") if isinstance(listed, list) else needed(fields, "path").split("/")
        if not self._path:
            raise ConfigError("value.path is needed")
        self._ending = Ending(fields)

    def told(self) -> str:
        return f"{self._file}: {'/'.join(self._path)}"

    def canonical(self) -> dict[str, Node]:
        return {"file": self._file, "path": list(self._path), **self._ending.canonical()}

    def make(self, run: Run, path: tuple[str, ...]) -> Node:  # noqa: ARG002
        node: Node = run.open_file(os.path.join(run.folder, self._file))
        for step in self._path:
            node = _below(node, step)
        if node is None or isinstance(node, (Branch, list)):
            raise KrmSopsError(f"{shown(self._file)} has no single value at {shown('/'.join(self._path))}")
        return self._ending.applied(node) if isinstance(node, str) else node


def _below(node: Node, step: str) -> Node:
    if isinstance(node, Branch):
        return node.get(step)
    if isinstance(node, list) and step.isascii() and step.isdecimal():
        elements = [element for element in node if not isinstance(element, Comment)]
        return elements[int(step)] if int(step) < len(elements) else None
    return None


_: tuple[type[Source], ...] = (Variable, File, EncryptedFile)
