"""Manifests outside of a ResourceList: the documents of YAML files or of a stream, as items that edits are made to.

Offers what functions ask of a ResourceList. A document that needs no change is written as it was read, byte for byte.
"""

from __future__ import annotations

from krm_sops.errors import InputError, LimitError, ResourceListError, shown
from krm_sops.krm.item import Item, edited
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from krm_sops.limits import Limits
    from krm_sops.places import Source

_BOM = "\ufeff"


class Document:
    """One document of a file.  file: its name, "" for a stream.  index: its number in that file, from 0.

    items: the object, or those of a `List`; none where it is empty.
    """

    __slots__ = ("file", "index", "items", "source", "text")

    def __init__(self, text: str, file: str, index: int) -> None:
        self.text = text
        self.file = file
        self.index = index
        self.source: Source | None = None
        self.items: list[Item] = []


class Stream:
    """The documents of files, in order.  config: the functionConfig that goes with them."""

    def __init__(self, limits: Limits, config: Item | None = None) -> None:
        self.limits = limits
        self.config = config
        self.documents: list[Document] = []
        self._nodes_left = limits.run_nodes

    def add(self, raw: bytes, file: str = "") -> list[Document]:
        """The documents of one file, comments and all. Raises ResourceListError, LimitError."""
        found = [Document(text, file, index) for index, text in enumerate(_documents(_decoded(raw, file)))]
        for document in found:
            self._read(document)
        self.documents += found
        return found

    def _read(self, document: Document) -> None:
        if not any(line.strip() and not line.lstrip().startswith("#") for line in document.text.split("\n")):
            return
        where = f"{shown(document.file)}: " if document.file else ""
        try:
            source = _source(document.text, self.limits, self._nodes_left)
        except (InputError, LimitError) as error:
            part = f"document {document.index + 1}: " if document.index else ""
            raise type(error)(f"{where}{part}{error.message}", hint=error.hint) from None
        self._nodes_left -= source.nodes
        document.source = source
        root = source.root
        if root is None:
            return
        if not isinstance(root, Branch):
            raise ResourceListError(f"{where}document {document.index + 1} is no object")
        inner = root.get("items")
        if root.get("kind") == "List" and isinstance(inner, list) and root.number("sops") is None:
            for number, element in enumerate(inner):
                if not isinstance(element, Branch):
                    raise ResourceListError(f"{where}items[{number}] of a List is no object")
                document.items.append(Item(source, element))
        else:
            document.items.append(Item(source, root))
        for item in document.items:
            item.at = (document.file, document.index)

    @property
    def items(self) -> list[Item]:
        return [item for document in self.documents for item in document.items]

    def encrypted(self) -> list[Item]:
        return [item for item in self.items if item.branch.number("sops") is not None]

    def holding(self, text: bytes) -> list[Item]:
        wanted = text.decode()
        return [item for item in self.items if item.spells(wanted)]

    def named(self, name: str) -> list[Item]:
        return [item for item in self.items if name and name in (item.name, item.original_name)]

    def of_kind(self, kind: str) -> list[Item]:
        return [item for item in self.items if item.kind == kind]

    def write(self, *, without: Iterable[Item] = (), added: Sequence[Branch] = ()) -> str:
        """One stream: what was read with the edits of its items, then `added`; three dashes between documents."""
        from krm_sops.yamlwrite import write

        left_out = list(without)
        out = []
        for document in self.documents:
            kept = [item for item in document.items if item not in left_out]
            if not kept:
                continue
            source = document.source
            assert source is not None
            if len(kept) < len(document.items):  # of a List: one by one
                out += [_item_text(item) for item in kept]
                continue
            if any(item.replacement is not None for item in kept):
                for item in kept:
                    out += [_item_text(item)] if item.replacement is None else [write([b], 2) for b in item.replacement]
                continue
            edits = [edit for item in kept for edit in item.edits]
            out.append(edited(source.text, edits))
        out += [write([branch], 2) for branch in added]
        return "---\n".join(text if text.endswith("\n") else text + "\n" for text in out)


def _item_text(item: Item) -> str:
    """An element of a List as a document of its own, with its edits."""
    start, stop = item.place.entries[0][0], item.place.entries[-1][1]
    text = item.source.text
    if item.place.indent < 0:
        inner = [(begin - start, end - start, new) for begin, end, new in item.edits]
        return "{" + edited(text[start:stop], inner) + "}\n"
    first, last = item.lines()
    own = edited(text[first:last], [(begin - first, end - first, new) for begin, end, new in item.edits])
    margin = item.place.indent
    lines = own.replace("-", " ", 1).split("\n") if own.lstrip(" ").startswith("-") else own.split("\n")
    return "\n".join(line[margin:] if not line[:margin].strip() else line for line in lines) + "\n"


def _decoded(raw: bytes, file: str) -> str:
    wrong = -1
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:  # an exception that is raised above would carry the input along
        raise ResourceListError(f"{shown(file) + ': ' if file else ''}no UTF-8 (byte {wrong})")
    return text.removeprefix(_BOM)


def _documents(text: str) -> list[str]:
    """The texts between the lines that end a document. No scalar of YAML can hold such a line."""
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        line += "\n"
        mark = line[:3]
        if mark in ("---", "...") and line[3:4] in ("", " ", "\t", "\n", "\r"):
            rest = line[4:].lstrip()
            found.append([])
            if mark == "---" and rest:
                found[-1].append(rest if rest.startswith("#") else line)
        elif not (line.startswith("%") and not any(part.strip() for part in found[-1])):
            found[-1].append(line)
    texts = ["".join(lines) for lines in found]
    return [text[:-1] if text.endswith("\n\n") else text for text in texts if text.strip()]


def _source(text: str, limits: Limits, nodes: int) -> Source:
    if text.lstrip()[:1] == "{":
        from krm_sops.stores.json import read_source

        try:
            return read_source(text, limits, nodes)
        except InputError:
            pass  # YAML in flow style, perhaps
    from krm_sops.yamlio import read

    return read(text, limits, nodes)
