"""Manifests outside of a ResourceList: the documents of YAML files or of a stream, as items that edits are made to.

Offers what functions ask of a ResourceList. A document that needs no change is written as it was read, byte for byte,
and parsed only where it may be of interest: what is asked for stands in its text as it is, unless an escape, a tag or
an alias spells it, so a document with one of these is parsed too (S17).
"""

from __future__ import annotations

from krm_sops.errors import InputError, LimitError, ResourceListError, shown
from krm_sops.krm.item import Item, edited
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from krm_sops.limits import Limits
    from krm_sops.places import Source

_BOM = "\ufeff"
_OTHER_BREAKS = ("\x85", "\u2028", "\u2029")
_LISTS = ("List", "ResourceList")
_IN_DISGUISE = ("\\", "!", "*")


class Document:
    """One document of a file.  file: its name, "" for a stream.  index: its number in that file, from 0."""

    __slots__ = ("_items", "_stream", "file", "index", "source", "text")

    def __init__(self, stream: Stream, text: str, file: str, index: int) -> None:
        self.text = text
        self.file = file
        self.index = index
        self.source: Source | None = None
        self._stream = stream
        self._items: list[Item] | None = None

    @property
    def items(self) -> list[Item]:
        """The object, or those of a List; none where it is empty. Raises ResourceListError, InputError, LimitError."""
        if self._items is None:
            self._items = self._stream.read(self)
        return self._items

    @property
    def is_read(self) -> bool:
        return self._items is not None

    @property
    def is_krm(self) -> bool:
        """Whether it holds nothing but objects with apiVersion and kind. Raises as `items` does."""
        return _is_plainly_krm(self.text) or all(item.kind and item.field("apiVersion") for item in self.items)

    @property
    def is_empty(self) -> bool:
        """Whether there is no object in it. Raises as `items` does."""
        return not _is_plainly_krm(self.text) and not self.items

    def __str__(self) -> str:
        where = shown(self.file) or "the input"
        return f"{where}: document {self.index + 1}" if self.index else where


class Allowance:
    """What is left of the limits of a run for its streams."""

    __slots__ = ("bytes", "nodes")

    def __init__(self, limits: Limits) -> None:
        self.bytes = limits.input_bytes
        self.nodes = limits.run_nodes


class Stream:
    """The documents of files, in order.  config: the functionConfig that goes with them.

    from_kustomize: a build has sorted and perhaps changed them.  originals: the files that it was made of, by their
    paths from the root, where they are at hand.  allowance: of a run that has several streams.

    Of the limits, `input_bytes` and `document_bytes` hold for everything; `depth` and the nodes count in documents that
    are parsed, so not in one that leaves as it came.
    """

    def __init__(self, limits: Limits, config: Item | None = None, *, allowance: Allowance | None = None) -> None:
        self.limits = limits
        self.config = config
        self._allowance = allowance or Allowance(limits)
        self.from_kustomize = False
        self.originals: Mapping[str, bytes] = {}
        self.documents: list[Document] = []

    def parse(self, raw: bytes, file: str = "") -> list[Document]:
        """The documents of one file, comments and all, without adding them.

        Raises ResourceListError, LimitError; for a document that is large also what `Document.items` does.
        """
        self._allowance.bytes -= len(raw)
        if self._allowance.bytes < 0:
            raise LimitError(f"an input of more than {self.limits.input_bytes >> 20} MiB (the limit input_bytes)")
        texts = _documents(_decoded(raw, file), file)
        found = [Document(self, text, file, index) for index, text in enumerate(texts)]
        for document in found:
            text = document.text
            if _is_larger(text, self.limits.document_bytes):
                if "List" not in text and _is_plainly_krm(text):
                    raise self._too_large(str(document))
                document.items  # noqa: B018 (reads it, and looks at the size of each)
        return found

    def add(self, raw: bytes, file: str = "") -> list[Document]:
        """The same, added. Raises also InputError, for what is no YAML, as far as it is looked at."""
        found = self.parse(raw, file)
        for document in found:
            if not _is_plainly_krm(document.text):
                document.items  # noqa: B018 (reads it)
        self.documents += found
        return found

    def read(self, document: Document) -> list[Item]:
        """The objects of a document. Raises as `Document.items` does."""
        if _is_empty(document.text):
            return []
        try:
            source = _source(document.text, self.limits, self._allowance.nodes)
        except (InputError, LimitError) as error:
            raise type(error)(f"{document}: {error.message}", hint=error.hint) from None
        self._allowance.nodes -= source.nodes
        document.source = source
        root = source.root
        if root is None:
            return []
        if not isinstance(root, Branch):
            raise ResourceListError(f"{document} is no object")
        branches = [root]
        inner = root.get("items")
        if root.get("kind") in _LISTS and isinstance(inner, list) and root.number("sops") is None:
            branches = [element for element in inner if isinstance(element, Branch)]
            if len(branches) < len(inner):
                raise ResourceListError(f"{document}: an element of its items is no object")
        items = [Item(source, branch) for branch in branches]
        limit = self.limits.document_bytes
        is_large = _is_larger(document.text, limit)
        for item in items:
            item.at = (document.file, document.index)
            if is_large and item.kind and _is_larger(item.own_text(), limit):
                raise self._too_large(str(item))
        return items

    def _too_large(self, what: str) -> LimitError:
        limit = self.limits.document_bytes
        return LimitError(f"{what}: a document of more than {limit} bytes (the limit document_bytes)")

    @property
    def items(self) -> list[Item]:
        return [item for document in self.documents for item in document.items]

    def encrypted(self) -> list[Item]:
        return [item for item in self._spelling("sops") if item.branch.number("sops") is not None]

    def holding(self, text: bytes) -> list[Item]:
        wanted = text.decode()
        found = [document for document in self.documents if wanted in document.text]
        return [item for document in found for item in document.items if item.spells(wanted)]

    def named(self, name: str) -> list[Item]:
        return [item for item in self._spelling(name) if name in (item.name, item.original_name)] if name else []

    def of_kind(self, kind: str) -> list[Item]:
        return [item for item in self._spelling(kind) if item.kind == kind]

    def _spelling(self, word: str) -> list[Item]:
        """The items of all documents in which this may stand as a key or a value."""
        found = []
        for document in self.documents:
            text = document.text
            if word in text or any(sign in text for sign in _IN_DISGUISE):
                found += document.items
        return found

    def write(
        self,
        documents: Iterable[Document] | None = None,
        *,
        without: Iterable[Item] = (),
        added: Sequence[Branch] = (),
        order: Sequence[Item] | None = None,
    ) -> str:
        """One stream: what was read with the edits of its items, then `added`; three dashes between documents.

        documents: None for all of them.  order: the items to write instead, one by one.  Raises ResourceListError.
        """
        from krm_sops.yamlwrite import write

        left_out = set(without)
        out: list[str] = []
        if order is not None:
            holders = {item: document for document in self.documents for item in document.items}
            for item in order:
                out += _written(holders[item], left_out, item)
        else:
            for document in self.documents if documents is None else documents:
                out += _written(document, left_out)
        out += [write([branch], 2) for branch in added]
        return joined(out)


def joined(texts: Iterable[str]) -> str:
    """One stream of several."""
    out: list[str] = []
    for text in texts:
        if out and not text.startswith("---"):
            out.append("---\n")
        out.append(text if text.endswith("\n") else text + "\n")
    return "".join(out)


def _written(document: Document, left_out: set[Item], only: Item | None = None) -> list[str]:
    if not document.is_read:
        return [] if _is_empty(document.text) else [document.text]
    source, items = document.source, document.items
    kept = [item for item in items if item not in left_out and only in (None, item)]
    if source is None or not kept:
        return []
    root = source.root
    is_whole = len(kept) == len(items) and all(item.replacement is None for item in kept)
    if is_whole and not (isinstance(root, Branch) and root.get("kind") == "ResourceList"):
        return [edited(source.text, [edit for item in kept for edit in item.edits])]
    from krm_sops.yamlwrite import write

    out = []
    for item in kept:
        if item.replacement is not None:
            out += [write([branch], 2) for branch in item.replacement]
        else:
            out.append(source.text if item.branch is root else _item_text(item, document))
    return out


def _item_text(item: Item, document: Document) -> str:
    """An element of a List as a document of its own, with its edits. Raises ResourceListError."""
    start, stop = item.place.entries[0][0], item.place.entries[-1][1]
    text = item.source.text
    for anchor, alias in item.source.aliases:
        if start <= alias < stop and not start <= anchor < stop:
            raise ResourceListError(f"{document}: an alias in {item} repeats what stands outside of it")
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
        raise ResourceListError(f"{shown(file) or 'the input'}: no UTF-8 (byte {wrong})")
    return text.removeprefix(_BOM)


def _is_larger(text: str, limit: int) -> bool:
    return len(text) > limit or (len(text) * 4 > limit and not text.isascii() and len(text.encode()) > limit)


def _is_empty(text: str) -> bool:
    """Whether there are only comments."""
    return not any(line.strip() and not line.lstrip().startswith("#") for line in text.split("\n"))


def _is_plainly_krm(text: str) -> bool:
    """Whether it is an object with apiVersion and kind for all that a glance tells; False means: read it."""
    if not text.isascii() and any(mark in text for mark in _OTHER_BREAKS):
        return False
    if (
        "{{" in text or "\nkind: ResourceList" in "\n" + text
    ):  # a template, which is no YAML; or what is to be taken apart
        return False
    return all(text.startswith(key) or f"\n{key}" in text for key in ("apiVersion: ", "kind: "))


def _documents(text: str, file: str) -> list[str]:
    """The texts between the lines that begin or end a document; no scalar of YAML can hold such a line.

    Raises ResourceListError for a directive that gives tags another meaning.
    """
    starts = [0] if text[:3] in ("---", "...") else []
    for mark in ("\n---", "\n..."):
        at = text.find(mark)
        while at >= 0:
            starts.append(at + 1)
            at = text.find(mark, at + 1)
    found = []
    begin = 0
    for at in sorted(starts):
        if text[at + 3 : at + 4] not in ("", " ", "\t", "\n", "\r"):
            continue
        found.append(text[begin:at])
        end = text.find("\n", at) + 1 or len(text)
        rest = text[at + 3 : end].lstrip()
        begin = end
        if rest:
            begin = at if text[at] == "-" and not rest.startswith("#") else end - len(rest)
    found.append(text[begin:])
    return [part for part in (_without_directives(part, file) for part in found) if part.strip()]


def _without_directives(text: str, file: str) -> str:
    while text.startswith("%"):
        line, _, text = text.partition("\n")
        if not line.startswith("%YAML"):
            raise ResourceListError(f"{shown(file) or 'the input'}: the directive {shown(line, 60)!r} is not supported")
    return text


def _source(text: str, limits: Limits, nodes: int) -> Source:
    if text.lstrip()[:1] == "{":
        from krm_sops.stores.json import read_source

        try:
            return read_source(text, limits, nodes)
        except InputError:
            pass  # YAML in flow style, perhaps
    from krm_sops.yamlio import read

    return read(text, limits, nodes)
