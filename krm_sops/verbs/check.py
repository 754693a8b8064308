"""``krm-sops check``: files, folders or a stream, judged by the gate. It needs no key, and never says a value."""

from __future__ import annotations

import errno
import os

from krm_sops import cli
from krm_sops.errors import KrmSopsError, shown
from krm_sops.gate import DECRYPTED, ENCRYPTED, EXPECTATIONS, Finding
from krm_sops.gate.judge import Gate, is_encrypted
from krm_sops.gate.texts import format_of
from krm_sops.gate.walk import PATCH, SOURCE
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import in_force
from krm_sops.roots import open_below, read_below
from krm_sops.selection import Selection
from krm_sops.verbs import function
from krm_sops.verbs.flags import MANY, SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.reports import REPORTS
from krm_sops.verbs.sources import EXCLUDE_HELP, Sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.gate.walk import Reference
    from krm_sops.policy import Policy
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops check [PATH...|-]: say what must not stand in a repository, or in what is deployed. It needs no key.
PATH is a file or a folder, by default the working folder; - is stdin.

  --expect WHAT          encrypted (the default for a PATH): no plain Secret, no private key, nothing half encrypted,
                         and all that .sops.yaml wants encrypted is. decrypted (the default for -): no ciphertext
                         and no sops block left, no key of sops
  --allow-disabled       objects annotated krm-sops.dev/decrypt: disabled, or as Flux has it, may hold ciphertext
{EXCLUDE_HELP}  --format FORMAT        text (the default), json, or sarif for code scanning
  --strict               warnings count as errors
  --limit NAME=NUMBER    a limit of the function: input_bytes, depth, run_nodes, run_seconds and the like; repeatable

Exits 0 where nothing was found, 1 with findings, one line each: FILE:LINE: RULE: what and where.

Example:
  kustomize build --enable-alpha-plugins --enable-exec . | krm-sops check -
"""
FLAGS = {
    "expect": VALUE,
    "allow-disabled": SWITCH,
    "exclude": MANY,
    "format": VALUE,
    "strict": SWITCH,
    "limit": MANY,
    "help": SWITCH,
}
_STDIN = "stdin"
_PIECE, _OVERLAP = 1 << 20, 1 << 10


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"h": "help"})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    expect = _choice(given, "expect", ("", *EXPECTATIONS))
    report = REPORTS[_choice(given, "format", tuple(REPORTS), "text")]
    host = Host(set_alarm=cli.limit_time)
    policy = in_force(host, FUNCTION, function.read(given))
    policy.apply_to(host)
    checker = _Checker(host, policy, given.many("exclude"))
    for path in given.names or ["."]:
        default = DECRYPTED if path == "-" else ENCRYPTED
        checker.gate = Gate(expect or default, policy.limits, allow_disabled=given.on("allow-disabled"))
        checker.check(path)
        checker.keep()
    checker.gate = Gate(expect or ENCRYPTED, policy.limits, allow_disabled=given.on("allow-disabled"))
    checker.check_manifests()
    checker.keep()
    if given.on("strict"):
        for finding in checker.findings:
            finding.severity = "error"
    status = cli.write_out(report(checker.findings, checker.files).encode("utf-8", "backslashreplace"))
    errors = sum(finding.severity == "error" for finding in checker.findings)
    if errors and not status:
        cli.say(f"error: {errors} {'finding' if errors == 1 else 'findings'}")
    return status or int(errors > 0)


def _choice(given: Arguments, flag: str, choices: tuple[str, ...], default: str = "") -> str:
    value = given.text(flag, default)
    if value not in choices:
        raise UsageError(f"--{flag} is one of {', '.join(filter(None, choices))}, not {shown(value, 60)!r}")
    return value


class _Checker:
    """files: how many were looked at."""

    def __init__(self, host: Host, policy: Policy, exclude: list[str]) -> None:
        self.gate = Gate(ENCRYPTED, policy.limits)
        self.findings: list[Finding] = []
        self.files = 0
        self._limits = policy.limits
        self._sources = Sources(host, policy, exclude, self._tell_invalid)
        self._names: dict[tuple[str, str], str] = {}
        self._uses: dict[tuple[str, str], set[str]] = {}

    def keep(self) -> None:
        self.findings += self.gate.findings
        self.files += self.gate.files

    def check(self, path: str) -> None:
        """One argument. Raises FileError where nothing is there."""
        if path == "-":
            self._stdin()
        else:
            for name in self._sources.files(path):
                self._file(name)

    def _stdin(self) -> None:
        raw = cli.read_in(self._limits.input_bytes)
        if len(raw) > self._limits.input_bytes:
            self._tell("LimitExceeded", f"more than {self._limits.input_bytes} bytes (the limit input_bytes)", _STDIN)
            return
        # What failed before a pipe leaves nothing here, and a shell without pipefail would not tell.
        if not raw.strip():
            self._tell("InvalidDocument", "nothing came on stdin: did what is before the pipe fail?", _STDIN)
            return
        self.gate.file(raw, _STDIN, format_="yaml")
        if not self.gate.documents and not self.gate.findings:
            self._tell("InvalidDocument", "no document came on stdin: did what is before the pipe fail?", _STDIN)

    def _file(self, path: str) -> None:
        """A path below the working folder, or below another argument."""
        name = os.path.normpath(path)
        try:
            root, inner = self._sources.place(path)
            raw = read_below(root, inner, self._limits.input_bytes)
        except OSError as error:
            if error.errno != errno.EFBIG:
                self._tell("InvalidDocument", f"cannot be read: {error.strerror}", name)
            elif format_of(name) == "binary":
                self.gate.marks(_pieces(root, inner), name)
            else:
                self._tell("LimitExceeded", f"more than {self._limits.input_bytes} bytes (the limit input_bytes)", name)
            return
        self._names[root, inner] = name
        for reference, line in self.gate.file(raw, name, self._wanted(root, inner)):
            path = os.path.normpath(os.path.join(os.path.dirname(inner), reference.path))
            if reference.use != SOURCE:
                self._uses.setdefault((root, path), set()).add(reference.use)
            elif not self.gate.expects_plain:
                self._check_source(reference, line, name, root, path)

    def check_manifests(self) -> None:
        """Look again at files that a kustomization reads, where that tells more about them than their names did."""
        for place, uses in self._uses.items():
            name = self._names.get(place)
            if name is None or (PATCH not in uses and format_of(name) in ("yaml", "json")):
                continue
            try:
                raw = read_below(*place, self._limits.input_bytes)
            except OSError as error:
                self._tell("InvalidDocument", f"cannot be read: {error.strerror}", name)
                continue
            self.findings = [finding for finding in self.findings if finding.file != name]
            self.files -= 1
            self.gate.file(raw, name, self._wanted(*place), format_="yaml", in_patch=PATCH in uses)

    def _check_source(self, reference: Reference, line: int, name: str, root: str, path: str) -> None:
        """A file that a secretGenerator makes a Secret of."""
        try:
            raw = read_below(root, path, self._limits.input_bytes)
            encrypted = is_encrypted(raw, reference.format_by, self._limits)
        except (OSError, KrmSopsError):
            return  # not there, or told when its turn comes
        if not encrypted:
            self._tell("PlainSecret", f"makes a Secret of {shown(path)}, which is not encrypted", name, line, "warning")

    def _wanted(self, root: str, path: str) -> Selection | None:
        """What `.sops.yaml` wants encrypted in a file."""
        if self.gate.expects_plain:
            return None
        rules = self._sources.rules_for(root, path)
        if rules is None:
            return None
        try:
            fields = rules.wanted(os.path.join(root, path))
            return None if fields is None else Selection.from_fields(fields)
        except KrmSopsError as error:
            self._tell_invalid(error.message, rules.path)
        return None

    def _tell(self, rule: str, message: str, file: str, line: int = 0, severity: str = "error") -> None:
        finding = Finding(rule, message, severity=severity)
        finding.file, finding.line = file, line
        self.gate.findings.append(finding)

    def _tell_invalid(self, message: str, file: str) -> None:
        """Once a file."""
        known = [*self.findings, *self.gate.findings]
        if not any((found.rule, found.file) == ("InvalidDocument", file) for found in known):
            self._tell("InvalidDocument", message, file)


def _pieces(root: str, path: str) -> Iterator[bytes]:
    """A large file in pieces that overlap by more than a key takes to be known."""
    end = b""
    with open(open_below(root, path, os.O_RDONLY), "rb") as file:
        while piece := file.read(_PIECE):
            yield end + piece
            end = piece[-_OVERLAP:]
