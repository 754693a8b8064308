"""All that a run may touch besides its input: environment, files, child processes, a person, services.

Made once in `cli.py`; a literal in tests (`Host(env={}, files={"/k": b"..."})`). Nothing else opens files or reads
the environment on behalf of key types.
"""

from __future__ import annotations

import posix  # what `os` is made of, without its half millisecond

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from subprocess import Popen

    from krm_sops.http import Http


def _environment() -> dict[str, str]:
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in posix.environ.items()
    }


class Host:
    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        ask: Callable[[str], str] | None = None,
        commands: bool = False,
        http: Http | None = None,
    ) -> None:
        """env: None is the process environment.  files: None is the real file system.

        ask: prompts a person for a passphrase; None where there is nobody to ask.
        commands: whether gpg, the `*_CMD` variables and age plugins may be started (contract: the sops verbs only).
        http: how services are called; None is the network, as `env` describes it.
        """
        self.env: Mapping[str, str] = _environment() if env is None else env
        self.ask = ask
        self.commands = commands
        self._files = files
        self._http = http

    @property
    def http(self) -> Http:
        if self._http is None:
            from krm_sops.http import Http

            self._http = Http(self.env)
        return self._http

    def read(self, path: str, limit: int = 16 << 20) -> bytes:
        """The whole file, at most `limit` bytes. Raises OSError, also for more bytes and for no regular file."""
        if self._files is not None:
            try:
                return self._files[path]
            except KeyError:
                raise FileNotFoundError(2, "No such file or directory", path) from None
        import stat

        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(posix.fstat(descriptor).st_mode):
                raise OSError(22, "Not a regular file", path)
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(27, "File too large", path)
        return content

    def list(self, folder: str) -> list[str]:
        """The names in a folder, sorted. Raises OSError."""
        if self._files is not None:
            prefix = folder.rstrip("/") + "/"
            names = {path[len(prefix) :].partition("/")[0] for path in self._files if path.startswith(prefix)}
            if not names:
                raise FileNotFoundError(2, "No such file or directory", folder)
            return sorted(names)
        return sorted(posix.listdir(folder))

    def home(self) -> str | None:
        """The user's home folder; None where there is none (uid 999 of a sidecar has none)."""
        return self.env.get("HOME") or None

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", env: Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        """Run a program without a shell; its exit status and stdout. stderr is dropped: it may quote secrets.

        env: the child's whole environment.  timeout: seconds; the child is killed after it.
        Raises OSError when it cannot be started, TimeoutError when it was killed.
        """
        import subprocess

        try:
            done = subprocess.run(argv, input=stdin, env=dict(env), capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        return done.returncode, done.stdout

    def program(self, name: str) -> str | None:
        """Where on PATH a program is. Only absolute components of PATH count, so never the working folder (S15)."""
        import os

        for folder in self.env.get("PATH", "").split(":"):
            path = f"{folder}/{name}"
            if folder.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        return None

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], folder: str) -> Popen[bytes]:
        """A program to talk to over its stdin and stdout, running in `folder`; whoever starts it ends it.

        env: the child's whole environment. Raises OSError when it cannot be started.
        """
        from subprocess import DEVNULL, PIPE, Popen

        return Popen(argv, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=dict(env), cwd=folder)
