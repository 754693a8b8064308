"""Where metadata sits in a document: a `sops` entry, or that entry's tree spelled into flat keys (dotenv, INI).

Differs from sops: a format of one document refuses several, of which sops writes the first only, or writes what it
cannot read again.

A flat key is a path: ``__map_<key>`` for each step into a mapping, ``__list_<n>`` for each step into a list.
Source: getsops/sops 3.13, stores/flatten.go, stores/metadata.go.
"""

from __future__ import annotations

from krm_sops.errors import LimitError, MetadataError, StoreError, shown
from krm_sops.tree import Branch, Comment, Entry, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from krm_sops.stores.base import Store
    from krm_sops.tree import Node

KEY = "sops"
_MAP, _LIST = "__map_", "__list_"
_MAX_STEPS = 20  # the metadata of sops needs six


def take_metadata(branch: Branch) -> tuple[Branch, Branch | None]:
    """The document without its `sops` entry, and the mapping below that; None where there is none.

    Raises MetadataError (two of them, or no mapping).
    """
    found = [entry.value for entry in branch.entries if entry.key == KEY]
    if not found:
        return branch, None
    if len(found) > 1:
        raise MetadataError(f"{len(found)} entries with the key sops in one document")
    metadata = found[0]
    if not isinstance(metadata, Branch):
        raise MetadataError("the sops entry is no mapping")
    return Branch(entry for entry in branch.entries if entry.key != KEY), metadata


def with_metadata(branch: Branch, entries: Iterable[Entry], store: Store) -> Branch:
    """The document with these entries at its end. Raises StoreError where one of its own keys is reserved."""
    for key in branch.keys():  # noqa: SIM118 (comments are no keys)
        if store.is_reserved(key):
            raise StoreError(f"the key {shown(key)} is reserved for the metadata of sops", hint="rename it")
    return Branch([*branch.entries, *entries])


def one_document(branches: list[Branch], format_: str) -> Branch:
    """Raises StoreError for none and for several."""
    if len(branches) != 1:
        raise StoreError(
            f"a file of the format {format_} holds one document, not {len(branches)}",
            hint="only YAML has several; --output-type yaml",
        )
    return branches[0]


def flatten(branch: Branch, prefix: str = "") -> list[Entry]:
    """The flat keys that spell this tree of metadata, each with its scalar. Empty collections leave no trace."""
    found: list[Entry] = []
    for entry in branch.entries:
        assert isinstance(entry.key, str)
        _flatten(entry.value, prefix + entry.key, found)
    return found


def _flatten(node: Node, path: str, found: list[Entry]) -> None:
    if isinstance(node, Branch):
        found += flatten(node, path + _MAP)
    elif isinstance(node, list):
        for at, element in enumerate(node):
            _flatten(element, f"{path}{_LIST}{at}", found)
    else:
        found.append(Entry(path, node))


def unflatten(flat: Iterable[Entry]) -> Branch:
    """The tree that these keys spell; its mappings are sorted by key. Comments are left out.

    Raises MetadataError: a key twice, one key as two kinds of node, a list with holes.
    """
    root = _Node()
    for entry in flat:
        if isinstance(entry.key, Comment):
            continue
        assert isinstance(entry.key, str)
        node = root
        for step in _steps(entry.key):
            node = node.children.setdefault(step, _Node())
        if node.is_leaf:
            raise MetadataError(f"the metadata key {shown(entry.key)} stands twice")
        node.is_leaf, node.value = True, entry.value
    tree = root.tree("") if root.children else Branch()
    assert isinstance(tree, Branch)
    return tree


class _Node:
    __slots__ = ("children", "is_leaf", "value")

    def __init__(self) -> None:
        self.children: dict[str | int, _Node] = {}
        self.is_leaf = False
        self.value: Node = None

    def tree(self, path: str) -> Node:
        """path: where this node is, for errors."""
        children = self.children
        if self.is_leaf:
            if children:
                raise MetadataError(f"the metadata key {shown(path)} is both a value and a collection")
            return self.value
        names = [step for step in children if isinstance(step, str)]
        if len(names) == len(children):
            return Branch(Entry(name, children[name].tree(f"{path}.{name}")) for name in sorted(names, key=to_bytes))
        if names:
            raise MetadataError(f"the metadata key {shown(path)} is both a mapping and a list")
        if any(at not in children for at in range(len(children))):
            raise MetadataError(f"the metadata list {shown(path)} has holes")
        return [children[at].tree(f"{path}[{at}]") for at in range(len(children))]


def _steps(key: str) -> list[str | int]:
    """The path that a flat key spells: names for mappings, positions for lists."""
    steps: list[str | int] = []
    rest, marker = key, _MAP
    while True:
        at_map, at_list = rest.find(_MAP), rest.find(_LIST)
        end = min((at for at in (at_map, at_list) if at >= 0), default=len(rest))
        step = rest[:end]
        steps.append(step if marker == _MAP else _position(step))
        if len(steps) > _MAX_STEPS:
            raise LimitError(f"a metadata key of more than {_MAX_STEPS} steps")
        if end == len(rest):
            return steps
        marker = _MAP if end == at_map else _LIST
        rest = rest[end + len(marker) :]


def _position(text: str) -> int:
    """A list position; 0 for what is no number, as in sops. One that no list reaches becomes -1: a hole."""
    if not (text.isascii() and text.isdigit()):
        return 0
    return int(text) if len(text) < 10 else -1
