"""``krm-sops init``: a `.sops.yaml` for Kubernetes Secrets, a first encrypted Secret, and an age key if there is none.

The key goes to where sops looks for it, in the user's own folder, and never into the repository. Nothing that is there
is overwritten.
"""

from __future__ import annotations

import os
import re

from krm_sops import cli
from krm_sops.age.keygen import generate
from krm_sops.credentials import Credentials
from krm_sops.errors import ConfigError, shown
from krm_sops.host import Host
from krm_sops.keys.age import config_folder
from krm_sops.limits import FUNCTION
from krm_sops.policy import Policy
from krm_sops.roots import source_root
from krm_sops.rules import FILE_NAME, Rules
from krm_sops.stores import STORES
from krm_sops.verbs import creation, files, keygen
from krm_sops.verbs.encrypt import sealed
from krm_sops.verbs.flags import SWITCH, VALUE, Arguments, UsageError, parse

HELP = """\
krm-sops init [DIR]: start with encrypted Secrets in a folder, by default the working folder.

It writes DIR/.sops.yaml, by which *.enc.yaml files are encrypted (of a Secret the values only), and an encrypted
Secret DIR/secret.enc.yaml as an example. Nothing that is there is overwritten.

  --age LIST             for these recipients: age1…, ssh-ed25519 …, as a comma list. Default: the key that sops would
                         use, SOPS_AGE_KEY_FILE or ~/.config/sops/age/keys.txt; where there is none, a new one there

Example:
  krm-sops init deploy && krm-sops decrypt deploy/secret.enc.yaml
"""
EXAMPLE_NAME = "secret.enc.yaml"
_CONFIG = """\
# Which files sops and krm-sops encrypt, what of them, and for whom. The first rule whose path_regex matches counts.
# A comment behind a recipient is its name in reports of krm-sops audit.
creation_rules:
  - path_regex: \\.enc\\.ya?ml$
    encrypted_regex: ^(data|stringData)$
    mac_only_encrypted: true
    key_groups:
      - age:
"""
_EXAMPLE = b"""\
apiVersion: v1
kind: Secret
metadata:
  name: example
type: Opaque
stringData:
  user: example
  password: replace-me
"""
_WORD = re.compile(r"[A-Za-z0-9._-]+")


def main(arguments: list[str]) -> int:
    given = parse(arguments, {"age": VALUE, "help": SWITCH}, {"a": "age", "h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if len(given.names) > 1:
        raise UsageError("init takes one folder")
    folder = given.names[0] if given.names else "."
    if not os.path.isdir(folder):
        raise files.FileError(f"there is no folder {shown(folder)}", 2)
    config, example = (os.path.normpath(os.path.join(folder, name)) for name in (FILE_NAME, EXAMPLE_NAME))
    for path in (config, example):
        if os.path.lexists(path):
            raise files.FileError(f"{shown(path)} is there already, and is not overwritten", 3)
    done: list[str] = []
    recipients = _recipients(given, folder, done)
    text = _CONFIG + "".join(f"          - {_spelled(one)}\n" for one in recipients)
    encrypted = _example(text, os.path.abspath(example))
    keygen.write_new(config, text, 0o666)
    keygen.write_new(example, encrypted, 0o666)
    done += [
        f"wrote {shown(config)}: *.enc.yaml files are encrypted for {', '.join(shown(one, 80) for one in recipients)}",
        f"wrote {shown(example)}: an encrypted Secret, as an example",
        f"next: krm-sops decrypt {shown(example)}",
    ]
    return cli.write_out("".join(f"{line}\n" for line in done).encode("utf-8", "backslashreplace"))


def _recipients(given: Arguments, folder: str, done: list[str]) -> list[str]:
    """done: what was done for them, for people.  Raises KrmSopsError."""
    from krm_sops.keys.age import AgeKey

    if given.given("age"):
        found = [key.recipient for key in AgeKey.from_list(given.text("age"), {})]
        if not found or any(not one.isprintable() for one in found):
            raise UsageError("--age names no recipient")
        return found
    path = _key_file(Host())
    try:
        found = keygen.recipients(files.read(path, missing=0), path)
    except files.FileError as error:
        if error.exit_status:
            raise
        return [_made(path, folder, done)]
    if len(found) > 1:
        raise ConfigError(f"{shown(path)} holds {len(found)} keys", hint="name the recipients with --age")
    done.append(f"found the age key {found[0]} in {shown(path)}")
    return found


def _key_file(host: Host) -> str:
    """Where sops looks first. Raises ConfigError."""
    path = host.env.get("SOPS_AGE_KEY_FILE")
    base = config_folder(host)
    if not path and not base:
        raise ConfigError("there is no home folder to keep a key in", hint="name a recipient with --age")
    return path or f"{base}/sops/age/keys.txt"


def _made(path: str, folder: str, done: list[str]) -> str:
    """The recipient of a new key in a file that is not there yet. Raises ConfigError, FileError."""
    root = source_root(Host(), Policy(FUNCTION), folder)
    home = os.path.realpath(os.path.dirname(path) or ".")
    if home == root or home.startswith(root.rstrip("/") + "/"):
        what = f"a key in {shown(path)} would be in the repository {shown(root)}, where everybody gets it"
        raise ConfigError(what, hint="make one elsewhere with krm-sops keygen -o, and name its recipient with --age")
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
    except OSError as error:
        raise files.FileError(f"cannot make the folder {shown(home)}: {error.strerror}", 3) from None
    recipient, secret = generate()
    keygen.write_new(path, keygen.identity_file(recipient, secret))
    done.append(f"made the age key {recipient} in {shown(path)}: keep a copy, nothing opens without it")
    return recipient


def _spelled(recipient: str) -> str:
    """A scalar of YAML. SSH keys may have a comment of any kind."""
    from krm_sops.stores.json import quote

    return recipient if _WORD.fullmatch(recipient) else quote(recipient)


def _example(config: str, path: str) -> str:
    """The encrypted Secret, by the rules that were just made. Raises KrmSopsError."""
    host = Host(env={})  # whose variables could name other keys
    rules = Rules(config.encode(), FILE_NAME, os.path.dirname(path))
    metadata = creation.metadata_for(Arguments(), rules, path, host, cli.say)
    branches = STORES["yaml"].read_plain(_EXAMPLE)
    return sealed(branches, metadata, Credentials(host, (), "never"), "yaml", 2).decode()
