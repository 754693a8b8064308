"""``krm-sops publish``: what a file holds, decrypted, into Vault's key-value store, by `destination_rules`.

Differs from sops: a bucket is no destination, since an encrypted file is copied there by any tool; a Vault that
`.sops.yaml` names gets a token only where the operator allows that server, as for `hc_vault` keys (S3).
Source: getsops/sops 3.13, cmd/sops/subcommand/publish, publish/vault.go.
"""

from __future__ import annotations

import json
import os
import sys

from krm_sops import cli
from krm_sops.errors import ConfigError, KeyUnavailable, KrmSopsError, shown
from krm_sops.keys.cloud import first_usable
from krm_sops.keys.hc_vault import TOKEN_HINT, Server, checked_path, tokens
from krm_sops.stores import STORES, format_for_path
from krm_sops.verbs import creation, decrypt, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from krm_sops.credentials import Credentials
    from krm_sops.rules import Destination, Rules
    from krm_sops.tree import Branch
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops publish FILE: decrypt FILE and write what it holds into Vault, where the destination_rules of .sops.yaml say.

  -y, --yes              do not ask before
  --recursive            FILE is a folder: all files in it, each to its path from there
  --omit-extensions      leave the end of the file's name out of the path in Vault
  --config FILE          that file instead of the nearest .sops.yaml, from the working folder upward; also SOPS_CONFIG
  --decryption-order L   key types to try first, as a comma list; also SOPS_DECRYPTION_ORDER. Default: age,pgp
  --verbose              accepted as sops does; there is no more to tell
{KEY_HELP}{keys.SERVICE_HELP}
Vault is that of VAULT_ADDR, or what the rule says if SOPS_HC_VAULT_ALLOWLIST or the policy allows it.

Example:
  VAULT_ADDR=https://vault.example.com:8200 krm-sops publish --yes database.enc.yaml
"""
FLAGS = {
    "yes": SWITCH,
    "recursive": SWITCH,
    "omit-extensions": SWITCH,
    "config": VALUE,
    "decryption-order": VALUE,
    "verbose": SWITCH,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}
_NAMES = {"s3": "S3", "gcs": "Google Cloud Storage"}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"y": "yes", "h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if not given.names:
        raise UsageError("no file specified", exit_status=100)
    top = given.names[0]
    if os.path.isdir(top) and not given.on("recursive"):
        raise UsageError("can't operate on a directory without --recursive flag.")
    if not os.path.exists(top):
        raise KrmSopsError(f"there is no {shown(top)}")
    credentials = keys.credentials(given, [])
    rules = creation.rules_for(given, credentials.host, lambda text: cli.say(f"warning: {text}"))
    if rules is None:
        raise ConfigError("config file not found", hint="write destination_rules into a .sops.yaml")
    for path in _files(top):
        _publish(path, os.path.relpath(path, top) if os.path.isdir(top) else os.path.basename(path), rules, given)
    return 0


def _files(top: str) -> list[str]:
    if not os.path.isdir(top):
        return [top]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)


def _publish(path: str, name: str, rules: Rules, given: Arguments) -> None:
    destination = rules.destination_for(path)
    if destination.kind != "vault":
        what = f"publishing to {_NAMES[destination.kind]} is not built in"
        raise ConfigError(what, hint=f"{shown(path)} is encrypted: copy it with the tool of your cloud")
    if given.on("omit-extensions") or destination.omit_extensions:
        name = name.removesuffix(os.path.splitext(path)[1])
    branches, credentials = decrypt.opened(path, format_for_path(path), given)
    address = destination.vault["vault_address"] or credentials.host.env.get("VAULT_ADDR", "")
    place = _place(destination, name)
    if not given.on("yes") and not _agreed(path, f"{address}/v1/{place}"):
        if given.on("recursive"):
            cli.write_out(f"Publication of {shown(path)} canceled\n".encode())
            return
        raise KrmSopsError(f"Publication of {shown(path)} canceled")
    _write(Server(address, credentials), place, _values(branches), destination.kv_version, credentials)


def _place(destination: Destination, name: str) -> str:
    """Raises KeyUnavailable for a path of names that Vault could take for something else."""
    mount = destination.vault["vault_kv_mount_name"].strip("/") or "secret"
    parts = [mount, *["data"] * (destination.kv_version == 2), destination.place.strip("/"), name]
    return checked_path("/".join(parts))


def _agreed(path: str, place: str) -> bool:
    """Raises KrmSopsError where nobody answers."""
    while True:
        cli.write_out(f"uploading {shown(os.path.abspath(path))} to {shown(place)} ? (y/n): ".encode())
        line = sys.stdin.readline()
        if not line:
            raise KrmSopsError("nobody answers", hint="--yes publishes without a question")
        if line.strip() in ("y", "n"):
            return line.strip() == "y"


def _values(branches: list[Branch]) -> dict[str, Any]:
    """All documents as one object."""
    found: dict[str, Any] = {}
    for branch in branches:
        found |= json.loads(STORES["json"].write_plain([branch]))
    return found


def _write(server: Server, place: str, values: dict[str, Any], version: int, credentials: Credentials) -> None:
    """Raises KeyUnavailable. What is there already is not written again."""

    def write(token: str) -> None:
        try:
            data = server.ask(place, None, token).get("data")
        except KeyUnavailable:  # there is nothing yet, or it may not be read
            data = None
        there = data.get("data") if version == 2 and isinstance(data, dict) else data
        if there != values:
            server.ask(place, {"data": values} if version == 2 else values, token)

    first_usable(tokens(credentials, server), write, TOKEN_HINT)
