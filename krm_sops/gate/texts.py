"""Bytes under a name -> trees with the places of their entries, read in full: the gate has no fast way (S17)."""

from __future__ import annotations

import re

from krm_sops.errors import InputError, StoreError
from krm_sops.gate.walk import Walked
from krm_sops.places import Place
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import CIPHERTEXT, Branch, Comment, Entry, from_bytes, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.places import Source
    from krm_sops.tree import Node

_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_YAML_NAMES = ("Kptfile", "Kustomization", "kustomization")
_LIKE_SECRET = re.compile(r"^kind:[ \t]*[\"']?Secret\b", re.MULTILINE)
_LIKE_MANIFEST = re.compile(r"\.(?:ya?ml|json)\b|\.(?:j2|jinja2?|tpl|tmpl|gotmpl|template)$")
_ESCAPED = re.compile(r"\\(?:x[4-7]|u00[4-7]|U000000[4-7]|\r?\n)")
"""A letter that nobody needs to escape, in YAML or JSON, or a word on two lines."""


class Tree:
    """One document.  places: by ``id`` of a mapping or list, where its entries stand in the text.

    text[start:stop]: the document with its comments.  nodes: how many it has.  may_repeat: keys may occur twice.
    is_item: it is an item of a ResourceList, whatever it looks like.
    """

    __slots__ = ("_comments", "is_item", "may_repeat", "nodes", "places", "root", "start", "stop", "text")

    def __init__(self, root: Node, text: str, places: dict[int, Place], nodes: int) -> None:
        self.root = root
        self.text = text
        self.places = places
        self.nodes = nodes
        self.start, self.stop = 0, len(text)
        self.may_repeat = self.is_item = False
        self._comments: Callable[[], Node] | None = None

    @classmethod
    def of_source(cls, source: Source, comments: Callable[[], Node] | None) -> Tree:
        """comments: reads the same document with its comments."""
        tree = cls(source.root, source.text, source.places, source.nodes)
        tree._comments = None if source.is_json else comments
        return tree

    @classmethod
    def of_item(cls, item: Item) -> Tree:
        """An object among others."""
        tree = cls.of_source(item.source, None)
        tree.root = item.branch
        tree.is_item = True
        tree.start, tree.stop = item.place.entries[0][0], item.place.entries[-1][1]
        if item.place.indent >= 0:
            tree.start, tree.stop = item.lines()
        tree._comments = None if item.source.is_json else lambda: _with_comments(item.own_text())[0]
        return tree

    def with_comments(self, branch: Branch) -> Branch:
        """A mapping of the tree as sops reads it. Raises StoreError, LimitError."""
        if self._comments is None or "#" not in self.text:
            return branch
        if branch is self.root:
            found = self._comments()
        else:
            place = self.places[id(branch)]
            start, stop = place.entries[0][0], place.entries[-1][1]
            margin = " " * max(place.indent, 0)
            text = self.text[start:stop]
            found = _with_comments(margin + text if place.indent >= 0 else "{" + text + "}")[0]
        return found if isinstance(found, Branch) else branch


def _with_comments(text: str) -> list[Branch]:
    from krm_sops.yamlcomments import read

    return read(text)


def text_of(raw: bytes) -> str:
    """The text behind a byte order mark, UTF-8 where there is none. Bytes that are none become lone surrogates."""
    for mark, encoding in _ENCODINGS:
        if raw.startswith(mark):
            try:
                return raw[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                break
    return from_bytes(raw)


def format_of(name: str) -> str:
    """A format of SOPS; "binary" for all that is none of the others by its name."""
    base = name.rpartition("/")[2]
    return "yaml" if base in _YAML_NAMES else format_for_path(base.lower())


def read(text: str, format_: str, limits: Limits, nodes: int) -> list[Tree]:
    """The documents of a file. Raises InputError, LimitError.

    nodes: how many collections and scalars they may have.
    A dotenv or INI file that sops could not read is another program's, unless it has signs of sops: there is no way to
    spell these differently.
    """
    if format_ == "yaml":
        return _yaml(text, limits, nodes)
    if format_ == "json":
        return [_json(text, limits, nodes)]
    has_signs = CIPHERTEXT in text or "sops" in text
    if format_ == "binary" and (CIPHERTEXT in text or text.lstrip()[:1] == "{"):
        found = _disguised(text, limits, nodes)
        if found:
            return found
    found = _secrets(text, limits, nodes)
    if found or format_ == "binary":
        return found
    try:
        return [_flat(text, format_, limits)]
    except StoreError:
        if has_signs:
            raise
    return []


def _yaml(text: str, limits: Limits, nodes: int) -> list[Tree]:
    from krm_sops.yamlio import read_all

    if text.lstrip()[:1] == "{":
        try:
            return [_json(text, limits, nodes)]
        except InputError:
            pass  # YAML in flow style, perhaps
    sources = read_all(text, limits, nodes)
    read: list[Branch] = []

    def comments_of(number: int) -> Callable[[], Node]:
        def comments() -> Node:
            read.extend(_with_comments(text) if not read else ())
            return read[number] if len(read) == len(sources) else None

        return comments

    return [Tree.of_source(source, comments_of(number)) for number, source in enumerate(sources)]


def _json(text: str, limits: Limits, nodes: int) -> Tree:
    from krm_sops.stores.json import read_source

    source = read_source(text, limits, nodes)
    source.nodes = source.nodes or len(source.spans) + len(source.places)
    return Tree.of_source(source, None)


def _flat(text: str, format_: str, limits: Limits) -> Tree:
    branches, block = STORES[format_].read(to_bytes(text), limits)
    root = branches[0]
    if block is not None:
        root = Branch([*root.entries, Entry("sops", block)])
    places: dict[int, Place] = {}
    _place_by_names(root, text, 0, places)
    tree = Tree(root, text, places, 1 + sum(1 + len(place.entries) for place in places.values()))
    tree.may_repeat = True
    return tree


def _place_by_names(branch: Branch, text: str, at: int, places: dict[int, Place]) -> int:
    """Where entries stand, by the first line from `at` on that their key is in; the end of the last one."""
    place = places[id(branch)] = Place(0, 0)
    for entry in branch.entries:
        name = "#" + entry.key.text if isinstance(entry.key, Comment) else str(entry.key)
        start = text.find(name, at)
        start = at if start < 0 else start
        if isinstance(entry.value, Branch):
            end = _place_by_names(entry.value, text, start, places)
        else:
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
        place.entries.append((start, end))
        at = end
    return at


def _disguised(text: str, limits: Limits, nodes: int) -> list[Tree]:
    """Documents under a name that says nothing, as those of sops' binary format; none where it is something else."""
    formats = ["json"]
    if CIPHERTEXT in text:
        formats += ["dotenv"] * ("sops_mac=" in text) + ["ini"] * ("[sops]" in text) + ["yaml"]
    for format_ in formats:
        try:
            found = read(text, format_, limits, nodes)
        except InputError:
            continue
        if all(isinstance(tree.root, Branch) for tree in found):
            return found
    return []


def _secrets(text: str, limits: Limits, nodes: int) -> list[Tree]:
    """Documents under any name, if one has values of a Secret; else none. Raises LimitError."""
    if not ("kind" in text and "Secret" in text) and not _ESCAPED.search(text):
        return []
    try:
        found = _yaml(text, limits, nodes)
    except InputError:
        return []
    return found if any(leaf.is_secret for tree in found for leaf in Walked(tree).leaves) else []


def is_like_secret(text: str, name: str) -> bool:
    """Whether a file that is no document was to be a Secret: a template, or a copy that is damaged."""
    name = name.rpartition("/")[2].lower()
    is_named = format_of(name) == "binary" and _LIKE_MANIFEST.search(name)
    return bool(is_named and _LIKE_SECRET.search(text))


def embedded(text: str, limits: Limits, nodes: int, *, is_patch: bool = False) -> list[Tree]:
    """The documents that a value is the text of; none where it is something else. Raises LimitError.

    is_patch: the value of a field for patches of Secrets, so that it may be a JSON patch, and needs no other sign.
    """
    if is_patch:
        try:
            return [tree for tree in _yaml(text, limits, nodes) if isinstance(tree.root, Branch | list)]
        except InputError:
            return []
    signs = ("sops", "Secret", "\\", "!!", CIPHERTEXT, "masked")
    if len(text) < 8 or not any(mark in text for mark in (":", "=", "{")) or not any(sign in text for sign in signs):
        return []
    formats = ["dotenv"] * ("sops_" in text and "=" in text) + ["ini"] * ("[sops]" in text) + ["yaml"]
    for format_ in formats:
        try:
            found = read(text, format_, limits, nodes)
        except InputError:
            continue
        if any(isinstance(tree.root, Branch) for tree in found):
            return [tree for tree in found if isinstance(tree.root, Branch)]
    return []
