"""``krm-sops publish``: files to where `destination_rules` say: encrypted into a bucket of Amazon S3 or Google Cloud
Storage, or what they hold, decrypted, into Vault's key-value store.

A file goes into a bucket as it is, or, where the rule has a recreation rule with keys, encrypted anew for those. Of
that rule sops takes keys, threshold and the two suffixes; its other fields are told here, and have no effect either.

Differs from sops:
- A Vault that `.sops.yaml` names gets a token only where the operator allows that server, as for `hc_vault` keys (S3).
- Names of buckets and objects that servers could take for something else are refused (S14).
- What is encrypted anew would open: a value that a reader takes for plain stays plain, and a binary file is encrypted
  whatever suffix the rule has.
Source: getsops/sops 3.13, cmd/sops/subcommand/publish, publish/s3.go, publish/gcs.go, publish/vault.go.
"""

from __future__ import annotations

import json
import os
import sys

from krm_sops import cli
from krm_sops.cipher import DataKey
from krm_sops.errors import ConfigError, KeyUnavailable, KrmSopsError, shown
from krm_sops.keys.cloud import first_usable
from krm_sops.keys.hc_vault import TOKEN_HINT, Server, checked_path, tokens
from krm_sops.metadata import VERSION, Metadata
from krm_sops.recipients import differences, told
from krm_sops.selection import Selection
from krm_sops.stores import STORES
from krm_sops.verbs import buckets, change, files, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from krm_sops.credentials import Credentials
    from krm_sops.rules import Destination, Rule
    from krm_sops.tree import Branch

HELP = f"""\
krm-sops publish FILE: upload FILE to where the destination_rules of .sops.yaml say: into a bucket of Amazon S3 or
Google Cloud Storage, encrypted, for the keys of recreation_rule if there is one; or what it holds, decrypted, into
Vault.

  -y, --yes              do not ask before
  --recursive            FILE is a folder: all files in it, each to its path from there
  --omit-extensions      leave the end of the file's name out of the path there
  --config FILE          that file instead of the nearest .sops.yaml, from the working folder upward; also SOPS_CONFIG
  --decryption-order L   key types to try first, as a comma list; also SOPS_DECRYPTION_ORDER. Default: age,pgp
  --verbose              accepted as sops does; there is no more to tell
{KEY_HELP}{keys.SERVICE_HELP}
S3 is that of AWS_REGION or the AWS profile, or AWS_ENDPOINT_URL_S3. Vault is that of VAULT_ADDR, or what the rule says
if SOPS_HC_VAULT_ALLOWLIST or the policy allows it.

Example:
  AWS_REGION=eu-central-1 krm-sops publish --yes database.enc.yaml
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
_SUFFIXES = ("encrypted_suffix", "unencrypted_suffix")


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"y": "yes", "h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    top = change.one_file(given)
    if os.path.isdir(top) and not given.on("recursive"):
        raise UsageError("can't operate on a directory without --recursive flag.")
    if not os.path.exists(top):
        raise KrmSopsError(f"there is no {shown(top)}")
    session = change.Session(given)
    if session.rules is None:
        raise ConfigError("config file not found", hint="write destination_rules into a .sops.yaml")
    for path in _files(top):
        name = os.path.relpath(path, top) if os.path.isdir(top) else os.path.basename(path)
        try:
            _publish(path, name, session)
        except KeyUnavailable as error:  # of the destination: a file that does not open is NoUsableKey
            error.exit_status = 1
            raise
    return 0


def _files(top: str) -> list[str]:
    """A folder's in the order that sops takes them: folder by folder, by name."""
    if not os.path.isdir(top):
        return [top]
    found = [os.path.normpath(os.path.join(folder, name)) for folder, _, names in os.walk(top) for name in names]
    return sorted(found, key=lambda path: path.split("/"))


def _publish(path: str, name: str, session: change.Session) -> None:
    assert session.rules is not None
    given = session.given
    destination = session.rules.destination_for(path)
    if given.on("omit-extensions") or destination.omit_extensions:
        name = name.removesuffix(os.path.splitext(path)[1])
    file = session.read(path)
    if destination.kind == "vault":
        _, opened = session.open(file)
        values = _values(opened.plain)
        server = Server(_address(destination, session.credentials), session.credentials)
        place = _place(destination, name)
        if _agreed(path, f"{server.address}/v1/{place}", session):
            _write(server, place, values, destination.kv_version, session.credentials)
        return
    place = destination.prefix + name
    buckets.check(destination.kind, destination.place, place)
    content = _recreated(file, destination.recreation, session)
    if _agreed(path, f"{destination.kind}://{destination.place}/{place}", session):
        buckets.put(destination.kind, destination.place, place, content, session.credentials)


def _recreated(file: change.EncryptedFile, rule: Rule, session: change.Session) -> bytes:
    """What goes into a bucket."""
    if not any(rule.key_groups):
        return files.read(file.path)
    ignored = [name for name in rule.selection if name not in _SUFFIXES]
    for name in [*ignored, *["mac_only_encrypted"] * rule.mac_only_encrypted]:
        session.warn(f"{name} is ignored in a recreation_rule, as by sops: all values are encrypted, and in the MAC")
    _, opened = session.open(file)
    changes = differences(file.metadata.key_groups, rule.key_groups)
    if any(one.added or one.removed for one in changes):
        cli.write_out(f"The following changes will be made to the file's key groups:\n{told(changes, 0, 0)}".encode())
    suffixes = {name: pattern for name, pattern in rule.selection.items() if name in _SUFFIXES}
    metadata = Metadata(
        lastmodified="",
        mac="",
        version=VERSION,
        key_groups=rule.key_groups,
        threshold=rule.threshold,
        mac_only_encrypted=False,
        selection=Selection("", "") if file.source == "binary" else Selection.from_fields(suffixes),
    )
    data_key = DataKey(os.urandom(32))
    session.wrap(metadata, data_key.raw)
    return session.sealed(file, opened.plain, metadata, data_key)


def _address(destination: Destination, credentials: Credentials) -> str:
    return destination.vault["vault_address"] or credentials.host.env.get("VAULT_ADDR", "")


def _place(destination: Destination, name: str) -> str:
    """Raises KeyUnavailable for a path of names that Vault could take for something else."""
    mount = destination.vault["vault_kv_mount_name"].strip("/") or "secret"
    parts = [mount, *["data"] * (destination.kv_version == 2), destination.place.strip("/"), name]
    return checked_path("/".join(parts))


def _agreed(path: str, place: str, session: change.Session) -> bool:
    """Raises KrmSopsError where nobody answers, and for a no, unless other files follow."""
    if session.given.on("yes"):
        return True
    whole = shown(os.path.abspath(path))
    answer = ""
    while answer not in ("y", "n"):
        cli.write_out(f"uploading {whole} to {shown(place)} ? (y/n): ".encode())
        line = sys.stdin.readline()
        if not line:
            raise KrmSopsError("nobody answers", hint="--yes publishes without a question")
        answer = line.strip()
    if answer == "n":
        if not session.given.on("recursive"):
            raise KrmSopsError(f"Publication of {whole} canceled")
        cli.write_out(f"Publication of {whole} canceled\n".encode())
    return answer == "y"


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
