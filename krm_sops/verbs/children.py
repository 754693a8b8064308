"""The commands that `exec-env` and `exec-file` start: through /bin/sh, with our streams, as another user if asked."""

from __future__ import annotations

import os
import signal

from krm_sops.errors import KrmSopsError, shown
from krm_sops.verbs.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from krm_sops.builds.private import PrivateFolder
    from krm_sops.verbs.flags import Arguments

_SHELL = "/bin/sh"
_KILLED = 255
"""What sops ends with where a signal ended the command."""


def file_and_command(given: Arguments) -> tuple[str, str]:
    """Raises UsageError."""
    if len(given.names) != 2:
        raise UsageError("missing file to decrypt, or the command", hint="the command is one argument, in quotes")
    return given.names[0], given.names[1]


def become(name: str) -> dict[bytes, bytes]:
    """Become this user for the rest of the run; the variables that tell who it is. Nothing for "".

    Raises KrmSopsError.
    """
    if not name:
        return {}
    import pwd

    try:
        user = pwd.getpwnam(name)
        os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    except KeyError:
        raise KrmSopsError(f"unknown user {shown(name, 80)!r}") from None
    except OSError as error:
        raise KrmSopsError(f"cannot run as {shown(name, 80)!r}: {error.strerror}", hint="only root can") from None
    told = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    return {os.fsencode(variable): os.fsencode(text) for variable, text in told.items()}


def detach() -> bool:
    """Go on in a process without a terminal and with empty streams; False in the one that was left behind."""
    if os.fork():
        return False
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    return True


def run(command: str, environment: Mapping[bytes, bytes], folder: PrivateFolder | None = None) -> int:
    """The command's exit status.  folder: whose file it reads, and which ends it when a signal ends us."""
    import subprocess

    signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to the command as well, which decides
    try:
        child = subprocess.Popen([_SHELL, "-c", command], env=dict(environment))
    except OSError as error:
        raise KrmSopsError(f"cannot start {_SHELL}: {error.strerror}") from None
    if folder is not None:
        folder.child = child
    _, ended = os.waitpid(child.pid, 0)  # not child.wait(), inside which a signal could not wait for it once more
    child.returncode = os.waitstatus_to_exitcode(ended)
    return child.returncode if child.returncode >= 0 else _KILLED


def replace_process(command: str, environment: Mapping[bytes, bytes]) -> NoReturn:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python, unlike other programs, passes on ignored
    try:
        os.execve(_SHELL, [_SHELL, "-c", command], dict(environment))  # noqa: S606 (it is a shell)
    except OSError as error:
        raise KrmSopsError(f"cannot start {_SHELL}: {error.strerror}") from None
