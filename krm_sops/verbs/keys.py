"""The keys of a verb: the files it was given, or the mounted key folder and the places where sops looks."""

from __future__ import annotations

import os

from krm_sops.credentials import Credentials
from krm_sops.host import Host
from krm_sops.krm.config import AMBIENT
from krm_sops.limits import FUNCTION
from krm_sops.policy import Flags, in_force
from krm_sops.verbs.flags import MANY, SWITCH, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.metadata import Metadata
    from krm_sops.verbs.flags import Arguments

SERVICE_FLAGS = {"keyservice": MANY, "enable-local-keyservice": SWITCH}
SERVICE_HELP = """\
  --keyservice ADDRESS   a key service to ask where the keys at hand do not open: tcp://HOST:PORT or unix:///PATH;
                         repeatable; also SOPS_KEYSERVICE, as a comma list of addresses on this machine
  --enable-local-keyservice=false
                         use no keys at hand, only key services; also SOPS_ENABLE_LOCAL_KEYSERVICE
"""


def credentials(given: Arguments, warn: list[str]) -> Credentials:
    """warn: gets a line for each entry of the key folder that looks like a key but is not named like one.

    Raises UsageError, ConfigError, PolicyError.
    """
    from krm_sops.keysources import from_file, from_folder

    flags = Flags()
    flags.ambient = given.text("ambient")
    if given.given("ambient") and flags.ambient not in AMBIENT:
        raise UsageError("--ambient is one of auto, always, never")
    flags.key_files = given.many("key-file")
    host = Host(ask=_ask, commands=True)
    policy = in_force(host, FUNCTION, flags)
    policy.apply_to(host)
    ambient = policy.ambient_mode("auto", "--ambient")
    if flags.key_files:
        entries = [from_file(path, host, f"--key-file {path}") for path in flags.key_files]
        return Credentials(host, entries, ambient)
    template = policy.folder(host)
    if template is None:
        return Credentials(host, (), ambient)
    entries, misnamed = from_folder(host, template)
    warn += [f"the key folder: {name!r} looks like a key but is ignored for its name" for name in misnamed]
    return Credentials(host, entries, ambient)


def serve(metadata: Metadata, given: Arguments, warn: list[str]) -> None:
    """Let the document's keys be opened by the key services of SERVICE_FLAGS as well.

    warn: gets a line for each service on another host.  Raises UsageError, ConfigError.
    """
    by_hand = given.many("keyservice")
    addresses = by_hand or [text for text in os.environ.get("SOPS_KEYSERVICE", "").split(",") if text]
    local = given.text("enable-local-keyservice") or os.environ.get("SOPS_ENABLE_LOCAL_KEYSERVICE") or "true"
    if local not in ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"):
        raise UsageError("SOPS_ENABLE_LOCAL_KEYSERVICE is neither true nor false")
    enabled = local[0] in "1tT"
    if enabled and not addresses:
        return
    from krm_sops.keyservice import KeyService, served

    services = [KeyService(address, by_hand=bool(by_hand)) for address in addresses]
    warn += [f"{service.address}: data keys come from there unencrypted" for service in services if service.remote]
    metadata.key_groups = [[served(key, services, local=enabled) for key in group] for group in metadata.key_groups]


def _ask(prompt: str) -> str:
    """A passphrase from the terminal. Raises OSError where there is none."""
    import getpass

    with open("/dev/tty", "r+b", buffering=0):
        pass
    return getpass.getpass(prompt)
