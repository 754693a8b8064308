"""``krm-sops exec-file``: a command that reads an encrypted file in plain, from a named pipe or a private file.

A named pipe gives the content to whoever reads it first, and nothing reaches a disk. Pipe and file stand in a folder
for this user only, in memory where there is such a place, which goes when the command ends or a signal ends us.

Differs from sops: the folder is in memory first; with --background it waits for the command, in a process of its own,
where sops removes the file at once. Ctrl-C is for the command.
Source: getsops/sops 3.13, cmd/sops/main.go, subcommand/exec.
"""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.builds.private import PrivateFolder
from krm_sops.errors import KrmSopsError
from krm_sops.verbs import children, decrypt, keys
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False

HELP = f"""\
krm-sops exec-file FILE COMMAND: run a command that reads FILE decrypted. COMMAND is one argument, for /bin/sh: {{}}
in it becomes the path of a named pipe, or with --no-fifo of a file, which no other user can read and which goes again.

  --no-fifo              a file, for a command that reads twice or seeks
  --filename NAME        what pipe or file is called; default: tmp-file
  --user NAME            run the command as this user
  --background           do not wait for the command
  --input-type FORMAT    yaml, json, dotenv, ini or binary, whatever the file's name says
  --output-type FORMAT   the same for what the command reads
  --indent N             spaces a level of YAML and JSON; -1 is a tab, for JSON. Default: that of .sops.yaml
  --config FILE          that file instead of the nearest .sops.yaml, from the working folder upward; also SOPS_CONFIG
  --decryption-order L   key types to try first, as a comma list; also SOPS_DECRYPTION_ORDER. Default: age,pgp
{KEY_HELP}{keys.SERVICE_HELP}
Exit status: that of the command.

Example:
  krm-sops exec-file --no-fifo kubeconfig.enc.yaml 'kubectl --kubeconfig {{}} get pods'
"""
FLAGS = {
    "no-fifo": SWITCH,
    "filename": VALUE,
    "user": VALUE,
    "background": SWITCH,
    "input-type": VALUE,
    "output-type": VALUE,
    "indent": VALUE,
    "config": VALUE,
    "decryption-order": VALUE,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}
_NAME = "tmp-file"


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    path, command = children.file_and_command(given)
    name = given.text("filename") or _NAME
    if os.path.isabs(name) or ".." in name.split("/") or name.endswith("/") or "\0" in name:
        raise UsageError("the provided filename is not a local path", hint="--filename is a name in a private folder")
    content = decrypt.decrypted(path, given, missing=2)
    environment = {**os.environb, **children.become(given.text("user"))}
    if given.on("background") and not children.detach():
        return 0
    with PrivateFolder(os.environ) as folder:
        if given.on("no-fifo"):
            folder.write(name, content)
        else:
            _offer(folder, name, content)
        return children.run(command.replace("{}", f"{folder.path}/{name}"), environment, folder)


def _offer(folder: PrivateFolder, name: str, content: bytes) -> None:
    """A named pipe with the content in it, for one reader. A command need not read it."""
    from threading import Thread

    pipe = f"{folder.path}/{name}"
    try:
        os.makedirs(os.path.dirname(pipe), 0o700, exist_ok=True)
        os.mkfifo(pipe, 0o600)
    except OSError as error:
        raise KrmSopsError(f"cannot make a named pipe: {error.strerror}", hint="use --no-fifo") from None

    def write() -> None:
        try:
            with open(pipe, "wb", buffering=0) as file:
                view = memoryview(content)
                while view:
                    view = view[file.write(view) or 0 :]
        except OSError:  # the command read no further
            pass

    Thread(target=write, daemon=True).start()
