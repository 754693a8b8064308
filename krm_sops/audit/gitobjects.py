"""What a git repository ever held: read from its objects, without hooks, filters, submodules, links or a network (S31).

Only ids that git itself gave are handed back to it, so no name from a command line or a repository becomes an argument.
"""

from __future__ import annotations

import os

from krm_sops.errors import KrmSopsError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from krm_sops.host import Host

_SECONDS = 600.0
_AT_ONCE = 16 << 20
"""Bytes of files that are asked for together."""
_REGULAR = (b"100644", b"100755", b"100664")
_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}
"""The whole environment: nothing is fetched, asked for, or taken from a user's configuration or variables."""


class Revision:
    """commit: its id.  time: of the commit, in seconds since 1970."""

    __slots__ = ("commit", "time")

    def __init__(self, commit: str, time: int) -> None:
        self.commit = commit
        self.time = time


class GitObjects:
    def __init__(self, repository: str, host: Host) -> None:
        """repository: its top folder. Raises KrmSopsError where there is none, or no git."""
        self._repository = repository
        self._host = host
        program = host.program("git")
        if program is None:
            raise KrmSopsError("git is not on PATH", hint="--history needs it")
        self._argv = [program, "--no-pager", "-c", f"safe.directory={repository}", "-c", "core.fsmonitor=false"]
        self._argv += ["-c", f"core.hooksPath={os.devnull}", "-C", repository]
        self.is_shallow = self._run("rev-parse", "--is-shallow-repository").strip() == b"true"

    def added(self) -> Iterator[tuple[Revision, str, str]]:
        """Each file that a commit brought or changed: the commit, the path, the file's id. Parents come first."""
        listed = self._run("rev-list", "--all", "--reflog", "--topo-order", "--reverse", "--timestamp")
        revisions = {commit: Revision(commit.decode(), int(time)) for time, commit in map(bytes.split, _lines(listed))}
        options = ["-r", "-z", "--root", "-m", "--no-renames", "--raw", "--no-abbrev", "--diff-filter=AMT"]
        options += ["--no-ext-diff", "--no-textconv", "--ignore-submodules=all"]
        given = b"".join(commit + b"\n" for commit in revisions)
        words = iter(self._run("diff-tree", "--stdin", *options, given=given).split(b"\0"))
        revision = None
        for word in words:
            if not word.startswith(b":"):
                revision = revisions.get(word)
                continue
            path = next(words)
            _, mode, _, digest, _ = word.split(b" ")
            if mode in _REGULAR and revision is not None:
                yield revision, os.fsdecode(path), digest.decode()

    def blobs(self, digests: Sequence[str], limit: int) -> Iterator[tuple[str, bytes]]:
        """Files by their ids; those of more than `limit` bytes are left out."""
        given = "".join(f"{digest}\n" for digest in digests).encode()
        sizes = _lines(self._run("cat-file", "--batch-check=%(objectname) %(objectsize)", given=given))
        some: list[bytes] = []
        total = 0
        for line in sizes:
            digest, size = line.split(b" ", 1)
            if not size.isdigit():
                raise _incomplete()
            if int(size) > limit:
                continue
            some.append(digest)
            total += int(size)
            if total > _AT_ONCE:
                yield from self._contents(some)
                some, total = [], 0
        yield from self._contents(some)

    def _contents(self, digests: list[bytes]) -> Iterator[tuple[str, bytes]]:
        if not digests:
            return
        output = self._run("cat-file", "--batch", given=b"".join(digest + b"\n" for digest in digests))
        at = 0
        while at < len(output):
            end = output.index(b"\n", at)
            digest, kind, size = output[at:end].split(b" ")
            start = end + 1
            if kind == b"blob":
                yield digest.decode(), output[start : start + int(size)]
            at = start + int(size) + 1

    def _run(self, *arguments: str, given: bytes = b"") -> bytes:
        try:
            status, output = self._host.run([*self._argv, *arguments], stdin=given, env=_ENV, timeout=_SECONDS)
        except (OSError, TimeoutError) as error:
            raise KrmSopsError(f"git cannot be run: {error}") from None
        if status != 0:
            if arguments[0] == "rev-parse":
                raise KrmSopsError(f"{shown(self._repository)} is no git repository", hint="--history reads one")
            raise _incomplete()
        return output


def _incomplete() -> KrmSopsError:
    return KrmSopsError(
        "git could not read all of the history", hint="is it a partial clone, or damaged? clone all of it, and git fsck"
    )


def _lines(output: bytes) -> list[bytes]:
    return [line for line in output.split(b"\n") if line]
