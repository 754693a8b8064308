"""Branches -> YAML text, byte for byte as sops writes it with go-yaml's encoder; and single scalars for splicing.

The comments are what makes this a state machine: go-yaml keeps the comments of a collection until something later
writes them, so a line comment of a list may end up behind the next key. That state is the `_Emitter`'s.

Differs from sops, whose output could not be read back: a text that begins with a tab and has several lines is quoted
(sops writes null); the indentation indicator of a block below a list item is the true one (sops writes its own
indentation, which is too large there).
Sources: getsops/sops 3.13, stores/yaml/store.go; go.yaml.in/yaml v3.0.4, encode.go and emitterc.go.
"""

from __future__ import annotations

from krm_sops.errors import StoreError
from krm_sops.tree import Branch, Comment, Timestamp, to_bytes
from krm_sops.yamltypes import float_yaml, resolve_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.tree import Node, Scalar

INDENT = 4

_BREAKS = "\n\r\x85\u2028\u2029"
_INDICATORS = "#,[]{}&*!|>'\"%@`"
_NUMBER_LIKE = "=+-.0123456789"  # what begins like this is no string to one reader of YAML or another
_OLD_BOOLS = frozenset(
    ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"]
)
_ESCAPES = {
    "\0": "\\0",
    "\a": "\\a",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\v": "\\v",
    "\f": "\\f",
    "\r": "\\r",
    "\x1b": "\\e",
    '"': '\\"',
    "\\": "\\\\",
    "\x85": "\\N",
    "\xa0": "\\_",
    "\u2028": "\\L",
    "\u2029": "\\P",
}
_PLAIN, _SINGLE, _DOUBLE, _LITERAL = "", "'", '"', "|"
_SIMPLE_KEY_BYTES = 128


def write(branches: list[Branch], indent: int = INDENT) -> str:
    """A whole file. indent: from 2 to 9; go-yaml takes 2 instead of any other. Raises StoreError."""
    emitter = _Emitter(indent)
    for branch in branches:
        emitter.document(branch)
    return "".join(emitter.out)


def write_value(value: Node) -> str:
    """One value as a document of its own."""
    emitter = _Emitter(INDENT)
    emitter.document(value)
    return "".join(emitter.out)


def scalar_text(value: Scalar, *, indent: int, step: int = 2, quoted: bool = False) -> str:
    """One scalar as it may stand behind ``key: `` in a block mapping that somebody else wrote.

    One line, or a literal block whose lines are indented by `indent` spaces, `step` (1 to 9) deeper than the key. The
    line break after it is the caller's, and part of the value of a block.
    quoted: strings are always double-quoted on one line.
    """
    if not isinstance(value, str):
        return _spelled(value)
    if quoted:
        return _binary_line(value) or _double_quoted(value)
    scalar = _Scalar(value)
    if scalar.tag:
        return _binary_line(value) or _double_quoted(value)  # or "<<", which must not be taken for a merge
    if scalar.style == _PLAIN and value[0] not in _NUMBER_LIKE:
        return value
    if scalar.style != _LITERAL or any(c in value for c in _BREAKS[1:]):
        return _double_quoted(value)
    body = value[:-1] if value[-1] == "\n" else value
    margin = " " * indent
    lines = "\n".join(margin + line if line else "" for line in body.split("\n"))
    return "|" + scalar.hint(step) + scalar.chomping() + "\n" + lines


def flow_scalar(value: Scalar) -> str:
    """One scalar on one line, safe inside ``[…]`` and ``{…}`` too."""
    return scalar_text(value, indent=0, quoted=True)


# One scalar


class _Scalar:
    """How a scalar is spelled where nothing forbids it. tag: "" or the short form. multiline: has a line break."""

    __slots__ = ("multiline", "style", "tag", "text")

    def __init__(self, value: Scalar) -> None:
        self.tag = ""
        self.multiline = False
        self.style = _PLAIN
        if not isinstance(value, str):
            self.text = _spelled(value)
            return
        encoded = _binary(value)
        self.text = text = value if encoded is None else encoded
        if encoded is not None:
            self.tag = "!!binary"
        elif value == "<<":
            self.tag = "!!merge"  # go-yaml takes it for a merge key whatever it is
        if text.isascii() and text.isprintable():
            if not _plain_allowed(text):
                self.style = _SINGLE
            if not self.tag and _looks_typed(text):
                self.style = _DOUBLE
        else:
            self._analyse(text)

    def _analyse(self, text: str) -> None:
        breaks = [c for c in _BREAKS if c in text]
        rest = text.replace("\n", "").replace("\t", "")
        special = not (rest.isascii() and rest.isprintable()) and not all(map(_printable, set(rest)))
        space_break = any(" " + c in text for c in breaks)
        break_space = any(c + " " in text for c in breaks)
        self.multiline = bool(breaks)
        single_allowed = not (special or space_break or break_space or "\t" in text)
        if "\n" in text:
            block_allowed = not (special or space_break or text[-1] == " " or text[0] == "\t")
            self.style = _LITERAL if block_allowed else _DOUBLE
        elif (not self.tag and _looks_typed(text)) or not single_allowed:
            self.style = _DOUBLE
        elif breaks or not _plain_allowed(text):
            self.style = _SINGLE

    def is_simple_key(self) -> bool:
        """Whether it may stand before a colon without a question mark."""
        return not self.multiline and len(self.text.encode()) + len(self.tag) <= _SIMPLE_KEY_BYTES

    def one_line(self) -> str:
        if self.style == _DOUBLE:
            return _double_quoted(self.text)
        return "'" + self.text.replace("'", "''") + "'" if self.style == _SINGLE else self.text

    def hint(self, step: int) -> str:
        """The indentation indicator that a block needs when its first line cannot show the indentation."""
        return str(step) if self.text[0] in " " + _BREAKS else ""

    def chomping(self) -> str:
        if self.text[-1] not in _BREAKS:
            return "-"
        return "+" if len(self.text) == 1 or self.text[-2] in _BREAKS else ""


def _spelled(value: float | bool | Timestamp | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_yaml(value)
    return value.text if isinstance(value, Timestamp) else str(value)


def _looks_typed(text: str) -> bool:
    """Whether the plain text would be read as no string, or was none in YAML 1.1."""
    return not isinstance(resolve_plain(text), str) or text in _OLD_BOOLS or _is_base60(text)


def _is_base60(text: str) -> bool:
    """``1:20`` and the like: numbers in YAML 1.1, in base 60."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if ":" not in body or body[0] not in "0123456789":
        return False
    first, *others = body.split(":")
    others[-1], _, fraction = others[-1].partition(".")
    if first.strip("0123456789_") or fraction.strip("0123456789_"):
        return False
    return all(len(o) in (1, 2) and not o.strip("0123456789") and (len(o) == 1 or o[0] < "6") for o in others)


def _plain_allowed(text: str) -> bool:
    """For a text without line breaks and tabs."""
    if not text:
        return True
    first = text[0]
    if first in _INDICATORS or text[:3] in ("---", "...") or first == " " or text[-1] == " ":
        return False
    if first in "?-" and text[1:2] in ("", " "):
        return False
    return text[-1] != ":" and ": " not in text and " #" not in text


def _printable(c: str) -> bool:
    """go-yaml's idea of it: nothing beyond the basic plane."""
    return " " <= c <= "~" or "\xa0" <= c <= "\ud7ff" or ("\ue000" <= c <= "\ufffd" and c != "\ufeff")


def _double_quoted(text: str) -> str:
    if text.isascii() and text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    special = set(text)
    whole = text[0] == "\ufeff"  # go-yaml then takes every character for a byte order mark
    if not whole:
        special = {c for c in special if c in '"\\\u2028\u2029' or not _printable(c)}
    if whole or len(special) > 8:
        return '"' + text.translate({ord(c): _ESCAPES.get(c) or _code(c) for c in special}) + '"'
    for c in sorted(special, key="\\".__ne__):  # the backslash first; a few replacements are much faster than a table
        text = text.replace(c, _ESCAPES.get(c) or _code(c))
    return '"' + text + '"'


def _code(c: str) -> str:
    number = ord(c)
    return f"\\x{number:02X}" if number < 0x100 else f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def _binary(text: str) -> str | None:
    """Base64 of what is no UTF-8, in lines of 70 where there is more than one; None where the text is UTF-8."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        from binascii import b2a_base64

        encoded = b2a_base64(to_bytes(text), newline=False).decode("ascii")
        if len(encoded) < 70:
            return encoded
        return "".join(encoded[at : at + 70] + "\n" for at in range(0, len(encoded), 70))
    return None


def _binary_line(text: str) -> str:
    encoded = _binary(text)
    return "" if encoded is None else '!!binary "' + encoded.replace("\n", "") + '"'


# Collections and comments


class _Item:
    """A value with the comments that stand at it; `rows` where it is a collection.

    head, line, foot: comment lines with their ``#``.  last_foot: below the last entry, a matter of the entry.
    """

    __slots__ = ("foot", "head", "is_map", "last_foot", "line", "rows", "scalar")

    def __init__(self, value: Node, head: list[str], line: list[str], foot: list[str]) -> None:
        self.line = _comment(line)
        self.scalar: _Scalar | None = None
        self.rows: list[_Row] = []
        self.is_map = isinstance(value, Branch)
        own_head: list[str] = []
        last_foot: list[str] = []
        if isinstance(value, Branch):
            own_head, last_foot = self._gather([(entry.key, entry.value) for entry in value.entries])
        elif isinstance(value, list):
            own_head, last_foot = self._gather([(element, element) for element in value])
        else:
            assert not isinstance(value, Comment)
            self.scalar = _Scalar(value)
        self.head = _comment(head + own_head)
        self.last_foot = _comment(last_foot) if self.is_map else ""
        self.foot = _comment(foot)
        if not self.is_map and last_foot:
            self.rows[-1].foot = last_foot

    def _gather(self, pairs: list[tuple[Node, Node]]) -> tuple[list[str], list[str]]:
        """Attach the comments to the rows after them; those before the first row and after the last are returned."""
        above: list[str] = []
        heads: list[str] = []
        inline: list[str] = []
        for key, value in pairs:
            if isinstance(key, Comment):
                (inline if key.inline else heads).append(key.text)
                continue
            if not self.rows:
                above, heads = heads, []
            self.rows.append(_Row(key, value, heads, inline))
            heads, inline = [], []
        heads += inline
        return (above, heads) if self.rows else (heads, [])


class _Row:
    """An entry or element. key: that of an entry."""

    __slots__ = ("foot", "head", "key", "line", "value")

    def __init__(self, key: Node, value: Node, head: list[str], line: list[str]) -> None:
        self.key = key
        self.value = value
        self.head = head
        self.line = line
        self.foot: list[str] = []


def _comment(lines: list[str]) -> str:
    return "#" + "\n#".join(lines) if lines else ""


def _lines(text: str) -> list[tuple[str, str]]:
    """Lines and the break after each; the last one may have none."""
    if not any(c in text for c in _BREAKS[1:]):
        *lines, last = text.split("\n")
        return [(line, "\n") for line in lines] + ([(last, "")] if last else [])
    found = []
    start = 0
    for at, c in enumerate(text):
        if c in _BREAKS:
            found.append((text[start:at], c))
            start = at + 1
    if start < len(text):
        found.append((text[start:], ""))
    return found


class _Emitter:
    """out: pieces of text.

    Where the pen is: column; whitespace (the last thing written was a blank); indention (nothing but indentation and
    dashes on this line).  head, line, foot, tail, key_line: comments that wait to be written.
    foot_indent: where a foot comment just ended, -1 elsewhere; an empty line keeps what follows apart from it.
    """

    def __init__(self, indent: int) -> None:
        self.out: list[str] = []
        self._best = indent if 2 <= indent <= 9 else 2
        self._indent = -1
        self._column = 0
        self._whitespace = True
        self._indention = True
        self._foot_indent = -1
        self._head = self._line = self._foot = self._tail = self._key_line = ""

    def document(self, root: Node) -> None:
        if self.out:
            self._margin()
            self._indicator("---")
            self._margin()
        if self._head or self._tail:  # left over by an empty list at the end of the document before
            self._write_head()
            self._break()
        item = _Item(root, [], [], [])
        self._announce(item)
        self._write_head()
        self._content(item, in_list=False)
        self._foot_indent = 0
        self._write_foot()
        self._foot_indent = -1
        self._margin()

    # Nodes

    def _announce(self, item: _Item) -> None:
        """The comments that an item brings along before anything of it is written; they replace what still waits."""
        self._head = item.head or self._head
        if item.scalar is not None:
            self._line = item.line or self._line
            self._foot = item.foot or self._foot

    def _conclude(self, item: _Item) -> None:
        """The same at the end of a collection."""
        self._tail = item.last_foot or self._tail
        self._line = item.line or self._line
        self._foot = item.foot or self._foot

    def _content(self, item: _Item, *, in_list: bool) -> None:
        if item.scalar is not None:
            self._scalar(item.scalar, in_list=in_list)
        self._write_line()
        self._write_foot()
        if item.scalar is not None:
            return
        if not item.rows:
            self._empty(item, in_list=in_list)
            return
        outer = self._indent
        self._indent = self._deeper(in_list=in_list, root=0)
        if item.is_map:
            self._entries(item)
        else:
            self._elements(item)
        self._indent = outer

    def _deeper(self, *, in_list: bool, root: int) -> int:
        if self._indent < 0:
            return root
        if in_list:
            return self._indent + 2
        return self._best * ((self._indent + self._best) // self._best)

    def _empty(self, item: _Item, *, in_list: bool) -> None:
        self._conclude(item)
        self._indicator("{" if item.is_map else "[", whitespace=True)
        if item.is_map:
            outer = self._indent
            self._indent = self._deeper(in_list=in_list, root=self._best)
            self._write_head()
            self._indent = outer
        self._indicator("}" if item.is_map else "]", space=False)
        self._write_line()
        self._write_foot()

    def _elements(self, item: _Item) -> None:
        for row in item.rows:
            element = _Item(row.value, row.head, row.line, row.foot)
            self._announce(element)
            self._write_head()
            self._margin()
            self._indicator("-", indention=True)
            self._content(element, in_list=True)
        self._conclude(item)

    def _entries(self, item: _Item) -> None:
        for row in item.rows:
            key = _Item(row.key, row.head, [], [])
            if key.scalar is None:
                raise StoreError("a mapping key must be a scalar")
            self._announce(key)
            self._write_head()
            self._margin()
            if self._line:
                self._key_line, self._line = self._line, ""
            value = _Item(row.value, [], row.line, [])
            if key.scalar.is_simple_key():
                self._scalar(key.scalar, in_list=False)
                self._announce(value)
                self._indicator(":", space=False)
            else:
                self._indicator("?", indention=True)
                self._scalar(key.scalar, in_list=False)
                self._announce(value)
                self._margin()
                self._indicator(":", indention=True)
            self._pass_on_key_line(value)
            self._content(value, in_list=False)
        self._conclude(item)
        self._write_head()

    def _pass_on_key_line(self, value: _Item) -> None:
        """A line comment that was left over before the key stands behind it, if the value has none of its own."""
        if not self._key_line:
            return
        if value.scalar is None:
            self._line, self._key_line = self._key_line, self._line
            self._write_line()
            self._line, self._key_line = self._key_line, self._line
        elif not self._line:
            self._line, self._key_line = self._key_line, ""

    # Text

    def _put(self, text: str) -> None:
        self.out.append(text)
        self._column += len(text)

    def _break(self, c: str = "\n") -> None:
        self.out.append(c)
        self._column = 0
        self._indention = True

    def _margin(self) -> None:
        """On to the indentation of a new line, or stay where nothing but indentation has been written."""
        indent = max(self._indent, 0)
        if not self._indention or self._column > indent or (self._column == indent and not self._whitespace):
            self._break()
        if self._foot_indent == indent:
            self._break()
        if self._column < indent:
            self._put(" " * (indent - self._column))
        self._whitespace = True
        self._foot_indent = -1

    def _indicator(self, text: str, *, space: bool = True, whitespace: bool = False, indention: bool = False) -> None:
        if space and not self._whitespace:
            self._put(" ")
        self._put(text)
        self._whitespace = whitespace
        self._indention = self._indention and indention

    def _scalar(self, scalar: _Scalar, *, in_list: bool) -> None:
        if scalar.tag:
            self._indicator(scalar.tag)
        outer = self._indent
        self._indent = self._deeper(in_list=in_list, root=self._best)
        if scalar.style == _LITERAL:
            # sops writes its own indentation even where the block is less deep, and then the file is broken.
            step = self._indent - max(outer, 0) if scalar.text.strip(_BREAKS) else self._best
            self._literal(scalar, step)
        elif scalar.style == _SINGLE and scalar.multiline:
            self._single_quoted_lines(scalar.text)
        elif scalar.text or scalar.style != _PLAIN:
            self._indicator(scalar.one_line())
        self._indent = outer

    def _literal(self, scalar: _Scalar, step: int) -> None:
        self._indicator("|" + scalar.hint(step) + scalar.chomping())
        if self._line:
            self._write_line()
        else:
            self._break()
        self._whitespace = True
        for line, c in _lines(scalar.text):
            if line:
                self._margin()
                self._put(line)
                self._indention = False
            if c:
                self._break(c)

    def _single_quoted_lines(self, text: str) -> None:
        """Only with the line breaks that YAML does not fold."""
        self._indicator("'")
        for number, (line, c) in enumerate(_lines(text)):
            if line:
                if number:
                    self._margin()
                self._put(line.replace("'", "''"))
                self._indention = False
            if c:
                self._break(c)
        self._indicator("'", space=False)

    def _write_comment(self, comment: str) -> None:
        c = "\n"
        for number, (line, c) in enumerate(_lines(comment)):
            if line:
                if number:
                    self._margin()
                self._put(line if line[0] == "#" else "# " + line)
                self._indention = False
            if c:
                self._break(c)
        if not c:
            self._break()
        self._whitespace = True

    def _write_head(self) -> None:
        if self._tail:
            self._margin()
            self._write_comment(self._tail)
            self._tail = ""
            self._foot_indent = max(self._indent, 0)
        if self._head:
            self._margin()
            self._write_comment(self._head)
            self._head = ""

    def _write_line(self) -> None:
        if self._line:
            if not self._whitespace:
                self._put(" ")
            self._write_comment(self._line)
            self._line = ""

    def _write_foot(self) -> None:
        if self._foot:
            self._margin()
            self._write_comment(self._foot)
            self._foot = ""
            self._foot_indent = max(self._indent, 0)
