"""One KRM object inside a text: what it is called, what an orchestrator put on it, and edits that move nothing else."""

from __future__ import annotations

from krm_sops.errors import InputError, shown
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.places import Place, Source, Span
    from krm_sops.tree import Node, Scalar

PATH = "internal.config.kubernetes.io/path"
INDEX = "internal.config.kubernetes.io/index"
PACKAGE_PATH = "internal.config.kubernetes.io/package-path"
LOCAL_CONFIG = "config.kubernetes.io/local-config"
_INJECTED = frozenset(
    (
        "config.kubernetes.io/path",
        "config.kubernetes.io/index",
        "config.kubernetes.io/id",
        "config.k8s.io/id",
        "config.kubernetes.io/origin",
        "alpha.config.kubernetes.io/transformations",
        "kustomize.config.k8s.io/id",
        "internal.config.k8s.io/kpt-resource-id",
        "internal.kpt.dev/upstream-identifier",
    )
)


def is_injected(annotation: str) -> bool:
    """Whether kpt or kustomize puts this annotation on objects while it runs functions."""
    return annotation.startswith("internal.config.kubernetes.io/") or annotation in _INJECTED


class Item:
    """branch: the object.  first: the number of its first leaf in `source`.  edits: (start, end, text), no overlaps."""

    __slots__ = ("branch", "edits", "first", "place", "source")

    def __init__(self, source: Source, branch: Branch) -> None:
        self.source = source
        self.branch = branch
        self.place: Place = source.places[id(branch)]
        self.first = self.place.first_leaf
        self.edits: list[tuple[int, int, str]] = []

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
        return self.annotation(PATH) or self.annotation("config.kubernetes.io/path")

    @property
    def original(self) -> tuple[str, str]:
        """(namespace, name) before kustomize renamed it."""
        names = self.annotation("internal.config.kubernetes.io/previousNames")
        namespaces = self.annotation("internal.config.kubernetes.io/previousNamespaces")
        namespace = namespaces.split(",")[0] if namespaces else self.namespace
        return ("" if namespace == "_non_namespaceable_" else namespace), (names.split(",")[0] if names else self.name)

    def __str__(self) -> str:
        """As people look for it: file, then kind/namespace/name."""
        file = self.file
        index = self.annotation(INDEX)
        where = f"{shown(file)}{f'[{shown(index, 8)}]' if index not in ('', '0') else ''}: " if file else ""
        parts = [self.kind or "object", self.namespace, self.name]
        return where + "/".join(shown(part, 80) for part in parts if part)

    def injected_leaves(self) -> list[int]:
        """Numbers, counted within this item, of the annotation leaves that an orchestrator added."""
        metadata = self.branch.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, Branch) else None
        if not isinstance(annotations, Branch) or id(annotations) not in self.source.places:
            return []
        at = self.source.places[id(annotations)].first_leaf - self.first
        found = []
        for entry in annotations.entries:
            if isinstance(entry.value, (Branch, list)):
                return []
            if is_injected(str(entry.key)) and not str(entry.value).startswith("ENC["):
                found.append(at)
            at += 1
        return found

    def own_text(self) -> str:
        """The object as a document of its own, with its comments; an element of a block list without its dash."""
        text = self.source.text
        start, end = self.place.entries[0][0], self.place.entries[-1][1]
        if self.place.indent < 0:
            return "{" + text[start:end] + "}"
        first = text.rfind("\n", 0, start) + 1
        while first and text[first:start].lstrip(" ")[:1] in ("", "#", "\n"):
            before = text.rfind("\n", 0, first - 1) + 1
            if text[before:first].lstrip(" ")[:1] not in ("-", "#", "\n"):
                break
            first = before
        stop = self._line_end(end)
        while stop < len(text):
            line = text[stop + 1 : self._line_end(stop + 1)]
            if line.strip() and not (line.lstrip(" ").startswith("#") and line.startswith(" " * self.place.indent)):
                break
            stop = self._line_end(stop + 1)
        own = text[first:stop]
        lead = len(own) - len(own.lstrip(" "))
        return (
            own[:lead] + own[lead:].replace("-", " ", 1) + "\n" if own[lead : lead + 2] in ("- ", "-\n") else own + "\n"
        )

    def span(self, leaf: int) -> Span | None:
        return self.source.spans[self.first + leaf]

    def text(self, leaf: int) -> str:
        """A leaf as it is spelled in the source."""
        span = self.span(leaf)
        return self.source.text[span.start : span.end] if span else ""

    def put(self, leaf: int, value: Scalar, *, quoted: bool, path: tuple[str, ...]) -> None:
        """Replace a leaf.  quoted: spell a string in quotes, or as a literal block where it has several lines.

        Raises InputError where the leaf has an anchor: its plaintext would appear wherever an alias repeats it.
        """
        span = self.span(leaf)
        if span is None or span.anchored:
            raise InputError("an encrypted value with an anchor or alias", path=path)
        spelled = self._spell(value, span, quoted)
        if "\n" in spelled and self.source.text[span.end : self._line_end(span.end)].strip():
            spelled = self._spell(value, span, quoted, one_line=True)
        self.edits.append((span.start, span.end, spelled))

    def put_comment(self, old: str, new: str, path: tuple[str, ...]) -> None:
        """Replace the text of a comment. An encrypted comment occurs once: it holds a random IV."""
        if any(c in new for c in "\n\r\x85\u2028\u2029"):
            raise InputError("an encrypted comment with a line break in it", path=path)
        at = self.source.text.find("#" + old)
        assert at >= 0
        self.edits.append((at + 1, at + 1 + len(old), new))

    def put_list_comment(self, leaf: int, new: str, path: tuple[str, ...]) -> None:
        """Turn a list element, which is how sops stores an encrypted comment in a list, into a comment again."""
        span = self.span(leaf)
        text = self.source.text
        dash = text.rfind("-", 0, span.start) if span else -1
        if span is None or span.indent < 0 or text[dash + 1 : span.start].strip() or "\n" in new:
            raise InputError("an encrypted comment in a place where no comment can stand", path=path)
        self.edits.append((dash, span.end, "#" + new))

    def _spell(self, value: Scalar, span: Span, quoted: bool, *, one_line: bool = False) -> str:
        if self.source.is_json:
            from krm_sops.stores.json import json_scalar

            return json_scalar(value)
        from krm_sops.yamlwrite import flow_scalar, scalar_text

        if one_line or span.indent < 0:
            return flow_scalar(value)
        several_lines = isinstance(value, str) and "\n" in value
        return scalar_text(value, indent=span.indent + 2, quoted=quoted and not several_lines)

    def _line_end(self, at: int) -> int:
        end = self.source.text.find("\n", at)
        return len(self.source.text) if end < 0 else end

    def cut(self, key: str) -> None:
        """Take the entry of a top-level key out of the text."""
        number = self.branch.number(key)
        assert number is not None
        self.edits.append((*cut_entry(self.source.text, self.place, number), ""))

    def annotate(self, name: str, value: str) -> None:
        """Set one annotation to a simple text (no quotes, no line breaks in it)."""
        if self.annotation(name) == value:
            return
        metadata = self.branch.get("metadata")
        assert isinstance(metadata, Branch)
        annotations = metadata.get("annotations")
        if isinstance(annotations, Branch) and annotations.number(name) is not None:
            start, end = self.source.places[id(annotations)].entries[annotations.number(name) or 0]
            self.edits.append((start, end, f'"{name}": "{value}"'))
            return
        if isinstance(annotations, Branch) and annotations.entries:
            self._insert_first(annotations, f'"{name}": "{value}"')
        elif (number := metadata.number("annotations")) is not None:
            start, end = self.source.places[id(metadata)].entries[number]
            self.edits.append((start, end, f'"annotations": {{"{name}": "{value}"}}'))
        else:
            self._insert_first(metadata, f'"annotations": {{"{name}": "{value}"}}')

    def _insert_first(self, branch: Branch, entry: str) -> None:
        place = self.source.places[id(branch)]
        at = place.entries[0][0]
        self.edits.append((at, at, entry + (", " if place.indent < 0 else "\n" + " " * place.indent)))


def cut_entry(text: str, place: Place, number: int) -> tuple[int, int]:
    """What to take out of `text` so that one entry of a mapping is gone: its lines, or in flow style also a comma."""
    start, end = place.entries[number]
    if place.indent < 0:
        if number > 0:
            return place.entries[number - 1][1], end
        return (start, place.entries[1][0]) if len(place.entries) > 1 else (start, end)
    line_start = text.rfind("\n", 0, start) + 1
    if text[line_start:start].strip():  # it shares its line with the dash of a list
        return (start, place.entries[number + 1][0]) if number + 1 < len(place.entries) else (start, end)
    stop = len(text)
    at = text.find("\n", end)
    while at >= 0:  # comments that are indented like the block's content go with it
        line_end = text.find("\n", at + 1)
        line = text[at + 1 : stop if line_end < 0 else line_end]
        bare = line.lstrip(" ")
        if not (bare.startswith("#") and len(line) - len(bare) > place.indent):
            return line_start, at + 1
        at = line_end
    if line_start and number + 1 == len(place.entries):
        return line_start - 1, stop  # the last line has no line break: the one before it goes instead
    return line_start, stop


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
