"""``krm-sops updatekeys``: the keys of a file as its creation rule says; with --rotate also a new data key.

Differs from sops:
- Folders and patterns are taken. There the number of key groups that open a file comes from the rule as well, and where
  the rule says otherwise what is encrypted, that is an error (S16); for a single file, both are told.
- A rule that leaves the version of an Azure key open is content with any version of it.
Source: getsops/sops 3.13, cmd/sops/subcommand/updatekeys/updatekeys.go.
"""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.errors import ConfigError, KrmSopsError, shown
from krm_sops.recipients import RecipientDrift, differences, selection_drift, told
from krm_sops.verbs import batch, change, files
from krm_sops.verbs.flags import SWITCH, UsageError, parse
from krm_sops.verbs.rotate import rotated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.metadata import Metadata
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops updatekeys PATH...: wrap the data key of encrypted files for the keys that their creation rules in .sops.yaml
name now. Of folders, every encrypted file below. Values stay as they are, and so does what is in step.

  -y, --yes              do it without asking
  --rotate               also take a new data key and encrypt all values again, in step or not: after a key leaked
{batch.HELP}{change.OPEN_HELP}
Example:
  krm-sops updatekeys --yes clusters/
"""
FLAGS = {"yes": SWITCH, "rotate": SWITCH, **batch.FLAGS, **change.OPEN_FLAGS}


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"y": "yes", "h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    session = change.Session(given)
    if session.rules is None:
        raise ConfigError("config file not found", hint="write a .sops.yaml with creation_rules, or name one: --config")
    if not given.names:
        raise UsageError("no file specified", exit_status=100)
    if not batch.is_many(given):
        return _one(session, given.names[0])
    if not given.on("yes"):
        return _asked(session, given)
    return batch.run(
        session,
        lambda file: _outcome(session, file, _Plan(session, file, strict=True)),
        "failed updating {} key(s)",
        renews=given.on("rotate"),
    )


def _asked(session: change.Session, given: Arguments) -> int:
    """Many files, each shown and asked for."""

    def work(file: change.EncryptedFile) -> batch.Outcome:
        plan = _Plan(session, file, strict=True)
        if plan.is_needed and not _is_confirmed(plan):
            return batch.Outcome("left unchanged")
        plan.text = ""
        return _outcome(session, file, plan)

    return batch.run(session, work, "failed updating {} key(s)", renews=given.on("rotate"), one_by_one=True)


def _outcome(session: change.Session, file: change.EncryptedFile, plan: _Plan) -> batch.Outcome:
    if not plan.is_needed:
        return batch.Outcome("already up to date")
    head = f"{files.named(file.path)}: " if plan.text else ""
    return batch.Outcome("synced with new keys", plan.carried_out(session, file), head + plan.text)


def _one(session: change.Session, path: str) -> int:
    name = files.named(session.absolute(path))
    cli.say(f"Syncing keys for file {name}")
    if not os.path.exists(path):
        raise files.FileError(f"cannot operate on non-existent file {shown(path)!r}", 1)
    file = session.read(path)
    plan = _Plan(session, file, strict=False)
    if not plan.is_needed:
        cli.say(f"File {name} already up to date")
        return 0
    if session.given.on("yes"):
        cli.write_out(plan.text.encode())
    elif not _is_confirmed(plan):
        cli.say(f"File {name} left unchanged")
        return 0
    files.write(path, plan.carried_out(session, file))
    cli.say(f"File {name} synced with new keys")
    return 0


class _Plan:
    """What is to become of one file.  text: as sops prints it."""

    def __init__(self, session: change.Session, file: change.EncryptedFile, *, strict: bool) -> None:
        """strict: the rule's threshold counts, and another selection is an error.

        Raises ConfigError (no rule, or a bad one), RecipientDrift.
        """
        assert session.rules is not None
        rule = session.rules.rule_for(session.absolute(file.path))
        if rule is None:
            raise ConfigError(f"The config file {shown(session.rules.path)} does not contain any creation rule")
        found = selection_drift(file.metadata, rule, file.source)
        if found and strict:
            hint = "decrypt it and encrypt it again, or change the rule"
            raise RecipientDrift(f"it differs from its creation rule: {'; '.join(found)}", hint=hint)
        before = file.metadata.threshold
        groups = len(rule.key_groups)
        threshold = min(before, groups)
        if strict:
            threshold = (rule.threshold or groups) if groups > 1 else threshold
        elif groups > 1 and (threshold or groups) != (rule.threshold or groups):
            what = f"{threshold or groups} of its key groups open it, not {rule.threshold or groups}"
            found = [*found, f"{what}: `groups` and `rotate` keep that number, a folder's updatekeys takes the rule's"]
        for what in found:
            session.warn(f"{files.named(file.path)} differs from its creation rule: {what}")
        changes = differences(file.metadata.key_groups, rule.key_groups)
        self.rotates = session.given.on("rotate")
        self.changes_keys = before != threshold or any(change.added or change.removed for change in changes)
        self.metadata: Metadata = change.copied(file.metadata)
        self.metadata.threshold = threshold
        if self.changes_keys:
            self.metadata.key_groups = rule.key_groups
        self.text = ""
        if self.changes_keys:
            self.text = "The following changes will be made to the file's groups:\n" + told(changes, before, threshold)
        if self.rotates:
            self.text += "All values will be encrypted again with a new data key\n"

    @property
    def is_needed(self) -> bool:
        return self.changes_keys or self.rotates

    def carried_out(self, session: change.Session, file: change.EncryptedFile) -> bytes:
        if self.rotates:
            return rotated(session, file, self.metadata, target=file.path)
        data_key = session.data_key(file.metadata)
        return session.rewrapped(file, self.metadata, data_key)


def _is_confirmed(plan: _Plan) -> bool:
    """Raises KrmSopsError where nobody answers."""
    cli.write_out(plan.text.encode())
    while True:
        cli.write_out(b"Is this okay? (y/n):")
        answer = cli.read_line()
        if not answer:
            raise KrmSopsError("nobody said whether this is okay", hint="--yes says so beforehand")
        if answer.strip() in (b"y", b"n"):
            return answer.strip() == b"y"
