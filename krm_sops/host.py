"""All that a run may touch besides its input: environment, files, child processes, a person, services.

Made once in `cli.py`; a literal in tests (`Host(env={}, files={"/k": b"..."})`). Nothing else opens files or reads
the environment on behalf of key types.
"""

from __future__ import annotations

import posix  # what `os` is made of, without its half millisecond

from krm_sops.limits import FUNCTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from subprocess import Popen

    from krm_sops.http import Http
    from krm_sops.limits import Limits


def _environment() -> dict[str, str]:
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in posix.environ.items()
    }


def _open_unlinked(path: str, flags: int) -> int:
    """A descriptor of a file, whose folders are opened one by one. Raises OSError for a link anywhere."""
    *folders, name = path.strip("/").split("/")
    folder = posix.open("/", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        for part in folders:
            inner = posix.open(
                part, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_DIRECTORY, dir_fd=folder
            )
            posix.close(folder)
            folder = inner
        return posix.open(name, flags | posix.O_NOFOLLOW, dir_fd=folder)
    finally:
        posix.close(folder)


class Host:
    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        ask: Callable[[str], str] | None = None,
        commands: bool | Collection[str] = False,
        http: Http | None = None,
        set_alarm: Callable[[int], None] | None = None,
    ) -> None:
        """env: None is the process environment.  files: None is the real file system.

        ask: prompts a person for a passphrase; None where there is nobody to ask.
        commands: whether gpg, the `*_CMD` variables and age plugins may be started; or the names of those that may.
        http: how services are called; None is the network, as `env` describes it.
        set_alarm: ends the run when it has taken so many seconds.
        """
        self.env: Mapping[str, str] = _environment() if env is None else env
        self.ask = ask
        self.commands = commands
        self.set_alarm = set_alarm
        self.limits: Limits = FUNCTION
        self.check_service: Callable[[str, str, int], None] | None = None
        """Raises KeyUnavailable for a (scheme, host, port) that the operator does not allow."""
        self.vaults: Sequence[str] | None = None
        """The addresses of Vault servers that the operator allows, where the policy has some."""
        self._files = files
        self._http = http

    def may_start(self, program: str) -> bool:
        """program: "gpg", a `*_CMD` variable, or "age-plugin-NAME"."""
        return self.commands if isinstance(self.commands, bool) else program in self.commands

    @property
    def http(self) -> Http:
        if self._http is None:
            self._http = self.client(self.env)
        return self._http

    def client(self, env: Mapping[str, str], *, verify: bool = True) -> Http:
        """A client of its own, under the operator's limits; `http` is what most calls share."""
        from krm_sops.http import Http

        limits = self.limits
        return Http(
            env,
            call_seconds=limits.call_seconds,
            total_seconds=limits.retry_seconds,
            verify=verify,
            check=self.check_service,
        )

    def resolved(self, path: str) -> str:
        """The absolute path without links and dots. Nothing is opened for it."""
        import os

        if self._files is not None:
            return os.path.normpath(os.path.join("/", path))
        return os.path.realpath(path)

    def read(self, path: str, limit: int = 16 << 20, *, follow: bool = True) -> bytes:
        """The whole file, at most `limit` bytes. Raises OSError, also for more bytes and for no regular file.

        follow: False for an absolute path, of which no component may be a link.
        """
        if self._files is not None:
            try:
                return self._files[path]
            except KeyError:
                raise FileNotFoundError(2, "No such file or directory", path) from None
        flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
        descriptor = posix.open(path, flags) if follow else _open_unlinked(path, flags)
        with open(descriptor, "rb") as file:
            import stat

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
