"""What the operator allows, and where each line of it comes from (S1).

Defaults, then the policy file, then command-line flags: the later one wins. What a repository says, a functionConfig
first of all, can only ask for less: a looser wish is a PolicyError that names the line it is in conflict with.

The file is read when something encrypted was found, not before: a stream without secrets does not pay for it.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KeyUnavailable, KrmSopsError, LimitError, PolicyError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.host import Host
    from krm_sops.krm.config import Fields
    from krm_sops.limits import Limits
    from krm_sops.places import Source
    from krm_sops.tree import Branch

PATH = "/etc/krm-sops/policy.yaml"
MAC_MODES = ("tags", "auto", "strict")
"""Laxest first."""
AMBIENT = ("never", "auto", "always")
"""Tightest first."""
KEY_SOURCES = ("config", "env", "file", "secretRef", "folder", "ambient")
FIELDS = (
    *("mac", "ambient", "strict", "keySources", "keyFolder", "readableRoots", "hosts", "vaults", "executables"),
    "limits",
)
_PROGRAMS = ("gpg", "SOPS_AGE_KEY_CMD", "SOPS_AGE_SSH_PRIVATE_KEY_CMD")
_PLUGIN = "age-plugin-"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_PORTS = {"https": 443, "http": 80}
_LARGEST = 1 << 16
_NODES = 10_000


class Flags:
    """What the command line says; "" or nothing where it does not.  limits: by name."""

    def __init__(self) -> None:
        self.mac = ""
        self.ambient = ""
        self.strict = False
        self.key_files: Sequence[str] = ()
        self.limits: dict[str, int] = {}


class Service:
    """One entry of `hosts`: ``[scheme://]host[:port]``; ``*.`` stands for one label or more. Raises ValueError."""

    __slots__ = ("name", "port", "scheme")

    def __init__(self, text: str) -> None:
        scheme, mark, rest = text.lower().removesuffix("/").rpartition("://")
        self.scheme = scheme if mark else "https"
        name, colon, port = rest.rpartition(":")
        if rest.startswith("["):
            name, bracket, port = rest[1:].partition("]")
            colon, is_name = port[:1], bool(bracket) and _NAME.issuperset(name.replace(":", "0"))
            port = port[1:]
        else:
            name = name if colon else rest
            labels = name.removeprefix("*.").split(".")
            is_name = all(label and _NAME.issuperset(label) for label in labels)
        if self.scheme not in _PORTS or not is_name or (colon and not (port.isdecimal() and port.isascii())):
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


class Policy:
    """What is in force.  None: no restriction.  origins: where each field comes from, unless it is the default.

    mac: the least mode.  ambient: the most.  usual_mac, usual_ambient: what holds where the config asks for nothing.
    key_files: the only keys, where there are any.  key_folder: what stands in for KRM_SOPS_KEY_DIR, or "".
    executables: None is nothing in a function and everything in the sops verbs.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.mac = MAC_MODES[0]
        self.usual_mac = "auto"
        self.ambient = AMBIENT[-1]
        self.usual_ambient = "auto"
        self.strict = False
        self.key_files: Sequence[str] = ()
        self.key_sources: Sequence[str] = KEY_SOURCES
        self.key_folder = ""
        self.readable_roots: Sequence[str] | None = None
        self.hosts: Sequence[Service] | None = None
        self.vaults: Sequence[str] | None = None
        self.executables: Sequence[str] | None = None
        self.origins: dict[str, str] = {}

    def apply_to(self, host: Host) -> None:
        host.limits = self.limits
        if self.executables is not None:
            host.commands = self.executables
        host.vaults = self.vaults
        host.check_service = self.check_service if self.hosts is not None else None
        if host.set_alarm is not None:
            host.set_alarm(self.limits.run_seconds)

    def _denial(self, asked: str, allowed: str, field: str) -> PolicyError:
        return PolicyError(
            f"{asked}; the operator allows {allowed} ({field}: {self.origins[field]})",
            hint="krm-sops explain --policy shows what is in force, and where each line comes from",
        )

    def mac_mode(self, asked: str, where: str) -> str:
        """The mode in force. `auto` asks for nothing, as it is the default. Raises PolicyError.

        asked: what the config says.  where: the field that says it.
        """
        if asked == "auto":
            return max(self.usual_mac, self.mac, key=MAC_MODES.index)
        if MAC_MODES.index(asked) < MAC_MODES.index(self.mac):
            raise self._denial(f"{where} asks for {asked}", f"nothing laxer than {self.mac}", "mac")
        return asked

    def ambient_mode(self, asked: str, where: str) -> str:
        """The same for ambient keys. With key files of the operator's, a wish for more is set aside."""
        if asked == "always" and not self.key_files and self.ambient != "always":
            raise self._denial(f"{where} asks for {asked}", f"no more than {self.ambient}", "ambient")
        wanted = self.usual_ambient if asked == "auto" or (asked == "always" and self.key_files) else asked
        return min(wanted, self.ambient, key=AMBIENT.index)

    def check_source(self, source: str, where: str) -> None:
        """source: one of KEY_SOURCES.  where: the field that asks for it. Raises PolicyError."""
        if source not in self.key_sources:
            allowed = ", ".join(self.key_sources) or "none"
            raise self._denial(f"{where} is a key of the source {source}", f"only {allowed}", "keySources")

    def check_file(self, path: str, where: str, host: Host) -> str:
        """The path to open, where the file may be read. Raises PolicyError, before anything is opened."""
        if self.readable_roots is None:
            return path
        found = host.resolved(path)
        for root in self.readable_roots:
            if found.startswith(host.resolved(root).rstrip("/") + "/"):
                return found
        allowed = ", ".join(map(shown, self.readable_roots)) or "none"
        raise self._denial(f"{where} names {shown(path)}", f"only files below {allowed}", "readableRoots")

    def folder(self, host: Host) -> str | None:
        """The template of the key folder, "" for what `host` says itself, None for none. Raises PolicyError."""
        if "folder" not in self.key_sources:
            return None
        given = host.env.get("KRM_SOPS_KEY_DIR", "")
        if self.key_folder and given and given.rstrip("/") != self.key_folder.rstrip("/"):
            raise self._denial(f"KRM_SOPS_KEY_DIR is {shown(given)}", f"only {shown(self.key_folder)}", "keyFolder")
        return self.key_folder

    def check_service(self, scheme: str, host: str, port: int) -> None:
        """Raises KeyUnavailable: another key of the document may open it."""
        if not any(service.covers(scheme, host, port) for service in self.hosts or ()):
            raise KeyUnavailable(
                f"{scheme}://{shown(host)}:{port} is not called: the operator does not list it "
                f"(hosts: {self.origins['hosts']})"
            )

    def lines(self) -> list[str]:
        """All of it, in the form of the file: each field with its value and, as a comment, where it comes from."""
        found = {
            "mac": self.mac,
            "ambient": self.ambient,
            "strict": self.strict,
            "keySources": self.key_sources,
            "keyFolder": self.key_folder,
            "readableRoots": self.readable_roots,
            "hosts": None if self.hosts is None else [str(service) for service in self.hosts],
            "vaults": self.vaults,
            "executables": self.executables,
        }
        lines = [_line(name, value, self.origins.get(name, "")) for name, value in found.items()]
        lines[0] += f"; at least. Without a wish of the config: {self.mac_mode('auto', '')}"
        lines[1] += f"; at most. Without a wish of the config: {self.ambient_mode('auto', '')}"
        if self.key_files:
            lines.append(f"# --key-file: only {', '.join(map(shown, self.key_files))}")
        lines.append("limits:")
        lines += [
            _line(f"  {name}", number, self.origins.get(f"limits.{name}", ""))
            for name, number in vars(self.limits).items()
        ]
        return lines

    # What changes it

    def _read(self, raw: bytes) -> None:
        """Raises KrmSopsError, ValueError for what is no UTF-8."""
        from krm_sops.krm.config import Fields
        from krm_sops.krm.item import refuse_duplicates
        from krm_sops.limits import FUNCTION
        from krm_sops.tree import Branch
        from krm_sops.yamlio import read

        source = read(raw.decode(), FUNCTION, _NODES)
        root = source.root
        if not isinstance(root, Branch):
            raise ConfigError("it is no mapping", hint="{} is a policy without a line")
        refuse_duplicates(root)
        fields = Fields(root, "policy", FIELDS)
        self._note(source, root, "")
        self.mac = fields.choice("mac", MAC_MODES, self.mac)
        self.ambient = fields.choice("ambient", AMBIENT, self.ambient)
        self.strict = fields.flag("strict")
        if fields.has("keySources"):
            self.key_sources = fields.names("keySources")
            _each(self.key_sources, KEY_SOURCES.__contains__, "keySources", ", ".join(KEY_SOURCES))
            if "ambient" not in self.key_sources and self.ambient != "never":
                self.ambient = "never"
                self.origins["ambient"] = f"{self.origins['keySources']}, which does not name ambient"
        self.key_folder = fields.text("keyFolder")
        if fields.has("keyFolder"):
            _each([self.key_folder], _is_absolute, "keyFolder", "an absolute path")
        if fields.has("readableRoots"):
            self.readable_roots = fields.names("readableRoots")
            _each(self.readable_roots, _is_absolute, "readableRoots", "absolute paths")
        if fields.has("hosts"):
            texts = fields.names("hosts")
            _each(texts, _is_service, "hosts", "[scheme://]host[:port], where the host may begin with *.")
            self.hosts = [Service(text) for text in texts]
        if fields.has("vaults"):
            self.vaults = fields.names("vaults")
            _each(self.vaults, _is_vault, "vaults", "https://host[:port]")
        if fields.has("executables"):
            self.executables = fields.names("executables")
            _each(self.executables, _is_program, "executables", f"{', '.join(_PROGRAMS)}, {_PLUGIN}NAME")
        self._read_limits(fields, source)

    def _read_limits(self, fields: Fields, source: Source) -> None:
        limits = fields.mapping("limits", tuple(vars(self.limits)))
        if fields.has("limits"):
            self._note(source, limits.node, "limits.")
            self.limits = self.limits.changed(
                {str(entry.key): limits.number(str(entry.key)) for entry in limits.node.entries}
            )

    def _note(self, source: Source, branch: Branch, prefix: str) -> None:
        """Remember where the fields stand. Raises ConfigError for one without a value, which says nothing."""
        place = source.places.get(id(branch))
        for number, entry in enumerate(branch.entries):
            if entry.value is None:
                raise ConfigError(f"policy.{prefix}{entry.key} is empty")
            start = place.entries[number][0] if place is not None else 0
            self.origins[f"{prefix}{entry.key}"] = f"{PATH} line {source.text.count(chr(10), 0, start) + 1}"

    def _add_flags(self, flags: Flags) -> None:
        if flags.mac:
            self.mac = self.usual_mac = flags.mac
            self.origins["mac"] = f"--mac {flags.mac}"
        if flags.ambient:
            self.ambient = self.usual_ambient = flags.ambient
            self.origins["ambient"] = f"--ambient {flags.ambient}"
        if flags.strict:
            self.strict = True
            self.origins["strict"] = "--strict"
        if flags.key_files:
            self.key_files = flags.key_files
            self.usual_ambient = "always" if flags.ambient == "always" else "never"
            self.ambient = self.usual_ambient
            self.origins.setdefault("ambient", "--key-file")
        self.limits = self.limits.changed(flags.limits)
        for name in flags.limits:
            self.origins[f"limits.{name}"] = f"--limit {name}"


_DEFAULTS = {
    "keyFolder": "default: KRM_SOPS_KEY_DIR, else /keys",
    "readableRoots": "default: any",
    "hosts": "default: any that a key type allows",
    "vaults": "default: SOPS_HC_VAULT_ALLOWLIST, else VAULT_ADDR",
    "executables": "default: none in a function, any in the sops verbs",
}


def _line(name: str, value: object, origin: str) -> str:
    """One line of YAML; a field without a restriction is a comment."""
    from krm_sops.stores.json import quote

    comment = f"  # {origin or _DEFAULTS.get(name, 'default')}"
    if value is None or value == "":
        return f"# {name}:{comment}"
    if isinstance(value, (list, tuple)):
        return f"{name}: [{', '.join(quote(text) for text in value)}]{comment}"
    return f"{name}: {str(value).lower() if isinstance(value, bool) else value}{comment}"


def in_force(host: Host, limits: Limits, flags: Flags | None = None) -> Policy:
    """limits: the defaults. Raises PolicyError for a file that is there and cannot be used; LimitError for a flag."""
    policy = Policy(limits)
    try:
        raw = host.read(PATH, _LARGEST)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise PolicyError(f"the policy {PATH} cannot be read: {error.strerror or 'unreadable'}") from None
    else:
        _read_into(policy, raw)
    if flags is not None:
        policy._add_flags(flags)
    return policy


def _read_into(policy: Policy, raw: bytes) -> None:
    hint = ""
    try:
        policy._read(raw)
        return
    except (ConfigError, LimitError) as error:
        why, hint = error.message, error.hint
    except (KrmSopsError, ValueError) as error:
        why = f"it is no YAML ({shown(error) if isinstance(error, KrmSopsError) else 'no UTF-8'})"
    raise PolicyError(f"the policy {PATH} cannot be used: {why}", hint=hint)


def _each(texts: Sequence[str], is_right: Callable[[str], bool], field: str, allowed: str) -> None:
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
