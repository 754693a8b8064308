"""JSON <-> tree: order, duplicate keys, integers and floats survive; one reader for documents and for splicing.

Differs from sops: a document that ends too early is always refused (sops takes ``{"a":`` for ``{}``), and so is a
comment where a value must stand.
Source: getsops/sops 3.13, stores/json/store.go; Go's encoding/json.
"""

from __future__ import annotations

from _json import encode_basestring, scanstring

from krm_sops.errors import LimitError, StoreError
from krm_sops.limits import FUNCTION, SOPS_VERBS
from krm_sops.places import Place, Source, Span
from krm_sops.stores.flatten import KEY, one_document, take_metadata, with_metadata
from krm_sops.tree import Branch, Comment, Entry, Timestamp, from_bytes
from krm_sops.values import INFINITY, INT_MAX, INT_MIN, json_float

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.limits import Limits
    from krm_sops.stores.base import Store
    from krm_sops.tree import Node, Scalar

_SPACE = " \t\n\r"
_LITERALS: dict[str, tuple[str, Scalar]] = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


def read_source(text: str, limits: Limits, nodes: int) -> Source:
    """One JSON value and nothing behind it, with the places of its leaves, objects and arrays.

    nodes: how many values it may have. Raises StoreError (also for a repeated key), LimitError.
    """
    source = Source(text, is_json=True)
    spans: list[tuple[int, int]] = []
    reader = _Reader(text, spans, limits)
    reader.places = source.places
    reader.nodes = reader.nodes_left = nodes
    try:
        source.root, end = reader.value(reader.skip(0), limits.depth)
    except IndexError:
        raise reader.error("the JSON ends too early", len(text)) from None
    if text[end:].strip(_SPACE):
        raise reader.error("something follows the JSON value", end)
    source.spans.extend(Span(start, end, -1, '"', False) for start, end in spans)
    return source


def parse(
    text: str, start: int = 0, spans: list[tuple[int, int]] | None = None, limits: Limits = FUNCTION
) -> tuple[Node, int]:
    """The JSON value that begins at `start`, and the index behind it; what follows is not looked at.

    spans: gets the place of each leaf as (start, end), in the order of `tree.leaves`.
    Numbers are integers where 64 bits hold them, else floats. Lone surrogates, and bytes that are no UTF-8, become
    U+FFFD.
    Raises StoreError, LimitError.
    """
    reader = _Reader(text, spans, limits)
    try:
        return reader.value(reader.skip(start), limits.depth)
    except IndexError:
        pass
    raise reader.error("the JSON ends too early", len(text))


class _Reader:
    def __init__(self, text: str, spans: list[tuple[int, int]] | None, limits: Limits) -> None:
        self.text = text
        self.spans = spans
        self.limits = limits
        self.nodes = self.nodes_left = limits.document_nodes
        self.places: dict[int, Place] | None = None

    def skip(self, at: int) -> int:
        """The index of the next character that is no space. Raises IndexError at the end."""
        text = self.text
        while text[at] in _SPACE:
            at += 1
        return at

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        """depth: how many more levels are allowed."""
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise LimitError(f"a document of more than {self.nodes} values (the limit run_nodes)")
        first = self.text[at]
        if first == "{" or first == "[":
            if not depth:
                raise LimitError(f"a document nested deeper than {self.limits.depth} levels (the limit depth)")
            return self.object(at + 1, depth - 1) if first == "{" else self.array(at + 1, depth - 1)
        value: Scalar
        if first == '"':
            value, end = self.string(at)
        elif first in "-0123456789":
            value, end = self.number(at)
        else:
            word, value = _LITERALS.get(first, ("", None))
            if not word or not self.text.startswith(word, at):
                raise self.error("no JSON value begins here", at)
            end = at + len(word)
        if self.spans is not None:
            self.spans.append((at, end))
        return value, end

    def object(self, at: int, depth: int) -> tuple[Branch, int]:
        text = self.text
        branch = Branch()
        if self.places is not None:
            place = self.places[id(branch)] = Place(len(self.spans or ()), -1)
        at = self.skip(at)
        if text[at] == "}":
            return branch, at + 1
        while True:
            if text[at] != '"':
                raise self.error("no key begins here", at)
            key_at = at
            key, at = self.string(at)
            at = self.skip(at)
            if text[at] != ":":
                raise self.error("no colon behind a key", at)
            value, at = self.value(self.skip(at + 1), depth)
            branch.entries.append(Entry(key, value))
            if self.places is not None:
                place.entries.append((key_at, at))
                place.after = len(self.spans or ())
            at = self.skip(at)
            if text[at] == "}":
                return branch, at + 1
            if text[at] != ",":
                raise self.error("neither a comma nor the end behind a value", at)
            at = self.skip(at + 1)

    def array(self, at: int, depth: int) -> tuple[list[Node], int]:
        text = self.text
        elements: list[Node] = []
        if self.places is not None:
            place = self.places[id(elements)] = Place(len(self.spans or ()), -1)
        at = self.skip(at)
        if text[at] == "]":
            return elements, at + 1
        while True:
            start = at
            value, at = self.value(at, depth)
            elements.append(value)
            if self.places is not None:
                place.entries.append((start, at))
                place.after = len(self.spans or ())
            at = self.skip(at)
            if text[at] == "]":
                return elements, at + 1
            if text[at] != ",":
                raise self.error("neither a comma nor the end behind a value", at)
            at = self.skip(at + 1)

    def string(self, at: int) -> tuple[str, int]:
        try:
            value, end = scanstring(self.text, at + 1, True)
        except ValueError:
            value, end = "", 0
        if not end:
            raise self.error("a string with a control character, a broken escape or no end", at)
        return (value if value.isascii() else _without_surrogates(value)), end

    def number(self, at: int) -> tuple[int | float, int]:
        text = self.text
        end, stop = at + 1, len(text)
        while end < stop and text[end] in "0123456789+-.eE":
            end += 1
        value = _number(text[at:end])
        if value is None:
            raise self.error("no number, or too large", at)
        return value, end

    def error(self, message: str, at: int) -> StoreError:
        line = self.text.count("\n", 0, at) + 1
        return StoreError(message, line=line, column=at - self.text.rfind("\n", 0, at))


def _number(literal: str) -> int | float | None:
    """The number that this is in JSON's grammar; None for another text and beyond the range of floats."""
    digits = literal.removeprefix("-")
    mantissa, has_exponent, exponent = digits.replace("E", "e").partition("e")
    whole, has_fraction, fraction = mantissa.partition(".")
    power = exponent[1:] if exponent.startswith(("+", "-")) else exponent
    if not whole.isdigit() or (whole[0] == "0" and len(whole) > 1):
        return None
    if (has_fraction and not fraction.isdigit()) or (has_exponent and not power.isdigit()):
        return None
    if whole == digits and len(digits) < 20 and INT_MIN <= (value := int(literal)) <= INT_MAX:
        return value
    number = float(literal)
    return None if abs(number) == INFINITY else number


def _without_surrogates(text: str) -> str:
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def quote(text: str) -> str:
    """A string literal with Go's escapes: those of JSON, and ``< > &`` and the two line separators as ``\\u….``."""
    quoted = encode_basestring(text)
    for char, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        quoted = quoted.replace(char, escape)
    if quoted.isascii():
        return quoted
    quoted = quoted.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return "".join("\\ufffd" if "\ud800" <= c <= "\udfff" else c for c in quoted)


def json_scalar(value: Scalar | Comment) -> str:
    """One scalar literal. Raises StoreError for not-a-number, infinity and comments."""
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Timestamp):
        return quote(value.text)
    if isinstance(value, Comment):
        raise StoreError("JSON has no comments")
    try:
        return json_float(value)
    except ValueError:
        raise StoreError("JSON has no spelling for infinity and not-a-number") from None


def _write(node: Node, break_: str, unit: str, out: list[str]) -> None:
    """break_: the line break and indent of the level on which `node` begins."""
    if isinstance(node, Branch):
        inner = break_ + unit
        before = "{" + inner
        for entry in node.entries:
            if isinstance(entry.key, Comment):
                continue
            if not isinstance(entry.key, str):
                raise StoreError("a key that is no string")
            out.append(f"{before}{quote(entry.key)}: ")
            _write(entry.value, inner, unit, out)
            before = "," + inner
        out.append("{}" if before[0] == "{" else break_ + "}")
    elif isinstance(node, list):
        inner = break_ + unit
        before = "[" + inner
        for element in node:
            if isinstance(element, Comment):
                continue
            out.append(before)
            _write(element, inner, unit, out)
            before = "," + inner
        out.append("[]" if before[0] == "[" else break_ + "]")
    else:
        out.append(json_scalar(node))


def _text(node: Node, indent: int | None) -> str:
    """indent: spaces a level; None or -1 for a tab."""
    if indent is not None and indent < -1:
        raise StoreError("a JSON indent smaller than -1")
    out: list[str] = []
    _write(node, "\n", "\t" if indent is None or indent == -1 else " " * indent, out)
    return "".join(out)


def in_one_line(node: Node) -> str:
    """Raises StoreError for what JSON cannot spell."""
    out: list[str] = []
    _write(node, "", "", out)
    return "".join(out)


class JsonStore:
    def read(self, raw: bytes, limits: Limits = SOPS_VERBS) -> tuple[list[Branch], Branch | None]:
        (whole,) = self.read_plain(raw, limits)
        branch, metadata = take_metadata(whole)
        return [branch], metadata

    def read_plain(self, raw: bytes, limits: Limits = SOPS_VERBS) -> list[Branch]:
        node, _ = parse(from_bytes(raw), limits=limits)
        if not isinstance(node, Branch):
            raise StoreError(
                "the top of a JSON document must be an object", line=1, column=1, hint='wrap it: {"data": …}'
            )
        return [node]

    def is_reserved(self, key: str) -> bool:
        return key == KEY

    def write_encrypted(self, branches: list[Branch], metadata: Branch, indent: int | None = None) -> bytes:
        document = with_metadata(one_document(branches, "json"), [Entry(KEY, metadata)], self)
        return (_text(document, indent) + "\n").encode()

    def write_plain(self, branches: list[Branch], indent: int | None = None) -> bytes:
        """Only the first document: JSON files hold one, and sops drops the others too."""
        if not branches:
            raise StoreError("there is no document to write")
        return (_text(branches[0], indent) + "\n").encode()

    def write_value(self, value: Node) -> bytes:
        return _text(value, None).encode()


STORE: Store = JsonStore()
