"""Command-line flags as sops takes them: ``--flag value``, ``--flag=value``, one dash or two, anywhere."""

from __future__ import annotations

from krm_sops.errors import KrmSopsError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SWITCH, VALUE, MANY = "switch", "value", "many"


class UsageError(KrmSopsError):
    """A flag that is unknown, incomplete or in conflict with another one."""

    def __init__(self, message: str, *, hint: str = "", exit_status: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status


class Arguments:
    """names: what is neither a flag nor a flag's value."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._values: dict[str, list[str]] = {}

    def add(self, flag: str, value: str) -> None:
        self._values.setdefault(flag, []).append(value)

    def text(self, flag: str, default: str = "") -> str:
        return self._values.get(flag, [default])[-1]

    def many(self, flag: str) -> list[str]:
        return self._values.get(flag, [])

    def given(self, flag: str) -> bool:
        return flag in self._values

    def on(self, flag: str) -> bool:
        return self.text(flag, "false") == "true"


def parse(arguments: Sequence[str], flags: Mapping[str, str], aliases: Mapping[str, str]) -> Arguments:
    """flags: name -> SWITCH, VALUE or MANY.  aliases: other spellings -> name.  Raises UsageError."""
    found = Arguments()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.names += rest
            break
        if not word.startswith("-") or word == "-":
            found.names.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = aliases.get(name, name)
        kind = flags.get(name)
        if kind is None:
            raise UsageError(
                f"unknown flag {shown(word, 60)!r}", hint="flags: " + ", ".join(f"--{flag}" for flag in flags)
            )
        if kind == SWITCH:
            value = value if equals else "true"
            if value.lower() not in ("true", "false", "1", "0", "t", "f"):
                raise UsageError(f"--{name} is a switch; {shown(value, 60)!r} is neither true nor false")
            value = "true" if value.lower() in ("true", "1", "t") else "false"
        elif not equals:
            if not rest:
                raise UsageError(f"--{name} needs a value")
            value = rest.pop(0)
        found.add(name, value)
    return found


KEY_FLAGS = {"key-file": MANY, "ambient": VALUE}
KEY_HELP = """\
  --key-file FILE        an age identity file, an OpenPGP secret key ring or an SSH private key; repeatable.
                         Only these are tried then
  --ambient WHEN         whether keys are also looked for where sops looks: auto (when no --key-file is given),
                         always, never
"""
"""What every verb that opens a data key takes."""
