"""`.sops.yaml`: which creation rule a file has, and with it its keys, what of it is encrypted, and its indentation.

The file is read as go-yaml reads it into sops' structures: the first document only, unknown fields ignored, a value of
another type an error wherever it stands. The first rule whose `path_regex` matches counts; the path is relative to the
file's folder where it is below it. `destination_rules` say where `publish` puts files.

Differs from sops: `hckms` may be a string as well as a list.
Source: getsops/sops 3.13, config/config.go; go.yaml.in/yaml v3.0.4, decode.go.
"""

from __future__ import annotations

import os

from krm_sops.errors import ConfigError, InputError, LimitError, shown
from krm_sops.keys import KEY_TYPES
from krm_sops.selection import RULES, compile_regex
from krm_sops.tree import Branch, Comment, Timestamp
from krm_sops.yamlcomments import read_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from krm_sops.host import Host
    from krm_sops.keys.base import MasterKey
    from krm_sops.metadata import KeyGroup
    from krm_sops.tree import Node

    GroupEntry = tuple[type[MasterKey], str | dict[str, str]]

FILE_NAME = ".sops.yaml"
_OTHER_NAME = ".sops.yml"
_LEVELS = 100
"""Folders that are searched, the first among them."""
_STORES = {"yaml": "yaml", "json": "json", "json_binary": "binary"}
"""Names under `stores` -> formats that can be indented."""
_SHARED = ("aws_profile",)
"""Fields of a rule that are fields of metadata entries: said once for all keys that have them."""
_YES = ("y", "Y", "yes", "Yes", "YES", "on", "On", "ON")
_NO = ("n", "N", "no", "No", "NO", "off", "Off", "OFF")


class NoMatchingRule(ConfigError):
    """There are creation rules, but none for this file."""


class Rule:
    """selection: the fields of selection.RULES that the rule has, one at most.  threshold: 0 where not stated."""

    __slots__ = ("key_groups", "mac_only_encrypted", "selection", "threshold")

    def __init__(
        self, key_groups: list[KeyGroup], threshold: int, selection: Mapping[str, str], mac_only_encrypted: bool
    ) -> None:
        self.key_groups = key_groups
        self.threshold = threshold
        self.selection = selection
        self.mac_only_encrypted = mac_only_encrypted


class Destination:
    """Where files are published.  kind: "s3", "gcs" or "vault".  place: a bucket, or a path in Vault.

    vault: vault_address, vault_kv_mount_name.  kv_version: 1 or 2.
    recreation: whose keys a file is encrypted for before it goes into a bucket; without keys it goes as it is.
    """

    __slots__ = ("kind", "kv_version", "omit_extensions", "place", "prefix", "recreation", "vault")

    def __init__(self, fields: _Fields) -> None:
        """Raises ConfigError for none, more than one, and a recreation rule that cannot be used."""
        places = {"s3": "s3_bucket", "gcs": "gcs_bucket", "vault": "vault_path"}
        kinds = [kind for kind, name in places.items() if fields.text(name)]
        if len(kinds) > 1:
            what = "more than one destinations were found in a single destination rule, you can only use one per rule"
            raise ConfigError(f"error loading config: {what}")
        self.recreation = _CreationRule(fields.mapping("recreation_rule")).resolved({})
        if not kinds:
            raise ConfigError(
                "no destination configured for this file",
                hint=f"the rule needs {', '.join(places.values())}: one of them",
            )
        (self.kind,) = kinds
        self.place = fields.text(places[self.kind])
        self.prefix = fields.text(f"{self.kind}_prefix")
        self.vault = {name: fields.text(name) for name in ("vault_address", "vault_kv_mount_name")}
        self.kv_version = 1 if fields.integer("vault_kv_version") == 1 else 2
        self.omit_extensions = fields.boolean("omit_extensions")


class Rules:
    """One `.sops.yaml`.  indents: by format, where it says some."""

    __slots__ = ("_destinations", "_folder", "_rules", "indents", "path")

    def __init__(self, raw: bytes, path: str, folder: str) -> None:
        """path: for messages.  folder: its own, absolute, as `absolute` spells paths.  Raises ConfigError."""
        self.path = path
        self._folder = folder
        root = _root(raw)
        stores = root.mapping("stores")
        self.indents: dict[str, int] = {}
        for name, format_ in _STORES.items():
            store = stores.mapping(name)
            if store.has("indent"):
                self.indents[format_] = store.integer("indent")
        self._destinations = root.mappings("destination_rules") or []
        rules = root.mappings("creation_rules")
        self._rules = None if rules is None else [_CreationRule(fields) for fields in rules]

    def rule_for(self, path: str, context: Mapping[str, str] | None = None) -> Rule | None:
        """The rule of a file; None where there are no creation rules at all, as if there were no `.sops.yaml`.

        path: absolute, as `absolute` spells it.  context: fields of metadata entries that the command line adds to the
        keys of flat lists.  Raises NoMatchingRule; ConfigError for what is wrong with the one that does match.
        """
        if self._rules is None:
            return None
        relative = path.removeprefix(f"{self._folder}/")
        for rule in self._rules:
            if rule.covers(relative):
                return rule.resolved(context or {})
        raise NoMatchingRule(
            "error loading config: no matching creation rules found",
            hint=f"none of the {len(self._rules)} creation rules of {shown(self.path)} matches {shown(relative)}",
        )

    def wanted(self, path: str) -> Mapping[str, str] | None:
        """What of a file is to be encrypted, as fields of selection.RULES; None where no `path_regex` names it.

        path: as for `rule_for`.  Raises ConfigError.
        """
        relative = path.removeprefix(f"{self._folder}/")
        for rule in self._rules or ():
            if rule.covers(relative):
                return rule.selection() if rule.names_paths else None
        return None

    def destination_for(self, path: str) -> Destination:
        """path: as it was given.  Raises ConfigError where no rule matches, and for one that cannot be used."""
        for fields in self._destinations:
            if _matches(fields.text("path_regex"), path):
                return Destination(fields)
        raise ConfigError("error loading config: no matching destination found in config")


def _matches(path_regex: str, path: str) -> bool:
    """Raises ConfigError for a regex that does not compile."""
    if not path_regex:
        return True
    try:
        return compile_regex(path_regex)(path)
    except InputError as error:
        raise ConfigError(f"can not compile regexp: path_regex: {error.message}", hint=error.hint) from None


class _CreationRule:
    def __init__(self, fields: _Fields) -> None:
        self._path_regex = fields.text("path_regex")
        self._fields = fields
        self._shared = {name: fields.text(name) for name in _SHARED}
        self._groups = [_group_entries(group) for group in fields.mappings("key_groups") or ()]
        self._threshold = fields.integer("shamir_threshold")
        self._selection = {name: fields.text(name) for name in RULES}
        self._mac_only_encrypted = fields.boolean("mac_only_encrypted")

    def covers(self, path: str) -> bool:
        """Raises ConfigError for a regex that does not compile."""
        return _matches(self._path_regex, path)

    @property
    def names_paths(self) -> bool:
        return bool(self._path_regex)

    def selection(self) -> dict[str, str]:
        """Raises ConfigError for more than one rule of selection."""
        selection = {name: pattern for name, pattern in self._selection.items() if pattern}
        if len(selection) > 1:
            raise ConfigError(
                f"error loading config: cannot use more than one of {', '.join(selection)} for the same rule"
            )
        return selection

    def resolved(self, context: Mapping[str, str]) -> Rule:
        selection = self.selection()
        if self._groups:
            groups = [_keys_of(entries) for entries in self._groups]
        else:
            groups = [self._flat({**self._shared, **context})]
        return Rule(groups, self._threshold, selection, self._mac_only_encrypted)

    def _flat(self, shared: Mapping[str, str]) -> KeyGroup:
        group: KeyGroup = []
        for section in KEY_TYPES:
            parts = self._fields.values(KEY_TYPES[section].rule_field)
            if parts:
                group += KEY_TYPES[section].from_list(",".join(parts), shared)
        return group


def _group_entries(fields: _Fields) -> list[GroupEntry]:
    """What a key group lists: first the groups that it merges, then its own."""
    found: list[GroupEntry] = []
    for merged in fields.mappings("merge") or ():
        found += _group_entries(merged)
    for section in KEY_TYPES:
        key_type = KEY_TYPES[section]
        if key_type.group_entry:
            for entry in fields.mappings(key_type.group_field) or ():
                found.append((key_type, _metadata_fields(entry, key_type.group_entry)))
        else:
            found += [(key_type, text) for text in fields.texts(key_type.group_field)]
    return found


def _metadata_fields(entry: _Fields, names: Mapping[str, str]) -> dict[str, str]:
    """The fields of a metadata entry; those of a mapping have its name before theirs."""
    found: dict[str, str] = {}
    for name, field in names.items():
        if entry.is_mapping(name):
            found |= {f"{field}.{inner}": text for inner, text in entry.mapping(name).all_texts().items()}
        else:
            found[field] = entry.text(name)
    return found


def _keys_of(entries: list[GroupEntry]) -> KeyGroup:
    """Each key once, where it stands first."""
    group: dict[tuple[str, str], MasterKey] = {}
    for key_type, entry in entries:
        for key in [key_type.from_fields(entry)] if isinstance(entry, dict) else key_type.from_list(entry, {}):
            group.setdefault((key.section, key.identity), key)
    return list(group.values())


def find(host: Host) -> tuple[Rules | None, str]:
    """The `.sops.yaml` of the working folder or else of the nearest folder above, and a warning or "".

    Raises ConfigError for one that cannot be read or used.
    """
    working, spelled = working_folder(host)
    other = ""
    for _ in range(_LEVELS):
        path = f"{working.rstrip('/')}/{FILE_NAME}"
        try:
            raw = host.read(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise ConfigError(f"could not read config file {shown(path)}: {error.strerror}") from None
        else:
            return Rules(raw, path, spelled), f"{_ignored(other)}; using {shown(path)} instead" if other else ""
        other = other or _present(host, f"{working.rstrip('/')}/{_OTHER_NAME}")
        if working == "/":
            break
        working, spelled = os.path.dirname(working), os.path.dirname(spelled)
    return None, _ignored(other) if other else ""


def _present(host: Host, path: str) -> str:
    try:
        host.read(path)
    except OSError:
        return ""
    return path


def _ignored(path: str) -> str:
    return f"ignoring {shown(path)!r} when searching for config file; the config file must be called {FILE_NAME!r}"


def working_folder(host: Host) -> tuple[str, str]:
    """The working folder, really and as its user spells it: behind a link, PWD is another path to the same folder."""
    real = os.getcwd()
    spelled = host.env.get("PWD", "")
    try:
        same = spelled.startswith("/") and os.path.samefile(spelled, real)
    except OSError:
        same = False
    return real, spelled if same else real


def absolute(path: str, host: Host) -> str:
    """As the user spells it, without dots; links are not followed."""
    joined = os.path.join(working_folder(host)[1], path)
    return "/" + os.path.normpath(joined).lstrip("/")


def _root(raw: bytes) -> _Fields:
    try:
        text = raw.decode("utf-8-sig")
        return _Fields("", read_first(text), read_first(text, spelled=True))
    except (InputError, LimitError) as error:
        raise _invalid(error.message) from None
    except UnicodeDecodeError:
        raise _invalid("it is no UTF-8") from None


def _invalid(why: str) -> ConfigError:
    return ConfigError(f"error loading config: could not unmarshal config file: {why}")


class _Fields:
    """One mapping of the file, merge keys resolved.  Null is as if a field were not there."""

    def __init__(self, where: str, typed: Branch, spelled: Branch) -> None:
        """where: its path, for messages.  spelled: the same with every scalar as its text."""
        self._where = where
        self._values: dict[str, tuple[Node, Node]] = {}
        self._take(typed, spelled)

    def _take(self, typed: Branch, spelled: Branch) -> None:
        merged = []
        for entry, other in zip(typed.entries, spelled.entries, strict=True):
            if entry.key == "<<":
                merged += list(zip(_each(entry.value), _each(other.value), strict=True))
            elif isinstance(other.key, str) and other.key not in self._values:
                self._values[other.key] = entry.value, other.value
        for value, texts in merged:
            if isinstance(value, Branch) and isinstance(texts, Branch):
                self._take(value, texts)

    def _wrong(self, name: str, wanted: str, value: Node) -> ConfigError:
        return _invalid(f"{self._where}{name} is {_kind(value)}, not {wanted}")

    def _get(self, name: str) -> Node:
        return self._values.get(name, (None, None))[0]

    def has(self, name: str) -> bool:
        return self._get(name) is not None

    def is_mapping(self, name: str) -> bool:
        return isinstance(self._get(name), Branch)

    def text(self, name: str) -> str:
        """Numbers and the like as they are spelled."""
        value, spelled = self._values.get(name, (None, None))
        if value is None:
            return ""
        if not isinstance(spelled, str):
            raise self._wrong(name, "a string", value)
        return spelled

    def all_texts(self) -> dict[str, str]:
        return {name: self.text(name) for name in self._values}

    def texts(self, name: str) -> list[str]:
        """A list of strings. Null elements are left out, as go-yaml does."""
        value, spelled = self._values.get(name, (None, None))
        found = []
        for element in self._elements(name, value, spelled):
            if isinstance(element, str):
                found.append(element)
            elif element is not None:
                raise self._wrong(f"{name}[]", "a string", element)
        return found

    def values(self, name: str) -> list[str]:
        """A list of strings, or a string that is a comma list; trimmed and without blanks in the latter."""
        value = self._get(name)
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        if value is not None and not isinstance(value, list):
            raise ConfigError(f"invalid {name} key configuration: expected string or list, not {_kind(value)}")
        found = []
        for element in value or ():
            if isinstance(element, str):
                found.append(element)
            elif not isinstance(element, Comment):
                what = f"invalid {name} key configuration: expected string in list, not {_kind(element)}"
                raise ConfigError(what, hint="put it in quotes" if isinstance(element, (int, float)) else "")
        return found

    def _elements(self, name: str, value: Node, elements: Node) -> list[Node]:
        if value is None:
            return []
        if not isinstance(elements, list):
            raise self._wrong(name, "a list", value)
        return [element for element in elements if not isinstance(element, Comment)]

    def mappings(self, name: str) -> list[_Fields] | None:
        """A list of mappings, without null elements; None where there is none."""
        value, spelled = self._values.get(name, (None, None))
        if value is None:
            return None
        found = []
        pairs = zip(self._elements(name, value, value), self._elements(name, value, spelled), strict=True)
        for number, (element, other) in enumerate(pairs):
            if isinstance(element, Branch) and isinstance(other, Branch):
                found.append(_Fields(f"{self._where}{name}[{number}].", element, other))
            elif element is not None:
                raise self._wrong(f"{name}[{number}]", "a mapping", element)
        return found

    def mapping(self, name: str) -> _Fields:
        value, spelled = self._values.get(name, (None, None))
        if value is None:
            value = spelled = Branch()
        if not isinstance(value, Branch) or not isinstance(spelled, Branch):
            raise self._wrong(name, "a mapping", value)
        return _Fields(f"{self._where}{name}.", value, spelled)

    def integer(self, name: str) -> int:
        value = self._get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) >= 1 << 63:
            raise self._wrong(name, "a whole number", value)
        return int(value)

    def boolean(self, name: str) -> bool:
        """YAML 1.1's words count here, as for go-yaml."""
        value = self._get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        if value in _YES or value in _NO:
            return value in _YES
        raise self._wrong(name, "true or false", value)


def _each(value: Node) -> list[Node]:
    return value if isinstance(value, list) else [value]


def _kind(value: Node) -> str:
    if isinstance(value, Branch):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Timestamp):
        return "a time"
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), f"{shown(value, 40)!r}")
