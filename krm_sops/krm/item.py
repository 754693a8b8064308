"""One KRM object inside a text: what it is called, what an orchestrator put on it, and edits that move nothing else."""

from __future__ import annotations

from krm_sops.errors import InputError, shown
from krm_sops.tree import Branch, Comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.places import Place, Source, Span
    from krm_sops.tree import Node, Scalar

PATH = "internal.config.kubernetes.io/path"
INDEX = "internal.config.kubernetes.io/index"
PACKAGE_PATH = "internal.config.kubernetes.io/package-path"
LOCAL_CONFIG = "config.kubernetes.io/local-config"
ORIGIN = "config.kubernetes.io/origin"
ORIGINAL = "krm-sops.dev/original"
"""Holds a decrypted object as it was encrypted, until SopsEncrypt puts that back."""
MASKED = "krm-sops.dev/masked"
"""Says that values are asterisks. Nothing encrypts such an object, and no gate lets it pass."""
OPT_OUTS = ("kustomize.toolkit.fluxcd.io/decrypt", "krm-sops.dev/decrypt")
"""With the value `disabled`: the object stays encrypted."""
MASK = "***"
_MASK_IN_BASE64 = "Kioq"
_SECRETS = ("Secret", "SopsSecret")
_IDENTITY = (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"))
_LONGEST_NAME = 253
_NEW_ANNOTATIONS = '"annotations": {'
_INJECTED = frozenset(
    (
        "config.kubernetes.io/path",
        "config.kubernetes.io/index",
        "config.kubernetes.io/id",
        "config.k8s.io/id",
        ORIGIN,
        "alpha.config.kubernetes.io/transformations",
        "kustomize.config.k8s.io/id",
        "internal.config.k8s.io/kpt-resource-id",
        "internal.kpt.dev/upstream-identifier",
    )
)


def is_injected(annotation: str) -> bool:
    """Whether kpt or kustomize puts this annotation on objects while it runs functions."""
    return annotation.startswith("internal.config.kubernetes.io/") or annotation in _INJECTED


def mask_at(kind: str, path: tuple[str, ...]) -> str:
    """What a decrypted value becomes, whatever it was (S27): in base64 where only that can stand."""
    field = path[-2] if len(path) > 1 else ""
    is_base64 = (field == "data" and kind.endswith(_SECRETS)) or (field == "binaryData" and kind == "ConfigMap")
    return _MASK_IN_BASE64 if is_base64 else MASK


def is_identity(path: tuple[str, ...], value: object) -> bool:
    """Whether this says which object it is, which a mask leaves to see, encrypted or not: its kind and names."""
    return (
        path in _IDENTITY
        and isinstance(value, str)
        and len(value) <= _LONGEST_NAME
        and not value.lower().strip("abcdefghijklmnopqrstuvwxyz0123456789-./:")
    )


class Item:
    """branch: the object.  first: the number of its first leaf in `source`.  edits: (start, end, text), no overlaps.

    comments: where its encrypted comments stand, by their texts; None until somebody asks.
    is_alias: `branch` stands somewhere else in the text.  at: the file it was read from and its document in there, if
    known without annotations.  replacement: the objects that take its place; None where it stays.  mask: what is put
    into it becomes asterisks.  plain_kind: its kind where that was encrypted, else "".
    """

    __slots__ = (
        "at",
        "branch",
        "comments",
        "edits",
        "first",
        "is_alias",
        "mask",
        "place",
        "plain_kind",
        "replacement",
        "source",
    )

    def __init__(self, source: Source, branch: Branch, *, is_alias: bool = False) -> None:
        self.source = source
        self.branch = branch
        self.is_alias = is_alias
        self.place: Place = source.places[id(branch)]
        self.first = self.place.first_leaf
        self.edits: list[tuple[int, int, str]] = []
        self.comments: dict[str, list[int]] | None = None
        self.at: tuple[str, int] | None = None
        self.mask = False
        self.plain_kind = ""
        self.replacement: list[Branch] | None = None

    def field(self, *path: str) -> str:
        """The text at a path of mapping keys; "" where there is none, or no text."""
        node: Node = self.branch
        for key in path:
            if not isinstance(node, Branch):
                return ""
            node = node.get(key)
        return node if isinstance(node, str) else ""

    @property
    def kind(self) -> str:
        return self.field("kind")

    @property
    def name(self) -> str:
        return self.field("metadata", "name")

    @property
    def namespace(self) -> str:
        return self.field("metadata", "namespace")

    def annotation(self, name: str) -> str:
        return self.field("metadata", "annotations", name)

    @property
    def file(self) -> str:
        return self.at[0] if self.at else self.annotation(PATH) or self.annotation("config.kubernetes.io/path")

    @property
    def index(self) -> int:
        """Its number in its file, as far as anybody says so; 0 otherwise."""
        if self.at:
            return self.at[1]
        text = self.annotation(INDEX) or self.annotation("config.kubernetes.io/index")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0

    @property
    def original_name(self) -> str:
        """Its name before kustomize changed it."""
        names = self.annotation("internal.config.kubernetes.io/previousNames")
        return names.split(",")[0] if names else self.name

    @property
    def original_namespaces(self) -> tuple[str, ...]:
        """Its namespace before kustomize changed it, "" for none. kustomize notes none as "default": then it may be
        either."""
        namespaces = self.annotation("internal.config.kubernetes.io/previousNamespaces")
        if not namespaces:
            return (self.namespace,)
        first = namespaces.split(",")[0]
        return {"default": ("", "default"), "_non_namespaceable_": ("",)}.get(first, (first,))

    def __str__(self) -> str:
        """As people look for it: file, then kind/namespace/name."""
        file = self.file
        where = f"{shown(file)}{f'[{self.index}]' if self.index else ''}: " if file else ""
        parts = [self.kind or "object", self.namespace, self.name]
        return where + "/".join(shown(part, 80) for part in parts if part)

    def first_plain(self) -> str:
        """The first value if it is a plain scalar, as it is spelled; else ""."""
        span = self.source.spans[self.first] if self.place.after > self.first else None
        start, end = self.place.entries[0]
        return self.source.text[span.start : span.end] if span and not span.style and start < span.end <= end else ""

    def injected_leaves(self, added: str = "") -> list[int]:
        """Numbers, counted within this item, of the annotation leaves that an orchestrator added.

        added: an annotation that was added too.
        """
        metadata = self._below(self.branch, "metadata")
        annotations = self._below(metadata, "annotations") if metadata else None
        if annotations is None:
            return []
        at = self.source.places[id(annotations)].first_leaf - self.first
        found = []
        for entry in annotations.entries:
            if isinstance(entry.value, (Branch, list)):
                return []
            if (is_injected(str(entry.key)) or entry.key == added) and not str(entry.value).startswith("ENC["):
                found.append(at)
            at += 1
        return found

    def _below(self, outer: Branch, key: str) -> Branch | None:
        """The mapping under `key` if it has entries and they stand there: an alias repeats what stands elsewhere."""
        inner, number = outer.get(key), outer.number(key)
        if not isinstance(inner, Branch) or not inner.entries or number is None:
            return None
        start, end = self.source.places[id(outer)].entries[number]
        return inner if start < self.source.places[id(inner)].entries[0][0] < end else None

    def own_text(self, *, changed: bool = False) -> str:
        """The object as a document of its own, with its comments; an element of a block list without its dash.

        changed: with its edits.
        """
        edits = self.edits if changed else []
        if self.place.indent < 0:
            part = self.place.entries[0][0], self.place.entries[-1][1]
            return "{" + edited_part(self.source.text, part, edits) + "}"
        lines = self.lines()
        own = edited_part(self.source.text, lines, edits)
        is_cut = any(end > lines[1] for _, end, _ in edits)  # with the line break
        own = own.replace("-", " ", 1) if own.lstrip(" ").startswith("-") else own
        return own if is_cut else own + "\n"

    def lines(self) -> tuple[int, int]:
        """Where the lines of a block mapping are: from the dash before it to the last comment indented like it.

        Empty lines behind it belong to it where its last value is a block that keeps them.
        """
        text = self.source.text
        at = stop = line_end(text, self.place.entries[-1][1])
        span = self.source.spans[self.place.after - 1] if self.place.after > self.first else None
        if span is not None and span.style in ("|", ">") and "+" in text[span.start : line_end(text, span.start)]:
            while at + 1 < len(text) and not text[at + 1 : line_end(text, at + 1)].strip():
                at = stop = line_end(text, at + 1)
        while at < len(text):
            line = text[at + 1 : line_end(text, at + 1)]
            is_comment = line.lstrip(" ").startswith("#") and line.startswith(" " * self.place.indent)
            if line.strip() and not is_comment:
                break
            at += 1 + len(line)
            stop = at if is_comment else stop
        return dash_line(text, self.place.entries[0][0]), stop

    def spells(self, text: str) -> bool:
        """Whether this stands in the object's own text."""
        entries = self.place.entries
        return bool(entries) and self.source.text.find(text, entries[0][0], entries[-1][1]) >= 0

    def span(self, leaf: int) -> Span | None:
        return self.source.spans[self.first + leaf]

    def text(self, leaf: int) -> str:
        """A leaf as it is spelled in the source."""
        span = self.span(leaf)
        return self.source.text[span.start : span.end] if span else ""

    def put(self, leaf: int, value: Scalar, *, quoted: bool, path: tuple[str, ...], clear: bool = False) -> None:
        """Replace a leaf.  quoted: spell a string in quotes, or as a literal block where it has several lines.
        clear: no mask is needed.

        Raises InputError where the leaf has an anchor: its plaintext would appear wherever an alias repeats it; and for
        bytes that are no UTF-8: as ``!!binary`` they would reach the cluster as something else.
        """
        span = self.span(leaf)
        if span is None or span.anchored:
            raise InputError("an encrypted value with an anchor or alias", path=path)
        if self.mask and not clear:
            value, quoted = mask_at(self.plain_kind or self.kind, path), True
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise InputError(
                "a value that is no UTF-8, which no Kubernetes object can hold",
                path=path,
                hint="keep binary data in a Secret's data, as base64",
            )
        if self.source.is_json:
            from krm_sops.stores.json import json_scalar

            spelled = json_scalar(value)
            if not spelled.isascii() or "\x7f" in spelled:  # whoever reads it as YAML would not take these as they are
                spelled = "".join(f"\\u{ord(c):04x}" if _is_special(c) else c for c in spelled)
        else:
            spelled = self._spell(value, span, quoted)
        self.edits.append((span.start, span.end, spelled))

    def _spell(self, value: Scalar, span: Span, quoted: bool) -> str:
        from krm_sops.yamlwrite import flow_scalar, scalar_text

        if isinstance(value, str) and "\n" in value:
            quoted = False
            # A block takes whole lines, and one that ends with empty lines would also take those that follow it.
            if not self._is_end_of_line(span.end) or value == "\n" or value.endswith("\n\n"):
                return flow_scalar(value)
        return flow_scalar(value) if span.indent < 0 else scalar_text(value, indent=span.indent + 2, quoted=quoted)

    def _is_end_of_line(self, at: int) -> bool:
        """Whether nothing follows but a line break, which a block needs."""
        end = line_end(self.source.text, at)
        return end < len(self.source.text) and not self.source.text[at:end].strip()

    def put_comment(self, old: str, new: str, path: tuple[str, ...]) -> None:
        """Replace the text of a comment that is ciphertext; of several that are alike, the next one."""
        new = MASK if self.mask else new
        if self.comments is None:
            self.comments = self._find_comments()
        places = self.comments.get(old)
        if not places or not _is_comment(new):
            raise InputError("an encrypted comment that cannot stand there when decrypted", path=path)
        at = places.pop(0)
        self.edits.append((at, at + len(old), new))

    def _find_comments(self) -> dict[str, list[int]]:
        """Where comments begin that look like ciphertext, by their texts. What stands in a value is no comment."""
        text = self.source.text
        at, stop = self.lines()
        spans = [span for span in self.source.spans[self.first : self.place.after] if span is not None]
        number = 0
        found: dict[str, list[int]] = {}
        while (at := text.find("#ENC[", at, stop)) >= 0:
            while number < len(spans) and spans[number].end <= at:
                number += 1
            if number < len(spans) and spans[number].start < at:
                at = spans[number].end
                continue
            end = line_end(text, at)
            found.setdefault(text[at + 1 : end].rstrip("\r"), []).append(at + 1)
            at = end
        return found

    def put_list_comment(self, leaf: int, new: str, path: tuple[str, ...]) -> None:
        """Turn a list element, which is how sops stores an encrypted comment in a list, into a comment again."""
        new = MASK if self.mask else new
        span = self.span(leaf)
        text = self.source.text
        dash = text.rfind("-", 0, span.start) if span else -1
        if span is None or span.indent < 0 or text[dash + 1 : span.start].strip() or not _is_comment(new):
            raise InputError("an encrypted comment that cannot stand there when decrypted", path=path)
        self.edits.append((dash, span.end, "#" + new))

    def cut(self, key: str) -> None:
        """Take the entry of a top-level key out of the text. Raises InputError where aliases may repeat the item."""
        if all(span is None or span.anchored for span in self.source.spans[self.first : self.place.after]):
            raise InputError("an encrypted item with an anchor or alias")
        number = self.branch.number(key)
        assert number is not None
        leaves_nothing = len(self.branch.entries) == 1 and self.place.indent >= 0
        self.edits.append((*cut_entry(self.source.text, self.place, number), "{}" if leaves_nothing else ""))

    def annotate(self, name: str, value: str) -> None:
        """Set one annotation to a simple text (no quotes, no line breaks in it).

        Raises InputError where metadata or its annotations are an alias: they would change elsewhere too.
        """
        if self.annotation(name) == value:
            return
        if self.is_alias:
            raise InputError("an alias of another object, which cannot be changed alone")
        entry = f'"{name}": "{value}"'
        if any(text.startswith('"') and entry in text for _, _, text in self.edits):
            return  # no value in quotes can hold it
        metadata = self._below(self.branch, "metadata")
        if metadata is None:
            raise InputError("metadata that is empty or an alias", path=("metadata",))
        for made, (start, end, text) in enumerate(self.edits):
            if text.startswith(_NEW_ANNOTATIONS):
                self.edits[made] = (start, end, f"{_NEW_ANNOTATIONS}{entry}, {text.removeprefix(_NEW_ANNOTATIONS)}")
                return
        number = metadata.number("annotations")
        if number is None:
            self._insert_first(metadata, f"{_NEW_ANNOTATIONS}{entry}}}")
            return
        annotations = self._below(metadata, "annotations")
        if annotations is None:
            if metadata.entries[number].value not in (None, Branch()):
                raise InputError("annotations that are no mapping, or an alias", path=("metadata", "annotations"))
            start, end = self.source.places[id(metadata)].entries[number]
            self.edits.append((start, end, f"{_NEW_ANNOTATIONS}{entry}}}"))
        elif (at := annotations.number(name)) is not None:
            self.edits.append((*self.source.places[id(annotations)].entries[at], entry))
        else:
            self._insert_first(annotations, entry)

    def cut_annotation(self, name: str) -> None:
        """Take out one annotation that is there, and with the last one the empty mapping. Raises as `annotate` does."""
        metadata = self._below(self.branch, "metadata")
        annotations = self._below(metadata, "annotations") if metadata else None
        if metadata is None or annotations is None:
            raise InputError("annotations that are an alias", path=("metadata", "annotations"))
        outer, key = (metadata, "annotations") if len(annotations.entries) == 1 else (annotations, name)
        number = outer.number(key)
        assert number is not None
        self.edits.append((*cut_entry(self.source.text, self.source.places[id(outer)], number), ""))

    def _insert_first(self, branch: Branch, entry: str) -> None:
        place = self.source.places[id(branch)]
        at = place.entries[0][0]
        self.edits.append((at, at, entry + (", " if place.indent < 0 else "\n" + " " * place.indent)))


def _is_special(c: str) -> bool:
    """Whether a character is a control character or a line break to YAML, or may not be in it at all."""
    return (
        (c < " " and c != "\t")
        or "\x7f" <= c < "\xa0"
        or "\ud800" <= c <= "\udfff"
        or c in "\u2028\u2029\ufeff\ufffe\uffff"
    )


def _is_comment(text: str) -> bool:
    """Whether it can be a YAML comment."""
    return not any(map(_is_special, text))


def refuse_duplicates(node: Node) -> None:
    """Raises InputError for a mapping with two equal keys: readers differ in which one counts (S17)."""
    if isinstance(node, list):
        for element in node:
            refuse_duplicates(element)
    elif isinstance(node, Branch):
        names = [entry.key for entry in node.entries if not isinstance(entry.key, Comment)]
        if len(set(names)) < len(names):
            twice = next(key for key in names if names.count(key) > 1)
            raise InputError(f"the key {shown(twice, 60)!r} occurs twice")
        for entry in node.entries:
            if isinstance(entry.value, (Branch, list)):
                refuse_duplicates(entry.value)


def line_end(text: str, at: int) -> int:
    """The index of the next line break, or of the end."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def dash_line(text: str, at: int) -> int:
    """Where the line begins that holds the dash of a block list's element, whose first content is at `at`."""
    start = text.rfind("\n", 0, at) + 1
    while start and not text[start:at].lstrip(" ").startswith("-"):
        at = start
        start = text.rfind("\n", 0, at - 1) + 1
    return start


def cut_entry(text: str, place: Place, number: int) -> tuple[int, int]:
    """What to take out of `text` so that one entry of a mapping is gone: its lines, or in flow style also a comma.

    Comments below a block entry go with it where they are indented deeper than it.
    """
    start, end = place.entries[number]
    is_last = number + 1 == len(place.entries)
    if place.indent < 0:
        if number > 0:
            return place.entries[number - 1][1], end
        return start, end if is_last else place.entries[1][0]
    line = text.rfind("\n", 0, start) + 1
    stop = line_end(text, end) + 1
    deeper = " " * (place.indent + 1)
    while text.startswith(deeper, stop) and text[stop : line_end(text, stop)].lstrip(" ").startswith("#"):
        stop = line_end(text, stop) + 1
    stop = min(stop, len(text))
    if not text[line:start].strip():
        return line, stop
    if is_last:  # all that shares its line with the dash of a list
        return start, end
    while text[stop] in " \r\n":
        stop += 1
    return start, stop


def edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    """`text` with all edits done."""
    if not edits:
        return text
    pieces = []
    at = 0
    for start, end, new in sorted(edits):
        assert start >= at
        pieces.append(text[at:start])
        pieces.append(new)
        at = end
    pieces.append(text[at:])
    return "".join(pieces)


def edited_part(text: str, part: tuple[int, int], edits: list[tuple[int, int, str]]) -> str:
    """A part of `text` with the edits in it, which are all that there are."""
    start, stop = part
    return edited(text[start:stop], [(begin - start, end - start, new) for begin, end, new in edits])
