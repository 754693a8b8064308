"""Many files at once: folders and patterns searched for encrypted files, each changed on its own.

Work goes on in threads where services have to be asked; files are written by the main thread, one after the other, each
in one step. So whenever a run is stopped, every file is the old or the new one.
"""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from glob import glob

from krm_sops import cli
from krm_sops.datakey import LOCAL
from krm_sops.errors import KrmSopsError, NoMetadata, StoreError, shown
from krm_sops.verbs import files
from krm_sops.verbs.flags import VALUE, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from krm_sops.verbs.change import EncryptedFile, Session
    from krm_sops.verbs.flags import Arguments

FLAGS = {"older-than": VALUE}
HELP = """\
  --older-than TIME      of many files, leave those alone that were encrypted at TIME (2026-01-31T12:00:00Z) or later:
                         to go on after an interruption
"""
_MARK = b"ENC[AES256_GCM,"
_PASSED_OVER = (".git",)


class Outcome:
    """word: what became of the file, for the summary.  content: what is to be written.  told: for stdout."""

    __slots__ = ("content", "told", "word")

    def __init__(self, word: str, content: bytes | None = None, told: str = "") -> None:
        self.word = word
        self.content = content
        self.told = told


def is_many(given: Arguments) -> bool:
    """--older-than goes with many, so it makes one of them many, too."""
    if given.given("older-than"):
        return True
    return len(given.names) > 1 or any(os.path.isdir(name) or _is_pattern(name) for name in given.names)


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[") and not os.path.lexists(name)


def _paths(names: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each file once, and whether it was named itself. Of folders, no links and no leftovers. Raises FileError."""
    seen = set()
    for name in names:
        if _is_pattern(name):
            matches = sorted(glob(name, recursive=True))
            if not matches:
                raise files.FileError(f"nothing matches {shown(name)!r}", 100)
        else:
            matches = [name]
        for match in matches:
            inner = _below(match) if os.path.isdir(match) else [(match, match == name)]
            for path, is_named in inner:
                real = os.path.realpath(path)
                if real not in seen:
                    seen.add(real)
                    yield path, is_named


def _below(folder: str) -> Iterator[tuple[str, bool]]:
    def fail(error: OSError) -> None:
        raise files.FileError(f"cannot read {shown(error.filename)}: {error.strerror}", 2)

    for where, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(set(folders).difference(_PASSED_OVER))
        for name in sorted(names):
            path = os.path.join(where, name)
            if os.path.isfile(path) and not os.path.islink(path) and not files.is_leftover(name):
                yield path, False


def _is_encrypted(session: Session, path: str) -> bool:
    """Of a file that nobody named. What holds ciphertext but cannot be read is an error, if its name tells a format."""
    if _MARK not in files.read(path):
        return False
    try:
        session.read(path)
    except NoMetadata:
        session.warn(f"{files.named(path)} holds ciphertext, but no metadata at the top of its first document")
        return False
    except StoreError:
        if session.formats(path)[0] == "binary":
            return False
        raise
    return True


class _Run:
    def __init__(
        self, session: Session, work: Callable[[EncryptedFile], Outcome], *, renews: bool, one_by_one: bool
    ) -> None:
        self.session = session
        self.work = work
        self.counts: dict[str, int] = {}
        self.failed = 0
        self.done = 0
        self.total = 0
        given = session.given.text("older-than")
        self.limit = _moment(given) if given else None
        self.since = given or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.renews = renews
        self.one_by_one = one_by_one
        self.progress = os.isatty(2) and not one_by_one

    def jobs(self) -> list[str]:
        found = []
        for path, is_named in _paths(self.session.given.names):
            try:
                if is_named or _is_encrypted(self.session, path):
                    found.append(path)
            except KrmSopsError as error:
                self._fail(path, error)
        return found

    def threads(self, paths: Sequence[str]) -> int:
        """As many as may call services at once; one where none is asked, as a person may be."""
        for path in () if self.one_by_one else paths:
            try:
                if any(key.section not in LOCAL for key in self.session.read(path).metadata.keys()):  # noqa: SIM118
                    return min(self.session.host.limits.remote_calls, len(paths))
            except KrmSopsError:
                continue
        return 1

    def one(self, path: str) -> Outcome:
        file = self.session.read(path)
        if self.limit is not None and _moment(file.metadata.lastmodified) >= self.limit:
            return Outcome("encrypted since")
        return self.work(file)

    def all(self, paths: Sequence[str]) -> None:
        self.total = len(paths)
        count = self.threads(paths)
        if count == 1:
            for path in paths:
                self.finish(path, lambda path=path: self.one(path))  # type: ignore[misc]
            return
        from concurrent.futures import ThreadPoolExecutor, as_completed

        with ThreadPoolExecutor(count) as pool:
            waiting = {pool.submit(self.one, path): path for path in paths}
            for future in as_completed(waiting):
                self.finish(waiting[future], future.result)

    def finish(self, path: str, result: Callable[[], Outcome]) -> None:
        try:
            outcome = result()
            if outcome.told:
                cli.write_out(outcome.told.encode())
            if outcome.content is not None:
                self._write(path, outcome.content)
        except KrmSopsError as error:
            self._fail(path, error)
        else:
            self.counts[outcome.word] = self.counts.get(outcome.word, 0) + 1
        self._show()

    def _write(self, path: str, content: bytes) -> None:
        """A signal waits until the file is written and counted."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        try:
            files.write(path, content)
            self.done += 1
            cli.outcome = f"{self.done} of {self.total} files were written{self.hint('; go on with')}"
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def hint(self, words: str) -> str:
        return f"{words} --older-than {self.since}" if self.renews else ""

    def _fail(self, path: str, error: KrmSopsError) -> None:
        self.failed += 1
        where = ".".join([files.named(path), *(shown(part, 80) for part in error.path)])
        cli.say(f"error: {where}: {error}")
        if error.hint:
            cli.say(f"hint: {error.hint}")

    def _show(self) -> None:
        """The progress, on one line that the next one takes."""
        if self.progress:
            done = sum(self.counts.values()) + self.failed
            end = "\n" if done >= self.total else "\r"
            os.write(2, f"\rkrm-sops: {done} of {self.total}\x1b[K{end}".encode())


def run(
    session: Session, work: Callable[[EncryptedFile], Outcome], failure: str, *, renews: bool, one_by_one: bool = False
) -> int:
    """The exit status.

    failure: what to say of so many files.  renews: whether a file tells when it was done.  one_by_one: with a person,
    who is asked.
    """
    if session.given.text("older-than") and not renews:
        raise UsageError("--older-than is for what encrypts files again: files that are in step are recognised")
    state = _Run(session, work, renews=renews, one_by_one=one_by_one)
    paths = state.jobs()
    if not paths and not state.failed:
        raise files.FileError("there is no encrypted file", 100)
    state.all(paths)
    cli.say(", ".join(f"{count} {word}" for word, count in state.counts.items()) or "nothing was changed")
    if not state.failed:
        return 0
    cli.say(f"error: {failure.format(state.failed)}")
    if state.renews and state.done:
        cli.say(state.hint("hint: when that is solved, go on with"))
    return 1


def _moment(text: str) -> datetime:
    """Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise UsageError(f"{shown(text, 60)!r} is no moment", hint="it reads like 2026-01-31T12:00:00Z")
    return found
