"""A ResourceList as spans of bytes: only the items that need work become trees, everything else leaves as it came.

Two readers give the same answers. The fast one looks for the few byte sequences without which an item cannot be of
interest, and parses just the pieces around them. The exact one parses the whole stream. The fast one gives up, so that
the exact one decides, wherever its preconditions do not hold:

* the list is a plain block sequence under a line ``items:``, in UTF-8, without directives, byte order mark or ``---``;
* a piece parses alone, as a sequence of one block mapping of at least two keys: inside a flow collection no such text
  can stand;
* a piece cannot begin inside a quoted scalar: the next quotation mark of either kind would end that scalar, and what
  follows it could not follow a scalar.

What makes an item interesting is a top-level key ``sops``. It needs these four letters, or an escape, a tag or an
alias in the position of a key; all of these make a piece a candidate (S17).
"""

from __future__ import annotations

from krm_sops.errors import InputError, KrmSopsError, LimitError, ResourceListError, shown
from krm_sops.krm.item import Item, cut_entry, edited
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from krm_sops.krm.results import Result
    from krm_sops.limits import Limits
    from krm_sops.places import Place, Source

_AFTER_SCALAR = b" \t\r\n:,]}#"
_BEFORE_KEY = b" \t\n\"'{,?"
_AFTER_KEY = b" \t\r\n\"':"
_TOP_KEYS = (b"functionConfig", b"results", b"apiVersion", b"kind")


class NotPlainError(Exception):
    """The fast reader's preconditions do not hold."""


class ResourceList:
    """config: the functionConfig as an item, None where there is none.  Items are asked for by what they contain."""

    def __init__(self, raw: bytes, limits: Limits, *, exact: bool = False) -> None:
        """exact: skip the fast reader. Raises ResourceListError, LimitError."""
        if len(raw) > limits.input_bytes:
            raise LimitError(f"an input of more than {limits.input_bytes >> 20} MiB (the limit input_bytes)")
        if not raw.strip():
            raise ResourceListError(
                "nothing on stdin; a ResourceList is expected", hint="see krm-sops --help for the other ways to run it"
            )
        self.raw = raw
        self.limits = limits
        self._stream: _Plain | _Whole
        try:
            if exact:
                raise NotPlainError
            self._stream = _Plain(raw, limits)
        except NotPlainError:
            self._stream = _Whole(raw, limits)

    @property
    def config(self) -> Item | None:
        return self._stream.config

    def encrypted(self) -> list[Item]:
        """The items with a top-level ``sops``, in order. Raises NotPlainError: read the list again with `exact`."""
        return [item for item in self._stream.candidates(b"sops", keys=True) if item.branch.number("sops") is not None]

    def named(self, name: str) -> list[Item]:
        """The items of this name, now or before an orchestrator renamed them; none for "". Raises NotPlainError."""
        if not name:
            return []
        found = self._stream.candidates(name.encode("utf-8", "surrogateescape"), keys=False)
        return [item for item in found if name in (item.name, item.original[1])]

    def write(
        self,
        results: Sequence[Result] = (),
        *,
        without: Iterable[Item] = (),
        keep_config: bool = True,
        changed: bool = True,
    ) -> bytes:
        """The list with the edits of its items.  without: items that are left out.  changed: False drops all edits."""
        return self._stream.write(results, list(without), keep_config, changed)


def _block_results(results: Sequence[Result]) -> str:
    from krm_sops.stores.json import quote

    lines = ["results:\n"]
    for result in results:
        lines.extend(_block(result.fields(), "- ", quote))
    return "".join(lines)


def _block(fields: dict[str, object], lead: str, quote: object) -> list[str]:
    lines = []
    for name, value in fields.items():
        if isinstance(value, dict):
            lines.append(f"{lead}{name}:\n")
            lines.extend(_block(value, " " * len(lead) + "  ", quote))
        else:
            text = str(value) if isinstance(value, int) or name == "severity" else quote(value)  # type: ignore[operator]
            lines.append(f"{lead}{name}: {text}\n")
        lead = " " * len(lead)
    return lines


class _Plain:
    """The fast reader."""

    def __init__(self, raw: bytes, limits: Limits) -> None:
        self.raw = raw
        self.limits = limits
        self.pieces: dict[int, Item] = {}
        self.nodes_left = limits.run_nodes
        self.quotes: dict[int, tuple[int, int, bool]] = {}
        if raw[:1] in (b"{", b"[", b"%", b"-", b"\xef", b"\xff", b"\xfe", b"\x00") or b"\r" in raw[:200]:
            raise NotPlainError
        head = 0 if raw.startswith(b"items:\n") else raw.find(b"\nitems:\n") + 1
        if head == 0 and not raw.startswith(b"items:\n"):
            raise NotPlainError
        self.head = head
        self.start = head + 7
        first = self.start
        while raw[first : first + 1] in (b" ", b"\n", b"#"):
            line_end = raw.find(b"\n", first)
            line = raw[first : line_end if line_end >= 0 else len(raw)]
            if line.strip() and not line.lstrip().startswith(b"#"):
                break
            first += len(line) + 1
        line_end = raw.find(b"\n", first)
        line = raw[first : line_end if line_end >= 0 else len(raw)]
        self.column = len(line) - len(line.lstrip(b" "))
        if not line.lstrip(b" ").startswith(b"- "):
            raise NotPlainError
        self.dash = b" " * self.column + b"- "
        self.break_ = b"\n" + self.dash
        self.first = first
        if not raw.startswith(self.dash, first):
            raise NotPlainError
        self.end = self._end()
        self.frame = self._frame()
        self.config = self._config()

    def _end(self) -> int:
        """Where the items end and the rest of the list's own fields begins."""
        raw, head = self.raw, self.raw[: self.head]
        end = len(raw)
        for key in _TOP_KEYS:
            if head.startswith(key + b":") or b"\n" + key + b":" in head:
                continue
            at = raw.find(b"\n" + key + b":", self.start)
            if at >= 0:
                end = min(end, at + 1)
        if end < len(raw) and not self._outside_quotes(end):
            raise NotPlainError
        return end

    def _frame(self) -> bytes:
        """The list without its items."""
        frame = self.raw[: self.head] + self.raw[self.end :]
        if b"\n---" in frame or b"\n..." in frame or b"\n%" in frame:
            raise NotPlainError
        return frame

    def _config(self) -> Item | None:
        kind = b"\n" + self.frame
        if b"\nfunctionConfig:" not in kind and b"\nresults:" not in kind:
            if b"\nkind: ResourceList\n" not in kind + b"\n":
                raise NotPlainError
            return None
        self.frame_source = _read_yaml(self.frame, self.limits)
        root = self.frame_source.root
        if not isinstance(root, Branch) or root.get("kind") != "ResourceList" or root.number("items") is not None:
            raise NotPlainError
        if root.get("results") is not None:
            raise NotPlainError
        return _config_item(self.frame_source, root)

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
        after = raw[found + 1 : found + 2]
        answer = found < 0 or not (not after or after in _AFTER_SCALAR or (quote == 0x22 and raw[found - 1] == 0x5C))
        self.quotes[quote] = (at, first, answer)
        return answer

    def _piece_start(self, at: int) -> int:
        """Where the piece that holds `at` begins."""
        found = self.raw.rfind(self.break_, self.first - 1 if self.first else 0, at + 1)
        return found + 1 if found >= 0 else self.first

    def _is_odd(self, start: int) -> bool:
        """Whether a piece does not begin with a plain key right behind its dash."""
        first = self.raw[start + len(self.dash) : start + len(self.dash) + 1]
        return not (first.isalpha() or first == b"#")

    def candidates(self, needle: bytes, *, keys: bool) -> list[Item]:
        """The items of all pieces in which `needle` may stand (as a key, or anywhere), in order."""
        raw, end = self.raw, self.end
        starts: set[int] = set()
        at = raw.find(needle, self.first, end)
        while at >= 0:
            if keys:
                before, after = raw[at - 1 : at], raw[at + len(needle) : at + len(needle) + 1]
                if before not in _BEFORE_KEY or after not in _AFTER_KEY:
                    at = raw.find(needle, at + len(needle), end)
                    continue
            start = self._piece_start(at)
            starts.add(start)
            at = raw.find(self.break_, at, end)
            if at >= 0:
                at = raw.find(needle, at, end)
        if keys:
            for sign in (b"\\", b"!", b"*"):
                self._obscure(sign, starts)
        return [self._item(start) for start in sorted(starts)]

    def _obscure(self, sign: bytes, starts: set[int]) -> None:
        """Add the pieces where `sign` may spell a key: in a line that begins like one, or in a piece that is odd."""
        raw, end = self.raw, self.end
        at = raw.find(sign, self.first, end)
        while at >= 0:
            line = raw.rfind(b"\n", 0, at) + 1
            lead = raw[line : at + 1].lstrip(b" -")[:1]
            if lead in b'"?!&*{[' or self._is_odd(self._piece_start(at)):
                starts.add(self._piece_start(at))
            at = raw.find(b"\n", at, end)
            if at >= 0:
                at = raw.find(sign, at, end)

    def _item(self, start: int) -> Item:
        known = self.pieces.get(start)
        if known is not None:
            return known
        if not self._outside_quotes(start):
            raise NotPlainError
        stop = self.raw.find(self.break_, start + 1, self.end)
        piece = self.raw[start : stop + 1 if stop >= 0 else self.end]
        try:
            source = _read_yaml(piece, self.limits)
        except LimitError:
            raise
        except KrmSopsError:
            raise NotPlainError from None
        self.nodes_left -= len(source.spans)
        if self.nodes_left < 0:
            raise LimitError(f"more than {self.limits.run_nodes} nodes in one run (the limit run_nodes)")
        root = source.root
        if not isinstance(root, list) or len(root) != 1 or not isinstance(root[0], Branch):
            raise NotPlainError
        branch = root[0]
        if len(branch.entries) < 2 or source.places[id(branch)].indent < 0:
            raise NotPlainError
        item = self.pieces[start] = Item(source, branch)
        return item

    def write(self, results: Sequence[Result], without: list[Item], keep_config: bool, changed: bool) -> bytes:
        edits: list[tuple[int, int, bytes]] = []
        for start, item in self.pieces.items():
            stop = start + len(item.source.text.encode())
            if item in without:
                edits.append((start, stop, b""))
            elif changed and item.edits:
                edits.append((start, stop, edited(item.source.text, item.edits).encode()))
        if without and sum(stop - start for start, stop, new in edits if not new) >= self.end - self.first:
            edits = [(self.head, self.end, b"items: []\n")]
        if self.config is not None and not keep_config:
            edits.append(self._config_cut())
        out: list[bytes | memoryview] = []
        view = memoryview(self.raw)
        at = 0
        for start, stop, new in sorted(edits):
            out += (view[at:start], new)
            at = stop
        out.append(view[at:])
        if results:
            out += (b"" if self.raw.endswith(b"\n") else b"\n", _block_results(results).encode())
        return b"".join(out)

    def _config_cut(self) -> tuple[int, int, bytes]:
        source, root = self.frame_source, self.frame_source.root
        assert isinstance(root, Branch)
        cut = cut_entry(source.text, source.places[id(root)], root.number("functionConfig") or 0)
        start, stop = (len(source.text[:at].encode()) for at in cut)
        shift = self.end - self.head if stop > self.head else 0
        return max(start, self.head) + shift if shift else start, stop + shift, b""


def _read_yaml(raw: bytes, limits: Limits, nodes: int = 0) -> Source:
    from krm_sops.yamlio import read

    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ResourceListError(f"the input is not UTF-8 (byte {error.start})") from None
    return read(text, limits, nodes or limits.document_nodes)


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
        self.source = _read_whole(raw, limits)
        root = self.source.root
        if not isinstance(root, Branch) or root.get("kind") not in ("ResourceList", "List"):
            raise ResourceListError(
                "the input is no ResourceList" if isinstance(root, Branch) else "the input is no mapping",
                hint="a KRM function reads a ResourceList on stdin; to decrypt a file, use krm-sops decrypt FILE",
            )
        self.root = root
        items = root.get("items")
        if items is None:
            items = []
        if not isinstance(items, list):
            raise ResourceListError("items is no list")
        for number, item in enumerate(items):
            if not isinstance(item, Branch):
                raise ResourceListError(f"items[{number}] is no object")
        self.items = [Item(self.source, item) for item in items if isinstance(item, Branch)]
        self.config = _config_item(self.source, root)

    def candidates(self, needle: bytes, *, keys: bool) -> list[Item]:  # noqa: ARG002 - all of them are parsed anyway
        return self.items

    def write(self, results: Sequence[Result], without: list[Item], keep_config: bool, changed: bool) -> bytes:
        source, root = self.source, self.root
        place = source.places[id(root)]
        edits: list[tuple[int, int, str]] = []
        for item in self.items:
            if changed and item not in without:
                edits.extend(item.edits)
        edits.extend(self._left_out([self.items.index(item) for item in without]))
        drop = [root.number("functionConfig")] if self.config is not None and not keep_config else []
        if results and root.number("results") is not None:
            drop.append(root.number("results"))
        for number in drop:
            assert number is not None
            edits.append((*cut_entry(source.text, place, number), ""))
        text = edited(source.text, edits)
        return (self._with_results(text, place, results) if results else text).encode()

    def _left_out(self, numbers: list[int]) -> list[tuple[int, int, str]]:
        """Each of these items replaced: nothing is known of the text between items, so an item becomes ``null``-like.

        A list with a hole is no ResourceList, so the whole list is written again from the texts of the items.
        """
        if not numbers:
            return []
        entry = self.source.places[id(self.root)].entries[self.root.number("items") or 0]
        kept = [item for number, item in enumerate(self.items) if number not in numbers]
        from krm_sops.stores.json import STORE

        texts = [STORE.write_value(item.branch).decode().strip() for item in kept]
        return [
            (
                entry[0],
                entry[1],
                '"items": [' + ", ".join(text.replace("\n", " ").replace("\t", "") for text in texts) + "]",
            )
        ]

    def _with_results(self, text: str, place: Place, results: Sequence[Result]) -> str:
        old = self.root.get("results")
        from krm_sops.stores.json import quote

        def flow(value: object) -> str:
            if isinstance(value, dict):
                return "{" + ", ".join(f"{quote(name)}: {flow(inner)}" for name, inner in value.items()) + "}"
            return str(value) if isinstance(value, int) else quote(str(value))

        spelled = [flow(result.fields()) for result in results]
        if isinstance(old, list) and old:
            from krm_sops.stores.json import STORE

            spelled = [STORE.write_value(one).decode().replace("\n", " ").replace("\t", "") for one in old] + spelled
        joined = '"results": [' + ", ".join(spelled) + "]"
        if place.indent < 0:
            at = text.rstrip().rfind("}")
            return text[:at] + ", " + joined + text[at:]
        return text + ("" if text.endswith("\n") else "\n") + " " * place.indent + joined + "\n"


def _read_whole(raw: bytes, limits: Limits) -> Source:
    if raw.lstrip()[:1] == b"{":
        from krm_sops.stores.json import read_source

        try:
            return read_source(raw.decode(), limits, limits.run_nodes)
        except (UnicodeDecodeError, InputError):
            pass
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.decode("utf-16", "replace").encode("utf-8", "replace")
    try:
        return _read_yaml(raw.removeprefix(b"\xef\xbb\xbf"), limits, limits.run_nodes)
    except LimitError:
        raise
    except InputError as error:
        raise ResourceListError(f"the input is no ResourceList: {shown(error)}", hint=error.hint) from None
