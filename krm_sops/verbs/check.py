"""``krm-sops check``: files, folders or a stream, judged by the gate. It needs no key, and never says a value."""

from __future__ import annotations

import errno
import os
from fnmatch import fnmatchcase

from krm_sops import cli
from krm_sops.errors import ConfigError, KrmSopsError, PolicyError, shown
from krm_sops.gate import DECRYPTED, ENCRYPTED, EXPECTATIONS, Finding
from krm_sops.gate.judge import Gate, is_encrypted
from krm_sops.gate.texts import format_of
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import in_force
from krm_sops.roots import open_below, read_below, source_root
from krm_sops.rules import FILE_NAME, Rules
from krm_sops.selection import Selection
from krm_sops.verbs import function
from krm_sops.verbs.files import FileError
from krm_sops.verbs.flags import MANY, SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.reports import REPORTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.gate.walk import Reference
    from krm_sops.policy import Policy
    from krm_sops.verbs.flags import Arguments

HELP = """\
krm-sops check [PATH...|-]: say what must not stand in a repository, or in what is deployed. It needs no key.
PATH is a file or a folder, by default the working folder; - is stdin.

  --expect WHAT          encrypted (the default for a PATH): no plain Secret, no private key, nothing half encrypted,
                         and all that .sops.yaml wants encrypted is. decrypted (the default for -): no ciphertext
                         and no sops block left, no key of sops
  --allow-disabled       objects annotated krm-sops.dev/decrypt: disabled, or as Flux has it, may hold ciphertext
  --exclude GLOB         do not look at these files or folders; * matches / too; repeatable
  --format FORMAT        text (the default), json, or sarif for code scanning
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
        self._host = host
        self._policy = policy
        self._limits = policy.limits
        self._exclude = [glob.rstrip("/") for glob in exclude]
        self._roots: dict[str, str] = {}
        self._rules: dict[tuple[str, str], Rules | None] = {}

    def keep(self) -> None:
        self.findings += self.gate.findings
        self.files += self.gate.files

    def check(self, path: str) -> None:
        """One argument. Raises FileError where nothing is there."""
        if path == "-":
            self._stdin()
        elif os.path.isdir(path):
            for name in self._below(path):
                self._file(name)
        elif os.path.lexists(path):
            if not self._is_excluded(path):
                self._file(path)
        else:
            raise FileError(f"cannot operate on non-existent file {shown(path)}", 2)

    def _stdin(self) -> None:
        raw = cli.read_in(self._limits.input_bytes)
        if len(raw) > self._limits.input_bytes:
            self._tell("LimitExceeded", f"more than {self._limits.input_bytes} bytes (the limit input_bytes)", _STDIN)
        elif not raw.strip():
            # What failed before a pipe leaves nothing here, and a shell without pipefail would not tell.
            self._tell("InvalidDocument", "nothing came on stdin: did what is before the pipe fail?", _STDIN)
        else:
            self.gate.file(raw, _STDIN, format_="yaml")

    def _file(self, path: str) -> None:
        """A path below the working folder, or below another argument."""
        name = os.path.normpath(path)
        try:
            root, inner = self._place(path)
            raw = read_below(root, inner, self._limits.input_bytes)
        except OSError as error:
            if error.errno != errno.EFBIG:
                self._tell("InvalidDocument", f"cannot be read: {error.strerror}", name)
            elif format_of(name) == "binary":
                self.gate.marks(_pieces(root, inner), name)
            else:
                self._tell("LimitExceeded", f"more than {self._limits.input_bytes} bytes (the limit input_bytes)", name)
            return
        wanted = self._wanted(root, inner) if not self.gate.expects_plain else None
        for reference, line in self.gate.file(raw, name, wanted):
            if not self.gate.expects_plain:
                self._check_source(reference, line, name, root, os.path.dirname(inner))

    def _place(self, path: str) -> tuple[str, str]:
        """The root that nothing is read outside of, and the path from there."""
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        root = self._roots.get(folder)
        if root is None:
            here = source_root(self._host, self._policy)
            is_here = folder == here or folder.startswith(here.rstrip("/") + "/")
            root = self._roots[folder] = here if is_here else source_root(self._host, self._policy, folder)
        return root, os.path.relpath(os.path.join(folder, name), root)

    def _check_source(self, reference: Reference, line: int, name: str, root: str, folder: str) -> None:
        """A file that a secretGenerator makes a Secret of."""
        path = os.path.normpath(os.path.join(folder, reference.path))
        try:
            raw = read_below(root, path, self._limits.input_bytes)
            encrypted = is_encrypted(raw, reference.format_by, self._limits)
        except (OSError, KrmSopsError):
            return  # not there, or told when its turn comes
        if not encrypted:
            self._tell("PlainSecret", f"makes a Secret of {shown(path)}, which is not encrypted", name, line, "warning")

    def _wanted(self, root: str, path: str) -> Selection | None:
        """What the nearest `.sops.yaml`, from the file's folder upwards to the root, wants encrypted in a file."""
        folder, name = os.path.split(path)
        if name == FILE_NAME:
            return None
        while True:
            rules = self._rules_of(root, folder)
            if rules is not None:
                break
            if not folder:
                return None
            folder = os.path.dirname(folder)
        try:
            fields = rules.wanted(os.path.join(root, path))
            return None if fields is None else Selection.from_fields(fields)
        except KrmSopsError as error:
            self._tell_once("InvalidDocument", error.message, rules.path)
        return None

    def _rules_of(self, root: str, folder: str) -> Rules | None:
        """The `.sops.yaml` of one folder."""
        if (root, folder) not in self._rules:
            self._rules[root, folder] = self._read_rules(root, folder)
        return self._rules[root, folder]

    def _read_rules(self, root: str, folder: str) -> Rules | None:
        path = os.path.join(folder, FILE_NAME)
        try:
            raw = read_below(root, path, self._limits.document_bytes)
        except (OSError, PolicyError):
            return None
        name = os.path.relpath(os.path.join(root, path))
        try:
            return Rules(raw, name, os.path.join(root, folder).rstrip("/"))
        except ConfigError as error:
            self._tell_once("InvalidDocument", error.message, name)
        return None

    def _tell(self, rule: str, message: str, file: str, line: int = 0, severity: str = "error") -> None:
        finding = Finding(rule, message, severity=severity)
        finding.file, finding.line = file, line
        self.gate.findings.append(finding)

    def _tell_once(self, rule: str, message: str, file: str) -> None:
        if not any((found.rule, found.file) == (rule, file) for found in [*self.findings, *self.gate.findings]):
            self._tell(rule, message, file)

    def _is_excluded(self, path: str) -> bool:
        """Whether a glob is for it, or for a folder that it is in: by its path or by its name alone."""
        at = os.path.normpath(path)
        while at not in ("", "/"):
            if any(fnmatchcase(at, glob) or fnmatchcase(os.path.basename(at), glob) for glob in self._exclude):
                return True
            at = os.path.dirname(at)
        return False

    def _below(self, folder: str) -> Iterator[str]:
        """The regular files below a folder, in order. A link's target has its own turn, or is none of this folder's."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._tell("InvalidDocument", f"a folder that cannot be listed: {error.strerror}", os.path.normpath(folder))
            return
        for entry in entries:
            if self._is_excluded(entry.path):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".git":
                    yield from self._below(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


def _pieces(root: str, path: str) -> Iterator[bytes]:
    """A large file in pieces that overlap by more than a key takes to be known."""
    end = b""
    with open(open_below(root, path, os.O_RDONLY), "rb") as file:
        while piece := file.read(_PIECE):
            yield end + piece
            end = piece[-_OVERLAP:]
