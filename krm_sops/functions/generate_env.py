"""An envs file -> names and values, in the dialect of the tool whose config names it.

``dotenv``, ours, and ``godotenv``, that of ksops: ``export``, quotes, escapes in double quotes, comments behind values,
``name: value``. Only the latter puts earlier values of the file in the place of ``$NAME`` and ``${NAME}``.
``lines``, that of SopsSecretGenerator: what stands behind the first ``=``, as it is; also flat YAML and JSON.

No message quotes a value. Values may hold bytes that are no UTF-8, as surrogate escapes.
Sources: joho/godotenv 1.5.1, parser.go; goabout/kustomize-sopssecretgenerator 1.6.0, SopsSecretGenerator.go.
"""

from __future__ import annotations

from krm_sops.errors import InputError
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, from_bytes
from krm_sops.yamlwrite import scalar_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

    Pairs = list[tuple[str, str]]

_SPACE = "\t\v\f\r \x85\xa0"
_ALL_SPACE = (
    _SPACE + "\n\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_IN_NAME = "_." + _SPACE + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IN_KEY = frozenset("-._0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def pairs(dialect: str, format_: str, branches: list[Branch]) -> Pairs:
    """format_: of the file.  branches: its plain documents. Raises InputError; a name may come several times."""
    if format_ == "ini" and dialect != "godotenv":
        raise InputError(
            "an INI file has sections, which no list of names and values has", hint="use dotenv or flat YAML"
        )
    if format_ in ("yaml", "json") and dialect != "godotenv":
        return _flat(branches, strings_only=format_ == "json" and dialect == "lines")
    text = from_bytes(STORES[format_].write_plain(branches))
    return _lines(text) if dialect == "lines" else _Reader(text, expand=dialect == "godotenv").pairs()


def _flat(branches: list[Branch], *, strings_only: bool) -> Pairs:
    found = []
    for branch in branches[:1]:
        for entry in branch.entries:
            if isinstance(entry.key, Comment):
                continue
            name, value = str(entry.key), entry.value
            if isinstance(value, (Branch, list, Comment)):
                raise InputError("a mapping or list where a value must be", path=(name,))
            if strings_only and value is not None and not isinstance(value, str):
                raise InputError("a value that is no string", path=(name,), hint="put it into quotes")
            found.append(
                (name, value if isinstance(value, str) else "" if value is None else scalar_text(value, indent=0))
            )
    return found


def _lines(text: str) -> Pairs:
    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.removesuffix("\r").lstrip(_ALL_SPACE)
        if not line or line[0] == "#":
            continue
        name, separator, value = line.partition("=")
        if not separator:
            raise InputError(f"line {number} is neither a comment nor name=value")
        found.append((name, value))
    return found


class _Reader:
    """One text from its start to its end.  at: how far it was read."""

    def __init__(self, text: str, *, expand: bool) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.expand = expand
        self.known: dict[str, str] = {}

    def pairs(self) -> Pairs:
        found = []
        while self._to_next():
            name = self._name()
            value = self._value()
            self.known[name] = value
            found.append((name, value))
        return found

    def _to_next(self) -> bool:
        """Go to where the next name begins, behind blanks and comments; whether there is one."""
        text = self.text
        while self.at < len(text):
            if text[self.at] == "#":
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            elif text[self.at] in _ALL_SPACE:
                self.at += 1
            else:
                return True
        return False

    def _name(self) -> str:
        text = self.text
        if text.startswith("export", self.at) and text[self.at + 6 : self.at + 7] in tuple(_SPACE):
            self.at += 6
            self._skip()
        start = self.at
        while self.at < len(text) and text[self.at] in _IN_NAME:
            self.at += 1
        name = text[start : self.at].rstrip(_ALL_SPACE)
        if not name or text[self.at : self.at + 1] not in ("=", ":"):
            raise InputError(f"line {self._line(start)} is neither a comment nor name=value")
        self.at += 1
        self._skip()
        return name

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1

    def _value(self) -> str:
        text = self.text
        quote = text[self.at : self.at + 1]
        if quote not in ('"', "'") or not quote:
            ends = [end for end in (text.find("\n", self.at), text.find("\r", self.at)) if end >= 0]
            end = min(ends, default=len(text))
            line, self.at = text[self.at : end], end
            return self._variables(_without_comment(line).strip(_SPACE))
        start = self.at
        end = text.find(quote, start + 1)
        while end >= 0 and text[end - 1] == "\\":
            end = text.find(quote, end + 1)
        if end < 0:
            raise InputError(f"line {self._line(start)} has a quotation mark without its end")
        self.at = end + 1
        value = text[start:end].strip(quote)
        if quote == "'":
            return value
        if "\\" in value:
            import re  # most values need none of it

            value = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[0]), value)
            value = re.sub(r"\\([^$])", r"\1", value)
        return self._variables(value)

    def _variables(self, value: str) -> str:
        if "$" not in value:
            return value
        if not self.expand:
            return value.replace("\\$", "$")
        import re

        def instead(found: re.Match[str]) -> str:
            if found[1]:
                return found[0][1:]
            return self.known.get(found[2], "") if found[2] else found[0]

        return re.sub(r"(\\)?\$\(?\{?([A-Z0-9_]+)?\}?", instead, value)

    def _line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1


def _without_comment(line: str) -> str:
    """A value without what stands behind its last ``#`` that has a blank before it."""
    for at in range(len(line) - 1, 0, -1):
        if line[at] == "#" and line[at - 1] in _SPACE:
            return line[:at]
    return line


def is_key(name: str) -> bool:
    """Whether Kubernetes takes it for a key of a Secret or ConfigMap."""
    return 1 <= len(name) <= 253 and _IN_KEY.issuperset(name) and name not in (".", "..")
