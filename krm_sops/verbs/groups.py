"""``krm-sops groups add`` and ``krm-sops groups delete``: the key groups of a file.

Differs from sops:
- A key that is none is an error, and so is a group or a file without keys. sops leaves such keys out, and with them
  writes files that nobody can decrypt.
- A number that no group has is an error; sops crashes. `--hckms` counts; sops ignores it.
Source: getsops/sops 3.13, cmd/sops/main.go, cmd/sops/subcommand/groups.
"""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import ConfigError, shown
from krm_sops.keys import KEY_TYPES
from krm_sops.verbs import change, creation, files
from krm_sops.verbs.flags import MANY, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.metadata import KeyGroup
    from krm_sops.verbs.flags import Arguments

_KEY_TYPES = [KEY_TYPES[section] for section in KEY_TYPES]


def _key_help() -> str:
    flags = [(f"  --{key_type.flag} KEY", key_type.flag_help) for key_type in reversed(_KEY_TYPES)]
    return "\n".join(f"{flag:25}{text}" for flag, text in flags)


HELP = f"""\
krm-sops groups add -f FILE: add a key group, and share the data key among all groups again.
krm-sops groups delete -f FILE NUMBER: remove a key group, of which the first is 0.
The result goes to stdout.

  -f, --file FILE        the encrypted file
  -i, --in-place         write the result back to it
  --shamir-secret-sharing-threshold N
                         how many key groups open the file; default: as many as before, or all
  Keys of the new group, each repeatable:
{_key_help()}
  --aws-profile NAME     the profile of AWS for the keys of --kms
  --encryption-context C their encryption context: name:value,name:value
  --output-type FORMAT   the format of the result; default: that of the file
{change.OPEN_HELP}
Example:
  krm-sops groups add -i -f secret.enc.yaml --age age1… --shamir-secret-sharing-threshold 2
"""
_FLAGS = {
    "file": VALUE,
    "in-place": SWITCH,
    creation.THRESHOLD: VALUE,
    "output-type": VALUE,
    **change.OPEN_FLAGS,
}
_ADD_FLAGS = {
    **{key_type.flag: MANY for key_type in _KEY_TYPES},
    "aws-profile": VALUE,
    "encryption-context": VALUE,
    **_FLAGS,
}
_ALIASES = {"f": "file", "i": "in-place", "h": "help"}


def main(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else ""
    if verb == "add":
        return _add(parse(arguments[1:], _ADD_FLAGS, _ALIASES))
    if verb == "delete":
        return _delete(parse(arguments[1:], _FLAGS, _ALIASES))
    if not arguments or parse(arguments, _ADD_FLAGS, _ALIASES).on("help"):
        return cli.write_out(HELP.encode())
    raise UsageError(f"unknown verb {shown(verb, 60)!r}", hint="groups add, or groups delete")


def _add(given: Arguments) -> int:
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if given.names:
        raise UsageError("no positional arguments allowed", hint="name the file with --file")
    shared = {"aws_profile": given.text("aws-profile"), **creation.context(given.text("encryption-context"))}
    group: KeyGroup = []
    for key_type in _KEY_TYPES:
        for text in given.many(key_type.flag):
            group += key_type.from_list(text, shared)
    if not group:
        raise ConfigError("a key group needs a key", hint="name one with --age or another flag")
    session = change.Session(given)
    file = _file(session)
    return _change(session, file, [*file.metadata.key_groups, group], group)


def _delete(given: Arguments) -> int:
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if len(given.names) != 1:
        raise UsageError("exactly one positional argument (index) required")
    session = change.Session(given)
    file = _file(session)
    groups = list(file.metadata.key_groups)
    text = given.names[0]
    if not (text.isascii() and text.isdecimal() and int(text) < len(groups)):
        raise UsageError(f"there is no key group {shown(text, 40)!r}", hint=f"the file has {len(groups)}, from 0 on")
    del groups[int(text)]
    threshold = creation.integer(given, creation.THRESHOLD) or file.metadata.threshold
    if groups and len(groups) < threshold:
        what = "removing this key group will make the Shamir threshold impossible to satisfy"
        raise ConfigError(
            f"{what}: Shamir threshold is {threshold}, but we only have {len(groups)} key groups",
            hint=f"lower it with --{creation.THRESHOLD}",
        )
    return _change(session, file, groups, [])


def _file(session: change.Session) -> change.EncryptedFile:
    if not session.given.text("file"):
        raise UsageError("no file specified", hint="name it with --file", exit_status=2)
    return session.read(session.given.text("file"))


def _change(session: change.Session, file: change.EncryptedFile, groups: list[KeyGroup], added: KeyGroup) -> int:
    metadata = change.copied(file.metadata)
    metadata.key_groups = groups
    metadata.threshold = creation.integer(session.given, creation.THRESHOLD) or metadata.threshold
    session.warn_of_drift(file, metadata, added)
    content = session.rewrapped(file, metadata, session.data_key(file.metadata))
    if not session.given.on("in-place"):
        return cli.write_out(content)
    files.write(file.path, content)
    return 0
