"""INI <-> tree of section -> key -> string, in the dialect of the library that sops uses.

`=` or `:` separate; a key's comment (the lines above it, and what stands behind its value) follows the key in the tree,
a section's comment is its first entry. Blank lines and comments at the end of the file are lost, as in sops.

Differs from sops: a value that is a mapping or list is refused instead of written as a debug text, and a comment with
an empty line is written instead of ending the program.
Source: getsops/sops 3.13, stores/ini/store.go; gopkg.in/ini.v1 1.67, parser.go (parse) and file.go (writeToBuffer),
with the option AllowNonUniqueSections.
"""

from __future__ import annotations

from krm_sops.errors import StoreError, shown
from krm_sops.limits import SOPS_VERBS
from krm_sops.stores.flatten import KEY, flatten, one_document, take_metadata, unflatten, with_metadata
from krm_sops.stores.json import json_scalar
from krm_sops.tree import Branch, Comment, Entry, from_bytes, to_bytes
from krm_sops.values import to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.limits import Limits
    from krm_sops.stores.base import Store
    from krm_sops.tree import Node

_DEFAULT = "DEFAULT"
_DELIMITERS = "=:"
# What Go counts as white space; Python's own idea has four control characters more.
_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_BYTE_ORDER_MARKS = (b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf")


class _Section:
    """keys: name -> (value, comment)."""

    __slots__ = ("comment", "keys", "name")

    def __init__(self, name: str, comment: str = "") -> None:
        self.name = name
        self.comment = comment
        self.keys: dict[str, tuple[str, str]] = {}

    def entry(self) -> Entry:
        items = [Entry(Comment(_bare(self.comment)), None)] if self.comment else []
        for key, (value, comment) in self.keys.items():
            items.append(Entry(key, value))
            if comment:
                items.append(Entry(Comment(_bare(comment)), None))
        return Entry(self.name, Branch(items))


def _bare(comment: str) -> str:
    """A comment without the marks before its first line."""
    return comment.lstrip(comment[0] + " ") if comment[0] in ";#" else comment


class _Parser:
    """lines: each with its line feed, except the last. comment: what was met and belongs to the next key or section."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.at = 0
        self.comment = ""

    def next_line(self) -> str:
        """With its line feed; the empty string at the end."""
        self.at += 1
        if self.at > len(self.lines):
            return ""
        return self.lines[self.at - 1] + ("\n" if self.at < len(self.lines) else "")

    def take_comment(self) -> str:
        comment, self.comment = self.comment, ""
        return comment.strip(_SPACE)

    def error(self, message: str) -> StoreError:
        return StoreError(message, line=min(self.at, len(self.lines)), column=1)

    def sections(self) -> list[_Section]:
        sections = [_Section(_DEFAULT)]
        unnamed = 0
        while self.at < len(self.lines):
            line = self.next_line().lstrip(_SPACE)
            if not line:
                continue
            if line[0] in "#;":
                self.comment += line
            elif line[0] == "[":
                name, closing, rest = line[1:].rpartition("]")
                if not closing:
                    raise self.error("a section header without ]")
                if not name:
                    raise self.error("a section without a name")
                self.comment += _comment_in(rest)
                sections.append(_Section(name, self.take_comment()))
                unnamed = 0
            else:
                key, rest = self.key(line)
                if key == "-":
                    unnamed += 1
                    key = f"#{unnamed}"
                value = self.value(rest)
                if not key:
                    raise self.error("an empty key")
                sections[-1].keys[key] = value, self.take_comment()
        return sections

    def key(self, line: str) -> tuple[str, str]:
        """The key of this line, and what stands behind its delimiter."""
        quote = ""
        if line[0] == "`":
            quote = "`"
        elif line[0] == '"':
            quote = '"""' if line.startswith('"""') and len(to_bytes(line)) > 6 else '"'
        if not quote:
            end = _first_of(_DELIMITERS, line)
            if not end:
                raise self.error("an empty key")
            if end < 0:
                raise self.error("a key without = or :")
            return line[:end].strip(_SPACE), line[end + 1 :]
        name, closing, rest = line[len(quote) :].partition(quote)
        if not closing:
            raise self.error("the quote around a key is not closed")
        end = _first_of(_DELIMITERS, rest)
        if end < 0:
            raise self.error("a key without = or :")
        return name.strip(_SPACE), rest[end + 1 :]

    def value(self, text: str) -> str:
        text = text.lstrip(_SPACE)
        if not text:
            return ""
        quote = '"""' if text.startswith('"""') and len(text) > 3 else "`" if text[0] == "`" else ""
        if quote:
            value, closing, _ = text[len(quote) :].rpartition(quote)
            return value if closing else self.lines_until(quote, text[len(quote) :])
        text = text.rstrip(_SPACE)
        if text[-1] == "\\":
            return self.continued(text[:-1])
        comment = _comment_in(text)
        if comment:
            self.comment += comment
            text = text[: -len(comment)].strip(_SPACE)
        for mark in "'\"":
            if len(text) >= 2 and text[0] == mark and text.find(mark, 1) == len(text) - 1:
                return text[1:-1]
        return text

    def lines_until(self, quote: str, value: str) -> str:
        """A quoted value that goes on in the next lines: `value`, and the lines up to the closing quote."""
        while True:
            line = self.next_line()
            before, closing, after = line.rpartition(quote)
            if closing and not after.rstrip("\r\n").strip(_SPACE).endswith("\\"):
                self.comment += _comment_in(after).strip(_SPACE)
                return value + before
            value += line
            if self.at >= len(self.lines):
                raise self.error("the quote around a value is not closed")

    def continued(self, value: str) -> str:
        """A value whose line ended in a backslash."""
        while True:
            line = self.next_line().strip(_SPACE)
            value += line
            if not line or value[-1] != "\\":
                return value
            value = value[:-1]


def _first_of(chars: str, text: str) -> int:
    """The index of the first of these characters; -1 where there is none."""
    return min((at for at in map(text.find, chars) if at >= 0), default=-1)


def _comment_in(text: str) -> str:
    """From the first comment character on."""
    at = _first_of("#;", text)
    return text[at:] if at >= 0 else ""


class IniStore:
    def read(self, raw: bytes, limits: Limits = SOPS_VERBS) -> tuple[list[Branch], Branch | None]:
        (whole,) = self.read_plain(raw, limits)
        branch, flat = take_metadata(whole)
        if flat is None:
            return [branch], None
        for entry in flat.entries:
            if isinstance(entry.value, str):
                entry.value = entry.value.replace("\\n", "\n")
        return [branch], unflatten(flat.entries)

    def read_plain(self, raw: bytes, limits: Limits = SOPS_VERBS) -> list[Branch]:  # noqa: ARG002 (flat, so its size is enough)
        mark = next((mark for mark in _BYTE_ORDER_MARKS if raw.startswith(mark)), b"")
        sections = _Parser(from_bytes(raw[len(mark) :])).sections()
        return [Branch(section.entry() for section in sections)]

    def is_reserved(self, key: str) -> bool:
        return key == KEY

    def write_encrypted(self, branches: list[Branch], metadata: Branch, indent: int | None = None) -> bytes:
        """Line breaks in metadata are spelled as the two characters ``\\n``."""
        flat = Branch(
            Entry(entry.key, entry.value.replace("\n", "\\n") if isinstance(entry.value, str) else entry.value)
            for entry in flatten(metadata)
        )
        return self.write_plain([with_metadata(one_document(branches, "ini"), [Entry(KEY, flat)], self)], indent)

    def write_plain(self, branches: list[Branch], indent: int | None = None) -> bytes:  # noqa: ARG002 (nothing to indent)
        """The sections of all documents, one after another."""
        sections = [_section(e) for branch in branches for e in branch.entries if not isinstance(e.key, Comment)]
        last = len(sections) - 1
        return to_bytes("".join(_block(section, at == 0, at == last) for at, section in enumerate(sections)))

    def write_value(self, value: Node) -> bytes:
        if isinstance(value, (Branch, list)):
            raise StoreError("INI has no spelling for a mapping or list outside a file")
        return json_scalar(value).encode()


def _section(entry: Entry) -> _Section:
    if not isinstance(entry.key, str) or not entry.key:
        raise StoreError("a section without a name")
    if not isinstance(entry.value, Branch):
        raise StoreError(f"the section {shown(entry.key)} of an INI file must be a mapping")
    section = _Section(entry.key)
    last = ""
    for at, item in enumerate(entry.value.entries):
        if isinstance(item.key, Comment):
            if not at:
                section.comment = item.key.text
            elif last:
                section.keys[last] = section.keys[last][0], item.key.text
            continue
        if not isinstance(item.key, str) or not item.key:
            raise StoreError(f"an empty key in the section {shown(entry.key)}")
        if isinstance(item.value, (Branch, list, Comment)):
            raise StoreError(f"an INI file cannot hold the mapping or list under {shown(entry.key)}.{shown(item.key)}")
        last = item.key
        section.keys[last] = to_text(item.value), section.keys.get(last, ("", ""))[1]
    return section


def _block(section: _Section, is_first: bool, is_last: bool) -> str:
    """The lines of one section, and the empty line behind it. The default section has no header in the first place."""
    lines = [_comment_line(text, text) for text in section.comment.split("\n")] if section.comment else []
    if not is_first or section.name.upper() != _DEFAULT:
        lines.append(f"[{section.name}]\n")
    elif not section.keys:
        return "".join(lines)
    quoted = {key: _quoted_key(key) for key in section.keys}
    width = max((len(to_bytes(key)) for key in quoted.values()), default=0)
    for key, (value, comment) in section.keys.items():
        if comment:
            lines += [_comment_line(text, text.strip(_SPACE)) for text in comment.split("\n")]
        padding = " " * (width - len(to_bytes(quoted[key])))
        lines.append(f"{quoted[key]}{padding} = {_quoted_value(value)}\n")
    if not is_last:
        lines.append("\n")
    return "".join(lines)


def _comment_line(text: str, shown_as: str) -> str:
    """shown_as: what is written where `text` does not bring its own comment character."""
    if text[:1] in ("#", ";"):
        return f"{text[0]} {text[1:].strip(_SPACE)}\n"
    return f"; {shown_as}\n"


def _quoted_key(key: str) -> str:
    if '"' in key or _first_of(_DELIMITERS, key) >= 0:
        return f"`{key}`"
    return f'"""{key}"""' if "`" in key else key


def _quoted_value(value: str) -> str:
    if "\n" in value or "`" in value:
        return f'"""{value}"""'
    if _comment_in(value):
        return f"`{value}`"
    return f'"{value}"' if value.strip(_SPACE) != value else value


STORE: Store = IniStore()
