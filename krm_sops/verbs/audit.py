"""``krm-sops audit``: who can open what, how old it is, and where it differs from the creation rules.

Keys are needed for the MACs only. Values are never told, and never decrypted but for their MAC.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta

from krm_sops import cli
from krm_sops.audit import documents
from krm_sops.audit.documents import Document, Recipient
from krm_sops.audit.names import names
from krm_sops.errors import ConfigError, DataKeyError, KrmSopsError, PolicyError, shown
from krm_sops.gate import ENCRYPTED
from krm_sops.gate.judge import Gate
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import Flags, in_force
from krm_sops.recipients import drift
from krm_sops.roots import read_below, source_root
from krm_sops.rules import NoMatchingRule
from krm_sops.verbs import keys
from krm_sops.verbs.audit_reports import REPORTS, Audited, Report
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, MANY, SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.function import read_limits
from krm_sops.verbs.sources import EXCLUDE_HELP, Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.policy import Policy
    from krm_sops.rules import Rules
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops audit [PATH...]: say who can open which encrypted files, how old their data keys are at least, which of them
no creation rule covers, and what they differ in from their rule. PATH is a file or folder, by default the working
folder. It needs no key, and never says a value.

  --recipient X          instead: what X can open, value by value. X: a recipient, fingerprint or ARN as in sops
                         blocks, or its name in .sops.yaml: an anchor, or a comment beside it; repeatable
  --history              with --recipient: all that X could ever open, from the whole history of the repository PATH
  --mac                  check the MACs, too, of what the keys at hand open
  --fail-on LIST         exit with 1 where something of this comma list was found: drift, uncovered, weak (a rule that
                         leaves secret values plain), mac, age=365d (in days). What cannot be read counts with any
{EXCLUDE_HELP}\
  --format FORMAT        text (the default) or json
  --limit NAME=NUMBER    a limit of the function: input_bytes, depth and the like; repeatable
{KEY_HELP}{keys.SERVICE_HELP}
Example:
  krm-sops audit --fail-on drift,uncovered,weak,age=365d
"""
FLAGS = {
    "recipient": MANY,
    "history": SWITCH,
    "mac": SWITCH,
    "fail-on": VALUE,
    "exclude": MANY,
    "format": VALUE,
    "limit": MANY,
    "help": SWITCH,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}
KINDS = ("drift", "uncovered", "weak", "mac", "age")
_AGE = re.compile(r"age=([0-9]{1,5})d")


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    fail_on, oldest = _fail_on(given.text("fail-on"))
    name = given.text("format", "text")
    if name not in REPORTS:
        raise UsageError(f"--format is one of {', '.join(REPORTS)}, not {shown(name, 60)!r}")
    if given.on("history") and not given.given("recipient"):
        raise UsageError("--history needs --recipient", hint="it says what somebody could ever open")
    if given.given("recipient") and (fail_on or given.on("mac")):
        raise UsageError("--recipient lists values; --mac and --fail-on are about files", hint="run audit twice")
    if "mac" in fail_on and not given.on("mac"):
        raise UsageError("--fail-on mac needs --mac", hint="and the keys that open the files")
    host = Host()
    flags = Flags()
    flags.limits = read_limits(given)
    policy = in_force(host, FUNCTION, flags)
    policy.apply_to(host)
    audit = _Audit(host, policy, given, oldest)
    for path in given.names or ["."]:
        audit.run(path)
    audit.choose()
    report = audit.report
    status = cli.write_out(REPORTS[name](report).encode("utf-8", "backslashreplace"))
    failed = sum(finding.kind in fail_on for finding in report.findings)
    if failed and not status:
        cli.say(f"error: {failed} {'finding' if failed == 1 else 'findings'} of --fail-on")
    return status or int(failed > 0)


def _fail_on(text: str) -> tuple[set[str], timedelta | None]:
    """What leads to exit status 1, and how old a data key may be. Raises UsageError."""
    found = {"invalid"} if text else set()
    oldest = None
    for word in filter(None, (part.strip() for part in text.split(","))):
        age = _AGE.fullmatch(word)
        if age:
            oldest = timedelta(days=int(age[1]))
        elif word not in KINDS or word == "age":
            raise UsageError(f"--fail-on is a comma list of {', '.join(KINDS)}=365d, not {shown(word, 60)!r}")
        found.add("age" if age else word)
    return found, oldest


class _Audit:
    def __init__(self, host: Host, policy: Policy, given: Arguments, oldest: timedelta | None) -> None:
        """Raises KrmSopsError."""
        self.report = Report()
        self._host = host
        self._policy = policy
        self._limits = policy.limits
        self._given = given
        self._oldest = oldest
        self._now = datetime.now(UTC)
        self._sources = Sources(host, policy, given.many("exclude"), self._tell_invalid)
        self._named: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        self._credentials: Credentials | None = None
        if given.on("mac"):
            warnings: list[str] = []
            self._credentials = keys.credentials(given, warnings)
            for warning in warnings:
                cli.say(f"warning: {warning}")

    def run(self, path: str) -> None:
        """One argument. Raises KrmSopsError."""
        if self._given.on("history"):
            path = self._add_history(path)
        for name in self._sources.files(path):
            self._file(name)

    def _tell_invalid(self, message: str, file: str) -> None:
        self.report.find("invalid", file, message)

    def _file(self, path: str) -> None:
        name = os.path.normpath(path)
        try:
            root, inner = self._sources.place(path)
            if (root, inner) in self._seen:
                return
            self._seen.add((root, inner))
            raw = read_below(root, inner, self._limits.input_bytes)
        except (OSError, PolicyError) as error:
            self._tell_invalid(f"cannot be read: {getattr(error, 'strerror', None) or error}", name)
            return
        found, problems = documents.read(raw, name, self._limits)
        for problem in problems:
            self._tell_invalid(problem, name)
        if not found:
            return
        rules = self._sources.rules_for(root, inner)
        self._take_names(root, rules)
        judges = not self._given.given("recipient")
        if judges:
            self._find_weak(raw, name)
        for document in found:
            audited = Audited(document, rules.path if rules is not None else "")
            self.report.documents.append(audited)
            if not judges:
                continue
            self._compare(audited, rules, os.path.join(root, inner))
            self._judge_age(document)
            self._judge_mac(audited)

    def _take_names(self, root: str, rules: Rules | None) -> None:
        if rules is not None and rules.path not in self._named:
            self._named.add(rules.path)
            path = os.path.relpath(os.path.realpath(rules.path), root)
            try:
                self.report.names |= names(read_below(root, path, self._limits.document_bytes))
            except (OSError, PolicyError):
                pass

    def _compare(self, audited: Audited, rules: Rules | None, path: str) -> None:
        document = audited.document
        try:
            rule = rules.rule_for(path) if rules is not None else None
            if rule is None:
                self.report.find("uncovered", document.file, "no .sops.yaml with creation rules is above it")
                return
            audited.is_covered = True
            audited.drift = drift(document.metadata, rule, document.format)
        except NoMatchingRule:
            what = f"none of the creation rules of {shown(audited.rules)} is for it"
            self.report.find("uncovered", document.file, what)
        except ConfigError as error:
            self._tell_invalid(
                f"its creation rule in {shown(audited.rules)} cannot be used: {error.message}", document.file
            )
        for what in audited.drift:
            self.report.find("drift", document.file, self.report.with_names(what))

    def _find_weak(self, raw: bytes, name: str) -> None:
        gate = Gate(ENCRYPTED, self._limits)
        gate.file(raw, name)
        for finding in gate.findings:
            if finding.rule == "WeakSelection":
                self.report.find("weak", name, finding.line_text())

    def _judge_age(self, document: Document) -> None:
        days = (self._now - document.key_since).days
        if self._oldest is not None and self._now - document.key_since > self._oldest:
            self.report.find("age", document.file, f"its data key is {days} days old, or older")

    def _judge_mac(self, audited: Audited) -> None:
        document = audited.document
        if self._credentials is None:
            return
        from krm_sops.datakey import recover

        warnings: list[str] = []
        asked = document.metadata.with_mac(document.metadata.mac, document.metadata.lastmodified)
        try:
            keys.serve(asked, self._given, warnings)
            document.verify(recover(asked, self._credentials))
            audited.mac = "holds"
        except DataKeyError:
            audited.mac = "unknown"
        except KrmSopsError as error:
            audited.mac = "broken"
            where = ".".join(shown(part, 80) for part in error.path)
            self.report.find("mac", document.file, f"{where}: {error.message}" if where else error.message)

    # What somebody can open, or could

    def choose(self) -> None:
        """The values that each --recipient can open, or could."""
        from krm_sops.audit.history import ever_open

        report = self.report
        current = [audited.document for audited in report.documents]
        for wanted in self._given.many("recipient"):
            recipient = Recipient(wanted, report.names)
            found = [*report.history, *((None, document) for document in current)]
            values = ever_open(found, current, recipient)
            report.values[wanted] = values
            if not any(recipient.opens(document) for _, document in found):
                words = "is, or was," if report.history else "is"
                cli.say(
                    f"warning: nothing {words} encrypted for {shown(wanted, 80)}: is it spelled as in a sops block?"
                )

    def _add_history(self, path: str) -> str:
        """All that the repository of a path ever held; its top folder, from here."""
        from krm_sops.audit.gitobjects import GitObjects
        from krm_sops.audit.history import History

        root = source_root(self._host, self._policy, path if os.path.isdir(path) else os.path.dirname(path) or ".")
        objects = GitObjects(root, self._host)
        if objects.is_shallow:
            cli.say("warning: this is a shallow clone, whose history is cut off: git fetch --unshallow")
        history = History(objects, self._limits)
        top = os.path.relpath(root)
        for revision, document in history.documents:
            document.file = os.path.normpath(os.path.join(top, document.file))
            self.report.history.append((revision, document))
        self.report.names = {**history.names, **self.report.names}
        for problem in history.problems:
            cli.say(f"warning: {shown(problem, 300)}")
        return top
