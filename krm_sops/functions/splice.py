"""A plain item becomes an encrypted one where it stands: ciphertexts for values, a ``sops`` block behind the rest.

What did not change leaves as it was encrypted, byte for byte, but for what an orchestrator puts on items.
"""

from __future__ import annotations

from krm_sops.encryption import is_same, places_of
from krm_sops.errors import InputError
from krm_sops.functions.decrypt_item import without_comments
from krm_sops.functions.original import read
from krm_sops.krm.item import ORIGINAL, Item, edited_part, line_end
from krm_sops.stores.json import in_one_line, quote
from krm_sops.tree import Branch, Comment, Entry, leaves, with_leaves
from krm_sops.yamlwrite import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from krm_sops.functions.decrypt_item import Document
    from krm_sops.limits import Limits
    from krm_sops.metadata import Metadata
    from krm_sops.tree import Leaf, Node


class Plain:
    """An item as it stands, without what was put on it while functions run.

    tree: with its comments.  numbers: for each leaf of the tree, in walk order, its number in the item; None for a
    comment.  put_on: the names and values of the annotations that do not count.
    """

    __slots__ = ("item", "numbers", "put_on", "tree")

    def __init__(self, item: Item) -> None:
        """Raises InputError where its comments make it another item."""
        self.item = item
        left_out = set(item.injected_leaves(ORIGINAL))
        annotations = _annotations(item)
        if annotations is not None and annotations.number(ORIGINAL) is not None and not left_out:
            raise InputError("annotations that are no texts", path=("metadata", "annotations"))
        whole = self._with_comments()
        numbers: list[int | None] = []
        count = 0
        for leaf in leaves(whole):
            numbers.append(None if isinstance(leaf, Comment) else count)
            count += not isinstance(leaf, Comment)
        self.numbers = [number for number in numbers if number not in left_out]
        self.put_on: dict[str, str] = {}
        self.tree = whole
        if left_out and annotations is not None:
            first = item.source.places[id(annotations)].first_leaf - item.first
            names = {str(entry.key) for at, entry in enumerate(annotations.entries) if first + at in left_out}
            self.put_on = {name: item.annotation(name) for name in names}
            self.tree = without_annotations(whole, names)

    def _with_comments(self) -> Branch:
        item = self.item
        text = item.own_text()
        if item.source.is_json or "#" not in text:
            return item.branch
        from krm_sops import yamlcomments

        whole = yamlcomments.read(text)[0]
        if without_comments(whole) != item.branch:
            raise InputError("the item reads differently with its comments than without them")
        return whole


def _annotations(item: Item) -> Branch | None:
    metadata = item.branch.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Branch) else None
    return annotations if isinstance(annotations, Branch) else None


def without_annotations(whole: Branch, names: Collection[str]) -> Branch:
    """Annotations that are empty then are none at all."""
    entries = []
    for entry in whole.entries:
        if entry.key == "metadata" and isinstance(entry.value, Branch):
            kept = []
            for inner in entry.value.entries:
                value = inner.value
                if inner.key == "annotations" and isinstance(value, Branch):
                    value = Branch([one for one in value.entries if one.key not in names])
                    if not value.entries:
                        continue
                kept.append(Entry(inner.key, value))
            entries.append(Entry("metadata", Branch(kept)))
        else:
            entries.append(entry)
    return Branch(entries)


class Kept:
    """An item with the document that it was, which was opened and verified.

    now: the item as it is.  then: as SopsDecrypt made it.  was: as it was encrypted.
    """

    __slots__ = ("_written", "document", "item", "now", "then", "was")

    def __init__(self, item: Item, document: Document, limits: Limits) -> None:
        self.item = item
        self.was = document.item
        self.document = document
        self.now = Plain(item)
        document.replace()
        self.was.cut("sops")
        self.then = Plain(item_of(self.was.own_text(changed=True), limits))
        self.was.edits.clear()
        self._written = self._values()

    @property
    def is_unchanged(self) -> bool:
        return is_same(self.now.tree, self.then.tree)

    @property
    def encrypted(self) -> Branch:
        return without_annotations(self.document.branch, self.then.put_on)

    @property
    def plain(self) -> Branch:
        """What `encrypted` decrypts to."""
        return without_annotations(self._opened(), self.then.put_on)

    def _opened(self) -> Branch:
        found = with_leaves(self.document.branch, iter(self.document.opened.leaves))
        assert isinstance(found, Branch)
        return found

    def _values(self) -> dict[object, tuple[Leaf, Leaf, Leaf, int]]:
        """By places: a value as it was encrypted, decrypted, and written then; and its number in the original."""
        branch = self._opened()
        written = list(leaves(self.then.item.branch))
        found: dict[object, tuple[Leaf, Leaf, Leaf, int]] = {}
        values = zip(places_of(branch, ()), leaves(self.document.branch), leaves(branch), strict=True)
        for at, (place, sealed, value) in enumerate(values):
            if not isinstance(value, Comment):
                found[place] = sealed, value, written[len(found)], self.document.number(at)
        return found

    def spelling(self, place: object, value: Leaf, sealed: Leaf) -> str:
        """How a leaf was spelled that has neither changed nor become another ciphertext; "" where that is not so."""
        known = self._written.get(place)
        if known is None or not is_same(known[2], value) or not is_same(known[0], sealed):
            return ""
        text = self.was.text(known[3])
        return "" if "\n" in text else text

    def typed(self) -> Branch:
        """The item as it is, its unchanged values of the types that they were encrypted as."""
        tree = self.now.tree
        new = []
        for place, value in zip(places_of(tree, ()), leaves(tree), strict=True):
            known = self._written.get(place)
            new.append(known[1] if known is not None and is_same(known[2], value) else value)
        found = with_leaves(tree, iter(new))
        assert isinstance(found, Branch)
        return found

    def restore(self) -> bool:
        """Put the original back, with what is put on the item now. False where that cannot be told apart."""
        item, was = self.item, self.was
        if item.place.indent < 0 or was.place.indent < 0 or not self.then.put_on.keys() <= self.now.put_on.keys():
            return False
        for name, value in self.now.put_on.items():
            if name != ORIGINAL:
                was.annotate(name, quote(value)[1:-1])
        first, stop = item.lines()
        text = item.source.text
        lead = text[first : text.index("-", first) + 1]
        own = indented(was.own_text(changed=True).removesuffix("\n"), item.place.indent - was.place.indent)
        item.edits.append((first, stop, lead + own[len(lead) :]))
        return True

    def block(self, metadata: Metadata) -> str:
        """The lines of the ``sops`` block as they were, but for the MAC and its moment; without indentation."""
        was = self.was
        number = was.branch.number("sops")
        block = was.branch.get("sops")
        assert number is not None
        assert isinstance(block, Branch)
        if was.place.indent < 0:
            return block_of(metadata)
        new = {"mac": metadata.mac, "lastmodified": metadata.lastmodified}
        at = was.source.places[id(block)].first_leaf - was.first
        for entry in block.entries:
            name = str(entry.key).lower()
            if name in new and entry.value != new[name]:
                was.put(at, new[name], quoted=name == "lastmodified", path=("sops", name))
            at += sum(1 for _ in leaves(entry.value))
        start, stop = was.place.entries[number]
        line = was.source.text.rfind("\n", 0, start) + 1
        text = edited_part(was.source.text, (line, line_end(was.source.text, stop)), was.edits)
        was.edits.clear()
        return indented(text, -was.place.indent)


def item_of(text: str, limits: Limits) -> Item:
    """An item that stands alone. Raises InputError."""
    source = read(text, limits)
    if not isinstance(source.root, Branch):
        raise InputError("no object")
    return Item(source, source.root)


def block_of(metadata: Metadata) -> str:
    """A new ``sops`` block, indented as kpt does it."""
    return write([Branch([Entry("sops", metadata.to_branch())])], 2).removesuffix("\n")


def indented(text: str, by: int) -> str:
    """by: spaces before each line with content, taken away where it is negative."""
    lines = text.split("\n")
    if by < 0:
        return "\n".join(line[min(-by, len(line) - len(line.lstrip(" "))) :] for line in lines)
    return "\n".join(" " * by + line if line else line for line in lines)


def splice(plain: Plain, sealed: Branch, block: str, metadata: Metadata, kept: Kept | None = None) -> None:
    """Edit an item so that it holds what `sealed` does, and the ``sops`` block.

    sealed: `plain.tree`, encrypted.  block: its lines.  kept: what the item was. Raises InputError.
    """
    item = plain.item
    comments: Comments | None = None
    tree = plain.tree
    for place, number, path, old, new in zip(
        places_of(tree, ()), plain.numbers, _paths(tree, ()), leaves(tree), leaves(sealed), strict=True
    ):
        if number is None:
            comments = comments or Comments(item)
            comments.put(old, new, path)
            continue
        spelled = kept.spelling(place, old, new) if kept is not None else ""
        span = item.span(number)
        if spelled and span is not None and span.indent >= 0 and not span.anchored:
            if spelled != item.text(number):
                item.edits.append((span.start, span.end, spelled))
        elif isinstance(new, str) and new != old:
            item.put(number, new, quoted=False, path=path)
    if item.annotation(ORIGINAL):
        item.cut_annotation(ORIGINAL)
    if item.place.indent < 0:
        end = item.place.entries[-1][1]
        item.edits.append((end, end, f', "sops": {in_one_line(metadata.to_branch())}'))
    else:
        stop = item.lines()[1]
        item.edits.append((stop, stop, "\n" + indented(block, item.place.indent)))


class Comments:
    """Where the comments of an item are, by their texts. What stands in a value is no comment."""

    def __init__(self, item: Item) -> None:
        self.item = item
        text = item.source.text
        at, stop = item.lines()
        values = [(span.start, span.end) for span in map(item.span, range(item.place.after - item.first)) if span]
        values.sort(reverse=True)
        self._places: dict[str, list[int]] = {}
        while (at := text.find("#", at, stop)) >= 0:
            while values and values[-1][1] <= at:
                values.pop()
            if values and values[-1][0] <= at:
                at = values[-1][1]
            elif text[at - 1 : at] in ("", " ", "\t", "\n"):
                end = line_end(text, at)
                self._places.setdefault(text[at + 1 : end], []).append(at)
                at = end
            else:
                at += 1

    def put(self, old: Leaf, new: Leaf, path: tuple[str, ...]) -> None:
        """Of several that are alike, the next one, so none may be left out. Raises InputError.

        In a list it stays a comment, too: sops writes an element instead, and reads both.
        """
        assert isinstance(old, Comment)
        places = self._places.get(old.text)
        at = places.pop(0) if places else -1
        text = new.text if isinstance(new, Comment) else str(new)
        if text == old.text:
            return
        if at < 0:
            raise InputError("a comment that is to be encrypted, and is not found in the text", path=path)
        self.item.edits.append((at + 1, at + 1 + len(old.text), text))


def _paths(node: Node, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """For each leaf, in walk order, the mapping keys from the root."""
    if isinstance(node, Branch):
        for entry in node.entries:
            if isinstance(entry.key, Comment):
                yield path
            else:
                yield from _paths(entry.value, (*path, str(entry.key)))
    elif isinstance(node, list):
        for element in node:
            yield from _paths(element, path)
    else:
        yield path
