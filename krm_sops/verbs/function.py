"""The function with flags: ``krm-sops --strict`` in an `exec:` of kpt or kustomize, or in a sidecar's command."""

from __future__ import annotations

from krm_sops import cli
from krm_sops.errors import LimitError, shown
from krm_sops.krm.config import AMBIENT, MAC_MODES
from krm_sops.limits import FUNCTION
from krm_sops.policy import Flags
from krm_sops.verbs.flags import MANY, SWITCH, VALUE, UsageError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.verbs.flags import Arguments

FLAGS = {
    "strict": SWITCH,
    "mac": VALUE,
    "ambient": VALUE,
    "key-file": MANY,
    "root": VALUE,
    "limit": MANY,
    "max-remote-calls": VALUE,
}


def main(arguments: list[str]) -> int:
    given = parse(arguments, {**FLAGS, "help": SWITCH}, {"h": "help"})
    if given.on("help"):
        return cli.write_out(cli.HELP.encode())
    if given.names:
        raise UsageError(
            f"{shown(given.names[0], 60)!r} is no flag: the function reads stdin", hint="see krm-sops --help"
        )
    return cli.run_function(read(given))


def read(given: Arguments) -> Flags:
    """Raises UsageError."""
    flags = Flags()
    flags.strict = given.on("strict")
    flags.mac = _choice(given, "mac", MAC_MODES)
    flags.ambient = _choice(given, "ambient", AMBIENT)
    flags.key_files = given.many("key-file")
    flags.root = given.text("root")
    flags.limits = read_limits(given)
    return flags


def read_limits(given: Arguments) -> dict[str, int]:
    """By name. Raises UsageError."""
    found = {}
    limits = [("--limit", *limit.partition("=")[::2]) for limit in given.many("limit")]
    limits += [("--max-remote-calls", "remote_calls", number) for number in given.many("max-remote-calls")]
    for flag, name, number in limits:
        if not (number.isascii() and number.isdecimal() and len(number) < 19):
            raise UsageError(f"{flag} needs {'NAME=' * (flag == '--limit')}NUMBER, a whole number", hint=_LIMITS)
        found[name] = int(number)
    try:
        FUNCTION.changed(found)
    except LimitError as error:
        raise UsageError(error.message) from None
    return found


_LIMITS = f"limits: {', '.join(vars(FUNCTION))}"


def _choice(given: Arguments, flag: str, choices: tuple[str, ...]) -> str:
    value = given.text(flag)
    if given.given(flag) and value not in choices:
        raise UsageError(f"--{flag} is one of {', '.join(choices)}, not {shown(value, 60)!r}")
    return value
