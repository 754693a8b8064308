"""The metadata of a new document: what flags, environment and `.sops.yaml` say of its keys and its encrypted part.

Differs from sops: the two flags of comment regexes count here. Its verbs take them before their name, and ignore them.
Source: getsops/sops 3.13, cmd/sops/main.go, getEncryptConfig and keyGroups.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, shown
from krm_sops.keys import KEY_TYPES
from krm_sops.metadata import VERSION, Metadata
from krm_sops.rules import Rules, find
from krm_sops.selection import RULES, Selection
from krm_sops.verbs import files
from krm_sops.verbs.flags import SWITCH, VALUE, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from krm_sops.host import Host
    from krm_sops.metadata import KeyGroup
    from krm_sops.rules import Rule
    from krm_sops.verbs.flags import Arguments

THRESHOLD = "shamir-secret-sharing-threshold"
_SELECTION_FLAGS = {rule: rule.replace("_", "-") for rule in RULES}


_KEY_TYPES = [KEY_TYPES[section] for section in reversed(list(KEY_TYPES))]
FLAGS = {
    **{key_type.flag: VALUE for key_type in _KEY_TYPES},
    **dict.fromkeys(("aws-profile", "encryption-context", *_SELECTION_FLAGS.values(), THRESHOLD, "config"), VALUE),
    "mac-only-encrypted": SWITCH,
}
ALIASES = {key_type.letter: key_type.flag for key_type in _KEY_TYPES if key_type.letter}


def _key_help() -> str:
    lines = []
    for key_type in _KEY_TYPES:
        flag = f"--{key_type.flag}" if not key_type.letter else f"-{key_type.letter}, --{key_type.flag}"
        value = "LIST" if len(flag) < 17 else "L"
        lines.append(f"  {f'{flag} {value}':23}{key_type.flag_help}")
    variables = ", ".join(key_type.variable for key_type in _KEY_TYPES)
    text = f"Instead of these: {variables}. Any of them takes the place of all keys of .sops.yaml"
    line = " " * 24
    for word in text.split():  # textwrap would cost every `decrypt` a third of its start
        if len(line) + len(word) >= 115:
            lines.append(line)
            line = " " * 24
        line += f" {word}"
    return "\n".join([*lines, line])


HELP = f"""\
{_key_help()}
  --aws-profile NAME     the profile of AWS for the keys of --kms
  --encryption-context C their encryption context: name:value,name:value
  --config FILE          that file instead of the nearest .sops.yaml, from the working folder upward; also SOPS_CONFIG
  --encrypted-regex RE   encrypt only values below a key that matches
  --unencrypted-regex RE encrypt all values but those
  --encrypted-suffix S   encrypt only values below a key that ends so
  --unencrypted-suffix S encrypt all values but those; without any rule, S is _unencrypted
  --encrypted-comment-regex RE
                         encrypt only values behind a comment that matches
  --unencrypted-comment-regex RE
                         encrypt all values but those
  --mac-only-encrypted   let the MAC cover encrypted values only
  --shamir-secret-sharing-threshold N
                         how many key groups open the document, where .sops.yaml has several
"""


def rules_for(given: Arguments, host: Host, warn: Callable[[str], None]) -> Rules | None:
    """The file of --config or SOPS_CONFIG, or the nearest one. Raises ConfigError."""
    path = given.text("config") if given.given("config") else host.env.get("SOPS_CONFIG", "")
    if path:
        import os

        from krm_sops.rules import absolute

        try:
            raw = files.read(path)
        except files.FileError as error:
            raise ConfigError(f"error loading config: could not read config file: {error.message}") from None
        return Rules(raw, path, os.path.dirname(absolute(path, host)))
    rules, warning = find(host)
    if warning:
        warn(warning)
    return rules


def metadata_for(
    given: Arguments, rules: Rules | None, path: str, host: Host, warn: Callable[[str], None], *, single: str = ""
) -> Metadata:
    """path: absolute; what rules are matched with.  single: the format, where it has only one value (binary).

    Its keys are not yet around a data key.
    Raises ConfigError, UsageError, MetadataError (a regex that does not compile).
    """
    rule = rules.rule_for(path) if rules is not None else None
    selection = _selection(given, rule, single, warn)
    group = _group(given, host)
    if not group and rule is None:
        raise ConfigError(
            "config file not found, or has no creation rules, and no keys provided through command line options",
            hint="name a recipient with --age, or write a .sops.yaml with creation_rules",
        )
    only_encrypted = given.on("mac-only-encrypted") or (rule is not None and rule.mac_only_encrypted)
    return Metadata(
        lastmodified="",
        mac="",
        version=VERSION,
        key_groups=[group] if group or rule is None else rule.key_groups,
        threshold=_threshold(given) or (rule.threshold if rule is not None else 0),
        mac_only_encrypted=only_encrypted and not single,
        selection=selection,
    )


def _selection(given: Arguments, rule: Rule | None, single: str, warn: Callable[[str], None]) -> Selection:
    """A flag takes the place of the same field of the rule; another field of the rule is in conflict with it."""
    fields: Mapping[str, str] = rule.selection if rule is not None else {}
    chosen = {name: given.text(flag) or fields.get(name, "") for name, flag in _SELECTION_FLAGS.items()}
    named = [name for name, pattern in chosen.items() if pattern]
    if single:
        for name in named:
            warn(f"{name} is ignored: a {single} file is one value, which is always encrypted")
        return Selection("", "")
    if len(named) > 1:
        raise UsageError(f"cannot use more than one of {', '.join(named)} in the same file", exit_status=8)
    return Selection.from_fields(chosen)


def _group(given: Arguments, host: Host) -> KeyGroup:
    """The keys that flags or variables name."""
    shared = {"aws_profile": given.text("aws-profile"), **context(given.text("encryption-context"))}
    found: KeyGroup = []
    for section in KEY_TYPES:
        key_type = KEY_TYPES[section]
        named = given.text(key_type.flag) if given.given(key_type.flag) else host.env.get(key_type.variable, "")
        if named:
            found += key_type.from_list(named, shared)
    return found


def context(text: str) -> dict[str, str]:
    """``name:value,name:value`` as fields of a metadata entry. Raises UsageError (exit 6)."""
    found = {}
    for pair in text.split(",") if text else ():
        parts = pair.split(":")
        if len(parts) != 2:
            what = f"invalid KMS encryption context format: {shown(pair, 80)!r}"
            raise UsageError(what, hint="it is name:value,name:value", exit_status=6)
        found[f"context.{parts[0]}"] = parts[1]
    return found


def _threshold(given: Arguments) -> int:
    return integer(given, THRESHOLD) or 0


def integer(given: Arguments, flag: str) -> int | None:
    """None where it is not given. Raises UsageError."""
    if not given.given(flag):
        return None
    text = given.text(flag)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise UsageError(f"--{flag} needs a whole number, not {shown(text, 40)!r}")
    return int(text)
