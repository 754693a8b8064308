"""The programs that age keys may come from: the `*_CMD` variables and age plugins (S15).

No shell; found on PATH by absolute folders only; started with a scrubbed environment.
"""

from __future__ import annotations

from krm_sops.errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

    from krm_sops.age.plugin import Start
    from krm_sops.host import Host

_COMMAND_SECONDS = 60.0
_LOADERS = ("LD_", "DYLD_", "BASH_", "PYTHON", "PERL", "RUBY", "NODE_", "GIT_", "SOPS_")
_LOADER_NAMES = ("ENV", "IFS", "SHELLOPTS")


def output_of(host: Host, command: str, recipient: str) -> bytes:
    """What a command prints. It is split into words as a shell would, and told the recipient.

    Raises ValueError (no command, unbalanced quotes, not found, exit status), OSError (not started, or too slow).
    """
    from shlex import split

    argv = split(command)
    if not argv:
        raise ValueError("the command is empty")
    program = argv[0] if "/" in argv[0] else host.program(argv[0])
    if program is None:
        raise ValueError(f"{shown(argv[0])} is not on PATH")
    env = {**_environment(host), "SOPS_AGE_RECIPIENT": recipient}
    status, output = host.run([program, *argv[1:]], env=env, timeout=_COMMAND_SECONDS)
    if status:
        raise ValueError(f"the command failed with exit status {status}")
    return output


def plugin_starter(host: Host) -> Start:
    def start(name: str, argument: str, folder: str) -> Popen[bytes] | None:
        program = host.program(name)
        if program is None:
            return None
        return host.start([program, argument], env=_environment(host), folder=folder)

    return start


def allowed_plugin_starter(host: Host) -> Start:
    start = plugin_starter(host)

    def start_if_allowed(name: str, argument: str, folder: str) -> Popen[bytes] | None:
        if not host.may_start(name):
            raise PermissionError(1, "the operator's policy does not list it under executables")
        return start(name, argument, folder)

    return start_if_allowed


def _environment(host: Host) -> dict[str, str]:
    """Without what makes a program load foreign code, and without our own keys.

    Differs from sops, which passes everything. What a command or plugin needs to get at its keys (AWS_*, OP_*,
    VAULT_*) stays: the operator set both.
    """
    return {
        name: value for name, value in host.env.items() if not name.startswith(_LOADERS) and name not in _LOADER_NAMES
    }
