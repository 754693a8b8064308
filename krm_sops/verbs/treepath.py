"""Paths like ``["stringData"]["user"][0]`` into a document, as sops writes them."""

from __future__ import annotations

from krm_sops.errors import KrmSopsError, shown
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.tree import Node


class PathError(KrmSopsError):
    exit_status = 91


def parse(text: str) -> list[str | int]:
    """Strings are mapping keys, integers list positions (comments count). Raises PathError (exit 91)."""
    found: list[str | int] = []
    for piece in text.split("[")[1:] if text.startswith("[") else [text]:
        component = piece[:-1]
        if not piece.endswith("]") or not component:
            raise PathError(f"{shown(text)!r} is no path", hint='a path looks like ["key"]["list"][0]')
        if component[0] in "\"'" and len(component) > 1 and component[-1] == component[0]:
            found.append(component[1:-1])
        elif component.isdecimal() and component.isascii():
            found.append(int(component))
        else:
            raise PathError(f"{shown(component)!r} in the path is neither a quoted key nor a list position")
    return found


def extract(node: Node, path: Sequence[str | int]) -> Node:
    """Raises KrmSopsError where the path leads nowhere."""
    for component in path:
        if isinstance(component, str) and isinstance(node, Branch) and node.number(component) is not None:
            node = node.get(component)
        elif isinstance(component, int) and isinstance(node, list) and component < len(node):
            node = node[component]
        else:
            kind = "mapping" if isinstance(node, Branch) else "list" if isinstance(node, list) else "single value"
            raise KrmSopsError(f"component [{shown(repr(component), 80)}] not found: there is a {kind} without it")
    return node
