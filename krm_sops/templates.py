"""Placeholders: what stands for a secret in a text that is none yet, and is replaced by it at the last step.

``<SOPS:NAME>`` is the value of that name; ``<SOPS:NAME:FORM>`` the same, spelled for where it stands (`FORMS`);
``<SOPS:DIGEST:PLACEHOLDER>``, with the SHA-256 of a name in hex, is how sops-nix spells the first. None of the
characters means anything to the templates of Helm, Flux, kpt, kustomize, Jinja or a shell's here-document.

Each scalar is read once, from left to right, and what was put in is not read again (S32): a value that looks like a
placeholder stays what it is, and one that looks like YAML stays inside of its scalar.
Source of the digest: Mic92/sops-nix, modules/sops/templates/default.nix.
"""

from __future__ import annotations

from binascii import b2a_base64

from krm_sops.errors import ConfigError, InputError, LimitError, shown
from krm_sops.limits import SOPS_VERBS
from krm_sops.primitives import sha256
from krm_sops.tree import Branch, Comment, Entry, Timestamp, from_bytes, to_bytes
from krm_sops.values import to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from krm_sops.tree import Leaf, Node, Scalar

OPEN = "<SOPS:"
"""What every placeholder begins with; nothing else may."""
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")
_BARE = _NAME | frozenset("@%+,:=")
_SHOWN_NAMES = 8


def _json(text: str) -> str:
    from krm_sops.stores.json import quote

    _refuse_bytes(text)
    return quote(text)


def _yaml(text: str) -> str:
    """In double quotes, on one line; in the plane of emoji YAML has no pairs of escapes, so they stay as they are."""
    _refuse_bytes(text)
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


def _shell(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a zero byte")
    return "'" + text.replace("'", "'\\''") + "'"


def _dotenv(text: str) -> str:
    """Bare where it can be, as not all readers know quotes; single quotes before double ones, whose escapes differ."""
    if "\0" in text:
        raise ValueError("it holds a zero byte")
    if all(c in _BARE for c in text):
        return text
    if not any(c in "'\\\n\r" for c in text):
        return f"'{text}'"
    for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$"), ("`", "\\`"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(char, escape)
    return f'"{text}"'


def _url(text: str) -> str:
    """All but RFC 3986's unreserved characters as %XX, so that it fits into every part of a URL."""
    unreserved = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    return "".join(chr(byte) if byte in unreserved else f"%{byte:02X}" for byte in to_bytes(text))


def _base64(text: str) -> str:
    return b2a_base64(to_bytes(text), newline=False).decode()


def _refuse_bytes(text: str) -> None:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("it is no UTF-8")


FORMS: Mapping[str, Callable[[str], str]] = {
    "json": _json,
    "yaml": _yaml,
    "shell": _shell,
    "dotenv": _dotenv,
    "url": _url,
    "base64": _base64,
}
"""The first four are whole literals, with their own quotes where they need any."""
_LITERALS = ("json", "yaml", "shell", "dotenv")


class Source:
    """Where values come from.  label: for messages.  strict: each of them must be used, not just one.

    sealing: the data key of the document they were encrypted in; empty where it is not known.
    """

    def __init__(self, label: str, values: Mapping[str, Scalar], *, strict: bool = False, sealing: bytes = b"") -> None:
        self.label = label
        self.values = values
        self.strict = strict
        self.sealing = sealing
        self.used: set[str] = set()

    def refuse_unused(self) -> None:
        """Raises ConfigError: a secret that nothing needs is a mistake, or one too many."""
        if not self.used:
            raise ConfigError(f"{self.label}: no placeholder names any of its values", hint=_names_hint(self.values))
        left = [name for name in self.values if name not in self.used]
        if self.strict and left:
            raise ConfigError(f"{self.label}: no placeholder names {shown(left[0], 80)!r}")


class Filling:
    """One document that placeholders are resolved in.  sources: those that it took values of.  mask: what every value
    is, if anything.  scalars: how many of its scalars held placeholders.  left: characters that may still be put in.
    """

    def __init__(self, sources: Sequence[Source], mask: str = "", most: int = SOPS_VERBS.document_bytes) -> None:
        """most: characters of all values together. Raises ConfigError where two values have one name."""
        self.mask = mask
        self.most = self.left = most
        self.sources: list[Source] = []
        self.scalars = 0
        self._by_name: dict[str, Source] = {}
        for source in sources:
            for name in source.values:
                if name in self._by_name:
                    other = self._by_name[name].label
                    raise ConfigError(f"{source.label}: {shown(name, 80)!r} is already the name of a value of {other}")
                self._by_name[name] = source
        self._by_digest: dict[str, str] = {}

    def scalar(self, text: str, path: Sequence[str] = ()) -> Scalar:
        """The text with its placeholders replaced; where one is all of it, the value as it is, a number for instance.

        Raises ConfigError: a placeholder that is none, names nothing, or a form that the value does not have.
        """
        pieces: list[Scalar] = []
        at = 0
        while (start := text.find(OPEN, at)) >= 0:
            end = text.find(">", start)
            if end < 0:
                raise ConfigError("a placeholder without an end", path=path)
            pieces += [text[at:start]] if start > at else []
            pieces.append(self._value(text[start + len(OPEN) : end], text[:start], path))
            at = end + 1
        if not pieces:
            return text
        self.scalars += 1
        if at < len(text):
            pieces.append(text[at:])
        return pieces[0] if len(pieces) == 1 else "".join(map(plain_text, pieces))

    def _value(self, inner: str, before: str, path: Sequence[str]) -> Scalar:
        """inner: what stands between the marks.  before: the scalar up to there."""
        name, colon, form = inner.partition(":")
        if not name or not _NAME.issuperset(name):
            raise ConfigError("a placeholder without a name", hint=_SPELLING, path=path)
        if form == "PLACEHOLDER":
            name, form = self._named(name, path), ""
        elif colon and form not in FORMS:
            raise ConfigError(
                f"the placeholder for {shown(name, 80)!r} asks for no known form; forms: {', '.join(FORMS)}", path=path
            )
        source = self._by_name.get(name)
        if source is None:
            raise ConfigError(
                f"no secret has the name {shown(name, 80)!r} of a placeholder",
                hint=_names_hint(self._by_name),
                path=path,
            )
        source.used.add(name)
        if source not in self.sources:
            self.sources.append(source)
        if form in _LITERALS and before.endswith(('"', "'")):
            raise ConfigError(
                f"the placeholder for {shown(name, 80)!r} stands in quotes, but :{form} brings its own",
                hint="leave out the quotes around it, or the form",
                path=path,
            )
        if self.mask:
            return self.mask
        value = _formed(name, source.values[name], form, path) if form else source.values[name]
        self.left -= len(value) if isinstance(value, str) else 0
        if self.left < 0:
            raise LimitError(
                f"more than {self.most} characters in the places of placeholders (the limit document_bytes)"
            )
        return value

    def _named(self, digest: str, path: Sequence[str]) -> str:
        if not self._by_digest:
            self._by_digest = {digest_of(name): name for name in self._by_name}
        name = self._by_digest.get(digest)
        if name is None:
            raise ConfigError(
                f"no secret has a name with the digest {shown(digest, 80)} of a placeholder",
                hint=_names_hint(self._by_name),
                path=path,
            )
        return name

    def tree(self, node: Node, path: tuple[str, ...] = ()) -> Node:
        """The same with every scalar filled. Raises ConfigError, also for a placeholder in a key or comment."""
        if isinstance(node, Branch):
            return Branch(self._entry(entry, path) for entry in node.entries)
        if isinstance(node, list):
            return [self.tree(element, path) for element in node]
        if isinstance(node, Comment):
            _refuse_in(node.text, "a comment", path)
        return self.scalar(node, path) if isinstance(node, str) else node

    def document(self, branch: Branch) -> Branch:
        return Branch(self._entry(entry, ()) for entry in branch.entries)

    def _entry(self, entry: Entry, path: tuple[str, ...]) -> Entry:
        key = entry.key
        if isinstance(key, Comment):
            _refuse_in(key.text, "a comment", path)
        elif isinstance(key, str):
            _refuse_in(key, "a key", path)
        return Entry(key, self.tree(entry.value, (*path, str(key))))


_SPELLING = "<SOPS:NAME>, <SOPS:NAME:FORM>, or <SOPS:DIGEST:PLACEHOLDER>; a name has letters, digits and . _ - / only"


def _formed(name: str, value: Scalar, form: str, path: Sequence[str]) -> str:
    try:
        return FORMS[form](plain_text(value))
    except ValueError as error:  # its texts are those above
        why = str(error) if type(error) is ValueError else ""
    raise ConfigError(f"the value of {shown(name, 80)!r} cannot be spelled as {form}: {why}", path=path)


def _refuse_in(text: str, what: str, path: Sequence[str]) -> None:
    if OPEN in text:
        raise ConfigError(f"a placeholder in {what}, where none is resolved", path=path)


def _names_hint(names: Mapping[str, object]) -> str:
    listed = [shown(name, 80) for name in names]
    more = f", and {len(listed) - _SHOWN_NAMES} more" if len(listed) > _SHOWN_NAMES else ""
    return f"names: {', '.join(listed[:_SHOWN_NAMES])}{more}" if listed else "there is no value at all"


def digest_of(name: str) -> str:
    digest: str = sha256(to_bytes(name)).digest().hex()
    return digest


def plain_text(value: Scalar) -> str:
    """A value as the content of a file or a field; nothing for null."""
    return "" if value is None else to_text(value)


def named_values(branch: Branch, prefix: str = "") -> dict[str, Scalar]:
    """The scalars of a document by their paths, ``a/b/0``, behind a prefix. Raises ConfigError where two are alike."""
    found: dict[str, Scalar] = {}
    for name, value in _scalars(branch, prefix):
        if name in found:
            raise ConfigError(f"two values have the name {shown(name, 80)!r}")
        found[name] = value
    return found


def _scalars(node: Node, name: str) -> Iterator[tuple[str, Scalar]]:
    lead = f"{name}/" if name else ""
    if isinstance(node, Branch):
        for entry in node.entries:
            if not isinstance(entry.key, Comment):
                yield from _scalars(entry.value, lead + _key_text(entry.key))
    elif isinstance(node, list):
        elements = [element for element in node if not isinstance(element, Comment)]
        for at, element in enumerate(elements):
            yield from _scalars(element, f"{lead}{at}")
    elif not isinstance(node, Comment):
        yield name, node


def _key_text(key: Leaf) -> str:
    return plain_text(key) if isinstance(key, (str, int, float, bool, Timestamp)) else ""


def filled_file(raw: bytes, form: str, filling: Filling) -> bytes:
    """A template file with its values.  form: the name of a store; "text" for a file that is one scalar.

    Raises ConfigError, InputError.
    """
    if form == "text":
        return to_bytes(plain_text(filling.scalar(from_bytes(raw))))
    from krm_sops.stores import STORES

    store = STORES[form]
    branches, block = store.read(raw)
    if block is not None:
        raise ConfigError("the template is encrypted itself", hint="placeholders stand in files that are no secret")
    filled = [filling.document(branch) for branch in branches]
    try:
        return store.write_plain(filled, 2)
    except UnicodeEncodeError:
        pass  # an exception that is raised above would carry the plaintext along
    raise InputError(f"the result holds bytes that a file of the format {form} cannot")
