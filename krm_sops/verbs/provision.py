"""``krm-sops provision``: secrets from where a specification says that they come from, in clear or encrypted at once.

What is there already in the file stays; only what is missing, or to be renewed, is made. Keys and file are looked at
before the first source runs, and nothing is written before the last one has: a value is never on disk in clear.
"""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.cipher import DataKey
from krm_sops.errors import ConfigError, KrmSopsError, NoMetadata, shown
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.limits import FUNCTION
from krm_sops.policy import in_force
from krm_sops.provision.base import Run
from krm_sops.provision.plan import KEEP, steps, without_source
from krm_sops.provision.spec import Specification, slashed, sops_nix
from krm_sops.recipients import differences
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import Branch
from krm_sops.verbs import change, creation, files, keys, treepath
from krm_sops.verbs.flags import KEY_FLAGS, KEY_HELP, MANY, SWITCH, VALUE, UsageError, parse
from krm_sops.verbs.set import with_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.encryption import Carried
    from krm_sops.metadata import Metadata
    from krm_sops.provision.plan import Step
    from krm_sops.verbs.flags import Arguments

HELP = f"""\
krm-sops provision SPEC: make the secrets that a specification (of opsops, or with more source types) names, and write
them in clear to stdout; with a recipient or a file name, encrypted. Never in clear to a file.
krm-sops provision normalize SPEC: write the specification with all defaults, as opsops does.
krm-sops provision snippet sops-nix SPEC: write the lines for sops.secrets of a NixOS configuration.

SPEC names programs that are started: read it before.

  -i, --input SPEC       SPEC, as opsops takes it; - is stdin
  -o, --output FILE      encrypt into FILE, by flags or by the creation rule for this name. Where it exists, it keeps
                         its keys and all values that it has; nothing is written where none is missing
  --renew PATH           make the secret at this path anew, or all below it; repeatable. PATH is a/b, or ["a"]["b"]
  --filename-override F  encrypt to stdout, by the creation rule for this name
  --list                 say for each secret where it comes from, and what in FILE has no source; starts nothing
  --dry-run              say for each secret whether its source would run: make, keep or renew; starts nothing
  --format FORMAT        of these two: table (the default) or json
  --prefix NAME          of the paths in a snippet
  --pass-env NAME        let programs see this variable, too; NAME* is all that begin so; repeatable
  --show-stderr          let through what programs say on stderr, which may be a secret
  --output-type FORMAT   yaml, json, dotenv or ini, whatever FILE's name says
  --indent N             spaces a level. Default: that of .sops.yaml; 2 in clear
  --decryption-order L   key types to try first, as a comma list; also SOPS_DECRYPTION_ORDER. Default: age,pgp
{creation.HELP}{KEY_HELP}{keys.SERVICE_HELP}
Example:
  krm-sops provision --age age1… -o secrets.enc.yaml secrets.spec.yaml
"""
FLAGS = {
    "output": VALUE,
    "input": VALUE,
    "renew": MANY,
    "filename-override": VALUE,
    "list": SWITCH,
    "dry-run": SWITCH,
    "format": VALUE,
    "prefix": VALUE,
    "pass-env": MANY,
    "show-stderr": SWITCH,
    "output-type": VALUE,
    "indent": VALUE,
    "decryption-order": VALUE,
    "help": SWITCH,
    **creation.FLAGS,
    **KEY_FLAGS,
    **keys.SERVICE_FLAGS,
}
_CLEAR_INDENT = 2
_SUFFIXES = {"yaml": "yaml", "json": "json", "dotenv": "env", "ini": "ini"}
"""The formats that have keys, and a file name suffix of each."""
_HELP_HINT = "see krm-sops provision --help"


def main(arguments: list[str]) -> int:
    given = parse(arguments, FLAGS, {"o": "output", "i": "input", "h": "help", **creation.ALIASES})
    if given.on("help"):
        return cli.write_out(HELP.encode())
    names = list(given.names)
    verb = names.pop(0) if names and names[0] in ("normalize", "snippet") else ""
    if verb == "snippet" and (not names or names.pop(0) != "sops-nix"):
        raise UsageError("there is one snippet, sops-nix", hint=_HELP_HINT)
    _check(given, verb)
    path = _one(names, given)
    specification = Specification(files.read(path))
    for line in specification.ignored:
        cli.say(f"warning: {line}")
    if verb == "normalize":
        return cli.write_out(STORES["yaml"].write_plain([specification.canonical()], _CLEAR_INDENT))
    if verb == "snippet":
        return cli.write_out(sops_nix(specification.secrets, given.text("prefix")).encode())
    return _Provision(given, path, specification).run()


def _one(names: list[str], given: Arguments) -> str:
    """The specification's name. Raises UsageError."""
    found = [*names, *([given.text("input")] if given.given("input") else [])]
    if len(found) != 1 or not found[0]:
        raise UsageError("one specification is needed", hint=_HELP_HINT, exit_status=100)
    return found[0]


def _check(given: Arguments, verb: str) -> None:
    """Raises UsageError."""
    target = given.text("output")
    if given.given("output") and (not target or target == "-"):
        raise UsageError("--output needs a file; to encrypt to stdout, name recipients, or --filename-override")
    if given.given("renew") and not target:
        raise UsageError("--renew needs --output: there is nothing to keep otherwise")
    if given.given("prefix") and verb != "snippet":
        raise UsageError("--prefix is for the snippet")
    if given.on("list") and given.on("dry-run"):
        raise UsageError("cannot use both --list and --dry-run")
    if given.given("format") and given.text("format") not in ("table", "json"):
        raise UsageError("--format is one of table, json")
    if given.given("output-type") and given.text("output-type") not in _SUFFIXES:
        raise UsageError(f"--output-type is one of {', '.join(_SUFFIXES)}")


class _Provision:
    def __init__(self, given: Arguments, path: str, specification: Specification) -> None:
        self._given = given
        self._folder = os.path.dirname(path) if path != "-" else ""
        self._specification = specification
        self._target = given.text("output")
        name = self._target or given.text("filename-override")
        self._name = name or path
        self._format = given.text("output-type") or (format_for_path(name) if name else "yaml")
        if self._format not in _SUFFIXES:
            what = f"{shown(name)} would be one value, not a tree of them"
            raise UsageError(what, hint="name it .yaml, .json, .env or .ini, or say --output-type")
        self._session_made: change.Session | None = None
        self._opened: dict[str, Branch] = {}

    @property
    def _session(self) -> change.Session:
        """Made when first needed: in clear, neither keys nor creation rules count."""
        if self._session_made is None:
            self._session_made = change.Session(self._given)
        return self._session_made

    def run(self) -> int:
        renewed = [_path(text) for text in self._given.many("renew")]
        file = self._existing()
        before = file.branches[0] if file is not None else Branch()
        planned = steps(self._specification.secrets, before, renewed)
        if self._given.on("list") or self._given.on("dry-run"):
            return self._tell(planned, before)
        if file is not None or self._is_encrypted():
            self._refuse_reserved()
            return self._new(planned) if file is None else self._complete(file, planned)
        tree = self._filled(Branch(), planned)
        indent = creation.integer(self._given, "indent")
        indent = _CLEAR_INDENT if indent is None and self._format == "yaml" else indent
        return cli.write_out(STORES[self._format].write_plain([tree], indent))

    def _is_encrypted(self) -> bool:
        flags = ("output", "filename-override", *(KEY_TYPES[section].flag for section in KEY_TYPES))
        return any(self._given.given(flag) for flag in flags)

    def _refuse_reserved(self) -> None:
        """Before anything runs. Raises ConfigError."""
        for key in self._specification.nodes:
            if STORES[self._format].is_reserved(key):
                raise ConfigError(f"the key {shown(key, 60)} at the top is kept for sops' metadata", hint="rename it")

    def _existing(self) -> change.EncryptedFile | None:
        if not self._target or not os.path.lexists(self._target):
            return None
        try:
            return self._session.read(self._target, name=f"x.{_SUFFIXES[self._format]}")
        except NoMetadata:
            what = f"{shown(self._target)} is there, and not encrypted"
            raise ConfigError(what, hint="encrypt it first, or name another file") from None

    def _complete(self, file: change.EncryptedFile, planned: Sequence[Step]) -> int:
        """Add to a file what it does not have. The data key and everything else stay."""
        if self._is_told_other_keys(file):
            cli.say(f"warning: {files.named(file.path)} keeps the keys that it has; `updatekeys` changes them")
        if all(step.action == KEEP for step in planned):
            return 0
        self._must_be_writable()
        data_key, carried = self._session.open(file)
        first, *others = carried.plain
        self._write(file, [self._filled(first, planned), *others], data_key, carried)
        return 0

    def _is_told_other_keys(self, file: change.EncryptedFile) -> bool:
        if not any(self._given.given(KEY_TYPES[section].flag) for section in KEY_TYPES):
            return False
        found = differences(file.metadata.key_groups, self._metadata().key_groups)
        return any(group.added or group.removed for group in found)

    def _metadata(self) -> Metadata:
        """Of a new file. Raises ConfigError, UsageError, MetadataError."""
        session = self._session
        name = session.absolute(self._name)
        return creation.metadata_for(self._given, session.rules, name, session.host, session.warn)

    def _new(self, planned: Sequence[Step]) -> int:
        if not planned:
            raise ConfigError("the specification has no secret")
        if self._target:
            self._must_be_writable()
        metadata = self._metadata()
        data_key = os.urandom(32)
        self._session.wrap(metadata, data_key)
        file = change.EncryptedFile(self._target, self._format, self._format, [], metadata)
        self._write(file, [self._filled(Branch(), planned)], DataKey(data_key))
        return 0

    def _must_be_writable(self) -> None:
        """Raises FileError: what sources made, and cannot be made again, must not be lost."""
        files.refuse_unwritable(self._target)

    def _write(
        self,
        file: change.EncryptedFile,
        branches: list[Branch],
        data_key: DataKey,
        carried: Carried | None = None,
    ) -> None:
        raw = self._session.sealed(file, branches, file.metadata, data_key, carried=carried)
        if self._target:
            files.write(self._target, raw)
        elif cli.write_out(raw):
            raise files.FileError("the output is not complete", 1)

    def _filled(self, tree: Branch, planned: Sequence[Step]) -> Branch:
        """The tree with the values of all sources that run. Raises KrmSopsError with the secret's path."""
        run = self._sources()
        for step in planned:
            if step.action == KEEP:
                continue
            secret = step.secret
            try:
                value = secret.source.make(run, secret.path)
            except KrmSopsError as error:
                error.args = (f"{slashed(secret.path)} ({secret.type}): {error.message}",)
                raise
            if value == "":
                cli.say(f"warning: {slashed(secret.path)} ({secret.type}): the value is empty")
            whole = with_value(tree, list(secret.path), value)
            assert isinstance(whole, Branch)
            tree = whole
        return tree

    def _sources(self) -> Run:
        host = Host(commands=True)
        in_force(host, FUNCTION).apply_to(host)
        given = self._given
        passed, shows = given.many("pass-env"), given.on("show-stderr")
        return Run(host, self._folder, self._decrypted, passed=passed, show_stderr=shows)

    def _decrypted(self, path: str) -> Branch:
        if path not in self._opened:
            _, carried = self._session.open(self._session.read(path))
            self._opened[path] = carried.plain[0]
        return self._opened[path]

    def _tell(self, planned: Sequence[Step], before: Branch) -> int:
        with_actions = bool(self._target) or self._given.on("dry-run")
        loose = without_source(self._specification.secrets, before)
        if self._given.text("format") == "json":
            return cli.write_out(_as_json(planned, loose, with_actions).encode())
        return cli.write_out(_table(planned, loose, with_actions).encode())


def _path(text: str) -> tuple[str, ...]:
    """Raises PathError, UsageError."""
    steps = treepath.parse(text) if text.startswith("[") else text.strip("/").split("/")
    found = tuple(step for step in steps if isinstance(step, str) and step)
    if not found or len(found) < len(steps):
        raise UsageError(f"--renew: {shown(text)!r} is no path of a specification", hint='it is a/b, or ["a"]["b"]')
    return found


def _table(planned: Sequence[Step], loose: Sequence[tuple[str, ...]], with_actions: bool) -> str:
    lines = [("secret", "action", "type", "from")]
    for step in planned:
        secret = step.secret
        lines.append((slashed(secret.path), step.action, secret.type, shown(secret.source.told(), 120)))
    lines += [(slashed(place), KEEP, "-", "no source") for place in loose]
    rows = [line if with_actions else (line[0], *line[2:]) for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in padded)


def _as_json(planned: Sequence[Step], loose: Sequence[tuple[str, ...]], with_actions: bool) -> str:
    import json

    secrets = [
        {
            "path": step.secret.path,
            "places": step.secret.places(),
            "type": step.secret.type,
            "from": step.secret.source.told(),
            **({"action": step.action} if with_actions else {}),
        }
        for step in planned
    ]
    return json.dumps({"secrets": secrets, "withoutSource": loose}, indent=2) + "\n"
