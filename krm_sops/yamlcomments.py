"""A YAML stream -> branches with their comments, exactly as sops reads it.

Three steps: tokens (yamlscan), nodes with head, line and foot comments (go-yaml's parser), branches with the comments
as entries (sops' YAML store). Linear in the text and bounded: depth and number of nodes, after alias expansion.

Differs from sops, which loses data or crashes there: a scalar that does not fit its tag, a mapping key that is a
collection, and an anchor that contains itself are errors in every document, not only in the first.
Sources: go.yaml.in/yaml v3.0.4, parserc.go and decode.go; getsops/sops 3.13, stores/yaml/store.go.
"""

from __future__ import annotations

from krm_sops import yamlscan as scan
from krm_sops.errors import LimitError, StoreError, shown
from krm_sops.tree import Branch, Comment, Entry
from krm_sops.yamltypes import resolve_plain, resolve_tagged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.tree import Node, Scalar

DEPTH = 100
NODES = 200_000

_SCALAR, _LIST, _MAP, _ALIAS = "scalar", "list", "map", "alias"
_MERGE = ("!!merge", "tag:yaml.org,2002:merge")
_NO_CONTENT = (scan.VERSION, scan.TAG_PREFIX, scan.DOCUMENT_START, scan.DOCUMENT_END, scan.STREAM_END)


def read(text: str, *, depth: int = DEPTH, nodes: int = NODES) -> list[Branch]:
    """All documents of the stream; none where the text is empty.

    text: without a byte order mark.  depth: nested collections.  nodes: collections and scalars, of all documents.
    Raises StoreError (with line and column), LimitError.
    """
    _check_characters(text)
    parser = _Parser(text, depth, nodes)
    branches = []
    for at, document in enumerate(parser.documents()):
        builder = _Builder(depth, nodes, first=at == 0)
        branches.append(builder.document(document))
        nodes -= builder.seen
    if text and not branches:
        raise StoreError("the file holds no document, only comments or blanks")
    return branches


def read_first(text: str, *, spelled: bool = False) -> Branch:
    """The first document, whatever follows; an empty mapping where there is none.

    spelled: numbers, booleans and times are their texts, for who wants a string whatever it looks like.
    Raises as `read` does.
    """
    _check_characters(text)
    document = next(_Parser(text, DEPTH, NODES).documents(), None)
    return Branch() if document is None else _Builder(DEPTH, NODES, first=True, spelled=spelled).document(document)


def _check_characters(text: str) -> None:
    forbidden = [c for c in set(text) if not _is_allowed(c)]
    if forbidden:
        at = min(map(text.index, forbidden))
        line = text.count("\n", 0, at)
        raise StoreError("control characters are not allowed", line=line + 1, column=at - text.rfind("\n", 0, at))


def _is_allowed(c: str) -> bool:
    return (
        " " <= c <= "~"
        or c in "\t\n\r\x85"
        or "\xa0" <= c <= "\ud7ff"
        or "\ue000" <= c <= "\ufffd"
        or c >= "\U00010000"
    )


class _Node:
    """value: text of a scalar, name of an alias.  content: elements; keys and values in turn.  target: of an alias.

    quoted: a scalar in any style but plain.
    """

    __slots__ = ("content", "foot", "head", "kind", "line", "mark", "quoted", "tag", "target", "value")

    def __init__(self, kind: str, mark: scan.Mark, tag: str = "", value: str = "") -> None:
        self.kind = kind
        self.mark = mark
        self.tag = tag
        self.value = value
        self.quoted = False
        self.content: list[_Node] = []
        self.target: _Node | None = None
        self.head = self.line = self.foot = ""


class _Document:
    __slots__ = ("foot", "head", "root")

    def __init__(self, head: str, root: _Node, foot: str) -> None:
        self.head = head
        self.root = root
        self.foot = foot


def _error(problem: str, mark: scan.Mark) -> StoreError:
    return StoreError(problem, line=mark[1] + 1, column=mark[2] + 1)


class _Parser:
    """Asks for tokens in the same order as go-yaml's state machine: when it looks decides which comments it sees."""

    def __init__(self, text: str, depth: int, nodes: int) -> None:
        self._scanner = scan.Scanner(text)
        self._depth_left = depth
        self._nodes = self._nodes_left = nodes
        self._anchors: dict[str, _Node] = {}  # of the whole stream, as in go-yaml
        self._prefixes: dict[str, str] = {}
        self._stem = ""

    def documents(self) -> Iterator[_Document]:
        scanner = self._scanner
        scanner.peek()
        scanner.skip()
        token = scanner.peek()
        if token.kind not in _NO_CONTENT or token.kind == scan.DOCUMENT_END:
            self._directives()
            head = self._document_head()
            yield self._document_end(head, self._node(block=True))
            token = scanner.peek()
        while True:
            while token.kind == scan.DOCUMENT_END:
                scanner.skip()
                token = scanner.peek()
            if token.kind == scan.STREAM_END:
                return
            self._directives()
            token = scanner.peek()
            if token.kind != scan.DOCUMENT_START:
                raise _error("did not find expected <document start>", token.mark)
            scanner.skip()
            token = scanner.peek()
            root = _Node(_SCALAR, token.mark) if token.kind in _NO_CONTENT else self._node(block=True)
            yield self._document_end("", root)
            token = scanner.peek()

    def _document_head(self) -> str:
        """Cut the comments before the last empty line off: they belong to the document, the rest to its content."""
        comments = self._scanner.head
        if comments.endswith("\n"):
            self._scanner.head = ""
            return comments[:-1]
        gap = comments.rfind("\n\n")
        if gap < 0:
            return ""
        self._scanner.head = comments[gap + 2 :]
        return comments[:gap]

    def _document_end(self, head: str, root: _Node) -> _Document:
        self._nodes_left = self._nodes
        if self._scanner.peek().kind == scan.DOCUMENT_END:
            self._scanner.skip()
        self._prefixes = {}
        _, above, _, foot = self._comments()
        return _Document(head, root, foot or above)

    def _comments(self) -> tuple[str, str, str, str]:
        scanner = self._scanner
        taken = self._stem, scanner.head, scanner.line, scanner.foot
        self._stem = scanner.head = scanner.line = scanner.foot = ""
        return taken

    def _take(self, node: _Node) -> None:
        _, node.head, node.line, node.foot = self._comments()

    def _directives(self) -> None:
        version = False
        while (token := self._scanner.peek()).kind in (scan.VERSION, scan.TAG_PREFIX):
            if token.kind == scan.VERSION:
                if version:
                    raise _error("found duplicate %YAML directive", token.mark)
                if token.value != "1.1":  # go-yaml knows no other
                    raise _error("found incompatible YAML document", token.mark)
                version = True
            elif token.value in self._prefixes:
                raise _error("found duplicate %TAG directive", token.mark)
            else:
                self._prefixes[token.value] = token.detail
            self._scanner.skip()
        self._prefixes.setdefault("!", "!")
        self._prefixes.setdefault("!!", "tag:yaml.org,2002:")

    # Nodes

    def _node(self, ends: tuple[str, ...] = (), *, block: bool = False, indentless: bool = False) -> _Node:
        """ends: tokens before which there is no node, which means null.  block: not inside brackets or braces.

        Every level of the document costs two frames of the interpreter's stack, this one and its collection's.
        """
        scanner = self._scanner
        token = scanner.peek()
        mark = token.mark
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise LimitError(f"line {mark[1] + 1}: the document has too many nodes")
        if token.kind in ends:
            return _Node(_SCALAR, mark)
        if token.kind == scan.ALIAS:
            return self._alias(token)
        anchor = tag = ""
        while (token.kind == scan.ANCHOR and not anchor) or (token.kind == scan.TAG and not tag):
            if token.kind == scan.ANCHOR:
                anchor = token.value
            else:
                tag = self._full_tag(token)
            scanner.skip()
            token = scanner.peek()
        kind = token.kind
        if kind == scan.SCALAR:
            node = self._new(_SCALAR, mark, tag, anchor, token.value)
            node.quoted = token.detail != ""
            self._take(node)
            scanner.skip()
            return node
        if indentless and kind == scan.BLOCK_ENTRY:
            return self._list(self._new(_LIST, mark, tag, anchor), indentless=True)
        if kind == scan.FLOW_SEQUENCE:
            return self._flow_list(self._new(_LIST, mark, tag, anchor))
        if kind == scan.FLOW_MAPPING:
            return self._flow_map(self._new(_MAP, mark, tag, anchor))
        if block and kind in (scan.BLOCK_SEQUENCE, scan.BLOCK_MAPPING):
            node = self._new(_LIST if kind == scan.BLOCK_SEQUENCE else _MAP, mark, tag, anchor)
            node.head, self._stem = self._stem, ""
            return self._list(node) if kind == scan.BLOCK_SEQUENCE else self._map(node)
        if anchor or tag:
            return self._new(_SCALAR, mark, tag, anchor)
        raise _error("did not find expected node content", token.mark)

    def _new(self, kind: str, mark: scan.Mark, tag: str, anchor: str, value: str = "") -> _Node:
        node = _Node(kind, mark, tag, value)
        if anchor:
            self._anchors[anchor] = node
        return node

    def _alias(self, token: scan.Token) -> _Node:
        node = _Node(_ALIAS, token.mark, "", token.value)
        self._take(node)
        self._scanner.skip()
        node.target = self._anchors.get(token.value)
        if node.target is None:
            raise _error(f"unknown anchor '{shown(token.value)}' referenced", token.mark)
        return node

    def _full_tag(self, token: scan.Token) -> str:
        if not token.value:
            return token.detail
        prefix = self._prefixes.get(token.value)
        if prefix is None:
            raise _error("found undefined tag handle", token.mark)
        return prefix + token.detail

    def _enter(self, mark: scan.Mark) -> None:
        """One collection deeper; its first token is skipped."""
        self._scanner.peek()
        self._scanner.skip()
        self._deeper(mark)

    def _deeper(self, mark: scan.Mark) -> None:
        self._depth_left -= 1
        if self._depth_left < 0:
            raise LimitError(f"line {mark[1] + 1}: the document is nested too deeply")

    def _list(self, node: _Node, *, indentless: bool = False) -> _Node:
        """A block list. indentless: its dashes stand in the column of the key above, so no token begins or ends it."""
        scanner = self._scanner
        ends: tuple[str, ...] = (scan.BLOCK_ENTRY, scan.BLOCK_END)
        if indentless:
            ends += (scan.KEY, scan.VALUE)
            self._deeper(node.mark)
        else:
            self._enter(node.mark)
        while (token := scanner.peek()).kind == scan.BLOCK_ENTRY:
            above = len(scanner.head)
            scanner.skip()
            if above and scanner.peek().kind in (scan.BLOCK_SEQUENCE, scan.BLOCK_MAPPING):
                # What stood above the dash belongs to the collection as a whole, not to its first entry.
                self._stem = scanner.head[:above]
                scanner.head = scanner.head[above + 1 :]
            node.content.append(self._node(ends, block=True))
        if not indentless:
            if token.kind != scan.BLOCK_END:
                raise _error("did not find expected '-' indicator", token.mark)
            scanner.skip()
        node.line = node.foot = ""
        self._depth_left += 1
        return node

    def _map(self, node: _Node) -> _Node:
        scanner = self._scanner
        ends = (scan.KEY, scan.VALUE, scan.BLOCK_END)
        self._enter(node.mark)
        content = node.content
        while (token := scanner.peek()).kind == scan.KEY:
            scanner.skip()
            key = self._node(ends, block=True, indentless=True)
            content.append(key)
            if key.foot and len(content) > 2:
                # It stood between the two entries, so it is the foot of the one before.
                content[-3].foot, key.foot = key.foot, ""
            if scanner.peek().kind == scan.VALUE:
                scanner.skip()
                value = self._node(ends, block=True, indentless=True)
            else:
                value = _Node(_SCALAR, token.mark)
            content.append(value)
            if value.foot and not key.foot:
                key.foot, value.foot = value.foot, ""
        if token.kind != scan.BLOCK_END:
            raise _error("did not find expected key", token.mark)
        _, _, node.line, node.foot = self._comments()
        if node.foot and content:
            content[-2].foot, node.foot = node.foot, ""
        scanner.skip()
        self._depth_left += 1
        return node

    def _flow_list(self, node: _Node) -> _Node:
        scanner = self._scanner
        self._take(node)
        self._enter(node.mark)
        token = scanner.peek()
        while token.kind != scan.FLOW_SEQUENCE_END:
            if node.content:
                if token.kind != scan.FLOW_ENTRY:
                    raise _error("did not find expected ',' or ']'", token.mark)
                scanner.skip()
                token = scanner.peek()
            if token.kind == scan.KEY:
                node.content.append(self._flow_pair(token.mark))
            elif token.kind != scan.FLOW_SEQUENCE_END:
                node.content.append(self._node())
            else:
                break
            token = scanner.peek()
        return self._flow_end(node)

    def _flow_pair(self, mark: scan.Mark) -> _Node:
        """``[a: b]``: a mapping of one entry without braces."""
        scanner = self._scanner
        scanner.skip()
        self._deeper(mark)
        ends = (scan.FLOW_ENTRY, scan.FLOW_SEQUENCE_END)
        token = scanner.peek()
        if token.kind == scan.VALUE or token.kind in ends:
            key = _Node(_SCALAR, token.mark)
            scanner.skip()  # as libyaml: the token is lost, and most often an error follows
        else:
            key = self._node()
        token = scanner.peek()
        if token.kind == scan.VALUE:
            scanner.skip()
            value = self._node(ends)
        else:
            value = _Node(_SCALAR, token.mark)
        if value.foot and not key.foot:
            key.foot, value.foot = value.foot, ""
        self._depth_left += 1
        pair = _Node(_MAP, mark)
        pair.content += (key, value)
        return pair

    def _flow_map(self, node: _Node) -> _Node:
        scanner = self._scanner
        self._take(node)
        self._enter(node.mark)
        ends = (scan.FLOW_ENTRY, scan.FLOW_MAPPING_END)
        token = scanner.peek()
        while token.kind != scan.FLOW_MAPPING_END:
            if node.content:
                if token.kind != scan.FLOW_ENTRY:
                    raise _error("did not find expected ',' or '}'", token.mark)
                scanner.skip()
                token = scanner.peek()
            if token.kind == scan.KEY:
                scanner.skip()
                key = self._node((scan.VALUE, *ends))
                token = scanner.peek()
                if token.kind == scan.VALUE:
                    scanner.skip()
                    value = self._node(ends)
                else:
                    value = _Node(_SCALAR, token.mark)
            elif token.kind != scan.FLOW_MAPPING_END:
                key = self._node()
                value = _Node(_SCALAR, scanner.peek().mark)
            else:
                break
            node.content += (key, value)
            if value.foot and not key.foot:
                key.foot, value.foot = value.foot, ""
            token = scanner.peek()
        return self._flow_end(node)

    def _flow_end(self, node: _Node) -> _Node:
        _, _, node.line, node.foot = self._comments()
        self._scanner.skip()
        self._depth_left += 1
        return node


class _Builder:
    """Nodes of one document -> a branch.

    first: of the stream, where go-yaml also refuses what sops would not notice elsewhere.
    """

    def __init__(self, depth: int, nodes: int, *, first: bool, spelled: bool = False) -> None:
        self._depth = depth
        self._nodes = nodes
        self._first = first
        self._spelled = spelled
        self._open: set[_Node] = set()  # aliases that are being expanded
        self.seen = self._aliased = 0

    def document(self, document: _Document) -> Branch:
        entries: list[Entry] = []
        _comment_entries(entries, document.head)
        self._root(document.root, entries)
        _comment_entries(entries, document.foot)
        return Branch(entries)

    def _root(self, node: _Node, entries: list[Entry]) -> None:
        if node.kind == _MAP:
            self._entries(node, entries, 0, comments=True)
            return
        _comment_entries(entries, node.head)
        _comment_entries(entries, node.line)
        if node.kind == _LIST:
            raise _error("YAML documents that are sequences are not supported", node.mark)
        if node.kind == _ALIAS:
            assert node.target is not None
            self._root(node.target, entries)
            _comment_entries(entries, node.foot)
        elif self._scalar(node) is not None:
            raise _error("YAML documents that are values are not supported", node.mark)

    def _count(self, node: _Node, depth: int = 0) -> None:
        self.seen += 1
        if self._open:
            self._aliased += 1
            if self._aliased > 100 and self.seen > 1000 and self._aliased > self.seen * _alias_share(self.seen):
                raise LimitError(f"line {node.mark[1] + 1}: the document contains excessive aliasing")
        if self.seen > self._nodes:
            raise LimitError(f"line {node.mark[1] + 1}: the document has too many nodes")
        if depth > self._depth:
            raise LimitError(f"line {node.mark[1] + 1}: the document is nested too deeply")

    def _entries(self, node: _Node, entries: list[Entry], depth: int, *, comments: bool) -> None:
        self._count(node, depth + 1)
        if self._first:
            _check_unique(node)
        if comments:
            _comment_entries(entries, node.head)
            _comment_entries(entries, node.line)
        content = node.content
        for at in range(0, len(content), 2):
            key, value = content[at], content[at + 1]
            if self._first and _is_merge(key):
                _check_merge(value)
            _comment_entries(entries, key.head)
            _comment_entries(entries, key.line)
            single = value.kind in (_SCALAR, _ALIAS)
            if single:
                _comment_entries(entries, value.head)
                _comment_entries(entries, value.line, inline=True)
            entries.append(Entry(self._key(key), self._value(value, depth + 1, comments=not single)))
            if single:
                _comment_entries(entries, value.foot)
            _comment_entries(entries, key.foot)
        if comments:
            _comment_entries(entries, node.foot)

    def _value(self, node: _Node, depth: int, *, comments: bool) -> Node:
        """comments: whether those of the node itself still have to be written down."""
        alias = None
        if node.kind == _ALIAS:
            alias, node, comments = node, self._follow(node), True
        found: Node
        if node.kind == _SCALAR:
            self._count(node, depth)
            found = self._scalar(node)
        elif node.kind == _MAP:
            entries: list[Entry] = []
            self._entries(node, entries, depth, comments=comments)
            found = Branch(entries)
        else:
            found = self._elements(node, depth, comments=comments)
        if alias is not None:
            self._open.discard(alias)
        return found

    def _follow(self, alias: _Node) -> _Node:
        if alias in self._open:
            raise _error(f"anchor '{shown(alias.value)}' value contains itself", alias.mark)
        self._count(alias)
        self._open.add(alias)
        assert alias.target is not None
        return alias.target

    def _elements(self, node: _Node, depth: int, *, comments: bool) -> list[Node]:
        self._count(node, depth + 1)
        elements: list[Node] = []
        if comments:
            _comment_elements(elements, node.head)
            _comment_elements(elements, node.line)
        for item in node.content:
            _comment_elements(elements, item.head)
            _comment_elements(elements, item.line, inline=True)
            elements.append(self._value(item, depth + 1, comments=False))
            _comment_elements(elements, item.foot)
        if comments:
            _comment_elements(elements, node.foot)
        return elements

    def _key(self, node: _Node) -> Scalar:
        self._count(node)
        if node.kind == _ALIAS:
            assert node.target is not None
            node = node.target
        if node.kind != _SCALAR:
            raise _error("a mapping key must be a scalar", node.mark)
        return self._scalar(node)

    def _scalar(self, node: _Node) -> Scalar:
        if node.tag in ("", "!"):
            found = node.value if node.quoted else resolve_plain(node.value)
        else:
            try:
                found = resolve_tagged(node.tag, node.value)
            except StoreError as error:
                raise _error(error.message, node.mark) from None
        return node.value if self._spelled and found is not None and not isinstance(found, str) else found


def _alias_share(nodes: int) -> float:
    """How much of a document may come from aliases: 99 % of a small one, 10 % of a large one, as in go-yaml."""
    return 0.99 - 0.89 * min(max(nodes - 400_000, 0) / 3_600_000, 1.0)


def _check_unique(node: _Node) -> None:
    """As go-yaml compares: by text, whatever the type, and aliases by their names."""
    seen = set()
    for key in node.content[::2]:
        identity = (key.kind, key.value)
        if identity in seen:
            raise _error(f"mapping key '{shown(key.value)}' already defined", key.mark)
        seen.add(identity)


def _is_merge(key: _Node) -> bool:
    if key.kind != _SCALAR or key.value != "<<":
        return False
    return key.tag in _MERGE or (key.tag in ("", "!") and not key.quoted)


def _check_merge(value: _Node) -> None:
    sources = value.content if value.kind == _LIST else [value]
    for source in sources:
        target = source.target if source.target is not None else source
        if target.kind != _MAP:
            raise _error("map merge requires map or sequence of maps as the value", source.mark)


def _comment_entries(entries: list[Entry], lines: str, *, inline: bool = False) -> None:
    if lines:
        entries.extend(Entry(Comment(line[1:], inline), None) for line in lines.split("\n") if line)


def _comment_elements(elements: list[Node], lines: str, *, inline: bool = False) -> None:
    if lines:
        elements.extend(Comment(line[1:], inline) for line in lines.split("\n") if line)
