"""YAML text -> tokens, with the comments that PyYAML throws away.

A scanner of its own because where a comment ends up in the tree is decided by go-yaml's scanner: by its lookahead of
three tokens, the indentation it is in at that moment, and the line breaks it has just passed. Strange results there
are stored in encrypted files and covered by paths, so they are followed to the letter.

Source for the behaviour: go.yaml.in/yaml v3.0.4, scannerc.go and parserc.go.
"""

from __future__ import annotations

from krm_sops.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Mark: TypeAlias = "tuple[int, int, int]"  # index in the text, line, column; all from 0

# Token kinds. The first letters are what the parser asks for; the names are libyaml's.
STREAM_START, STREAM_END, DOCUMENT_START, DOCUMENT_END = "stream start", "stream end", "---", "..."
BLOCK_SEQUENCE, BLOCK_MAPPING, BLOCK_END, BLOCK_ENTRY, KEY, VALUE = (
    "block list",
    "block map",
    "block end",
    "-",
    "?",
    ":",
)
FLOW_SEQUENCE, FLOW_SEQUENCE_END, FLOW_MAPPING, FLOW_MAPPING_END, FLOW_ENTRY = "[", "]", "{", "}", ","
ALIAS, ANCHOR, TAG, SCALAR, VERSION, TAG_PREFIX = "alias", "anchor", "tag", "scalar", "%YAML", "%TAG"

_BREAKS = "\n\r\x85\u2028\u2029"
_LONG_BREAKS = "\x85\u2028\u2029"
_BREAKS_OR_END = _BREAKS + "\0"
_BLANKS_OR_END = " \t" + _BREAKS_OR_END
_FLOW_ENDS = ",?[]{}"
_NO_PLAIN_START = "-?:,[]{}#&*!|>'\"%@`" + _BLANKS_OR_END
_AFTER_NAME = "?:,]}%@`" + _BLANKS_OR_END
_NAME = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-")
_URI = _NAME | frozenset(";/?:@&=+$,.!~*'()[]%")
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPES = dict(zip("0abt\tnvfre \"'\\N_LP", "\0\a\b\t\t\n\v\f\r\x1b \"'\\\x85\xa0\u2028\u2029", strict=True))
_CODE_LENGTHS = {"x": 2, "u": 4, "U": 8}
_COMMENT_LOOKAHEAD = 512
_KEY_LENGTH = 1024


class Token:
    """value: text of a scalar, name of an anchor or alias, handle of a tag.  detail: suffix of a tag, or
    the indicator character that a scalar opened with ("" for plain)."""

    __slots__ = ("detail", "kind", "mark", "value")

    def __init__(self, kind: str, mark: Mark, value: str = "", detail: str = "") -> None:
        self.kind = kind
        self.mark = mark
        self.value = value
        self.detail = detail


class _Found:
    """Comment lines as they were found: they belong to the first token that starts at `token` or later.

    scan, end: the indexes between which there is nothing but this comment and blanks.
    """

    __slots__ = ("end", "foot", "head", "line", "scan", "start", "token")

    def __init__(self, token: int, start: Mark, scan: int = 0, end: int = 0) -> None:
        self.token = token
        self.start = start
        self.scan = scan
        self.end = end
        self.head = self.line = self.foot = ""

    def forget(self) -> None:
        self.end = self.scan = 0
        self.head = self.line = self.foot = ""


class _SimpleKey:
    """A place where a key without ``?`` may have begun. number: of the token that begins there, since the start."""

    __slots__ = ("mark", "number", "possible", "required")

    def __init__(self, number: int, mark: Mark, possible: bool = False, required: bool = False) -> None:
        self.number = number
        self.mark = mark
        self.possible = possible
        self.required = required


class Scanner:
    """`peek` and `skip` give the tokens; `head`, `line` and `foot` gather the comments up to the peeked token."""

    def __init__(self, text: str) -> None:
        """text: whole, with no byte order mark and no character that YAML forbids."""
        self.head = self.line = self.foot = ""
        self._text = text + "\0\0\0\0"
        self._at = 0
        self._line_no = 0
        self._line_start = 0
        self._newlines = 0  # line breaks since the last character that is no blank
        self._next_break = {c: text.find(c) for c in _BREAKS if c in text}
        self._tokens = [Token(STREAM_START, (0, 0, 0))]
        self._first = 0  # of self._tokens: the next one to give out
        self._given = 0
        self._ready = False
        self._comments: list[_Found] = []
        self._first_comment = 0
        self._indent = -1
        self._indents: list[int] = []
        self._flow = 0
        self._key_allowed = True
        self._keys = [_SimpleKey(0, (0, 0, 0))]
        self._level_by_number: dict[int, int] = {}  # token number -> index in self._keys

    def peek(self) -> Token:
        if not self._ready:
            self._look_ahead()
        token = self._tokens[self._first]
        self._gather(token)
        return token

    def skip(self) -> None:
        """Only after `peek`."""
        self._ready = False
        self._given += 1
        self._first += 1
        if self._first > 1000:
            del self._tokens[: self._first]
            self._first = 0

    def _gather(self, token: Token) -> None:
        while self._first_comment < len(self._comments):
            comment = self._comments[self._first_comment]
            if token.mark[0] < comment.token or (comment.head and token.kind == BLOCK_END):
                return
            if comment.head:
                self.head = self.head + "\n" + comment.head if self.head else comment.head
            if comment.foot:
                self.foot = self.foot + "\n" + comment.foot if self.foot else comment.foot
            if comment.line:
                self.line = self.line + "\n" + comment.line if self.line else comment.line
            comment.forget()
            self._first_comment += 1

    # Position

    def _mark(self) -> Mark:
        return self._at, self._line_no, self._at - self._line_start

    def _line_end(self) -> int:
        """The index of the next line break, or of the end of the text."""
        nearest = len(self._text) - 4
        for c, index in self._next_break.items():
            if 0 <= index < self._at:
                index = self._next_break[c] = self._text.find(c, self._at)
            if 0 <= index < nearest:
                nearest = index
        return nearest

    def _forward(self, count: int = 1) -> None:
        """Past characters that are neither blanks nor breaks."""
        self._newlines = 0
        self._at += count

    def _skip_blanks(self, characters: str = " \t") -> None:
        text = self._text
        while text[self._at] in characters:
            self._at += 1

    def _skip_break(self) -> str:
        """Past one line break; what it means in a scalar."""
        c = self._text[self._at]
        self._at += 2 if c == "\r" and self._text[self._at + 1] == "\n" else 1
        self._line_no += 1
        self._line_start = self._at
        self._newlines += 1
        return c if c in "\u2028\u2029" else "\n"

    def _error(self, problem: str, mark: Mark | None = None) -> StoreError:
        _, line, column = mark or self._mark()
        return StoreError(problem, line=line + 1, column=column + 1)

    # The queue

    def _look_ahead(self) -> None:
        """Three tokens, and more while the first may turn out to be a key: comments are found in time that way."""
        while len(self._tokens) - self._first < 3 or self._may_be_key():
            self._fetch()
        self._ready = True

    def _may_be_key(self) -> bool:
        # As in go-yaml, an outdated number may lead to a newer key of its level; that only looks further ahead.
        level = self._level_by_number.get(self._given, len(self._keys))
        return level < len(self._keys) and self._still_key(self._keys[level])

    def _insert(self, token: Token, number: int = -1) -> None:
        """number: the place among all tokens; -1 is the end."""
        if number < 0:
            self._tokens.append(token)
        else:
            self._tokens.insert(self._first + number - self._given, token)

    def _still_key(self, key: _SimpleKey) -> bool:
        if not key.possible:
            return False
        if key.mark[1] < self._line_no or key.mark[0] + _KEY_LENGTH < self._at:
            if key.required:
                raise self._error("could not find expected ':'", key.mark)
            key.possible = False
            return False
        return True

    def _save_key(self) -> None:
        if self._key_allowed:
            mark = self._mark()
            self._drop_key()
            number = self._given + len(self._tokens) - self._first
            required = not self._flow and self._indent == mark[2]
            self._keys[-1] = _SimpleKey(number, mark, True, required)
            self._level_by_number[number] = len(self._keys) - 1

    def _drop_key(self) -> None:
        key = self._keys[-1]
        if key.possible:
            if key.required:
                raise self._error("could not find expected ':'", key.mark)
            key.possible = False
            self._level_by_number.pop(key.number, None)

    def _open_block(self, mark: Mark, kind: str, number: int = -1) -> None:
        if not self._flow and self._indent < mark[2]:
            self._indents.append(self._indent)
            self._indent = mark[2]
            self._insert(Token(kind, mark), number)

    def _close_blocks(self, column: int, scan: Mark) -> None:
        """End the blocks that are indented deeper than `column`; before comments that already belong outside.

        scan: where the search for the next token began.
        """
        if self._flow:
            return
        mark = (scan[0] - 1, scan[1], scan[2])
        while self._indent > column:
            stop = mark[0]
            for comment in reversed(self._comments):
                if comment.end < stop:
                    break
                if comment.start[2] == self._indent + 1:
                    mark = comment.start
                stop = comment.scan
            self._tokens.append(Token(BLOCK_END, mark))
            self._indent = self._indents.pop()

    # Tokens

    def _fetch(self) -> None:
        scan = self._mark()
        self._to_next_token()
        mark = self._mark()
        self._close_blocks(mark[2], scan)
        text, at = self._text, self._at
        c = text[at]
        if c == "\0":
            self._stream_end()
            return
        if mark[2] == 0:
            if c == "%":
                self._reset(mark)
                self._directive(mark)
                return
            if self._at_document_indicator():
                self._reset(mark)
                self._forward(3)
                self._tokens.append(Token(DOCUMENT_START if c == "-" else DOCUMENT_END, mark))
                return
        comment_at = at
        if (c == ":" and not self._flow) or (c == "," and self._flow):
            comment_at = self._tokens[-1].mark[0]
        self._fetch_content(c, mark)
        if self._tokens[-1].kind != BLOCK_ENTRY:  # what stands behind a lone "-" is the head of what follows
            self._line_comment(comment_at)

    def _fetch_content(self, c: str, mark: Mark) -> None:
        after = self._text[self._at + 1]
        separate = after in _BLANKS_OR_END
        if c in "[{":
            self._save_key()
            self._keys.append(_SimpleKey(self._given + len(self._tokens) - self._first, mark))
            self._flow += 1
            self._key_allowed = True
            self._indicator(c, mark)
        elif c in "]}":
            self._drop_key()
            if self._flow:
                self._flow -= 1
                self._level_by_number.pop(self._keys.pop().number, None)
            self._key_allowed = False
            self._indicator(c, mark)
        elif c == ",":
            self._drop_key()
            self._key_allowed = True
            self._indicator(FLOW_ENTRY, mark)
        elif c == "-" and separate:
            self._block_item(BLOCK_SEQUENCE, mark, "block sequence entries are not allowed in this context")
            self._drop_key()
            self._key_allowed = True
            self._indicator(BLOCK_ENTRY, mark)
        elif c == "?" and (self._flow or separate):
            self._block_item(BLOCK_MAPPING, mark, "mapping keys are not allowed in this context")
            self._drop_key()
            self._key_allowed = not self._flow
            self._indicator(KEY, mark)
        elif c == ":" and (self._flow or separate):
            self._value(mark)
        elif c in "*&":
            self._save_key()
            self._key_allowed = False
            self._anchor(ALIAS if c == "*" else ANCHOR, mark)
        elif c == "!":
            self._save_key()
            self._key_allowed = False
            self._tag(mark)
        elif c in "|>" and not self._flow:
            self._drop_key()
            self._key_allowed = True
            self._block_scalar(c, mark)
        elif c in "'\"":
            self._save_key()
            self._key_allowed = False
            self._quoted(c, mark)
        elif c not in _NO_PLAIN_START or (c == "-" and after not in " \t") or (c in "?:" and not self._flow):
            self._save_key()
            self._key_allowed = False
            self._plain(mark)
        else:
            raise self._error("found character that cannot start any token")

    def _indicator(self, kind: str, mark: Mark) -> None:
        self._forward()
        self._tokens.append(Token(kind, mark))

    def _block_item(self, kind: str, mark: Mark, problem: str) -> None:
        if not self._flow:
            if not self._key_allowed:
                raise self._error(problem)
            self._open_block(mark, kind)

    def _value(self, mark: Mark) -> None:
        key = self._keys[-1]
        if self._still_key(key):
            self._insert(Token(KEY, key.mark), key.number)
            self._open_block(key.mark, BLOCK_MAPPING, key.number)
            key.possible = False
            self._level_by_number.pop(key.number, None)
            self._key_allowed = False
        else:
            self._block_item(BLOCK_MAPPING, mark, "mapping values are not allowed in this context")
            self._key_allowed = not self._flow
        self._indicator(VALUE, mark)

    def _stream_end(self) -> None:
        if self._at != self._line_start:
            self._line_no += 1
            self._line_start = self._at
        mark = self._mark()
        self._close_blocks(-1, mark)
        self._drop_key()
        self._key_allowed = False
        self._tokens.append(Token(STREAM_END, mark))

    def _reset(self, mark: Mark) -> None:
        """No block and no key goes on over a directive or document indicator."""
        self._close_blocks(-1, mark)
        self._drop_key()
        self._key_allowed = False

    def _at_document_indicator(self) -> bool:
        text, at = self._text, self._at
        return at == self._line_start and text[at : at + 3] in ("---", "...") and text[at + 3] in _BLANKS_OR_END

    def _directive(self, mark: Mark) -> None:
        self._forward()
        name = self._run(_NAME)
        if name not in ("YAML", "TAG") or self._text[self._at] not in " \t":
            raise self._error("found unknown directive", mark)
        self._skip_blanks()
        if name == "YAML":
            token = Token(VERSION, mark, self._run(frozenset("0123456789.")))
        else:
            handle = self._tag_handle()
            if handle != "!" and not handle.endswith("!"):
                raise self._error("did not find expected '!'", mark)
            if self._text[self._at] not in " \t":
                raise self._error("did not find expected whitespace", mark)
            self._skip_blanks()
            token = Token(TAG_PREFIX, mark, handle, self._tag_uri(""))
            if self._text[self._at] not in _BLANKS_OR_END:
                raise self._error("did not find expected whitespace or line break", mark)
        self._rest_of_line(mark)
        self._tokens.append(token)

    def _rest_of_line(self, mark: Mark) -> None:
        """Blanks, a comment that is nobody's, and the line break."""
        self._skip_blanks()
        if self._text[self._at] == "#":
            self._forward(self._line_end() - self._at)
        if self._text[self._at] not in _BREAKS_OR_END:
            raise self._error("did not find expected comment or line break", mark)
        if self._text[self._at] != "\0":
            self._skip_break()

    def _run(self, characters: frozenset[str]) -> str:
        text, start = self._text, self._at
        end = start
        while text[end] in characters:
            end += 1
        if end > start:
            self._forward(end - start)
        return text[start:end]

    def _anchor(self, kind: str, mark: Mark) -> None:
        self._forward()
        name = self._run(_NAME)
        if not name or self._text[self._at] not in _AFTER_NAME:
            raise self._error("did not find expected alphabetic or numeric character")
        self._tokens.append(Token(kind, mark, name))

    def _tag(self, mark: Mark) -> None:
        if self._text[self._at + 1] == "<":
            self._forward(2)
            handle, suffix = "", self._tag_uri("")
            if self._text[self._at] != ">":
                raise self._error("did not find the expected '>'")
            self._forward()
        else:
            handle = self._tag_handle()
            if len(handle) > 1 and handle.endswith("!"):
                suffix = self._tag_uri("")
            else:
                handle, suffix = "!", self._tag_uri(handle)
                if not suffix:
                    handle, suffix = "", "!"
        if self._text[self._at] not in _BLANKS_OR_END:
            raise self._error("did not find expected whitespace or line break")
        self._tokens.append(Token(TAG, mark, handle, suffix))

    def _tag_handle(self) -> str:
        if self._text[self._at] != "!":
            raise self._error("did not find expected '!'")
        self._forward()
        handle = "!" + self._run(_NAME)
        if self._text[self._at] == "!":
            self._forward()
            handle += "!"
        return handle

    def _tag_uri(self, head: str) -> str:
        """head: what looked like a handle and was none; its first character is an indicator."""
        raw = self._run(_URI)
        if not raw and not head:
            raise self._error("did not find expected tag URI")
        if "%" in raw:
            pieces = raw.split("%")
            try:
                octets = b"".join(bytes.fromhex(p[:2]) + p[2:].encode() for p in pieces[1:])
                raw = pieces[0] + octets.decode()
            except ValueError:
                raise self._error("did not find URI escaped octet") from None
        return head[1:] + raw

    # Scalars

    def _block_scalar(self, c: str, mark: Mark) -> None:
        text = self._text
        self._forward()
        chomping, increment = "", 0
        for _ in range(2):
            if text[self._at] in "+-" and not chomping:
                chomping = text[self._at]
                self._forward()
            elif text[self._at] in "0123456789" and not increment:
                increment = int(text[self._at])
                if not increment:
                    raise self._error("found an indentation indicator equal to 0")
                self._forward()
        self._skip_blanks()
        if text[self._at] == "#":
            self._line_comment(mark[0])
        if text[self._at] not in _BREAKS_OR_END:
            raise self._error("did not find expected comment or line break")
        if text[self._at] != "\0":
            self._skip_break()
        indent = max(self._indent, 0) + increment if increment else 0
        parts: list[str] = []
        indent, pending = self._block_breaks(indent)
        line_break = ""
        was_blank = False
        while self._at - self._line_start == indent and text[self._at] != "\0":
            is_blank = text[self._at] in " \t"
            if c == ">" and not was_blank and not is_blank and line_break == "\n":
                if not pending:
                    parts.append(" ")
            else:
                parts.append(line_break)
            parts.append(pending)
            was_blank = is_blank
            end = self._line_end()
            parts.append(text[self._at : end])
            if text[self._at : end].strip(" \t"):
                self._newlines = 0
            self._at = end
            line_break = self._skip_break() if text[end] != "\0" else ""
            indent, pending = self._block_breaks(indent)
        if chomping != "-":
            parts.append(line_break)
        if chomping == "+":
            parts.append(pending)
        self._tokens.append(Token(SCALAR, mark, "".join(parts), c))

    def _block_breaks(self, indent: int) -> tuple[int, str]:
        """Past indentation and empty lines. indent: 0 where the first line that is not empty decides it."""
        text = self._text
        breaks = []
        deepest = 0
        while True:
            while text[self._at] == " " and (not indent or self._at - self._line_start < indent):
                self._at += 1
            column = self._at - self._line_start
            deepest = max(deepest, column)
            if text[self._at] == "\t" and (not indent or column < indent):
                raise self._error("found a tab character where an indentation space is expected")
            if text[self._at] not in _BREAKS:
                break
            breaks.append(self._skip_break())
        return indent or max(deepest, self._indent + 1, 1), "".join(breaks)

    def _quoted(self, quote: str, mark: Mark) -> None:
        text = self._text
        self._forward()
        parts: list[str] = []
        closing = escape = -1  # the next ones; -1 is "look again"
        while True:
            if self._at_document_indicator():
                raise self._error("found unexpected document indicator")
            start, line_end = self._at, self._line_end()
            if closing < start:
                closing = _find(text, quote, start)
            if quote == '"' and escape < start:
                escape = _find(text, "\\", start)
            end = min(closing, line_end, escape if quote == '"' else closing)
            self._at = end
            if end == line_end:
                if text[end] == "\0":
                    raise self._error("found unexpected end of stream", mark)
                parts.append(text[start:end].rstrip(" \t"))
                parts.append(self._fold())
                continue
            parts.append(text[start:end])
            if text[end] == "\\" and quote == '"':
                if text[end + 1] in _BREAKS:
                    self._forward()
                    self._skip_break()
                    parts.append(self._more_breaks())
                else:
                    parts.append(self._escape(mark))
            elif quote == "'" and text[end + 1] == "'":
                parts.append("'")
                self._forward(2)
            else:
                break
        self._forward()
        self._tokens.append(Token(SCALAR, mark, "".join(parts), quote))

    def _escape(self, mark: Mark) -> str:
        c = self._text[self._at + 1]
        length = _CODE_LENGTHS.get(c, 0)
        if not length:
            if c not in _ESCAPES:
                raise self._error("found unknown escape character", mark)
            self._forward(2)
            return _ESCAPES[c]
        digits = self._text[self._at + 2 : self._at + 2 + length]
        if len(digits) < length or not _HEX.issuperset(digits):
            raise self._error("did not find expected hexadecimal number", mark)
        code = int(digits, 16)
        if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise self._error("found invalid Unicode character escape code", mark)
        self._forward(2 + length)
        return chr(code)

    def _fold(self) -> str:
        """Past a line break and the blanks and breaks after it; what they mean inside a scalar."""
        first = self._skip_break()
        more = self._more_breaks()
        return (more or " ") if first == "\n" else first + more

    def _more_breaks(self) -> str:
        breaks = []
        while self._text[self._at] in " \t" + _BREAKS:
            self._skip_blanks()
            if self._text[self._at] in _BREAKS:
                breaks.append(self._skip_break())
        return "".join(breaks)

    def _plain(self, mark: Mark) -> None:
        text = self._text
        parts: list[str] = []
        joint = ""
        folded = False
        while not self._at_document_indicator() and text[self._at] != "#":
            start, line_end = self._at, self._line_end()
            end = self._plain_end(start, line_end)
            content = text[start:end].rstrip(" \t")
            if content:
                parts += (joint, content)
                folded = False
                self._newlines = 0
            self._at = end
            if end < line_end or text[end] == "\0":
                break
            first, more = self._skip_break(), []
            while text[self._at] in " \t" + _BREAKS:
                if text[self._at] in _BREAKS:
                    more.append(self._skip_break())
                elif text[self._at] == "\t" and self._at - self._line_start <= self._indent:
                    raise self._error("found a tab character that violates indentation", mark)
                else:
                    self._at += 1
            joint = ("".join(more) or " ") if first == "\n" else first + "".join(more)
            folded = True
            if not self._flow and self._at - self._line_start <= self._indent:
                break
        if folded:
            self._key_allowed = True
        self._tokens.append(Token(SCALAR, mark, "".join(parts)))

    def _plain_end(self, start: int, end: int) -> int:
        text = self._text
        if self._flow:
            for at in range(start, end):
                c = text[at]
                if (
                    c in _FLOW_ENDS
                    or (c == ":" and text[at + 1] in _BLANKS_OR_END)
                    or (c == "#" and text[at - 1] in " \t")
                ):
                    return at
            return end
        colon = text.find(":", start, end)
        while colon >= 0:
            if text[colon + 1] in _BLANKS_OR_END:
                end = colon
                break
            colon = text.find(":", colon + 1, end)
        pound = text.find("#", start, end)
        while pound >= 0:
            if text[pound - 1] in " \t":
                return pound
            pound = text.find("#", pound + 1, end)
        return end

    # Comments

    def _to_next_token(self) -> None:
        scan = self._mark()
        text = self._text
        while True:
            self._skip_blanks(" \t" if self._flow or not self._key_allowed else " ")
            self._lift_line_comment()
            if text[self._at] == "#":
                self._comment_lines(scan)
            if text[self._at] not in _BREAKS:
                return
            self._skip_break()
            if not self._flow:
                self._key_allowed = True

    def _lift_line_comment(self) -> None:
        """What stands on the line of a key becomes the head of the first item of the list below it."""
        if not self._comments or len(self._tokens) < 2 or self._text[self._at] in _BREAKS:
            return
        comment = self._comments[-1]
        if comment.line and self._tokens[-2].kind == BLOCK_SEQUENCE and self._tokens[-1].kind == BLOCK_ENTRY:
            comment.head, comment.line = comment.line, ""
            if comment.start[1] == self._line_no - 1:
                comment.token = self._at

    def _line_comment(self, token: int) -> None:
        """The comment that follows on the same line, if there is one. token: the index of what it belongs to."""
        if self._newlines:
            return
        text, at = self._text, self._at
        while text[at] in " \t" and at - self._at < _COMMENT_LOOKAHEAD:
            at += 1
        if text[at] == "#" and at - self._at < _COMMENT_LOOKAHEAD:
            self._at = at
            found = _Found(token, self._mark())
            found.line = self._comment_line()
            self._comments.append(found)

    def _comment_line(self) -> str:
        start, end = self._at, self._line_end()
        self._newlines = 0
        self._at = end
        return self._text[start:end]

    def _comment_lines(self, scan: Mark) -> None:
        """A run of comment lines, with empty lines between them, up to the next content.

        Cut into feet of what came before and the head of what comes next. The column of a comment counts from 1 here,
        and its line is one too low after the first: both as go-yaml does, whose comparisons depend on it.
        """
        last = self._tokens[-1]
        if last.kind == FLOW_ENTRY and len(self._tokens) > 1:
            last = self._tokens[-2]
        text = self._text
        token, scan_at = last.mark[0], scan[0]
        start: Mark = (0, 0, 0)
        lines = ""
        indent = max(self._indent, 0)
        was_empty, first_gap = False, self._newlines <= 1
        line, column = self._line_no, self._at - self._line_start
        # A foot must begin here: on the line below the content before it.
        foot_line = -1
        if scan[1] > 0:
            foot_line = line - self._newlines + 1
            if not self._newlines and column > 1:
                foot_line += 1
        ahead = -1
        split = False  # go-yaml looks at bytes here, and takes the second one of a long line break for content
        while ahead < _COMMENT_LOOKAHEAD - 1:
            ahead += 1
            column += 1
            c = "x" if split else text[self._at + ahead]
            if c in " \t":
                continue
            closes = self._flow > 0 and c in "]}"
            if closes or c in _BREAKS_OR_END:
                if closes or not was_empty:
                    after_content = start[1] == foot_line and last.kind != VALUE
                    if closes or (first_gap and (after_content or start[2] - 1 < indent)):
                        if lines:
                            if start[2] - 1 < indent:
                                token = start[0]
                            scan_at = token = self._foot(token, start, scan_at, ahead, lines)
                            lines = ""
                    elif lines and c != "\0":
                        lines += "\n"
                if closes or c == "\0":
                    break
                first_gap, was_empty = False, True
                column = 0
                line += 1
                split = c in _LONG_BREAKS
                continue
            if lines and column - 1 < indent and column != start[2]:
                scan_at = token = self._foot(token, start, scan_at, ahead, lines)
                lines = ""
            if c != "#":
                break
            if lines:
                lines += "\n"
            else:
                start = (self._at + ahead, line, column)
            was_empty = False
            seen = self._at + ahead
            while self._at < seen:
                if text[self._at] in _BREAKS:
                    self._skip_break()
                else:
                    self._at += 1
            lines += self._comment_line()
            ahead, column = 0, 0
            split = text[self._at] in _LONG_BREAKS
            line = self._line_no
            indent = max(self._indent, 0)
        if lines:
            found = _Found(start[0], start, scan_at, self._at + ahead - 1)
            found.head = lines
            self._comments.append(found)

    def _foot(self, token: int, start: Mark, scan: int, ahead: int, lines: str) -> int:
        """Note a foot comment; where it ends."""
        found = _Found(token, start, scan, self._at + ahead)
        found.foot = lines
        self._comments.append(found)
        return found.end


def _find(text: str, what: str, start: int) -> int:
    """len(text) where there is none."""
    at = text.find(what, start)
    return at if at >= 0 else len(text)
