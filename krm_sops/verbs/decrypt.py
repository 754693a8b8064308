"""``krm-sops decrypt``: one file, or stdin, as ``sops decrypt`` does it."""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.datakey import ORDER, recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import KrmSopsError, MetadataError, NoMetadata, StoreError, shown
from krm_sops.limits import SOPS_VERBS
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import Branch, to_bytes
from krm_sops.verbs import creation, files, keys, treepath
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.stores.base import Store
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops decrypt [FILE]: decrypt a file, or stdin, to stdout.

  -i, --in-place         write the result back to FILE
  --output FILE          write the result there
  --extract PATH         only one value or branch: --extract '["stringData"]["password"]'
  --input-type FORMAT    yaml, json, dotenv, ini or binary, whatever the file's name says
  --output-type FORMAT   the same for the result
  --filename-override F  take the format from this name; for stdin
  --ignore-mac           decrypt although values may have been added, removed or reordered
  --indent N             spaces a level of YAML and JSON; -1 is a tab, for JSON. Default: that of .sops.yaml
  --config FILE          that file instead of the nearest .sops.yaml, from the working folder upward; also SOPS_CONFIG
  --decryption-order L   key types to try first, as a comma list; also SOPS_DECRYPTION_ORDER. Default: age,pgp
{KEY_HELP}{keys.SERVICE_HELP}
Example:
  krm-sops decrypt --extract '["stringData"]["password"]' secret.enc.yaml
"""
FLAGS = {
    "in-place": SWITCH,
    "output": VALUE,
    "extract": VALUE,
    "input-type": VALUE,
    "output-type": VALUE,
    "filename-override": VALUE,
    "ignore-mac": SWITCH,
    "indent": VALUE,
    "config": VALUE,
    "decryption-order": VALUE,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"i": "in-place", "h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if len(given.names) > 1:
        cli.say("warning: more than one positional argument provided, only the first one will be used")
    path = given.names[0] if given.names else "-"
    if given.on("in-place") and (path == "-" or given.given("output")):
        raise UsageError("--in-place needs a file and excludes --output", exit_status=8)
    result = decrypted(path, given)
    target = path if given.on("in-place") else given.text("output")
    if not target:
        return cli.write_out(result)
    files.write(target, result)
    return 0


def decrypted(path: str, given: Arguments, missing: int = 100) -> bytes:
    """The file in plain, in the format and with the indentation that flags, its name and `.sops.yaml` say.

    missing: the exit status where there is none.
    """
    source, wanted = _formats(path, given)
    plain, credentials = opened(path, source, given, missing)
    indent = creation.integer(given, "indent")
    if indent is None:
        rules = creation.rules_for(given, credentials.host, lambda text: cli.say(f"warning: {text}"))
        indent = rules.indents.get(wanted) if rules is not None else None
    return _emit(plain, wanted, indent, given)


def _formats(path: str, given: Arguments) -> tuple[str, str]:
    """The format of the file, and that of the result."""
    by_name = format_for_path(given.text("filename-override") or path)
    source = given.text("input-type") if given.text("input-type") in STORES else by_name
    return source, given.text("output-type") if given.text("output-type") in STORES else source


def opened(path: str, source: str, given: Arguments, missing: int = 100) -> tuple[list[Branch], Credentials]:
    """The documents of an encrypted file in plain, and the keys at hand.

    source: its format.  missing: the exit status where there is none.

    Raises FileError, UsageError, ConfigError, PolicyError, StoreError, MetadataError, NoUsableKey, IntegrityError.
    """
    warnings: list[str] = []
    credentials = keys.credentials(given, warnings)
    order = decryption_order(given)
    branches, block = read_encrypted(files.read(path, missing), STORES[source])
    metadata = Metadata.from_branch(block, SOPS_VERBS.key_entries)
    check_version(metadata.version)
    keys.serve(metadata, given, warnings)
    for warning in warnings:
        cli.say(f"warning: {warning}")
    document = EncryptedDocument(branches, metadata)
    plain, walk = document.decrypt(recover(metadata, credentials, order), ignore_mac=given.on("ignore-mac"))
    if walk.unopened:
        cli.say(f"warning: {len(walk.unopened)} comments do not fit their tags and stay encrypted")
    return plain, credentials


def read_encrypted(raw: bytes, store: Store) -> tuple[list[Branch], Branch]:
    """Raises FileError for an empty file (exit 92), StoreError, NoMetadata."""
    if not raw:
        raise files.FileError("the file is completely empty", 92, hint="it must hold at least {} or a comment")
    branches, block = store.read(raw)
    if block is None:
        raise NoMetadata
    return branches, block


def decryption_order(given: Arguments) -> tuple[str, ...]:
    text = given.text("decryption-order") or os.environ.get("SOPS_DECRYPTION_ORDER", "")
    order = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(set(order)) != len(order):
        raise UsageError("a key type occurs twice in the decryption order", exit_status=112)
    return order or ORDER


def check_version(version: str) -> None:
    """sops refuses a document whose version it cannot read. Raises MetadataError."""
    core = version.removeprefix("v").partition("-")[0].partition("+")[0].split(".")
    if not version.startswith("1.") and not (len(core) == 3 and all(part.isdecimal() for part in core)):
        raise MetadataError(f"sops.version {shown(version, 40)!r} is no version number", hint="it reads like 3.13.3")


def _emit(plain: list[Branch], name: str, indent: int | None, given: Arguments) -> bytes:
    store = STORES[name]
    try:
        if given.given("extract"):
            found = treepath.extract(plain[0], treepath.parse(given.text("extract")))
            if isinstance(found, str):
                return to_bytes(found)
            if not isinstance(found, Branch):
                return store.write_value(found)
            plain = [found, *plain[1:]]
        if len(plain) > 1 and name != "yaml":
            raise StoreError(f"{name} holds one document, not {len(plain)}", hint="use --output-type yaml")
        return store.write_plain(plain, indent)
    except StoreError as error:
        error.exit_status = 4
        raise
    except UnicodeEncodeError:
        raise _unwritable() from None


def _unwritable() -> KrmSopsError:
    error = StoreError("the result holds bytes that this format cannot")
    error.exit_status = 4
    return error
