"""Started as ``sops``: its two command lines, ``sops decrypt FILE`` and ``sops -d FILE``, and what it says.

Flags before the verb, or before the file where there is no verb, end at the first word that is none. A verb takes from
them what sops takes: `config`, `indent` and `mac-only-encrypted`; those of a mode that is not asked for do not count.
An error begins with the words of sops, since scripts look for them, and goes on with ours.

Differs from sops: `--version` asks no server and prints one line; what is wrong with a flag is told without the help.
Source: getsops/sops 3.13, cmd/sops/main.go; urfave/cli 1.22, app.go, command.go.
"""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.errors import KrmSopsError, printable, shown
from krm_sops.keys import KEY_TYPES
from krm_sops.metadata import VERSION
from krm_sops.verbs import creation, keys
from krm_sops.verbs.flags import KEY_FLAGS, SWITCH, VALUE, Arguments, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HELP = """\
sops, as krm-sops does it: encrypted files, decrypted, edited and made.

Usage:
  sops [FLAG...] FILE           edit an encrypted file, or a new one
  sops -d [FLAG...] FILE        decrypt it to stdout; -e encrypts, -r makes a new data key; -i writes back to FILE
  sops --set '["key"] "value"' FILE
                                set one value, which is JSON, in FILE
  sops VERB [FLAG...] [FILE]    decrypt, encrypt, edit, rotate, set, unset, updatekeys, groups, filestatus, exec-env,
                                exec-file, publish, keyservice, completion
  sops VERB --help              the flags of a verb; without one, those of the verb that does the same
  sops --version

Flags come before FILE. --config, --indent and --mac-only-encrypted may also stand before a verb. --verbose tells when
a data key was opened.

Environment: SOPS_AGE_KEY_FILE and the others of sops.

Exit status: that of sops; 128, no key opens the file; 51, its MAC does not hold; 200, nothing was changed.
"""
VERBS = (
    *("decrypt", "encrypt", "edit", "rotate", "set", "unset", "updatekeys", "groups", "filestatus"),
    *("exec-env", "exec-file", "publish", "keyservice", "completion"),
)

_CHANGES = [f"{change}-{KEY_TYPES[section].flag}" for section in KEY_TYPES for change in ("add", "rm")]
_FORMATS = ("input-type", "output-type")
_OPENING = ("ignore-mac", "decryption-order")
_EVERYWHERE = ("config", "indent", *keys.SERVICE_FLAGS, *KEY_FLAGS)
_FLAGS_OF_MODES: dict[str, tuple[str, ...]] = {
    "encrypt": ("in-place", "output", *_FORMATS, "filename-override", *creation.FLAGS),
    "decrypt": ("in-place", "output", *_FORMATS, "filename-override", "extract", *_OPENING),
    "rotate": (
        *("in-place", "output", *_FORMATS, "filename-override", *_OPENING),
        *("aws-profile", "encryption-context", *_CHANGES),
    ),
    "set": (*_FORMATS, *_OPENING),
    "edit": (*_FORMATS, *_OPENING, "show-master-keys", *creation.FLAGS),
}
_FLAGS_BEFORE_VERBS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("decrypt", "rotate", "set", "unset", "groups", "exec-file"), ("config", "indent")),
    **dict.fromkeys(("encrypt", "edit"), ("config", "indent", "mac-only-encrypted")),
    **dict.fromkeys(("updatekeys", "publish"), ("config",)),
}
_SWITCHES = ("decrypt", "encrypt", "rotate", "disable-version-check", "check-for-updates", "verbose", "help", "version")
_FLAGS: Mapping[str, str] = {
    **dict.fromkeys((*_SWITCHES, "in-place", "show-master-keys", "ignore-mac"), SWITCH),
    **dict.fromkeys(("set", "extract", "indent", "output", "filename-override", "decryption-order"), VALUE),
    **dict.fromkeys((*_FORMATS, *_CHANGES), VALUE),
    **creation.FLAGS,
    **keys.SERVICE_FLAGS,
    **KEY_FLAGS,
}
_ALIASES: Mapping[str, str] = {
    **creation.ALIASES,
    "d": "decrypt",
    "e": "encrypt",
    "r": "rotate",
    "i": "in-place",
    "s": "show-master-keys",
    "h": "help",
    "v": "version",
}
_BEGINNINGS = {
    7: "Invalid --set format: ",
    8: "Error: ",
    25: "Error decrypting tree: ",
    49: "Error: ",
    51: "MAC mismatch. ",
    91: "error parsing --extract path: ",
    92: "File cannot be completely empty, it must contain at least one document: ",
    100: "Error: ",
    112: "Duplicate decryption key type: ",
    128: "Failed to get the data key required to decrypt the SOPS file.\n",
    200: "File has not changed, exiting. ",
    203: "The file you have provided contains a top-level entry called 'sops': ",
}
"""What sops says where it ends with this status."""
_NO_DATA_KEY = "could not generate data key: "


def main(arguments: list[str]) -> int:
    cli.program = "sops"
    try:
        return _run(arguments)
    except KrmSopsError as error:
        _say(error)
        return error.exit_status


def _say(error: KrmSopsError) -> None:
    place = ".".join(shown(part, 80) for part in error.path)
    said = printable(f"{place}: {error.message}" if place else error.message)
    text = _BEGINNINGS.get(error.exit_status, "") + said
    if said.startswith(_NO_DATA_KEY):
        text = f"{_NO_DATA_KEY.capitalize()}[{said.removeprefix(_NO_DATA_KEY)}]"
    if error.hint:
        text += f"\nhint: {printable(error.hint)}"
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        pass


def _run(arguments: list[str]) -> int:
    end = _end_of_flags(arguments)
    given = parse(arguments[:end], _FLAGS, _ALIASES)
    words = arguments[end:]
    if given.on("help"):
        return cli.write_out(HELP.encode())
    if given.on("version"):
        return cli.write_out(f"sops {VERSION}\n".encode())
    first = words[0] if words else ""
    if first in ("help", "h"):
        known = len(words) > 1 and words[1] in VERBS
        return _verb(words[1], ["--help"]) if known else cli.write_out(HELP.encode())
    if first in VERBS:
        return _verb(first, [*_passed(given, _FLAGS_BEFORE_VERBS.get(first, ())), *words[1:]])
    return _without_verb(given, words)


def _end_of_flags(arguments: Sequence[str]) -> int:
    """Where the first word stands that is neither a flag nor a flag's value."""
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            return at + 1
        if not word.startswith("-") or word == "-":
            return at
        name, equals, _ = word.lstrip("-").partition("=")
        at += 1 if equals or _FLAGS.get(_ALIASES.get(name, name)) == SWITCH else 2
    return len(arguments)


def _verb(name: str, arguments: list[str]) -> int:
    return cli.VERBS[name](arguments)


def _passed(given: Arguments, flags: Sequence[str]) -> list[str]:
    return [f"--{flag}={value}" for flag in flags for value in given.many(flag)]


def _without_verb(given: Arguments, words: Sequence[str]) -> int:
    if not words:
        raise UsageError("no file specified", exit_status=100)
    if len(words) > 1:
        cli.say("warning: More than one positional argument provided. Only the first one will be used!")
    path = words[0]
    if given.on("in-place") and given.text("output"):
        raise UsageError("cannot operate on both --output and --in-place", exit_status=8)
    modes = [mode for mode in ("encrypt", "decrypt", "rotate") if given.on(mode)] + ["set"] * bool(given.text("set"))
    if len(modes) > 1:
        cli.say(f"warning: More than one command (--{', --'.join(modes)}) has been specified; the last one counts")
    mode = modes[-1] if modes else "edit"
    if not os.path.exists(path):
        _refuse_missing(path, mode, given)
    flags = _passed(given, [*dict.fromkeys((*_FLAGS_OF_MODES[mode], *_EVERYWHERE))])
    values = _set_arguments(given.text("set")) if mode == "set" else []
    status = _verb(mode, [*flags, "--", path if path != "-" else "./-", *values])
    if given.on("verbose") and not status and mode != "encrypt":
        cli.say("info: Data key recovered successfully")
    return status


def _refuse_missing(path: str, mode: str, given: Arguments) -> None:
    """Only `edit` makes a new file."""
    if any(given.text(flag) for flag in _CHANGES):
        what = f"cannot add or remove keys on non-existent file {shown(path)!r}"
        raise UsageError(what, hint="name the keys of a new file with --age and the like", exit_status=49)
    if mode in ("encrypt", "decrypt", "rotate"):
        raise UsageError(f"cannot operate on non-existent file {shown(path)!r}", exit_status=100)


def _set_arguments(text: str) -> list[str]:
    """``["a"][0] JSON`` -> path and value. Raises UsageError (exit 7)."""
    path, bracket, value = text.partition("] ")
    if not bracket:
        raise UsageError("a path and a value are needed", hint="""like this: --set '["a"] "value"'""", exit_status=7)
    return [f"{path}]", value]
