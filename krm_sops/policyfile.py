"""The policy file: YAML -> what it says and where. A field that is unknown, empty or of another type is an error."""

from __future__ import annotations

from krm_sops.errors import ConfigError, shown
from krm_sops.krm.config import AMBIENT, MAC_MODES, Fields
from krm_sops.krm.item import refuse_duplicates
from krm_sops.limits import FUNCTION
from krm_sops.tree import Branch
from krm_sops.yamlio import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.limits import Limits
    from krm_sops.places import Source

KEY_SOURCES = ("config", "env", "file", "secretRef", "folder", "ambient")
FIELDS = (
    *("mac", "ambient", "strict", "keySources", "keyFolder", "root", "readableRoots", "hosts", "vaults", "executables"),
    "limits",
)
_PROGRAMS = ("gpg", "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD", "kustomize", "provision")
_PLUGIN = "age-plugin-"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_IPV6 = frozenset("0123456789abcdef:.")
_PORTS = {"https": 443, "http": 80}
_NODES = 10_000


class Service:
    """One entry of `hosts`: ``[scheme://]host[:port]``; ``*.`` stands for one label or more. Raises ValueError."""

    __slots__ = ("name", "port", "scheme")

    def __init__(self, text: str) -> None:
        scheme, mark, rest = text.lower().removesuffix("/").rpartition("://")
        self.scheme = scheme if mark else "https"
        if rest.startswith("["):
            name, bracket, port = rest[1:].partition("]")
            is_name = bool(bracket and name) and _IPV6.issuperset(name) and port[:1] in ("", ":")
            colon, port = port[:1], port[1:]
        else:
            name, colon, port = rest.partition(":")
            labels = name.removeprefix("*.").split(".")
            is_name = all(label and _NAME.issuperset(label) for label in labels)
        is_port = port.isascii() and port.isdecimal() and len(port) < 6
        if self.scheme not in _PORTS or not is_name or (colon and not is_port):
            raise ValueError
        self.name = name
        self.port = int(port) if colon else _PORTS[self.scheme]

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.scheme}://{name}:{self.port}"

    def covers(self, scheme: str, host: str, port: int) -> bool:
        if (scheme, port) != (self.scheme, self.port):
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name


class PolicyFile:
    """A field that the file does not have is None.  origins: where each is that it has."""

    def __init__(self, raw: bytes, path: str, limits: Limits) -> None:
        """path: the file's, for `origins`.  limits: those that it changes.

        Raises KrmSopsError; ValueError for what is no UTF-8.
        """
        self.origins: dict[str, str] = {}
        self._path = path
        self._source = read(raw.decode(), FUNCTION, _NODES)
        root = self._source.root
        if not isinstance(root, Branch):
            raise ConfigError("it is no mapping", hint="{} is a policy without a line")
        refuse_duplicates(root)
        fields = self._fields = Fields(root, "policy", FIELDS)
        self._note(self._source, root, "")
        self.mac = fields.choice("mac", MAC_MODES, "") if fields.has("mac") else None
        self.ambient = fields.choice("ambient", AMBIENT, "") if fields.has("ambient") else None
        self.strict = fields.flag("strict")
        self.key_sources = self._names("keySources", KEY_SOURCES.__contains__, ", ".join(KEY_SOURCES))
        self.key_folder = fields.text("keyFolder") if fields.has("keyFolder") else None
        if self.key_folder is not None:
            _check([self.key_folder], "keyFolder", _is_absolute, "an absolute path")
        self.root = fields.text("root") if fields.has("root") else None
        if self.root is not None:
            _check([self.root], "root", _is_absolute, "an absolute path")
        self.readable_roots = self._names("readableRoots", _is_absolute, "absolute paths")
        hosts = self._names("hosts", _is_service, "[scheme://]host[:port], where the host may begin with *.")
        self.hosts = None if hosts is None else [Service(text) for text in hosts]
        self.vaults = self._names("vaults", _is_vault, "https://host[:port]")
        self.executables = self._names("executables", _is_program, f"{', '.join(_PROGRAMS)}, {_PLUGIN}NAME")
        self.limits = limits
        if fields.has("limits"):
            known = fields.mapping("limits", tuple(vars(limits)))
            self._note(self._source, known.node, "limits.")
            names = [str(entry.key) for entry in known.node.entries]
            self.limits = limits.changed({name: known.number(name) for name in names})

    def _note(self, source: Source, branch: Branch, prefix: str) -> None:
        """Remember where the fields stand. Raises ConfigError for one without a value, which says nothing."""
        place = source.places.get(id(branch))
        for number, entry in enumerate(branch.entries):
            if entry.value is None:
                raise ConfigError(f"policy.{prefix}{entry.key} is empty")
            start = place.entries[number][0] if place is not None else 0
            self.origins[f"{prefix}{entry.key}"] = f"{self._path} line {source.text.count(chr(10), 0, start) + 1}"

    def _names(self, field: str, is_right: Callable[[str], bool], allowed: str) -> list[str] | None:
        if not self._fields.has(field):
            return None
        found = self._fields.names(field)
        _check(found, field, is_right, allowed)
        return found


def _check(texts: Sequence[str], field: str, is_right: Callable[[str], bool], allowed: str) -> None:
    for text in texts:
        if not is_right(text):
            raise ConfigError(f"policy.{field} has {shown(text, 100)!r}; allowed: {allowed}")


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and ".." not in path.split("/") and "\0" not in path


def _is_service(text: str) -> bool:
    try:
        Service(text)
    except ValueError:
        return False
    return True


def _is_vault(text: str) -> bool:
    return "://" in text and "*" not in text and _is_service(text)


def _is_program(name: str) -> bool:
    plugin = name.removeprefix(_PLUGIN)
    return name in _PROGRAMS or (plugin not in ("", name) and _NAME.issuperset(plugin))
