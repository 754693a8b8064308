"""``krm-sops keygen``: a new age key, or the recipients of keys that are there, as age-keygen and ssh-to-age do it.

Source: FiloSottile/age 1.3.2, cmd/age-keygen/keygen.go.
"""

from __future__ import annotations

import os
import stat
from time import localtime, strftime

from krm_sops import cli
from krm_sops.age import AgeError, IdentityError
from krm_sops.age.identities import Reader
from krm_sops.age.keygen import generate
from krm_sops.age.ssh_ed25519 import native_recipients
from krm_sops.errors import ConfigError, shown
from krm_sops.verbs import files
from krm_sops.verbs.flags import SWITCH, VALUE, UsageError, parse

HELP = """\
krm-sops keygen [-o FILE]: make an age key, as age-keygen does.
krm-sops keygen -y [FILE]: print the recipients of the keys in FILE, or on stdin.

  -o, --output FILE      write there, for its owner only; a file that is there already is never overwritten
      --pq               a post-quantum key (ML-KEM-768 and X25519)
  -y, --recipients       FILE holds age identities, an SSH private key, or SSH public keys, also as ssh-keyscan prints
                         them: one recipient a line. Of SSH keys, Ed25519 ones have an age recipient
      --from-ssh FILE    no new key, but the age identity that belongs to this SSH private key (Ed25519)

Example:
  krm-sops keygen -o ~/.config/sops/age/keys.txt
"""
FLAGS = {"output": VALUE, "pq": SWITCH, "recipients": SWITCH, "from-ssh": VALUE, "help": SWITCH}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"o": "output", "y": "recipients", "h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if len(given.names) > given.on("recipients"):
        raise UsageError("too many arguments", hint="-y takes one FILE, or stdin; the others take none")
    if given.on("recipients") + given.on("pq") + given.given("from-ssh") > 1:
        raise UsageError("only one of -y, --pq and --from-ssh")
    output = given.text("output")
    if given.on("recipients"):
        path = given.names[0] if given.names else "-"
        return _give("".join(f"{one}\n" for one in recipients(files.read(path), path)), output)
    if given.given("from-ssh"):
        recipient, secret = _from_ssh(given.text("from-ssh"))
    else:
        recipient, secret = generate(post_quantum=given.on("pq"))
    if not output and _is_readable_by_all():
        cli.say("warning: writing a secret key to a file that everybody may read")
    status = _give(identity_file(recipient, secret), output)
    if status == 0 and (output or not os.isatty(1)):  # nobody is to encrypt for a key that was not written
        cli.say(f"Public key: {recipient}")  # in age-keygen's words, which scripts look for
    return status


def identity_file(recipient: str, secret: str) -> str:
    """As age-keygen writes it."""
    zone = strftime("%z", localtime())
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    created = strftime("%Y-%m-%dT%H:%M:%S", localtime()) + zone
    return f"# created: {created}\n# public key: {recipient}\n{secret}\n"


def write_new(path: str, text: str, mode: int = 0o600) -> None:
    """A file that is not there yet; what was half written does not stay (S30).

    Raises FileError (exit 3), also where something is there: a link as well.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError:
        raise files.FileError(f"{shown(path)} is there already, and is not overwritten", 3) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "bad name"
        raise files.FileError(f"cannot write {shown(path)}: {why}", 3) from None
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        os.unlink(path)
        raise files.FileError(f"cannot write {shown(path)}: {error.strerror}", 3) from None


def _give(text: str, output: str) -> int:
    if not output:
        return cli.write_out(text.encode())
    write_new(output, text)
    return 0


def _is_readable_by_all() -> bool:
    status = os.fstat(1)
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & stat.S_IROTH)


def recipients(data: bytes, place: str) -> list[str]:
    """Of age identities, an SSH private key, or SSH public keys. Raises ConfigError, which quotes nothing of it."""
    found = native_recipients(data.decode("utf-8", "replace"))
    if found:
        return found
    try:
        identities = Reader().read(data, place)
        return [_recipient(identity) for identity in identities]
    except AgeError as error:
        raise ConfigError(f"{shown(place)}: {error.message}", hint=error.hint) from None


def _recipient(identity: object) -> str:
    """Raises IdentityError."""
    identity = getattr(identity, "age", identity)
    recipient = getattr(identity, "recipient", "")
    if not isinstance(recipient, str) or not recipient:
        raise IdentityError(
            "holds a key whose recipient cannot be told from it",
            hint="recipients are told of age identities and of OpenSSH's Ed25519 keys, without passphrase",
        )
    return recipient


def _from_ssh(path: str) -> tuple[str, str]:
    """A recipient and its identity, as ssh-to-age makes them. Raises ConfigError, FileError."""
    from krm_sops.age.ssh_ed25519 import SshEd25519Identity

    try:
        for identity in Reader().read(files.read(path), path):
            if isinstance(identity, SshEd25519Identity):
                return identity.age.recipient, identity.age.secret()
    except IdentityError as error:
        raise ConfigError(f"{shown(path)}: {error.message}", hint=error.hint) from None
    raise ConfigError(
        f"{shown(path)} is no Ed25519 SSH private key that can be read",
        hint="it is to be in OpenSSH's format; of one with a passphrase, make a copy without: ssh-keygen -p",
    )
