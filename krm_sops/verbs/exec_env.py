"""``krm-sops exec-env``: a command with the values of an encrypted file in its environment. Nothing is written.

Differs from sops: Ctrl-C is for the command; this program waits for what becomes of it.
Source: getsops/sops 3.13, cmd/sops/main.go, subcommand/exec.
"""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.errors import KrmSopsError, shown
from krm_sops.stores import format_for_path
from krm_sops.tree import Branch, Comment, to_bytes
from krm_sops.values import to_text
from krm_sops.verbs import children, decrypt, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False

HELP = f"""\
krm-sops exec-env FILE COMMAND: run a command with the decrypted values of FILE as environment variables. COMMAND is
one argument, for /bin/sh. FILE has single values only, no mappings or lists.

  --pristine             nothing else in the environment
  --same-process         become the command instead of waiting for it
  --user NAME            run it as this user
  --background           do not wait for it
  --decryption-order L   key types to try first, as a comma list; also SOPS_DECRYPTION_ORDER. Default: age,pgp
{KEY_HELP}{keys.SERVICE_HELP}
Exit status: that of the command.

Example:
  krm-sops exec-env database.enc.env 'psql --host "$HOST"'
"""
FLAGS = {
    "pristine": SWITCH,
    "same-process": SWITCH,
    "user": VALUE,
    "background": SWITCH,
    "decryption-order": VALUE,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    path, command = children.file_and_command(given)
    if given.on("background") and given.on("same-process"):
        raise UsageError("the --same-process flag cannot be used with --background", exit_status=8)
    (branch, *_), _ = decrypt.opened(path, format_for_path(path), given, missing=2)
    values = _variables(branch)
    inherited = {} if given.on("pristine") else dict(os.environb)
    environment = {**inherited, **children.become(given.text("user")), **values}
    if given.on("same-process"):
        children.replace_process(command, environment)
    if given.on("background") and not children.detach():
        return 0
    return children.run(command, environment)


def _variables(branch: Branch) -> dict[bytes, bytes]:
    """Raises KrmSopsError for what cannot be a variable."""
    found = {}
    for entry in branch.entries:
        key, value = entry.key, entry.value
        if isinstance(key, Comment):
            continue
        if isinstance(value, (Branch, list, Comment)):
            raise KrmSopsError(f"cannot use complex value in environment; offending key {shown(key, 80)}")
        if not isinstance(key, str):
            raise KrmSopsError(f"cannot use non-string keys in environment, got {shown(key, 80)}")
        if "=" in key:
            raise KrmSopsError(f"cannot use keys with '=' in environment: {shown(key, 80)}")
        text = to_text(value)
        if "\0" in key or "\0" in text:
            raise KrmSopsError(f"the value of {shown(key, 80)} holds a NUL, which no environment can")
        found[to_bytes(key)] = to_bytes(text)
    return found
