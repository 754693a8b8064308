"""What the operator allows, and where each line of it comes from (S1).

Defaults, then the policy file, then command-line flags: the later one wins. What a repository says, a functionConfig
first of all, can only ask for less: a looser wish is a PolicyError that names the line it is in conflict with.

The file is read when something encrypted was found, not before: a stream without secrets does not pay for it.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KeyUnavailable, KrmSopsError, LimitError, PolicyError, shown
from krm_sops.krm.config import AMBIENT, MAC_MODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.host import Host
    from krm_sops.limits import Limits
    from krm_sops.policyfile import PolicyFile, Service

PATH = "/etc/krm-sops/policy.yaml"
_LARGEST = 1 << 16


class Flags:
    """What the command line says; "" or nothing where it does not.  limits: by name.

    build: the root of the repository that a function is started in the middle of a build of.
    """

    def __init__(self) -> None:
        self.mac = ""
        self.ambient = ""
        self.strict = False
        self.key_files: Sequence[str] = ()
        self.root = ""
        self.mask = False
        self.build = ""
        self.limits: dict[str, int] = {}


class Policy:
    """What is in force.  None: no restriction.  origins: where each field comes from, unless it is the default.

    mac: the least mode.  ambient: the most.  usual_mac, usual_ambient: what holds where the config asks for nothing.
    key_files: the only keys, where there are any.  key_folder: what stands in for KRM_SOPS_KEY_DIR, or "".
    root: the folder below which files of a repository are read, or "" for the repository itself (`roots`).
    mask: what is decrypted leaves as asterisks, and nothing that follows from it leaves either (S27).
    build: the root of a repository that is being built, outside of which a config names no file, or "".
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
        self.key_sources: Sequence[str] | None = None
        self.key_folder = ""
        self.root = ""
        self.mask = False
        self.build = ""
        self.readable_roots: Sequence[str] | None = None
        self.hosts: Sequence[Service] | None = None
        self.vaults: Sequence[str] | None = None
        self.executables: Sequence[str] | None = None
        self.origins: dict[str, str] = {}

    def add_file(self, file: PolicyFile) -> None:
        self.origins.update(file.origins)
        self.mac = file.mac or self.mac
        self.ambient = file.ambient or self.ambient
        self.strict = file.strict
        self.key_sources = file.key_sources
        self.key_folder = file.key_folder or ""
        self.root = file.root or ""
        self.readable_roots = file.readable_roots
        self.hosts = file.hosts
        self.vaults = file.vaults
        self.executables = file.executables
        self.limits = file.limits
        if file.key_sources is not None and "ambient" not in file.key_sources and self.ambient != "never":
            self.ambient = "never"
            self.origins["ambient"] = f"{self.origins['keySources']}, which does not name ambient"

    def add_flags(self, flags: Flags) -> None:
        """Raises LimitError."""
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
            self.ambient = self.usual_ambient = "always" if flags.ambient == "always" else "never"
            if not flags.ambient:
                self.origins["ambient"] = "--key-file"
        if flags.root:
            self.root = flags.root
            self.origins["root"] = f"--root {flags.root}"
        self.mask = flags.mask
        self.build = flags.build
        self.limits = self.limits.changed(flags.limits)
        for name in flags.limits:
            self.origins[f"limits.{name}"] = f"--limit {name}"

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
        """source: one of policyfile.KEY_SOURCES.  where: the field that asks for it. Raises PolicyError."""
        if self.key_sources is not None and source not in self.key_sources:
            allowed = ", ".join(self.key_sources) or "none"
            raise self._denial(f"{where} is a key of the source {source}", f"only {allowed}", "keySources")

    @property
    def bounds_files(self) -> bool:
        """Whether a config names the files of some folders only."""
        return self.readable_roots is not None or bool(self.build)

    def check_file(self, path: str, where: str, host: Host) -> str:
        """The path to open, where the file may be read. Raises PolicyError, before anything is opened."""
        if not self.bounds_files:
            return path
        found = host.resolved(path)
        if self.build and not found.startswith(self.build.rstrip("/") + "/"):
            raise PolicyError(
                f"{where} names {shown(path)}, which is outside of {shown(self.build)}: no read of a build leaves that",
                hint="give the keys with --key-file, or mount them in the key folder",
            )
        if self.readable_roots is None:
            return found
        for root in self.readable_roots:
            if found.startswith(host.resolved(root).rstrip("/") + "/"):
                return found
        allowed = ", ".join(map(shown, self.readable_roots)) or "none"
        raise self._denial(f"{where} names {shown(path)}", f"only files below {allowed}", "readableRoots")

    def folder(self, host: Host) -> str | None:
        """The template of the key folder, "" for what `host` says itself, None for none. Raises PolicyError."""
        if self.key_sources is not None and "folder" not in self.key_sources:
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
        policy.add_file(_file(raw, limits))
    if flags is not None:
        policy.add_flags(flags)
    return policy


def _file(raw: bytes, limits: Limits) -> PolicyFile:
    from krm_sops.policyfile import PolicyFile

    hint = ""
    try:
        return PolicyFile(raw, PATH, limits)
    except (ConfigError, LimitError) as error:
        why, hint = error.message, error.hint
    except (KrmSopsError, ValueError) as error:
        why = f"it is no YAML ({shown(error) if isinstance(error, KrmSopsError) else 'no UTF-8'})"
    raise PolicyError(f"the policy {PATH} cannot be used: {why}", hint=hint)
