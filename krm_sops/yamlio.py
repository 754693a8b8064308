"""YAML text -> tree, with the place of every leaf, so that one scalar can be replaced and nothing else moves.

The reader of items: libyaml's events, go-yaml's typing, comments passed over. Whole files with their comments are read
by `yamlcomments`.
"""

from __future__ import annotations

from krm_sops.errors import InputError, LimitError, StoreError, shown
from krm_sops.leanyaml import YAMLError, parser, place
from krm_sops.places import Place, Source, Span
from krm_sops.tree import Branch, Comment, Entry
from krm_sops.yamltypes import resolve_plain, resolve_tagged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from krm_sops.limits import Limits
    from krm_sops.tree import Node, Scalar


def read(text: str, limits: Limits, nodes: int, outer: int = 0) -> Source:
    """Exactly one document; duplicate keys are kept.

    nodes: how many collections and scalars it may have after alias expansion.  outer: levels of collections around
    what the limit of depth is meant for.
    Raises StoreError for what is not YAML (line and column), InputError for undefined aliases, LimitError.
    """
    return _read(text, limits, nodes, outer, several=False)[0]


def read_all(text: str, limits: Limits, nodes: int) -> list[Source]:
    """Every document of a stream, with its places in the whole text. An anchor ends with its document.

    nodes: how many the stream may have. Raises as `read` does.
    """
    return _read(text, limits, nodes, 0, several=True)


def _read(text: str, limits: Limits, nodes: int, outer: int, *, several: bool) -> list[Source]:
    try:
        reader = _Reader(text, limits.depth, nodes, outer)
        return list(reader.documents()) if several else [reader.document()]
    except YAMLError as error:
        problem, line, column = place(error)
        raise StoreError(shown(problem), line=line, column=column) from None
    except UnicodeEncodeError:
        raise StoreError("a lone surrogate in the text") from None


class _Reader:
    def __init__(self, text: str, depth: int, nodes: int, outer: int) -> None:
        self.next = parser(text).get_event
        self.text = text
        self.depth = depth
        self.outer = outer
        self.node_limit = nodes
        self.nodes_left = nodes
        self._begin()

    def _begin(self) -> None:
        self.source = Source(self.text)
        self.spans = self.source.spans
        self.inside_anchor = 0
        self.end = 0
        self.anchors: dict[str, tuple[Node, int, int, int] | None] = {}

    def document(self) -> Source:
        """The only one."""
        self.next()  # stream start
        event = self.next()
        if type(event).__name__ != "DocumentStartEvent":
            raise StoreError("an empty document")
        self._read()
        event = self.next()
        if type(event).__name__ != "StreamEndEvent":
            raise StoreError("more than one document", line=event.start_mark.line + 1, column=1)
        return self.source

    def documents(self) -> Iterator[Source]:
        self.next()  # stream start
        while type(self.next()).__name__ == "DocumentStartEvent":
            self._begin()
            self._read()
            yield self.source

    def _read(self) -> None:
        """The document that has begun."""
        left = self.nodes_left
        self.source.root = self.node(self.next(), -1, 0)
        self.source.nodes = left - self.nodes_left
        self.next()  # document end

    def node(self, event: Any, indent: int, depth: int) -> Node:
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise LimitError(f"more than {self.node_limit} nodes (the limit run_nodes)")
        try:
            value = event.value
        except AttributeError:
            return self.collection(event, depth)
        start = event.start_mark.index
        end = self.end = event.end_mark.index
        style = event.style or ""
        tag = event.tag
        if style in ("|", ">"):
            end = self.end = start + len(self.source.text[start:end].rstrip())
        anchor = event.anchor
        self.spans.append(Span(start, end, indent, style, anchor is not None or self.inside_anchor > 0))
        leaf: Node
        if tag is not None and tag != "!":
            leaf = resolve_tagged(tag, value)
        elif style:
            leaf = value
        else:
            leaf = resolve_plain(value)
        if anchor is not None:
            self.anchors[anchor] = (leaf, 1, 1, start)
        return leaf

    def collection(self, event: Any, depth: int) -> Node:
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self.alias(event)
        if depth >= self.depth + self.outer:
            raise LimitError(f"collections nested deeper than {self.depth} (the limit depth)")
        anchor = event.anchor
        leaves, nodes = len(self.spans), self.nodes_left
        if anchor is not None:
            self.anchors[anchor] = None
            self.inside_anchor += 1
        found = self.mapping(event, depth + 1) if kind == "MappingStartEvent" else self.sequence(event, depth + 1)
        if anchor is not None:
            start = event.start_mark.index
            self.anchors[anchor] = (found, len(self.spans) - leaves, nodes - self.nodes_left, start)
            self.inside_anchor -= 1
        return found

    def alias(self, event: Any) -> Node:
        known = self.anchors.get(event.anchor)
        self.end = event.end_mark.index
        if known is None:
            raise InputError(f"the alias *{shown(event.anchor, 40)} has no anchor, or is inside it")
        value, leaves, nodes, start = known
        self.source.aliases.append((start, event.start_mark.index))
        self.nodes_left -= nodes
        if self.nodes_left < 0:
            raise LimitError(f"more than {self.node_limit} nodes after alias expansion (the limit run_nodes)")
        self.spans.extend([None] * leaves)
        return value

    def mapping(self, event: Any, depth: int) -> Branch:
        branch = Branch()
        indent = -1 if event.flow_style else event.start_mark.column
        is_placed = event.flow_style or (event.anchor is None and event.tag is None)
        end = event.start_mark.index
        where = Place(len(self.spans), indent)
        following, node, entries, places = self.next, self.node, branch.entries, where.entries
        while True:
            event = following()
            start = event.start_mark
            if type(event).__name__ == "MappingEndEvent":
                break
            at = start.index
            if start.column != indent and indent >= 0:
                at = self.entry_start(end, at)
            if not is_placed:  # its start mark is that of its anchor or tag
                where.indent = indent = at - self.source.text.rfind("\n", 0, at) - 1
                is_placed = True
            key = self.key(event, indent, depth)
            entries.append(Entry(key, node(following(), indent, depth)))
            end = self.end
            places.append((at, end))
        if indent < 0:
            self.end = event.end_mark.index
        where.after = len(self.spans)
        self.source.places[id(branch)] = where
        return branch

    def entry_start(self, floor: int, key: int) -> int:
        """Where an entry with the key at `key` begins: at its question mark, if one stands behind `floor`."""
        at = floor
        for line in self.source.text[floor:key].split("\n"):
            mark = line.partition("#")[0].rfind("?")
            if mark >= 0:
                return at + mark
            at += len(line) + 1
        return key

    def key(self, event: Any, indent: int, depth: int) -> Scalar:
        if type(event).__name__ == "ScalarEvent" and event.tag is None and event.anchor is None:
            self.nodes_left -= 1
            return event.value if event.style else resolve_plain(event.value)
        leaves = len(self.spans)
        key = self.node(event, indent, depth)
        if isinstance(key, (Branch, list)):
            raise StoreError("a mapping key that is a collection", line=event.start_mark.line + 1, column=1)
        del self.spans[leaves:]
        assert not isinstance(key, Comment)
        return key

    def sequence(self, event: Any, depth: int) -> list[Node]:
        elements: list[Node] = []
        where = Place(len(self.spans), -1 if event.flow_style else event.start_mark.column)
        is_placed = event.anchor is None and event.tag is None
        indent = where.indent if is_placed else -1  # else its column is not known, and one line is right everywhere
        while True:
            event = self.next()
            start = event.start_mark.index
            if type(event).__name__ == "SequenceEndEvent":
                break
            elements.append(self.node(event, indent, depth))
            where.entries.append((start, self.end))
        if where.indent < 0:
            self.end = event.end_mark.index
        where.after = len(self.spans)
        self.source.places[id(elements)] = where
        return elements
