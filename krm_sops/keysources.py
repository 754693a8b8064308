"""Keys as they are handed in: entries of key Secrets, of mounted folders, and files named on the command line."""

from __future__ import annotations

from krm_sops.credentials import KeyEntry
from krm_sops.errors import ConfigError, shown
from krm_sops.keys import KEY_TYPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from krm_sops.host import Host

KEY_DIR = "/keys"
PRIVATE_KEY_MARKS = (b"AGE-SECRET-KEY-", b"-----BEGIN PGP PRIVATE KEY BLOCK", b"PRIVATE KEY-----")
_KEY_FILE_LIMIT = 16 << 20
_READABLE = (
    "a container runs as nobody: make the folder and the key readable for it, or run as yourself "
    "(--as-current-user under kpt and kustomize, --user with podman and docker)"
)


def section_of(name: str) -> str | None:
    """The key type that an entry of this name serves; None for none."""
    for section in reversed(list(KEY_TYPES)):
        for pattern in KEY_TYPES[section].entry_names:
            if name == pattern or (pattern.startswith(".") and name.endswith(pattern)):
                return section
    return None


def holds_private_key(data: bytes) -> bool:
    return any(mark in data for mark in PRIVATE_KEY_MARKS)


def from_entries(entries: Iterable[tuple[str, bytes]], origin: str) -> tuple[list[KeyEntry], list[str]]:
    """Key entries by their names, and the names of entries that look like a key but are not named like one."""
    found: list[KeyEntry] = []
    misnamed: list[str] = []
    for name, data in entries:
        section = section_of(name)
        if section is not None:
            found.append(KeyEntry(section, name, data, origin))
        elif holds_private_key(data):
            misnamed.append(name)
    return found, misnamed


def from_text(data: bytes, name: str, origin: str) -> KeyEntry:
    """A key whose type its content tells: an OpenPGP key ring, or else age identities or an SSH key."""
    is_pgp = b"-----BEGIN PGP " in data or (bool(data) and data[0] >= 0x80)
    return KeyEntry("pgp" if is_pgp else "age", name, data, origin)


def from_file(path: str, host: Host, origin: str, *, follow: bool = True) -> KeyEntry:
    """follow: as in Host.read. Raises ConfigError."""
    try:
        data = host.read(path, _KEY_FILE_LIMIT, follow=follow)
    except OSError as error:
        raise ConfigError(
            f"cannot read the key file {shown(path)}: {error.strerror or 'unreadable'}",
            hint="" if origin.startswith("--key-file") else "a container sees only what is mounted into it",
        ) from None
    if not data.strip():
        raise ConfigError(f"the key file {shown(path)} is empty")
    return from_text(data, path, origin)


def from_folder(host: Host, template: str = "") -> tuple[list[KeyEntry], list[str]]:
    """The mounted key folder: `template`, else `KRM_SOPS_KEY_DIR`, else /keys, which may be absent.

    ``{NAME}`` in a template stands for an environment variable that must be one path component.
    Raises ConfigError: a folder that was named but is not there, a component that is none.
    """
    given = template or host.env.get("KRM_SOPS_KEY_DIR", "")
    folder = _substituted(given, host) if given else KEY_DIR
    try:
        names = [name for name in host.list(folder) if not name.startswith(".")]
    except OSError as error:
        if not given and isinstance(error, FileNotFoundError):
            return [], []
        text = f"the key folder {shown(folder)} cannot be listed: {error.strerror}"
        raise ConfigError(text, hint=_READABLE) from None
    entries = []
    for name in names:
        try:
            entries.append((name, host.read(f"{folder}/{name}", _KEY_FILE_LIMIT)))
        except OSError as error:
            if section_of(name) is not None:
                raise ConfigError(
                    f"cannot read the key {shown(folder)}/{shown(name)}: {error.strerror}",
                    hint=_READABLE,
                ) from None
    return from_entries(entries, f"the key folder {shown(folder)}")


def _substituted(template: str, host: Host) -> str:
    done = ""
    rest = template
    while "{" in rest:
        before, _, rest = rest.partition("{")
        name, brace, rest = rest.partition("}")
        value = host.env.get(name, "")
        if not brace or value in ("", ".", "..") or "/" in value or "\0" in value:
            raise ConfigError(
                f"the key folder {shown(template)} needs {{{shown(name, 60)}}}, which is not set to one path component"
            )
        done += before + value
    return done + rest
