"""Files in and out: read whole, written whole or not at all, and not over what somebody else wrote meanwhile.

Differs from sops:
- A file is replaced, not written into: it is whole at every moment, and a hard link to it keeps the old content.
- A file that changed since it was read, or whose owner the new one could not have, is left alone.
- Links are followed inside of their repository only.
"""

from __future__ import annotations

import os
import sys

from krm_sops import cli
from krm_sops.errors import KrmSopsError, shown

TYPE_CHECKING = False


_BEGUN = ".krm-sops-", ".tmp"
"""How a file begins and ends that is not yet in its place."""
_seen: dict[str, tuple[int, ...] | None] = {}
"""What tells of the files that were read whether they changed; None of one that was not there."""


class FileError(KrmSopsError):
    def __init__(self, message: str, exit_status: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status


class FileChanged(FileError):
    """Somebody else wrote it since it was read."""


def named(path: str) -> str:
    """A file's name at the start of a line, where it must not look like a command to a CI system (``::add-mask::``)."""
    name = shown(path)
    return name if name[:1].isalnum() or name[:1] in "./_-" else f"./{name}"


def is_leftover(name: str) -> bool:
    """Whether a file is what a run left that was killed while it wrote another one."""
    return name.startswith(_BEGUN[0]) and name.endswith(_BEGUN[1])


def read(path: str, missing: int = 100) -> bytes:
    """A file, or stdin for "-"; `write` replaces it only as it was.  missing: the exit status where there is none.

    Raises FileError.
    """
    if path == "-":
        try:
            return sys.stdin.buffer.read() if sys.stdin is not None else _closed()
        except OSError as error:
            raise FileError(f"cannot read stdin: {error.strerror}", 2) from None
    try:
        with open(path, "rb") as file:
            _seen[os.path.realpath(path)] = _state(os.fstat(file.fileno()))
            return file.read()
    except FileNotFoundError:
        raise FileError(f"cannot operate on non-existent file {shown(path)}", missing) from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {shown(path)}: {getattr(error, 'strerror', None) or 'bad name'}", 2) from None


def _closed() -> bytes:
    raise FileError("stdin is closed", 2)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def expect_none(path: str) -> None:
    """`write` writes it only if it is not there then either."""
    _seen[os.path.realpath(path)] = None


def write(path: str, content: bytes, mode: int = 0o666) -> None:
    """Replace a file in one step: its mode and owner stay, and at every moment it is the old or the new one.

    mode: of a file that is new, before the umask.

    A signal waits for that step, so it leaves no temporary file behind.
    Raises FileError (exit 3): not writable, of another owner, or a link that leads out of its repository; FileChanged.
    """
    _write(path, content, mode)


def refuse_unwritable(path: str) -> None:
    """Raises FileError (exit 3) where `write` could not: a person's work must not be lost for that."""
    _write(path, None, 0o600)


def _write(path: str, content: bytes | None, mode: int) -> None:
    """content: None to look only whether it could be written."""
    import _signal as signals
    import stat

    try:
        target = _target(path)
        old = _status(target)
        if old is not None and not stat.S_ISREG(old.st_mode):
            if content is not None:
                with open(target, "wb") as file:
                    file.write(content)
            return
        mask = signals.pthread_sigmask(signals.SIG_BLOCK, (signals.SIGTERM, signals.SIGINT, signals.SIGHUP))
        try:
            _replace(target, content, old, mode)
            if content is not None:
                cli.outcome = "the file was written"
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, mask)
    except OSError as error:
        raise FileError(f"cannot write {shown(path)}: {error.strerror}", 3) from None


def _target(path: str) -> str:
    """The file itself. Raises FileError for a link that leads out of its repository, or into what git keeps there."""
    target = os.path.realpath(path)
    if not os.path.islink(path):
        return target
    folder = os.path.realpath(os.path.dirname(path) or ".")
    inside = _below(target, _repository(folder))
    if inside is None or ".git" in inside.split("/"):
        what = f"{shown(path)} is a link that leads out of its repository, or of its folder where there is none"
        raise FileError(what, 3, hint="name the file itself")
    return target


def _repository(folder: str) -> str:
    """The nearest folder upwards that holds `.git`; the folder itself where none does."""
    at = folder
    while not os.path.lexists(os.path.join(at, ".git")):
        if at == os.path.dirname(at):
            return folder
        at = os.path.dirname(at)
    return at


def _below(path: str, folder: str) -> str | None:
    start = folder.rstrip("/") + "/"
    return path[len(start) :] if path.startswith(start) else None


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _replace(target: str, content: bytes | None, old: os.stat_result | None, mode: int) -> None:
    """old: the file that gives way."""
    # a process id would do only until a killed container leaves its file: the next one has the same
    beside = os.path.join(os.path.dirname(target), f"{_BEGUN[0]}{os.urandom(8).hex()}{_BEGUN[1]}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content or b"")
            file.flush()
            _hand_over(file.fileno(), target, old, mode)
            if content is not None:
                os.fsync(file.fileno())
        if content is None:
            os.unlink(beside)
            return
        _refuse_changed(target)
        os.replace(beside, target)
        _seen.pop(target, None)
    except BaseException:
        os.unlink(beside)
        raise


def _hand_over(descriptor: int, target: str, old: os.stat_result | None, mode: int) -> None:
    """Give the new file the old one's owner and mode. Raises FileError where only its owner could."""
    import stat

    if old is None:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, mode & ~mask)
        return
    try:
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    except PermissionError:
        owner = f"user {old.st_uid} and group {old.st_gid}"
        what = f"cannot write {shown(target)}: it belongs to {owner}, who could not be given the new one"
        raise FileError(what, 3, hint="run it as that user; or copy the file, and put the copy in its place") from None


def _refuse_changed(target: str) -> None:
    if target not in _seen:
        return
    now = _status(target)
    if _seen[target] != (_state(now) if now is not None else None):
        raise FileChanged(f"{shown(target)} was changed meanwhile", 3, hint="nothing was written: run it again")
