"""A folder for what no one else may read, gone at the end of the run, however it ends (S24)."""

from __future__ import annotations

import _signal as signal  # `signal` itself costs an import of enum
import os

from krm_sops.errors import KrmSopsError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from subprocess import Popen
    from types import FrameType
    from typing import Self

    Handler = Callable[[int, FrameType | None], object] | int | None

_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
)
"""What would end us, and can be caught."""
_IN_MEMORY = "/dev/shm"  # noqa: S108 (only the folder that is made in there is used)


class PrivateFolder:
    """A folder of mode 0700: in memory where there is such a place, else where temporary files go.

    child: a program that works in there; it is ended before the folder goes.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        """Raises KrmSopsError where there is no place for one."""
        self.child: Popen[bytes] | None = None
        self.path = ""
        self._former: dict[int, Handler] = {}
        self._places = [_IN_MEMORY, env.get("XDG_RUNTIME_DIR", ""), env.get("TMPDIR", ""), "/tmp"]  # noqa: S108

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            former = signal.getsignal(number)
            if former != signal.SIG_IGN:
                self._former[number] = former
                signal.signal(number, self._end)
        name = f"krm-sops-{os.urandom(16).hex()}"
        why = ""
        for place in self._places:
            if not place.startswith("/"):
                continue
            self.path = f"{place.rstrip('/')}/{name}"
            try:
                os.mkdir(self.path, 0o700)
            except OSError as error:
                why = why or f"{shown(place)}: {error.strerror}"
                continue
            return self
        self._restore()
        raise KrmSopsError(
            f"no place for a private folder ({why})", hint="mount a small tmpfs at /dev/shm, or set TMPDIR"
        )

    def __exit__(self, *_: object) -> None:
        self._remove()
        self._restore()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._remove()
        former = self._former[number]
        if callable(former):
            former(number, frame)
        os._exit(128 + number)

    def _restore(self) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _remove(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.wait()
        for _ in range(3):  # a grandchild may have put something there meanwhile
            remove_tree(self.path)
            if not os.path.lexists(self.path):
                return

    def wait(self) -> int:
        """The child's exit status. Not `child.wait()`, inside of which a signal's handler could not wait as well."""
        child = self.child
        assert child is not None
        if child.returncode is None:
            _, ended = os.waitpid(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(ended)
        return child.returncode

    def write(self, path: str, content: bytes) -> None:
        """path: from the folder; folders on the way are made. Raises KrmSopsError."""
        full = f"{self.path}/{path}"
        try:
            os.makedirs(os.path.dirname(full), 0o700, exist_ok=True)
            descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
        except OSError as error:
            raise KrmSopsError(f"cannot write a private copy: {error.strerror}") from None


def remove_tree(path: str) -> None:
    """A folder and all that is in it, as far as that can be had."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
        os.rmdir(path)
    except OSError:
        pass
