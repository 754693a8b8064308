"""SOPS documents inside of values: of Secrets, and where that is asked for of ConfigMaps.

A value counts when it reads as a SOPS document, in whichever format. Its text is as sops wrote it, whatever kustomize
did to the object around it. Flux looks for a few bytes instead, in `Secret.data` only.

Here they are found, in `decrypt_embedded` opened: a list whose Secrets hold none of them needs no cryptography.
"""

from __future__ import annotations

from binascii import Error, a2b_base64

from krm_sops.errors import InputError, LimitError
from krm_sops.stores import STORES
from krm_sops.tree import CIPHERTEXT, Branch, leaves, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.tree import Node

FIELDS = {"Secret": (("data", True), ("stringData", False)), "ConfigMap": (("data", False), ("binaryData", True))}
"""Kind -> where its values are, and whether in base64."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ESCAPES = (b"\\x", b"\\u", b"\\U", b"\\\n", b"\\\r")


class Embedded:
    """One document.  path: the field and key that hold it.  leaf: the number of the value in its item."""

    __slots__ = ("block", "branches", "format", "in_base64", "leaf", "path")

    def __init__(self, path: tuple[str, str], leaf: int, in_base64: bool, found: _Found) -> None:
        self.path = path
        self.leaf = leaf
        self.in_base64 = in_base64
        self.format, self.branches, self.block = found


class Search:
    """For documents inside of values, under the limits of one run.

    lost: the values, by item and path, that hold ciphertext in their text and are no document.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.lost: list[tuple[Item, tuple[str, str]]] = []
        self._nodes_left = limits.run_nodes

    def inside(self, item: Item) -> list[Embedded]:
        """item: of a kind that has FIELDS. Raises LimitError, with the path of the value."""
        found = []
        for field, in_base64 in FIELDS[item.kind]:
            values = item.branch.get(field)
            if not isinstance(values, Branch):
                continue
            leaf = item.source.places[id(values)].first_leaf - item.first
            for entry in values.entries:
                path = (field, str(entry.key))
                raw = content(entry.value, in_base64)
                document = self._read(raw, path) if raw is not None and _may_be_document(raw) else None
                if document is not None:
                    found.append(Embedded(path, leaf, in_base64, document))
                elif raw is not None and CIPHERTEXT.encode() in raw and not str(entry.value).startswith(CIPHERTEXT):
                    self.lost.append((item, path))
                leaf += sum(1 for _ in leaves(entry.value))
        return found

    def _read(self, raw: bytes, path: tuple[str, str]) -> _Found | None:
        limits = self.limits
        try:
            if len(raw) > limits.document_bytes:
                raise LimitError(f"a value of more than {limits.document_bytes} bytes (the limit document_bytes)")
            most = min(limits.document_nodes, self._nodes_left)
            if most < 1:
                raise LimitError(f"values of more than {limits.run_nodes} nodes together (the limit run_nodes)")
            found = _document(raw, limits.changed({"document_nodes": most}))
        except LimitError as error:
            error.path = path
            error.hint = "if it is no SOPS document, annotate the item with krm-sops.dev/decrypt: disabled"
            raise
        if found is not None:
            self._nodes_left -= sum(map(_nodes, found[1])) + _nodes(found[2])
        return found


def content(value: Node, in_base64: bool) -> bytes | None:
    """What a value of a Secret or ConfigMap holds; None where it is no text, or no base64."""
    if not isinstance(value, str):
        return None
    if not in_base64:
        return to_bytes(value)
    try:
        return a2b_base64("".join(value.split()), strict_mode=True)
    except (Error, ValueError):
        return None


def _may_be_document(raw: bytes) -> bool:
    """False only where no format can read a key ``sops`` in it (S17).

    Without these letters it takes two bytes a letter; or, in what is text, an escape or a tag of binary data.
    """
    if b"sops" in raw or raw.startswith(_UTF_16):
        return True
    if any(escape in raw for escape in _ESCAPES) or (b"!" in raw and (b"binary" in raw or b"%" in raw)):
        try:
            raw.decode()
        except UnicodeDecodeError:
            return False
        return True
    return False


_Found = tuple[str, list[Branch], Branch]
"""Format, documents without metadata, metadata."""


def _document(raw: bytes, limits: Limits) -> _Found | None:
    for name in _formats(raw):
        try:
            branches, block = STORES[name].read(raw, limits)
        except InputError:
            continue
        if block is not None and _is_metadata(block, branches):
            return name, branches, block
    return None


def _formats(raw: bytes) -> list[str]:
    """Those that it may be in, the narrower ones first."""
    names = ["json"] if raw.lstrip()[:1] == b"{" else []
    names.append("yaml")
    if raw.startswith(b"sops_") or b"\nsops_" in raw:
        names.append("dotenv")
    if b"[sops]" in raw:
        names.append("ini")
    return names


def _is_metadata(block: Branch, branches: Sequence[Branch]) -> bool:
    """Whether sops made this, and not some program whose settings stand under the same word."""
    names = {key.lower() for key in block.keys()}  # noqa: SIM118 (comments are no keys)
    if not names.isdisjoint(("mac", "lastmodified")):
        return True
    return any(isinstance(leaf, str) and leaf.startswith(CIPHERTEXT) for branch in branches for leaf in leaves(branch))


def _nodes(node: Node) -> int:
    """Collections and scalars, keys among them."""
    if isinstance(node, Branch):
        return 1 + sum(1 + _nodes(entry.value) for entry in node.entries)
    return 1 + sum(map(_nodes, node)) if isinstance(node, list) else 1
