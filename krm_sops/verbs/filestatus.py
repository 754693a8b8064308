"""``krm-sops filestatus``: whether a file is encrypted by SOPS."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import MetadataError
from krm_sops.limits import SOPS_VERBS
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES, format_for_path
from krm_sops.verbs import files
from krm_sops.verbs.flags import SWITCH, VALUE, UsageError, parse

HELP = """\
krm-sops filestatus FILE: print {"encrypted":true} or {"encrypted":false}.

  --input-type FORMAT    yaml, json, dotenv, ini or binary, whatever the file's name says
"""


def main(arguments: list[str]) -> int:
    given = parse(arguments, {"input-type": VALUE, "help": SWITCH}, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if not given.names:
        raise UsageError("no file specified", exit_status=100)
    path = given.names[0]
    name = given.text("input-type") if given.text("input-type") in STORES else format_for_path(path)
    answer = "true" if is_encrypted(files.read(path, missing=1), name) else "false"
    return cli.write_out(f'{{"encrypted":{answer}}}\n'.encode())


def is_encrypted(raw: bytes, name: str) -> bool:
    """Whether a file has usable metadata with a version and a MAC. Raises StoreError."""
    _, block = STORES[name].read(raw)
    if block is None:
        return False
    try:
        metadata = Metadata.from_branch(block, SOPS_VERBS.key_entries)
    except MetadataError:
        return False
    return bool(metadata.version and metadata.mac)
