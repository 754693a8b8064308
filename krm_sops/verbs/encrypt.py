"""``krm-sops encrypt``: one file, or stdin, as ``sops encrypt`` does it.

Differs from sops: "-" is stdin, and an object whose values were masked is refused.
"""

from __future__ import annotations

import os
from time import gmtime, strftime

from krm_sops import cli
from krm_sops.cipher import DataKey
from krm_sops.datakey import wrapped
from krm_sops.encryption import encrypted_file, refuse_encrypted, shares
from krm_sops.errors import InputError, shown
from krm_sops.krm.item import MASKED
from krm_sops.rules import absolute
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import Branch
from krm_sops.verbs import creation, files, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.metadata import Metadata
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops encrypt [FILE]: encrypt a file, or stdin, to stdout.

  -i, --in-place         write the result back to FILE
  --output FILE          write the result there
  --input-type FORMAT    yaml, json, dotenv, ini or binary, whatever the file's name says
  --output-type FORMAT   the same for the result
  --filename-override F  take format and creation rule from this name; needed for stdin
  --indent N             spaces a level of YAML and JSON; -1 is a tab, for JSON. Default: that of .sops.yaml
{creation.HELP}{KEY_HELP}{keys.SERVICE_HELP}
Example:
  krm-sops encrypt --age age1… --encrypted-regex '^(data|stringData)$' -i secret.yaml
"""
FLAGS = {
    "in-place": SWITCH,
    "output": VALUE,
    "input-type": VALUE,
    "output-type": VALUE,
    "filename-override": VALUE,
    "indent": VALUE,
    "help": SWITCH,
    **creation.FLAGS,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"i": "in-place", "h": "help", **creation.ALIASES})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    path = given.names[0] if given.names else "-"
    _check(given, path)
    result = _encrypted(path, given)
    target = path if given.on("in-place") else given.text("output")
    if not target:
        return cli.write_out(result)
    files.write(target, result)
    return 0


def _warn(text: str) -> None:
    cli.say(f"warning: {text}")


def _check(given: Arguments, path: str) -> None:
    """Raises UsageError, FileError."""
    if path == "-":
        if given.on("in-place"):
            raise UsageError("cannot use --in-place when reading from stdin", exit_status=8)
        if not given.text("filename-override"):
            raise UsageError("must specify --filename-override when reading from stdin", exit_status=8)
    if len(given.names) > 1:
        _warn("more than one positional argument provided, only the first one will be used")
    if given.on("in-place") and given.text("output"):
        raise UsageError("cannot operate on both --output and --in-place", exit_status=8)
    if path != "-" and not os.path.exists(path):
        raise files.FileError(f"cannot operate on non-existent file {shown(path)!r}", 100)


def _encrypted(path: str, given: Arguments) -> bytes:
    warnings: list[str] = []
    credentials = keys.credentials(given, warnings)
    host = credentials.host
    named = absolute(given.text("filename-override") or path, host)
    rules = creation.rules_for(given, host, _warn)
    source, wanted = (
        given.text(flag) if given.text(flag) in STORES else format_for_path(named)
        for flag in ("input-type", "output-type")
    )
    single = source if source == "binary" else ""
    metadata = creation.metadata_for(given, rules, named, host, _warn, single=single)
    indent = creation.integer(given, "indent")
    if indent is None and rules is not None:
        indent = rules.indents.get(wanted)
    branches = _plain(files.read(path), source)
    refuse_encrypted(branches, STORES[wanted])
    keys.serve(metadata, given, warnings)
    for warning in warnings:
        _warn(warning)
    return sealed(branches, metadata, credentials, wanted, indent)


def _plain(raw: bytes, name: str) -> list[Branch]:
    """Raises StoreError (exit 2), FileError for a file without a document (exit 92)."""
    try:
        branches = STORES[name].read_plain(raw)
    except InputError as error:
        error.exit_status = 2
        raise
    if not branches:
        what = "the file is completely empty, it must contain at least one document"
        raise files.FileError(what, 92, hint="it must hold at least {} or a comment")
    for branch in branches:
        _refuse_masked(branch)
    return branches


def _refuse_masked(branch: Branch) -> None:
    """Asterisks instead of values, made for people, must not become the encrypted values."""
    metadata = branch.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Branch) else None
    if isinstance(annotations, Branch) and annotations.number(MASKED) is not None:
        raise InputError(f"the annotation {MASKED} says that values were masked", hint="encrypt the values themselves")


def sealed(
    branches: list[Branch], metadata: Metadata, credentials: Credentials, wanted: str, indent: int | None
) -> bytes:
    data_key = os.urandom(32)
    metadata.key_groups = wrapped(metadata.key_groups, shares(data_key, metadata), credentials)
    now = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    return encrypted_file(branches, metadata, DataKey(data_key), STORES[wanted], now=now, indent=indent)
