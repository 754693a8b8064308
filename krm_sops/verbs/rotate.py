"""``krm-sops rotate``: a new data key, under which all values are encrypted again.

Differs from sops:
- Several files, folders and patterns are taken; sops takes the first file only.
- Where a creation rule names other recipients than the file, that is told, and is an error for several files: whoever
  can write a file can put a recipient into it (S16).
- To remove a key that the file does not have is told.
Source: getsops/sops 3.13, cmd/sops/rotate.go.
"""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.cipher import DataKey
from krm_sops.errors import shown
from krm_sops.keys import KEY_TYPES
from krm_sops.recipients import is_same_key
from krm_sops.verbs import batch, change, creation, files
from krm_sops.verbs.flags import SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.metadata import KeyGroup, Metadata
    from krm_sops.verbs.flags import Arguments

_KEY_TYPES = [KEY_TYPES[section] for section in KEY_TYPES]


def _key_help() -> str:
    lines = []
    for key_type in reversed(_KEY_TYPES):
        for verb, text in (("add", f"also for {key_type.flag_help}"), ("rm", "no longer for these")):
            flag = f"  --{verb}-{key_type.flag} LIST"
            lines.append(f"{flag:25}{text}" if len(flag) < 25 else f"{flag}\n{'':25}{text}")
    return "\n".join(lines)


HELP = f"""\
krm-sops rotate FILE: encrypt a file again with a new data key, to stdout.
krm-sops rotate -i PATH...: the same for many files, of which folders are searched for encrypted ones.

  -i, --in-place         write the result back to FILE
  --output FILE          write the result there
  --filename-override F  take the format from this name
{_key_help()}
  --aws-profile NAME     the profile of AWS for the keys of --add-kms
  --encryption-context C their encryption context: name:value,name:value
{batch.HELP}{change.HELP}
Removing somebody's key does not make them forget what they could read: replace the secrets too.

Example:
  krm-sops rotate -i --rm-age age1… secret.enc.yaml
"""
FLAGS = {
    "in-place": SWITCH,
    "output": VALUE,
    "filename-override": VALUE,
    **{f"{verb}-{key_type.flag}": VALUE for verb in ("add", "rm") for key_type in _KEY_TYPES},
    "aws-profile": VALUE,
    "encryption-context": VALUE,
    **batch.FLAGS,
    **change.FLAGS,
}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"i": "in-place", "h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if not given.names:
        raise UsageError("no file specified", exit_status=100)
    if given.on("in-place") and given.text("output"):
        raise UsageError("cannot operate on both --output and --in-place", exit_status=8)
    return _many(given) if batch.is_many(given) else _one(given)


def _one(given: Arguments) -> int:
    path, name = given.names[0], given.text("filename-override")
    added, removed = _keys(given, "add"), _keys(given, "rm")
    if (added or removed) and not os.path.exists(path):
        what = f"cannot add or remove keys on non-existent file {shown(path)!r}, use `edit` instead"
        raise files.FileError(what, 49)
    session = change.Session(given)
    file = session.read(path, name=name)
    metadata = _with_keys(session, file, added, removed)
    session.warn_of_drift(file, metadata, added, name=name)
    target = path if given.on("in-place") else given.text("output")
    content = rotated(session, file, metadata, target=target)
    if not target:
        return cli.write_out(content)
    files.write(target, content)
    return 0


def _many(given: Arguments) -> int:
    if not given.on("in-place") or given.text("filename-override"):
        raise UsageError("several files need --in-place, and no --filename-override", exit_status=8)
    added, removed = _keys(given, "add"), _keys(given, "rm")
    session = change.Session(given)

    def work(file: change.EncryptedFile) -> batch.Outcome:
        metadata = _with_keys(session, file, added, removed)
        session.refuse_drift(file, metadata)
        return batch.Outcome("rotated", rotated(session, file, metadata, target=file.path))

    return batch.run(session, work, "failed rotating {} file(s)", renews=True)


def _keys(given: Arguments, verb: str) -> KeyGroup:
    """The keys of --add-… or --rm-…."""
    shared = {"aws_profile": given.text("aws-profile"), **creation.context(given.text("encryption-context"))}
    found: KeyGroup = []
    for key_type in _KEY_TYPES:
        named = given.text(f"{verb}-{key_type.flag}")
        if named:
            found += key_type.from_list(named, shared)
    return found


def _with_keys(session: change.Session, file: change.EncryptedFile, added: KeyGroup, removed: KeyGroup) -> Metadata:
    """Added keys go to the first group, removed ones go from all."""
    groups = [list(group) for group in file.metadata.key_groups]
    groups[0] += added
    for key in removed:
        if not any(is_same_key(key, known) for group in groups for known in group):
            session.warn(f"{files.named(file.path)}: there is no key {shown(key.identity)} to remove")
        groups = [[known for known in group if not is_same_key(key, known)] for group in groups]
    metadata = change.copied(file.metadata)
    metadata.key_groups = groups
    return metadata


def rotated(session: change.Session, file: change.EncryptedFile, metadata: Metadata, *, target: str) -> bytes:
    """The file with a new data key for the keys of `metadata`.  target: the path that it is for."""
    _, carried = session.open(file)
    data_key = DataKey(os.urandom(32))
    session.wrap(metadata, data_key.raw)
    return session.sealed(file, carried.plain, metadata, data_key, target=target)
