"""The file that an item came from, as evidence of what was encrypted (S9).

kustomize sorts and changes an item before a function sees it, so that its own MAC no longer verifies. The file has it
as it was. Annotations say where to look, and are evidence of nothing: whatever file is found counts only if its MAC
holds, its ``sops`` block is the item's, and it holds the same ciphertext in the same places. Then all values are those
that were encrypted together; what is not encrypted may differ in the names, labels and annotations that kustomize sets.
"""

from __future__ import annotations

from krm_sops.document import EncryptedDocument
from krm_sops.errors import KrmSopsError
from krm_sops.krm.item import ORIGIN, PACKAGE_PATH, PATH
from krm_sops.tree import Branch, Comment, Timestamp
from krm_sops.values import mac_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from typing import TypeAlias

    from krm_sops.cipher import DataKey
    from krm_sops.document import Opened
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.metadata import Metadata
    from krm_sops.tree import Leaf, Node

    Path: TypeAlias = tuple[str | int, ...]

LARGEST = 5 << 20
_SET_BY_KUSTOMIZE = ("name", "namespace", "labels", "annotations")
_LONGEST_ANNOTATION = 1 << 16
_FARTHEST = 8
"""Characters between the key `mac` and its value."""


class Origin:
    """path: the file, from the root.  differences: the clear fields that are not as they were encrypted."""

    __slots__ = ("differences", "path")

    def __init__(self, path: str, differences: list[Path]) -> None:
        self.path = path
        self.differences = differences


class Origins:
    """The files of one run.

    root: the absolute folder below which files are looked for.  folder: where the function was started, inside of it.
    read: gives a file by its path from the root, or raises OSError, PolicyError, ValueError.
    """

    def __init__(self, root: str, folder: str, read: Callable[[str], bytes], limits: Limits) -> None:
        self.root = root
        self.folder = folder
        self.read = read
        self.limits = limits
        self._known: dict[str, dict[object, _Group]] = {}

    def verify(
        self, item: Item, branch: Branch, opened: Opened, metadata: Metadata, data_key: DataKey
    ) -> Origin | None:
        """The file that proves an item; None where there is no such file.

        branch, opened: the item without its ``sops`` block, and what its decryption gave.
        """
        block = item.branch.get("sops")
        here = _Contents(branch, 0, opened, opened.detached)
        if not isinstance(block, Branch) or not metadata.mac or here.is_ambiguous:
            return None
        wanted = _unordered(block)
        for path in self._candidates(item):
            group = self._groups(path, metadata.mac).get(wanted)
            for there in group.verified(metadata, data_key) if group else ():
                differences = here.differences(there)
                if differences is not None:
                    return Origin(path, differences)
        return None

    def has_intact(self, item: Item, metadata: Metadata, data_key: DataKey) -> bool:
        """Whether the item's file is there and verifies, whatever was made of the item since."""
        wanted = _unordered(item.branch.get("sops"))
        found = (self._groups(path, metadata.mac).get(wanted) for path in self._candidates(item) if metadata.mac)
        return any(group.verified(metadata, data_key) for group in found if group)

    def _candidates(self, item: Item) -> Iterator[str]:
        """Paths from the root at which the file may be.

        What kustomize notes is relative to the folder that it builds, which a function is not told: the function works
        in the folder whose kustomization lists it. Without the ``..`` at its beginning, the path is relative to one of
        the folders around both.
        """
        package, file = item.annotation(PACKAGE_PATH), item.annotation(PATH)
        inside = self._inside(f"{package}/{file}") if package.startswith("/") and file else None
        if inside:
            yield inside
        path = _origin_path(item.annotation(ORIGIN))
        folder = self._inside(self.folder)
        if not path or folder is None:
            return
        around = folder.split("/") if folder else []
        for depth in range(len(around), -1, -1):
            yield "/".join([*around[:depth], path])

    def _inside(self, path: str) -> str | None:
        """An absolute path as one from the root, "" for the root itself; None where it is outside."""
        parts = _normal(path)
        root = _normal(self.root)
        return "/".join(parts[len(root) :]) if parts[: len(root)] == root and ".." not in parts else None

    def _groups(self, path: str, mac: str) -> dict[object, _Group]:
        """What a file holds, by ``sops`` block; nothing where it cannot be the one: it must hold the MAC's text."""
        if path not in self._known:
            try:
                raw = self.read(path)
                if mac.encode("utf-8", "surrogateescape") not in raw:
                    return {}
                self._known[path] = _grouped(self._parse(path, raw.decode()))
            except (OSError, ValueError, KrmSopsError):
                self._known[path] = {}
        return self._known[path]

    def _parse(self, path: str, text: str) -> list[Branch]:
        if path.endswith(".json"):
            from krm_sops.stores.json import parse

            found = parse(text, limits=self.limits)[0]
            return [found] if isinstance(found, Branch) else []
        from krm_sops.yamlcomments import read

        return read(text, depth=self.limits.depth, nodes=self.limits.document_nodes)


class Originals(Origins):
    """The same for files that are all at hand: an item's is the one with its MAC, whatever annotations say."""

    def __init__(self, files: Mapping[str, bytes], limits: Limits) -> None:
        super().__init__("/", "/", files.__getitem__, limits)
        self._by_mac: dict[bytes, list[str]] = {}
        for path, raw in files.items():
            for part in raw.split(b"mac")[1:]:
                start = part.find(b"ENC[")
                if 0 <= start < _FARTHEST:
                    found = self._by_mac.setdefault(part[start : part.find(b"]", start) + 1], [])
                    found += [] if path in found else [path]

    def _candidates(self, item: Item) -> Iterator[str]:
        block = item.branch.get("sops")
        mac = block.get("mac") if isinstance(block, Branch) else None
        return iter(self._by_mac.get(mac.encode("utf-8", "surrogateescape"), ()) if isinstance(mac, str) else ())


def _normal(path: str) -> list[str]:
    """The components without empty ones, dots, and what ``..`` takes back."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _origin_path(annotation: str) -> str:
    """The path that kustomize noted, without ``..`` at its beginning; "" for none, or for one of another repository."""
    from krm_sops.limits import FUNCTION
    from krm_sops.yamlio import read

    if not annotation or len(annotation) > _LONGEST_ANNOTATION:
        return ""
    try:
        origin = read(annotation, FUNCTION, 100).root
    except KrmSopsError:
        return ""
    if not isinstance(origin, Branch) or origin.number("repo") is not None:
        return ""
    path = origin.get("path")
    if not isinstance(path, str) or path.startswith("/"):
        return ""
    return "/".join(part for part in _normal(path) if part != "..")


def _grouped(documents: list[Branch]) -> dict[object, _Group]:
    groups: dict[object, _Group] = {}
    for document in documents:
        blocks = [entry.value for entry in document.entries if entry.key == "sops"]
        if len(blocks) == 1:
            group = groups.setdefault(_unordered(blocks[0]), _Group())
            group.documents.append(Branch(entry for entry in document.entries if entry.key != "sops"))
    return groups


class _Group:
    """The documents of a file that have one ``sops`` block: one MAC covers them all."""

    __slots__ = ("_verified", "documents")

    def __init__(self) -> None:
        self.documents: list[Branch] = []
        self._verified: list[_Contents] | None = None

    def verified(self, metadata: Metadata, data_key: DataKey) -> list[_Contents]:
        """What each document holds; nothing where the MAC does not verify as they stand, in their order."""
        if self._verified is None:
            self._verified = self._verify(EncryptedDocument(self.documents, metadata), data_key)
        return self._verified

    def _verify(self, whole: EncryptedDocument, data_key: DataKey) -> list[_Contents]:
        try:
            opened = whole.open(data_key)
            whole.verify(opened, data_key)
        except KrmSopsError:
            return []
        found = []
        first = 0
        for document in whole.branches:
            contents = _Contents(document, first, opened, ())
            first = contents.after
            found.append(contents)
        return [] if any(contents.is_ambiguous for contents in found) else found


class _Contents:
    """What stands where in one document, comments left out.

    encrypted, clear: by path, with positions in lists. An empty collection is a value, null in a mapping is none.
    after: the number of the first leaf behind it.  is_ambiguous: a key occurs twice.
    """

    def __init__(self, branch: Branch, first: int, opened: Opened, detached: Collection[int]) -> None:
        self.encrypted: dict[Path, object] = {}
        self.clear: dict[Path, object] = {}
        self.is_ambiguous = False
        self.after = first
        self._changed = frozenset(opened.changed)
        self._detached = detached
        self._add(branch, ())

    def _add(self, node: Node, path: Path) -> None:
        if isinstance(node, Branch):
            keys = node.keys()
            self.is_ambiguous = self.is_ambiguous or len(set(keys)) < len(keys)
            if not keys:
                self.clear[path] = "{}", None
            for entry in node.entries:
                if isinstance(entry.key, Comment):
                    self.after += 1
                else:
                    self._add(entry.value, (*path, str(entry.key)))
            return
        if isinstance(node, list):
            elements = 0
            for element in node:
                self._add(element, (*path, elements))
                elements += not isinstance(element, Comment)
            if not elements:
                self.clear[path] = "[]", None
            return
        at = self.after
        self.after += 1
        if at in self._detached or isinstance(node, Comment) or (node is None and isinstance(path[-1], str)):
            return
        if at in self._changed:
            self.encrypted[path] = node
        else:
            self.clear[path] = _comparable(node)

    def differences(self, other: _Contents) -> list[Path] | None:
        """Where clear values differ; None where anything differs that kustomize has no business with."""
        if self.encrypted != other.encrypted:
            return None
        paths = [*other.clear, *(path for path in self.clear if path not in other.clear)]
        found = [path for path in paths if self.clear.get(path) != other.clear.get(path)]
        if all(path[0] == "metadata" and path[1:2] and path[1] in _SET_BY_KUSTOMIZE for path in found):
            return found
        return None


def _comparable(leaf: Leaf) -> tuple[str, object]:
    """Equal for what kustomize takes for the same: it writes 1.0 as 1, and a time as a string."""
    if isinstance(leaf, (int, float)) and not isinstance(leaf, bool):
        return "number", mac_bytes(leaf)
    if isinstance(leaf, Timestamp):
        return "str", leaf.text
    return type(leaf).__name__, leaf


def _unordered(node: Node) -> object:
    """To compare and look up: mappings without their order, nothing of comments."""
    if isinstance(node, Branch):
        entries = [entry for entry in node.entries if not isinstance(entry.key, Comment)]
        return frozenset((str(entry.key), _unordered(entry.value)) for entry in entries), len(entries)
    if isinstance(node, list):
        return tuple(_unordered(element) for element in node if not isinstance(element, Comment))
    assert not isinstance(node, Comment)
    return _comparable(node)
