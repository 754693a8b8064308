"""The `sops` branch of a document <-> `Metadata`: who can open it, what is encrypted in it, and its MAC.

Reading is as lenient as sops is: names match whatever their case, numbers and booleans stand in for text, lists may be
null, unknown fields are ignored (old files carry them; the corpus goes back to SOPS 1.0). Writing is as sops 3.13 does
it: sorted by name at every level, without what is empty. Unknown fields are lost.
Source: getsops/sops 3.13, stores/stores.go, stores/metadata.go.
"""

from __future__ import annotations

from krm_sops.errors import LimitError, MetadataError
from krm_sops.keys import KEY_TYPES
from krm_sops.selection import RULES, Selection
from krm_sops.tree import Branch, Entry, Timestamp, to_bytes
from krm_sops.values import go_float, timestamp, to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.keys.base import MasterKey
    from krm_sops.tree import Node

    KeyGroup = list[MasterKey]

VERSION = "3.13.3"
"""What new documents carry: the version of sops that writes the same."""
_ALWAYS_IN_GROUPS = ("age", "hc_vault")
"""The lists that sops writes in each of several key groups, even where they are empty."""
_CONTEXT = "context."


class Metadata:
    """lastmodified: RFC 3339 as the MAC's additional data needs it.  mac: its ENC text, or "".

    threshold: shares needed, 0 where not stated.
    """

    __slots__ = ("key_groups", "lastmodified", "mac", "mac_only_encrypted", "selection", "threshold", "version")

    def __init__(
        self,
        *,
        lastmodified: str,
        mac: str,
        version: str,
        key_groups: list[KeyGroup],
        threshold: int,
        mac_only_encrypted: bool,
        selection: Selection,
    ) -> None:
        self.lastmodified = lastmodified
        self.mac = mac
        self.version = version
        self.key_groups = key_groups
        self.threshold = threshold
        self.mac_only_encrypted = mac_only_encrypted
        self.selection = selection

    @classmethod
    def from_branch(cls, branch: Branch, key_entry_limit: int) -> Metadata:
        """Raises MetadataError; LimitError for more than `key_entry_limit` wrapped keys."""
        fields = _lower(branch)
        if (
            len(branch.entries) > 1 << 16
            or sum(len(v) for v in fields.values() if isinstance(v, list)) > key_entry_limit
        ):
            raise LimitError(f"more than {key_entry_limit} key entries in one document (the limit key_entries)")
        return cls(
            lastmodified=_instant(_text(fields.get("lastmodified"), "lastmodified")),
            mac=_text(fields.get("mac"), "mac"),
            version=_text(fields.get("version"), "version"),
            key_groups=_key_groups(fields, key_entry_limit),
            threshold=_integer(fields.get("shamir_threshold"), "shamir_threshold"),
            mac_only_encrypted=_boolean(fields.get("mac_only_encrypted"), "mac_only_encrypted"),
            selection=Selection.from_fields({rule: _text(fields.get(rule), rule) for rule in RULES if rule in fields}),
        )

    def with_mac(self, mac: str, lastmodified: str) -> Metadata:
        """The same, but for the MAC and the moment it was made."""
        return Metadata(
            lastmodified=lastmodified,
            mac=mac,
            version=self.version,
            key_groups=self.key_groups,
            threshold=self.threshold,
            mac_only_encrypted=self.mac_only_encrypted,
            selection=self.selection,
        )

    def to_branch(self) -> Branch:
        fields: dict[str, Node] = {"lastmodified": self.lastmodified, "mac": self.mac, "version": self.version}
        if len(self.key_groups) == 1:
            fields |= _lists(self.key_groups[0])
        else:
            empty: dict[str, Node] = {section: [] for section in _ALWAYS_IN_GROUPS}
            fields["key_groups"] = [_sorted(empty | _lists(group)) for group in self.key_groups]
        if self.threshold:
            fields["shamir_threshold"] = self.threshold
        if self.mac_only_encrypted:
            fields["mac_only_encrypted"] = True
        if self.selection.rule:
            fields[self.selection.rule] = self.selection.pattern
        return _sorted(fields)

    def keys(self) -> list[MasterKey]:
        return [key for group in self.key_groups for key in group]


def _lists(group: KeyGroup) -> dict[str, Node]:
    """The entries of a group, in a list for each key type."""
    found: dict[str, Node] = {}
    for section in KEY_TYPES:
        entries: list[Node] = [_entry(key) for key in group if key.section == section]
        if entries:
            found[section] = entries
    return found


def _entry(key: MasterKey) -> Branch:
    fields: dict[str, Node] = {}
    context: dict[str, Node] = {}
    for name, text in key.fields().items():
        if name.startswith(_CONTEXT):
            context[name.removeprefix(_CONTEXT)] = text
        elif name == "created_at":
            moment = timestamp(to_bytes(text))
            fields[name] = text if moment is None else to_text(moment)
        else:
            fields[name] = text
    if context:
        fields["context"] = _sorted(context)
    return _sorted(fields)


def _sorted(fields: dict[str, Node]) -> Branch:
    return Branch(Entry(name, fields[name]) for name in sorted(fields, key=to_bytes))


def _lower(branch: Branch) -> dict[str, Node]:
    return {entry.key.lower(): entry.value for entry in branch.entries if isinstance(entry.key, str)}


def _text(value: Node, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Timestamp):
        return value.text  # rops leaves the quotes out; sops itself refuses that
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return go_float(value)
    raise MetadataError(f"sops.{name} is no text")


def _integer(value: Node, name: str) -> int:
    if isinstance(value, str) and not value:
        return 0
    try:
        return int(_text(value, name) or "0", 0)
    except ValueError:
        raise MetadataError(f"sops.{name} is no number") from None


def _boolean(value: Node, name: str) -> bool:
    text = _text(value, name)
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("", "0", "f", "F", "FALSE", "false", "False"):
        return False
    raise MetadataError(f"sops.{name} is no boolean")


def _instant(text: str) -> str:
    """RFC 3339 as sops prints it again: without a fraction, ``Z`` for a zero offset."""
    moment = timestamp(to_bytes(text))
    if moment is None:
        if text:
            raise MetadataError("sops.lastmodified is no RFC 3339 time")
        raise MetadataError("sops.lastmodified is missing", hint="is the sops block complete, or was the file cut off?")
    return to_text(moment)


def _entries(value: Node, name: str) -> list[Branch]:
    if value is None or value == "":
        return []
    if isinstance(value, Branch):
        return [value] if value.entries else []
    if not isinstance(value, list):
        raise MetadataError(f"sops.{name} is no list")
    found = []
    for element in value:
        if not isinstance(element, Branch):
            raise MetadataError(f"sops.{name} holds something that is no mapping")
        found.append(element)
    return found


def _group(fields: dict[str, Node]) -> KeyGroup:
    group: KeyGroup = []
    for section in KEY_TYPES:
        value = fields.get(section)
        if not value:
            continue
        for entry in _entries(value, section):
            texts: dict[str, str] = {}
            for name, content in _lower(entry).items():
                if not isinstance(content, (Branch, list)):
                    texts[name] = _text(content, f"{section}[].{name}")
                elif name == "context" and isinstance(content, Branch):
                    texts |= {
                        f"{_CONTEXT}{e.key}": _text(e.value, "kms[].context")
                        for e in content.entries
                        if isinstance(e.key, str)
                    }
            group.append(KEY_TYPES[section].from_fields(texts))
    return group


def _key_groups(fields: dict[str, Node], limit: int) -> list[KeyGroup]:
    """One group from the lists at the top, or else the groups of `key_groups`; both at once: only the former."""
    single = _group(fields)
    groups = [single] if single else [_group(_lower(b)) for b in _entries(fields.get("key_groups"), "key_groups")]
    count = sum(map(len, groups))
    if not count:
        raise MetadataError("no keys found in the sops metadata")
    if count > limit:
        raise LimitError(f"{count} key entries in one document, more than {limit} (the limit key_entries)")
    return groups
