"""The keys of a verb: the files it was given, or the mounted key folder and the places where sops looks."""

from __future__ import annotations

from krm_sops.credentials import Credentials
from krm_sops.host import Host
from krm_sops.verbs.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.verbs.flags import Arguments


def credentials(given: Arguments, warn: list[str]) -> Credentials:
    """warn: gets a line for each entry of the key folder that looks like a key but is not named like one.

    Raises UsageError, ConfigError.
    """
    from krm_sops.keysources import from_file, from_folder

    ambient = given.text("ambient", "auto")
    if ambient not in ("auto", "always", "never"):
        raise UsageError("--ambient is one of auto, always, never")
    host = Host(ask=_ask, commands=True)
    files = given.many("key-file")
    if files:
        entries = [from_file(path, host, f"--key-file {path}") for path in files]
        return Credentials(host, entries, "always" if ambient == "always" else "never")
    entries, misnamed = from_folder(host)
    warn += [f"the key folder: {name!r} looks like a key but is ignored for its name" for name in misnamed]
    return Credentials(host, entries, ambient)


def _ask(prompt: str) -> str:
    """A passphrase from the terminal. Raises OSError where there is none."""
    import getpass

    with open("/dev/tty", "r+b", buffering=0):
        pass
    return getpass.getpass(prompt)
