"""A folder of a git repository as it was: read from git's objects, without hooks, filters, submodules or links (S31).

What is read is as it stands in git, encrypted. It goes into a private folder, since builds want files.
"""

from __future__ import annotations

import os

from krm_sops.builds.private import PrivateFolder
from krm_sops.errors import ConfigError, KrmSopsError, LimitError, PreviousRevisionUnavailable, shown
from krm_sops.roots import relative, source_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from krm_sops.host import Host
    from krm_sops.policy import Policy

_ALLOWED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-")
_LONGEST = 200
_SECONDS = 60.0
_REGULAR = (b"100644", b"100755")
_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
}
"""Nothing is fetched, asked for, or taken from a user's configuration."""


class Revision:
    """root: a private folder that stands for the repository, with the files below the package.  path: the package."""

    def __init__(self, path: str, name: str, host: Host, policy: Policy) -> None:
        """Raises ConfigError for a name that is none, before git is asked."""
        if not name or name.startswith("-") or not _ALLOWED.issuperset(name) or len(name) > _LONGEST:
            raise ConfigError(
                f"--revision is {shown(name, 80)!r}; letters, digits and . _ / - are allowed, no dash in front"
            )
        self.name = name
        self.host = host
        self.limits = policy.limits
        self.repository = source_root(host, policy, path)
        self.inner = relative(self.repository, ".", path)
        self._private = PrivateFolder(host.env)
        self.root = self.path = ""

    def __enter__(self) -> Self:
        """Raises PreviousRevisionUnavailable, ConfigError, LimitError."""
        self._private.__enter__()
        try:
            self.root = os.path.realpath(self._private.path)
            self.path = os.path.normpath(f"{self.root}/{self.inner}")
            self._copy()
        except BaseException:
            self._private.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._private.__exit__()

    def _copy(self) -> None:
        commit = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", self.name + "^{commit}").strip()
        if not commit.isalnum():
            raise self._unavailable("git knows no such revision")
        prefix = "" if self.inner == "." else f"{self.inner}/"
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit.decode(), "--", prefix or ".")
        wanted: list[tuple[str, bytes]] = []
        for line in filter(None, listed.split(b"\0")):
            fields, _, path = line.partition(b"\t")
            mode, _, digest = fields.split(b" ")
            if mode in _REGULAR and _is_sane(os.fsdecode(path)):
                wanted.append((os.fsdecode(path), digest))
        if not wanted:
            raise self._unavailable(f"there was no file below {shown(self.inner)}")
        if len(wanted) > self.limits.run_nodes:
            raise LimitError(f"more than {self.limits.run_nodes} files (the limit run_nodes)")
        self._write(wanted)

    def _write(self, wanted: list[tuple[str, bytes]]) -> None:
        sizes = self._git("cat-file", "--batch-check=%(objectsize)", given=b"".join(one + b"\n" for _, one in wanted))
        numbers = sizes.split()
        if len(numbers) != len(wanted) or not all(number.isdigit() for number in numbers):
            raise self._unavailable("git lacks some of its files")
        small = [one for one, size in zip(wanted, numbers, strict=True) if int(size) <= self.limits.input_bytes]
        if sum(map(int, numbers)) > 4 * self.limits.input_bytes:
            raise LimitError(f"a revision of more than {self.limits.input_bytes >> 18} MiB (the limit input_bytes)")
        output = self._git("cat-file", "--batch", given=b"".join(digest + b"\n" for _, digest in small))
        at = 0
        for path, _ in small:
            end = output.index(b"\n", at)
            size = int(output[at:end].split(b" ")[2])
            self._private.write(path, output[end + 1 : end + 1 + size])
            at = end + 1 + size + 1

    def _git(self, *arguments: str, given: bytes = b"") -> bytes:
        program = self.host.program("git")
        if program is None:
            raise ConfigError("git is not on PATH", hint="--revision needs it")
        argv = [program, "--no-pager", "-c", f"safe.directory={self.repository}", "-c", "core.fsmonitor=false"]
        argv += ["-c", f"core.hooksPath={os.devnull}", "-C", self.repository, *arguments]
        env = {**_ENV, "HOME": self._private.path}
        try:
            status, output = self.host.run(argv, stdin=given, env=env, timeout=_SECONDS)
        except (OSError, TimeoutError) as error:
            raise KrmSopsError(f"git cannot be run: {error}") from None
        if status != 0:
            raise self._unavailable("git knows no such revision, or this is no git repository")
        return output

    def _unavailable(self, why: str) -> PreviousRevisionUnavailable:
        return PreviousRevisionUnavailable(f"PreviousRevisionUnavailable: {shown(self.name, 80)}: {why}")


def _is_sane(path: str) -> bool:
    return not any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/"))
