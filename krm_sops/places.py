"""Where the leaves and mappings of a document stand in its text. Readers fill it in, the splicer uses it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.tree import Node


class Span:
    """Where a leaf stands in the text, with its tag.

    indent: the column of its collection; -1 where only one line will do, as in flow style.  style: | > ' " or "".
    anchored: an alias may repeat it: it, or a collection around it, has an anchor.
    """

    __slots__ = ("anchored", "end", "indent", "start", "style")

    def __init__(self, start: int, end: int, indent: int, style: str, anchored: bool) -> None:
        self.start = start
        self.end = end
        self.indent = indent
        self.style = style
        self.anchored = anchored


class Place:
    """Where a mapping or a YAML list stands. entries: (start of the key, end of the value), or of the element, each.

    first_leaf, after: the numbers of its first leaf and of the first one behind it.  indent: its column, -1 in flow
    style.
    """

    __slots__ = ("after", "entries", "first_leaf", "indent")

    def __init__(self, first_leaf: int, indent: int) -> None:
        self.first_leaf = self.after = first_leaf
        self.indent = indent
        self.entries: list[tuple[int, int]] = []


class Source:
    """One document: its text, tree, and places.

    spans: one for each leaf in walk order, None for a leaf that an alias repeats.  places: by ``id`` of branch or list.
    is_json: the text is JSON, and so must be whatever is put into it.  nodes: collections and scalars, keys among
    them, after alias expansion.  aliases: where the anchor stands, and where the alias does.
    """

    __slots__ = ("aliases", "is_json", "nodes", "places", "root", "spans", "text")

    def __init__(self, text: str, is_json: bool = False) -> None:
        self.text = text
        self.is_json = is_json
        self.nodes = 0
        self.aliases: list[tuple[int, int]] = []
        self.root: Node = None
        self.spans: list[Span | None] = []
        self.places: dict[int, Place] = {}
