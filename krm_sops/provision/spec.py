"""The specification: a tree of keys under `secrets`, and at its ends a source each, as `type` and `value`.

It is read as opsops reads it: the order of keys does not count, a mapping with a text under `type` is a source.

Unlike in opsops, a key that stands twice, more than one document, and an unknown field of a type that opsops does not
have are errors.
Source: vst/opsops 0.0.9, src/Opsops/Spec.hs, Nix.hs.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, InputError, LimitError, shown
from krm_sops.krm.config import Fields
from krm_sops.provision import OF_OPSOPS, SOURCES
from krm_sops.tree import Branch, Comment, Entry
from krm_sops.yamlcomments import read, read_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from krm_sops.provision.base import Source
    from krm_sops.tree import Node

    Nodes: TypeAlias = "dict[str, Nodes | Secret]"


class Secret:
    """One source.  path: keys from the root."""

    __slots__ = ("path", "source", "type")

    def __init__(self, path: tuple[str, ...], type_: str, source: Source) -> None:
        self.path = path
        self.type = type_
        self.source = source

    def places(self) -> list[tuple[str, ...]]:
        """Where its values stand: its path, or those below it."""
        return [(*self.path, part) for part in self.source.parts] or [self.path]


def slashed(path: tuple[str, ...]) -> str:
    """A path for people, as sops-nix writes it."""
    return "/".join(shown(key, 80) for key in path)


class Specification:
    """nodes, secrets: in the order of their keys.  ignored: a line for each field that means nothing."""

    def __init__(self, raw: bytes) -> None:
        """Raises ConfigError, which names the path of what is wrong."""
        self.ignored: list[str] = []
        self.secrets: list[Secret] = []
        root = _root(raw)
        self._ignore((), root, ("secrets",))
        secrets = root.get("secrets")
        if not isinstance(secrets, Branch) or isinstance(secrets.get("type"), str):
            raise ConfigError("a specification has a mapping of secrets under `secrets`")
        self.nodes = self._nodes(secrets, ())

    def _nodes(self, branch: Branch, path: tuple[str, ...]) -> Nodes:
        found: Nodes = {}
        for key in sorted(branch.keys()):
            node, here = branch.get(key), (*path, key)
            if not isinstance(node, Branch):
                raise ConfigError(
                    f"{slashed(here)}: here must be a mapping, with type and value or with more keys",
                    hint=f"types: {', '.join(SOURCES)}",
                )
            if isinstance(node.get("type"), str):
                secret = found[key] = self._secret(node, here)
                self.secrets.append(secret)
            else:
                found[key] = self._nodes(node, here)
        return found

    def _secret(self, node: Branch, path: tuple[str, ...]) -> Secret:
        type_ = str(node.get("type"))
        if type_ not in SOURCES:
            what = f"{slashed(path)}: there is no source type {shown(type_, 60)!r}"
            raise ConfigError(what, hint=f"types: {', '.join(SOURCES)}")
        self._ignore(path, node, ("type", "value"))
        source = SOURCES[type_]
        value, allowed = node.get("value"), source.fields
        if type_ in OF_OPSOPS and isinstance(value, Branch):
            self._ignore(path, value, allowed)
            allowed = (*allowed, *value.keys())
        try:
            return Secret(path, type_, source(Fields(value, "value", allowed)))
        except ConfigError as error:
            raise ConfigError(f"{slashed(path)} ({type_}): {error.message}", hint=error.hint) from None

    def _ignore(self, path: tuple[str, ...], branch: Branch, known: tuple[str, ...]) -> None:
        for key in branch.keys():  # noqa: SIM118 (a Branch is no mapping)
            if key not in known:
                where = f"{slashed(path)}: " if path else ""
                self.ignored.append(f"{where}the field {shown(key, 60)!r} means nothing and is passed over")

    def canonical(self) -> Branch:
        return Branch([Entry("secrets", _canonical(self.nodes))])


def _canonical(nodes: Nodes) -> Branch:
    entries = []
    for key, node in nodes.items():
        if isinstance(node, Secret):
            fields = node.source.canonical()
            value = Branch(Entry(name, fields[name]) for name in sorted(fields))
            entries.append(Entry(key, Branch([Entry("type", node.type), Entry("value", value)])))
        else:
            entries.append(Entry(key, _canonical(node)))
    return Branch(entries)


def sops_nix(secrets: list[Secret], prefix: str = "") -> str:
    """The lines for `sops.secrets` of a NixOS configuration, sorted as texts."""
    lines = []
    for place in (place for secret in secrets for place in secret.places()):
        key = _nix("/".join(place))
        lines.append(f'"{_nix(prefix)}/{key}" = {{ key = "{key}"; }};' if prefix else f'"{key}" = {{}};')
    return "".join(f"{line}\n" for line in sorted(lines))


def _nix(text: str) -> str:
    for special in ("\\", '"', "${"):
        text = text.replace(special, "\\" + special)
    return text.replace("\n", "\\n")


def _root(raw: bytes) -> Branch:
    try:
        text = raw.decode("utf-8-sig")
        documents = read(text, depth=100, nodes=200_000)
        spelled = read_first(text, spelled=True)
    except (InputError, LimitError) as error:
        raise ConfigError(f"the specification is no YAML or JSON mapping: {error.message}") from None
    except UnicodeDecodeError:
        raise ConfigError("the specification is no UTF-8") from None
    if len(documents) != 1:
        raise ConfigError(f"a specification is one document, not {len(documents)}")
    root = _clean(documents[0], spelled)
    assert isinstance(root, Branch)
    return root


def _clean(typed: Node, spelled: Node) -> Node:
    """Without comments, merge keys resolved, every key as its text.  spelled: the same with texts for all scalars."""
    if isinstance(typed, list) and isinstance(spelled, list):
        return [_clean(one, other) for one, other in zip(typed, spelled, strict=True) if not isinstance(one, Comment)]
    if not isinstance(typed, Branch) or not isinstance(spelled, Branch):
        return typed
    found: dict[str, Node] = {}
    merged: list[Entry] = []
    for entry, other in zip(typed.entries, spelled.entries, strict=True):
        if isinstance(entry.key, Comment):
            continue
        key = str(other.key)
        value = _clean(entry.value, other.value)
        if key == "<<":
            for branch in value if isinstance(value, list) else [value]:
                merged += branch.entries if isinstance(branch, Branch) else []
        else:
            found[key] = value
    for entry in merged:
        found.setdefault(str(entry.key), entry.value)
    return Branch(Entry(key, value) for key, value in found.items())
