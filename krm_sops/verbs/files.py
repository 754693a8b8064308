"""Files in and out: read whole, written whole or not at all."""

from __future__ import annotations

import os
import sys

from krm_sops import cli
from krm_sops.errors import KrmSopsError, shown

TYPE_CHECKING = False


_BEGUN = ".krm-sops-", ".tmp"
"""How a file begins and ends that is not yet in its place."""


class FileError(KrmSopsError):
    def __init__(self, message: str, exit_status: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status


def named(path: str) -> str:
    """A file's name at the start of a line, where it must not look like a command to a CI system (``::add-mask::``)."""
    name = shown(path)
    return name if name[:1].isalnum() or name[:1] in "./_-" else f"./{name}"


def is_leftover(name: str) -> bool:
    """Whether a file is what a run left that was killed while it wrote another one."""
    return name.startswith(_BEGUN[0]) and name.endswith(_BEGUN[1])


def read(path: str, missing: int = 100) -> bytes:
    """A file, or stdin for "-".  missing: the exit status where there is none. Raises FileError."""
    if path == "-":
        try:
            return sys.stdin.buffer.read() if sys.stdin is not None else _closed()
        except OSError as error:
            raise FileError(f"cannot read stdin: {error.strerror}", 2) from None
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise FileError(f"cannot operate on non-existent file {shown(path)}", missing) from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {shown(path)}: {getattr(error, 'strerror', None) or 'bad name'}", 2) from None


def _closed() -> bytes:
    raise FileError("stdin is closed", 2)


def write(path: str, content: bytes, mode: int = 0o666) -> None:
    """Replace a file in one step: its mode and owner stay, and at every moment it is the old or the new one.

    mode: of a file that is new, before the umask.

    A signal waits for that step, so it leaves no temporary file behind.
    Raises FileError (exit 3): not writable, or a link that leads out of its own folder.
    """
    try:
        _write(path, content, mode)
    except OSError as error:
        raise FileError(f"cannot write {shown(path)}: {error.strerror}", 3) from None


def _write(path: str, content: bytes, mode: int) -> None:
    import stat

    folder = os.path.realpath(os.path.dirname(path) or ".")
    target = os.path.realpath(path)
    if os.path.islink(path) and not target.startswith(folder.rstrip("/") + "/"):
        raise FileError(f"{shown(path)} is a link that leads out of its folder", 3, hint="name the file itself")
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(target, "wb") as file:
            file.write(content)
        return
    import _signal as signals

    mask = signals.pthread_sigmask(signals.SIG_BLOCK, (signals.SIGTERM, signals.SIGINT, signals.SIGHUP))
    try:
        _replace(target, content, old, mode)
        cli.outcome = "the file was written"
    finally:
        signals.pthread_sigmask(signals.SIG_SETMASK, mask)


def _replace(target: str, content: bytes, old: os.stat_result | None, mode: int) -> None:
    """old: the file that gives way."""
    import stat

    # a process id would do only until a killed container leaves its file: the next one has the same
    beside = os.path.join(os.path.dirname(target), f"{_BEGUN[0]}{os.urandom(8).hex()}{_BEGUN[1]}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if old is None:
                mask = os.umask(0)
                os.umask(mask)
                os.fchmod(file.fileno(), mode & ~mask)
            else:
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise
