"""A ResourceList as spans of text: only the items that need work become trees, everything else leaves as it came.

Two readers give the same answers. The fast one looks for the few byte sequences without which an item cannot be of
interest, and parses just the pieces around them. The exact one parses the whole stream. The fast one gives up
(NotPlainError), so that the exact one decides, wherever one of these does not hold:

* the list has the layout that kpt and kustomize write: ``items:``, then dashes in the first column; lines end with LF;
* between its items, and behind the last one, no line in the first column belongs to something else than the list;
* a piece parses alone, as a flow mapping, or as a block mapping of at least two keys whose first value is no plain text
  with a comma: inside a flow collection no such text can stand;
* a piece cannot begin inside a quoted scalar: the next quotation mark of either kind would end that scalar, and what
  follows it could not follow a scalar.

What makes an item interesting is a top-level key ``sops``. It needs these four letters, or an escape, a tag or an
alias in the position of a key; all of these make a piece a candidate (S17).

Where the two differ: a piece that is no candidate is not read, so that it may be no YAML at all, or nested too deeply.
It leaves as it came, and whoever reads the list next will say so. Nor does it count for limits. And a field of the list
itself that is unknown or oddly spelled, stands behind the items, and imitates an item in a quoted or flow value, goes
unnoticed.
"""

from __future__ import annotations

from _bisect import bisect_right

from krm_sops.errors import InputError, KrmSopsError, LimitError, ResourceListError, shown
from krm_sops.krm.item import Item, cut_entry, dash_line, edited, edited_part, line_end
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from krm_sops.krm.results import Result
    from krm_sops.limits import Limits
    from krm_sops.places import Source
    from krm_sops.tree import Node

_DASH = b"\n- "
_HEAD = b"\nitems:\n- "
_BOM = b"\xef\xbb\xbf"
_OTHER_BREAKS = (b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
_PLAIN_FRAME = b"apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
_LAST_KEYS = (b"functionConfig", b"results", b"apiVersion", b"kind")
_AFTER_SCALAR = b" \t\n:,]}#"
_IN_WORD = b"-_./0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OBSCURE_KEY = b'":?!&*{['
_TO_NAMES = (b"ame", b"metadata", b"annotations", b",")
_TO_KIND = (b"kind",)


class NotPlainError(Exception):
    """The fast reader's preconditions do not hold."""


class ResourceList:
    """config: the functionConfig as an item, None where there is none.  Items are asked for by what they contain."""

    from_kustomize = False  # what is not in the config is not known
    originals: Mapping[str, bytes] = {}

    def __init__(self, raw: bytes, limits: Limits, *, exact: bool = False) -> None:
        """exact: skip the fast reader. Raises ResourceListError, LimitError."""
        if len(raw) > limits.input_bytes:
            raise LimitError(f"an input of more than {limits.input_bytes >> 20} MiB (the limit input_bytes)")
        if not raw or raw.isspace():
            raise ResourceListError(
                "nothing on stdin; a ResourceList is expected", hint="see krm-sops --help for the other ways to run it"
            )
        self.raw = raw
        self.limits = limits
        self._encrypted: list[Item] | None = None
        self._stream: _Plain | _Whole = (None if exact else _plain(raw, limits)) or _Whole(raw, limits)

    @property
    def config(self) -> Item | None:
        return self._stream.config

    @property
    def items(self) -> list[Item]:
        """All of them, in order. Raises NotPlainError unless the exact reader is at work."""
        return self._stream.all_items()

    def encrypted(self) -> list[Item]:
        """The items with a top-level ``sops``, in order. Raises NotPlainError: read the list again with `exact`."""
        if self._encrypted is None:
            found = self._stream.with_key(b"sops")
            self._encrypted = [item for item in found if item.branch.number("sops") is not None]
        return self._encrypted

    def holding(self, text: bytes) -> list[Item]:
        """The items in whose spelling this stands, in order; perhaps more. Raises NotPlainError."""
        return self._stream.with_text(text)

    def named(self, name: str) -> list[Item]:
        """The items of this name, now or before an orchestrator renamed them; none for "". Raises NotPlainError."""
        if not name:
            return []
        return [item for item in self._stream.with_name(name) if name in (item.name, item.original_name)]

    def of_kind(self, kind: str) -> list[Item]:
        """The items of this kind, in order. Raises NotPlainError."""
        return [item for item in self._stream.with_word(kind.encode()) if item.kind == kind]

    def write(
        self,
        results: Sequence[Result] = (),
        *,
        without: Iterable[Item] = (),
        keep_config: bool = True,
        changed: bool = True,
        added: Sequence[Branch] = (),
        order: Sequence[Item] | None = None,
    ) -> bytes:
        """The list with the edits of its items, and their replacements.

        without: items that are left out.  changed: False drops all edits.  added: objects that come after the items.
        order: all items, as they are to leave.

        Raises NotPlainError for an order, unless the exact reader is at work; ResourceListError where an alias and what
        it repeats would change places.
        """
        if order is not None:
            self._stream.arrange(order)
        return self._stream.write(results, list(without), keep_config, changed, list(added))


def _plain(raw: bytes, limits: Limits) -> _Plain | None:
    try:
        return _Plain(raw, limits)
    except NotPlainError:
        return None


class _Plain:
    """The fast reader. The list is raw[:head], its `frame` up to the items; the pieces from `starts`; raw[end:]."""

    def __init__(self, raw: bytes, limits: Limits) -> None:
        self.raw = raw
        self.limits = limits
        self.items: dict[int, Item] = {}
        self.nodes_left = limits.run_nodes
        self.quotes: dict[int, tuple[int, int, bool]] = {}
        self.head = 0 if raw.startswith(_HEAD[1:]) else raw.find(_HEAD) + 1
        if not raw.startswith(_HEAD[1:], self.head) or raw.startswith(_BOM) or b"\r" in raw:
            raise NotPlainError
        if not raw.isascii() and any(mark in raw for mark in _OTHER_BREAKS):
            raise NotPlainError
        self.end = self._end()
        self.starts = self._starts()
        self.frame: Source | None = None
        self.config = self._config()

    def _end(self) -> int:
        """Where the items end and the rest of the list's own fields begins."""
        raw, head = self.raw, b"\n" + self.raw[: self.head]
        ends = [
            at + 1
            for key in (b"\n" + key + b":" for key in _LAST_KEYS)
            if key not in head and (at := raw.rfind(key, self.head)) >= 0
        ]
        end = min(ends, default=len(raw))
        if ends and not self._outside_quotes(end):
            raise NotPlainError
        return end

    def _starts(self) -> list[int]:
        """Where the items begin."""
        raw, first = self.raw, self.head + len(_HEAD) - len(_DASH)
        starts: list[int] = []
        at = self.end
        while (at := raw.rfind(_DASH, first, at)) >= 0:  # from the end: rfind is the faster one here
            line = raw.rfind(b"\n", 0, at) + 1
            is_deeper = raw[line] == 0x20 and raw[line:at].lstrip(b" ")[:1].isalnum()
            if len(starts) > self.limits.run_nodes or (not is_deeper and not self._is_item_line(at)):
                raise NotPlainError
            starts.append(at + 1)
        starts.append(first)
        starts.reverse()
        if any(line[:1] not in b" #" for line in raw[starts[-1] : self.end].split(b"\n")[1:]):
            raise NotPlainError
        return starts

    def _is_item_line(self, end: int) -> bool:
        """Whether the line that ends here, or the last one above it with content, is part of an item.

        Else it is a key of the list that is followed by a sequence of its own, perhaps with an anchor or tag.
        """
        while True:
            start = self.raw.rfind(b"\n", 0, end) + 1
            line = self.raw[start:end]
            bare = line.lstrip(b" ")
            if bare and bare[:1] != b"#":
                return line.startswith(b"- ") or (line[:1] == b" " and bare[:1] not in b"&!")
            end = start - 1

    def _config(self) -> Item | None:
        raw = self.raw[: self.head] + self.raw[self.end :]
        if raw == _PLAIN_FRAME:
            return None
        # A second document, a directive, or an anchor that an item may set anew would give the frame another meaning.
        if any(mark in b"\n" + raw for mark in (b"\n---", b"\n...", b"\n%")) or (b"&" in raw and b"*" in raw):
            raise NotPlainError
        self.frame = _parsed(raw, self.limits, self.nodes_left, 2)
        root = self.frame.root
        if not isinstance(root, Branch) or root.get("kind") != "ResourceList" or _repeated(root):
            raise NotPlainError
        if root.number("items") is not None or root.number("results") is not None:
            raise NotPlainError
        try:
            return _config_item(self.frame, root)
        except ResourceListError:
            raise NotPlainError from None

    def _outside_quotes(self, at: int) -> bool:
        """Whether no quoted scalar can be open at `at`; False means: not proven."""
        return all(self._no_scalar_ends(quote, at) for quote in b"\"'")

    def _no_scalar_ends(self, quote: int, at: int) -> bool:
        """Whether the first of these quotes from `at` on cannot be the end of a scalar. Known up to that quote."""
        raw = self.raw
        asked, first, answer = self.quotes.get(quote, (0, -1, True))
        if asked <= at <= first:
            return answer
        found = raw.find(quote, at)
        first = found if found >= 0 else len(raw)
        while found >= 0 and quote == 0x27 and raw[found + 1 : found + 2] == b"'":
            found = raw.find(quote, found + 2)
        is_escaped = quote == 0x22 and raw[found - 1] == 0x5C
        answer = found < 0 or not (is_escaped or raw[found + 1 : found + 2] in _AFTER_SCALAR)
        self.quotes[quote] = (at, first, answer)
        return answer

    def all_items(self) -> list[Item]:
        raise NotPlainError

    def arrange(self, _order: Sequence[Item]) -> None:
        raise NotPlainError

    def with_key(self, key: bytes) -> list[Item]:
        """At least the items with this top-level key."""
        return self._with_word(key, ())

    def with_word(self, word: bytes) -> list[Item]:
        """At least the items of this kind."""
        return self._with_word(word, _TO_KIND)

    def _with_word(self, word: bytes, obscure: Sequence[bytes]) -> list[Item]:
        raw, first = self.raw, self.starts[0]
        numbers: set[int] = set()
        at = raw.rfind(word, first, self.end)  # from the end: rfind is the faster one here
        while at >= 0:
            after = at + len(word)
            if raw[at - 1] in _IN_WORD or raw[after : after + 1] in _IN_WORD:  # part of a longer word
                at = raw.rfind(word, first, at)
                continue
            numbers.add(number := self._number(at))
            at = raw.rfind(word, first, self.starts[number])
        self._add_obscure(obscure, numbers)
        return [self._item(number) for number in sorted(numbers)]

    def with_name(self, name: str) -> list[Item]:
        """At least the items that have, or had, this name."""
        if not name.isascii() or not name.replace("-", "a").replace(".", "a").isalnum():
            raise NotPlainError  # it can be spelled in too many ways
        numbers = self._pieces_with(name.encode())
        self._add_obscure(_TO_NAMES, numbers)
        return [self._item(number) for number in sorted(numbers)]

    def with_text(self, text: bytes) -> list[Item]:
        """The items in whose pieces this stands."""
        return [self._item(number) for number in sorted(self._pieces_with(text))]

    def _pieces_with(self, text: bytes) -> set[int]:
        numbers: set[int] = set()
        first = self.starts[0]
        at = self.raw.rfind(text, first, self.end)
        while at >= 0:
            numbers.add(number := self._number(at))
            at = self.raw.rfind(text, first, self.starts[number])
        return numbers

    def _number(self, at: int) -> int:
        """The number of the piece around `at`."""
        return bisect_right(self.starts, at) - 1

    def _stop(self, number: int) -> int:
        return self.starts[number + 1] if number + 1 < len(self.starts) else self.end

    def _add_obscure(self, words: Sequence[bytes], numbers: set[int]) -> None:
        """Add the pieces in which an escape, a tag or an alias may spell a top-level key, or what `words` lead to.

        Such a key begins its line, unless the piece is a flow mapping or the like.
        """
        raw, end = self.raw, self.end
        for sign in (b"\\", b"!", b"*"):
            at = raw.find(sign, self.starts[0], end)
            while at >= 0:
                line_end = raw.find(b"\n", at, end)
                line = raw[raw.rfind(b"\n", 0, at) + 1 : line_end if line_end >= 0 else end]
                if line.lstrip(b" -")[:1] in _OBSCURE_KEY or any(word in line for word in words) or self._is_odd(at):
                    numbers.add(number := self._number(at))
                    line_end = self._stop(number)
                at = raw.find(sign, line_end, end) if line_end >= 0 else -1

    def _is_odd(self, at: int) -> bool:
        """Whether the piece around `at` does not begin with a plain key; comments may stand before it."""
        number = self._number(at)
        at, stop = self.starts[number] + 2, self._stop(number)
        while self.raw[at : at + 1] == b"#":
            at = self.raw.find(b"\n", at, stop)
            while at >= 0 and self.raw[at : at + 1] in b" \n":
                at += 1
        return not self.raw[at : at + 1].isalpha()

    def _item(self, number: int) -> Item:
        item = self.items.get(number)
        if item is not None:
            return item
        start = self.starts[number]
        if not self._outside_quotes(start):
            raise NotPlainError
        source = _parsed(self.raw[start : self._stop(number)], self.limits, self.nodes_left, 1)
        root = source.root
        self.nodes_left -= source.nodes
        if not isinstance(root, list) or len(root) != 1 or not isinstance(root[0], Branch):
            raise NotPlainError
        item = self.items[number] = Item(source, root[0])
        if item.place.indent >= 0 and (len(item.branch.entries) < 2 or "," in item.first_plain()):
            raise NotPlainError
        return item

    def write(
        self, results: Sequence[Result], without: list[Item], keep_config: bool, changed: bool, added: list[Branch]
    ) -> bytes:
        edits = [
            (self.starts[number], self._stop(number), b"") for number, item in self.items.items() if item in without
        ]
        if changed:
            edits += [
                (self.starts[number], self._stop(number), _in_block(item.replacement, "").encode())
                for number, item in self.items.items()
                if item.replacement is not None and item not in without
            ]
        if len(edits) == len(self.starts) and not added and not any(new for _, _, new in edits):
            edits = [(self.head, self.end, b"items: []\n")]
        if self.config is not None and not keep_config:
            edits.append(self._config_cut())
        if b"*" in self.raw and any(b"&" in self.raw[start:stop] for start, stop, _ in edits):
            raise NotPlainError  # an alias may repeat what is left out
        for number, item in self.items.items():
            if changed and item.edits and item.replacement is None and item not in without:
                new = edited(item.source.text, item.edits).encode()
                edits.append((self.starts[number], self._stop(number), new))
        if changed and added:
            edits.append((self.end, self.end, self._last_break() + _in_block(added, "").encode()))
        out: list[bytes | memoryview] = []
        view = memoryview(self.raw)
        at = 0
        for start, stop, new in sorted(edits):
            out += (view[at:start], new)
            at = stop
        out.append(view[at:])
        whole = b"".join(out)
        if results:
            from krm_sops.krm.results import in_block

            whole += (b"" if whole.endswith(b"\n") else b"\n") + ("results:\n" + in_block(results)).encode()
        return whole

    def _last_break(self) -> bytes:
        return b"" if self.raw[: self.end].endswith(b"\n") else b"\n"

    def _config_cut(self) -> tuple[int, int, bytes]:
        """Where the functionConfig stands: before the items, or behind them."""
        assert self.frame is not None
        root = self.frame.root
        assert isinstance(root, Branch)
        cut = cut_entry(self.frame.text, self.frame.places[id(root)], root.number("functionConfig") or 0)
        start, stop = (len(self.frame.text[:at].encode()) for at in cut)
        shift = self.end - self.head if start >= self.head else 0
        return start + shift, stop + shift, b""


def _parsed(raw: bytes, limits: Limits, nodes: int, outer: int) -> Source:
    """A part of the stream as a document of its own. Raises NotPlainError: only the whole can say what is wrong."""
    from krm_sops.yamlio import read

    try:
        return read(raw.decode(), limits, nodes, outer)
    except (KrmSopsError, UnicodeDecodeError):
        pass  # an exception that is raised here would carry the input along
    raise NotPlainError


def _repeated(branch: Branch) -> bool:
    return len({entry.key for entry in branch.entries}) < len(branch.entries)


def _config_item(source: Source, root: Branch) -> Item | None:
    config = root.get("functionConfig")
    if config is None:
        return None
    if not isinstance(config, Branch):
        raise ResourceListError("functionConfig is no mapping")
    return Item(source, config)


class _Whole:
    """The exact reader: everything is parsed, still only edits are written."""

    def __init__(self, raw: bytes, limits: Limits) -> None:
        self.prefix = _BOM if raw.startswith(_BOM) else b""
        self.source = _read_whole(raw.removeprefix(_BOM), limits)
        root = self.source.root
        if not isinstance(root, Branch) or root.get("kind") not in ("ResourceList", "List"):
            raise ResourceListError(
                "the input is no ResourceList" if isinstance(root, Branch) else "the input is no mapping",
                hint="a KRM function reads a ResourceList on stdin; to decrypt a file, use krm-sops decrypt FILE",
            )
        if _repeated(root):
            raise ResourceListError("a key of the ResourceList occurs twice")
        self.root = root
        self.place = self.source.places[id(root)]
        self.items: list[Item] = []
        for number, item in enumerate(self._list("items")):
            if not isinstance(item, Branch):
                raise ResourceListError(f"items[{number}] is no object")
            start, end = self.source.places[id(root.get("items"))].entries[number]
            inner = self.source.places[id(item)].entries
            self.items.append(Item(self.source, item, is_alias=bool(inner) and not start <= inner[0][0] < end))
        self._list("results")
        self.config = _config_item(self.source, root)
        self.order = list(range(len(self.items)))

    def _list(self, name: str) -> list[Node]:
        found = self.root.get(name)
        if found is None:
            return []
        if not isinstance(found, list):
            raise ResourceListError(f"{name} is no list")
        start, end = self.place.entries[self.root.number(name) or 0]
        elements = self.source.places[id(found)].entries
        if elements and not start < elements[0][0] < end:
            raise ResourceListError(f"{name} is an alias")
        return found

    def all_items(self) -> list[Item]:
        return self.items

    def arrange(self, order: Sequence[Item]) -> None:
        """Write the items in this order. Raises ResourceListError."""
        numbers = {item: at for at, item in enumerate(self.items)}
        self.order = [numbers[item] for item in order]
        place = self.source.places.get(id(self.root.get("items")))
        starts = [start for start, _ in place.entries] if place else []
        if self._is_moved() and any(
            bisect_right(starts, anchor) != bisect_right(starts, alias) for anchor, alias in self.source.aliases
        ):
            raise ResourceListError("an alias repeats what stands in another item, so items cannot change places")

    def _is_moved(self) -> bool:
        return any(at != number for at, number in enumerate(self.order))

    def with_key(self, _key: bytes) -> list[Item]:
        return self.items

    def with_word(self, _word: bytes) -> list[Item]:
        return self.items

    def with_name(self, _name: str) -> list[Item]:
        return self.items

    def with_text(self, text: bytes) -> list[Item]:
        wanted = text.decode()
        return [item for item in self.items if item.spells(wanted)]

    def write(
        self, results: Sequence[Result], without: list[Item], keep_config: bool, changed: bool, added: list[Branch]
    ) -> bytes:
        text = self.source.text
        new = [item.replacement if changed and item not in without else None for item in self.items]
        gone = [item in without or new[at] is not None for at, item in enumerate(self.items)]
        edits = self._exchanged(gone, new, added if changed else []) if any(gone) or (changed and added) else []
        outside: list[tuple[int, int, str]] = []
        if self.config is not None and not keep_config:
            outside.append((*cut_entry(text, self.place, self.root.number("functionConfig") or 0), ""))
        self._refuse_aliases_of(edits + outside)
        if changed and self._is_moved():
            edits = [self._moved(gone, new, added)]
        elif changed:
            edits += [edit for at, item in enumerate(self.items) if not gone[at] for edit in item.edits]
        edits += outside
        if not results or self.root.number("results") is not None or self.place.indent < 0:
            edits += self._more_results(results)
            return self.prefix + edited(text, edits).encode()
        from krm_sops.krm.results import in_block

        end = self._end()
        head = edited(text[:end], edits)
        margin = " " * self.place.indent
        told = f"{margin}results:\n{in_block(results, margin)}"
        return self.prefix + (head + ("" if head.endswith("\n") else "\n") + told + text[end:]).encode()

    def _refuse_aliases_of(self, cuts: list[tuple[int, int, str]]) -> None:
        """Raises ResourceListError where something that stays repeats something that goes."""
        for anchor, alias in self.source.aliases:
            gone = [any(start <= at < end for start, end, _ in cuts) for at in (anchor, alias)]
            if gone == [True, False]:
                raise ResourceListError("an alias repeats what must be left out, such as a key")

    def _end(self) -> int:
        """Where the list ends: at a line of three dots, or with the text."""
        text = self.source.text
        return text.find("\n...", self.place.entries[-1][1]) + 1 or len(text)

    def _exchanged(
        self, gone: list[bool], new: list[list[Branch] | None], added: list[Branch]
    ) -> list[tuple[int, int, str]]:
        """Edits that take items out, put others in their place, and add some: in a block list by whole lines, else
        with a comma."""
        text = self.source.text
        number = self.root.number("items")
        place = self.source.places.get(id(self.root.get("items")))
        elements = place.entries if place is not None else []
        if number is None or place is None or not elements:
            return self._first_items(number, added)
        if place.indent < 0:
            edits = _exchange_flow(elements, gone, new)
            if added:
                end = elements[-1][1]
                edits.append((end, end, ("" if all(gone) and not any(new) else ", ") + _in_flow(added)))
            return edits
        starts = self._starts()
        end = starts[-1]
        if all(gone) and not any(new) and not added:
            return [(self.place.entries[number][0], end, "items: []\n")]
        margin = self._margin(starts[0])
        edits = [
            (starts[at], starts[at + 1], _in_block(new[at] or [], margin)) for at, is_out in enumerate(gone) if is_out
        ]
        if added:
            lead = "" if text[:end].endswith("\n") else "\n"
            edits.append((end, end, lead + _in_block(added, margin)))
        return edits

    def _starts(self) -> list[int]:
        """Where the lines of each element of a block list begin, and where those of the last one end."""
        entries, number = self.place.entries, self.root.number("items") or 0
        is_last = number + 1 == len(entries)
        end = self._end() if is_last else self.source.text.rfind("\n", 0, entries[number + 1][0]) + 1
        elements = self.source.places[id(self.root.get("items"))].entries
        return [*(dash_line(self.source.text, start) for start, _ in elements), end]

    def _margin(self, start: int) -> str:
        return self.source.text[start : self.source.text.index("-", start)]

    def _moved(self, gone: list[bool], new: list[list[Branch] | None], added: list[Branch]) -> tuple[int, int, str]:
        """One edit for all items, in their new order."""
        text = self.source.text
        place = self.source.places[id(self.root.get("items"))]
        if place.indent < 0:
            spans = place.entries
            texts = [
                _in_flow(new[at] or []) if gone[at] else edited_part(text, spans[at], self.items[at].edits)
                for at in self.order
            ]
            return spans[0][0], spans[-1][1], ", ".join(part for part in [*texts, _in_flow(added)] if part)
        starts = self._starts()
        margin = self._margin(starts[0])
        texts = [
            _in_block(new[at] or [], margin)
            if gone[at]
            else edited_part(text, (starts[at], starts[at + 1]), self.items[at].edits)
            for at in self.order
        ]
        whole = "".join(part if part.endswith("\n") else part + "\n" for part in texts if part)
        return starts[0], starts[-1], whole + _in_block(added, margin)

    def _first_items(self, number: int | None, added: list[Branch]) -> list[tuple[int, int, str]]:
        """Edits that give a list without items its first ones."""
        if not added:
            return []
        entry = f'"items": [{_in_flow(added)}]'
        if number is not None:
            return [(*self.place.entries[number], entry)]
        at = self.place.entries[-1][1]
        if self.place.indent < 0:
            return [(at, at, ", " + entry)]
        at = self.place.entries[0][0]
        return [(at, at, f"{entry}\n{' ' * self.place.indent}")]

    def _more_results(self, results: Sequence[Result]) -> list[tuple[int, int, str]]:
        """The edits that add results to a field that is there, or to a list in flow style."""
        if not results:
            return []
        from krm_sops.krm.results import in_block, in_flow

        text = self.source.text
        number = self.root.number("results")
        old = self.root.get("results")
        if old:
            place = self.source.places[id(old)]
            at = place.entries[-1][1]
            if place.indent < 0:
                return [(at, at, f", {in_flow(results)}")]
            line = dash_line(text, place.entries[0][0])
            margin = " " * (text.index("-", line) - line)
            at = line_end(text, at)
            return [(at, at, "\n" + in_block(results, margin)[:-1])]
        new = f'"results": [{in_flow(results)}]'
        if number is not None:
            return [(*self.place.entries[number], new)]
        at = self.place.entries[-1][1]
        return [(at, at, ", " + new)]


def _exchange_flow(
    elements: list[tuple[int, int]], gone: list[bool], new: list[list[Branch] | None]
) -> list[tuple[int, int, str]]:
    """Each element goes with the comma before it, or while none before it stays, with the one behind it."""
    edits = []
    stays = [not is_gone or bool(new[at]) for at, is_gone in enumerate(gone)]
    for at, (start, end) in enumerate(elements):
        if not gone[at]:
            continue
        if stays[at]:
            edits.append((start, end, _in_flow(new[at] or [])))
        elif any(stays[:at]):
            edits.append((elements[at - 1][1], end, ""))
        else:
            edits.append((start, elements[at + 1][0] if at + 1 < len(elements) else end, ""))
    return edits


def _in_block(objects: list[Branch], margin: str) -> str:
    """Elements of a block list whose dashes stand behind `margin`."""
    from krm_sops.yamlwrite import write

    out = []
    for branch in objects:
        lines = write([branch], 2).removesuffix("\n").split("\n")
        out += [f"{margin}- {lines[0]}\n", *(f"{margin}  {line}\n" if line else "\n" for line in lines[1:])]
    return "".join(out)


def _in_flow(objects: list[Branch]) -> str:
    """Elements of a flow list, as JSON, which is YAML too."""
    from krm_sops.stores.json import in_one_line

    return ", ".join(in_one_line(branch) for branch in objects)


def _read_whole(raw: bytes, limits: Limits) -> Source:
    wrong = -1
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:  # an exception that is raised above would carry the input along
        raise ResourceListError(f"the input is not UTF-8 (byte {wrong})")
    if text.lstrip()[:1] == "{":
        from krm_sops.stores.json import read_source

        try:
            return read_source(text, limits, limits.run_nodes)
        except InputError:
            pass  # YAML in flow style, perhaps
    from krm_sops.yamlio import read

    try:
        return read(text, limits, limits.run_nodes, 2)
    except InputError as error:
        raise ResourceListError(f"the input is no ResourceList: {shown(error)}", hint=error.hint) from None
