"""What kustomize understands where sops, and so our reader, does not: merge keys; YAML 1.1 in a kustomization.

A kustomization goes through go-yaml v2: ``yes`` and ``off`` are booleans, a time is the text that it is written as, and
a merge key takes the place of what stands before it. The configs of plugins go through v3: only merge keys are special,
and what a mapping has itself comes first. Measured with kustomize 5.8.1.
"""

from __future__ import annotations

from bisect import bisect_left

from krm_sops.errors import InputError, shown
from krm_sops.tree import Branch, Entry, Timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.places import Source
    from krm_sops.tree import Leaf, Node

MERGE = "<<"
_BOOLEANS = {
    spelled: value
    for words, value in ((("y", "yes", "on"), True), (("n", "no", "off"), False))
    for word in words
    for spelled in (word, word.capitalize(), word.upper())
}


def merged(source: Source, *, is_old: bool) -> Node:
    """The document without merge keys.  is_old: by go-yaml v2, and no key is anything but text. Raises InputError.

    No mapping may have a key twice.
    """
    return _Reading(source, is_old=is_old).node(source.root, len(source.text))


class _Reading:
    """leaf: the number of the next one.  known: what was read before, by ``id`` or where its anchor stands."""

    def __init__(self, source: Source, *, is_old: bool) -> None:
        self.source = source
        self.is_old = is_old
        self.leaf = 0
        self.known: dict[int, Node] = {}
        self.anchored: dict[int, Leaf] = {}
        self.aliases = sorted((alias, anchor) for anchor, alias in source.aliases)

    def node(self, node: Node, end: int) -> Node:
        """end: of its text."""
        if not isinstance(node, (Branch, list)):
            return self.scalar(node, end)
        place = self.source.places[id(node)]
        if id(node) in self.known:
            self.leaf += place.after - place.first_leaf
        elif isinstance(node, Branch):
            self.known[id(node)] = self.mapping(node)
        else:
            ends = [entry[1] for entry in place.entries]
            self.known[id(node)] = [self.node(*pair) for pair in zip(node, ends, strict=True)]
        return self.known[id(node)]

    def scalar(self, value: Leaf, end: int) -> Leaf:
        span = self.source.spans[self.leaf]
        self.leaf += 1
        if span is None:
            number = bisect_left(self.aliases, (end, 0)) - 1
            anchor = self.aliases[number][1] if number >= 0 else -1
            if anchor not in self.anchored:
                raise InputError("an alias of a key")
            return self.anchored[anchor]
        spelled = self.source.text[span.start : span.end]
        if spelled.startswith("&"):
            spelled = spelled.partition(" ")[2].lstrip()
        if self.is_old and not span.style:
            if isinstance(value, Timestamp) and not spelled.startswith("!"):
                value = spelled
            elif isinstance(value, str) and spelled == value:
                value = _BOOLEANS.get(value, value)
        if span.anchored:
            self.anchored[span.start] = value
        return value

    def mapping(self, branch: Branch) -> Branch:
        own: dict[object, Node] = {}
        others: dict[object, Node] = {}
        for entry, (start, end) in zip(branch.entries, self.source.places[id(branch)].entries, strict=True):
            is_plain = self.source.text[start] not in "\"'"
            value = self.node(entry.value, end)
            if entry.key == MERGE and is_plain:
                others = _joined(value)
                if self.is_old:
                    own |= others
                continue
            if self.is_old and (not isinstance(entry.key, str) or (is_plain and entry.key in _BOOLEANS)):
                raise InputError(f"the key {shown(entry.key, 60)} is no text for kustomize", hint="put it into quotes")
            own[entry.key] = value
        return Branch(Entry(key, value) for key, value in {**others, **own}.items())  # type: ignore[arg-type]


def _joined(value: Node) -> dict[object, Node]:
    """What a merge key brings along: of several mappings, the first one that has a key counts."""
    found: dict[object, Node] = {}
    for part in reversed(value if isinstance(value, list) else [value]):
        if not isinstance(part, Branch):
            raise InputError(f"{MERGE} takes a mapping, or a list of mappings")
        found |= {entry.key: entry.value for entry in part.entries}
    return found
