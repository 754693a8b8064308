"""A folder of secret files that is replaced as a whole: ``D`` is a link to ``D.d/N``, as sops-nix has it.

Rules (S30): the names of files are checked before anything is written; a new generation grows under a name of its own,
each file made exclusively, following no link, owner and mode before content; one rename makes it the current one. A run
that is cut off, wherever, leaves the old or the new generation behind the link; the next run clears what it left.
Source: Mic92/sops-nix, pkgs/sops-install-secrets/main.go.
"""

from __future__ import annotations

import os
import stat

from krm_sops.errors import ConfigError, InputError, KrmSopsError, PolicyError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeAlias

    Tree: TypeAlias = "dict[str, Tree | bytes]"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_INCOMING = "incoming"
"""The generation that is being written; no number, so nothing takes it for one that is complete."""
_IN_MEMORY = ("tmpfs", "ramfs")


class Access:
    """Who may read the files.  mode: of each file.  owner, group: numbers; -1 for those of the process."""

    def __init__(self, mode: int, owner: int = -1, group: int = -1) -> None:
        self.mode = mode
        self.owner = owner
        self.group = group

    @property
    def folder_mode(self) -> int:
        """Folders stay the process's own; whoever may read the files can pass, and list what all of his class may."""
        passing = 0o011 if self.owner not in (-1, os.geteuid()) else 0
        group = 0o050 if self.mode & 0o070 else 0
        return 0o700 | passing | group | (0o055 if self.mode & 0o007 else 0)


def tree_of(files: Iterable[tuple[tuple[str, ...], bytes | None]]) -> Tree:
    """Contents by the names on their ways; None for an empty folder.

    Raises InputError for a name that no file may have, and for names that are alike but for their case.
    """
    tree: Tree = {}
    for names, content in files:
        at = tree
        for name in names[:-1]:
            inner = at.setdefault(_checked(name, at, names), {})
            if not isinstance(inner, dict):
                raise InputError("a file and a folder of one name", path=names)
            at = inner
        last = _checked(names[-1], at, names)
        if last in at and (content is not None or not isinstance(at[last], dict)):
            raise InputError("two files of one name", path=names)
        if last not in at:
            at[last] = {} if content is None else content
    return tree


def _checked(name: str, beside: Mapping[str, object], names: tuple[str, ...]) -> str:
    if name in (".", "..") or not 1 <= len(name) <= 255 or not _NAME.issuperset(name):
        hint = "1 to 255 of letters, digits and . _ -, but not . or .. alone"
        raise InputError(f"{shown(name, 80)!r} cannot be the name of a file", hint=hint, path=names)
    if name not in beside and any(name.lower() == other.lower() for other in beside):
        raise InputError(f"{shown(name, 80)!r} is there already, in another case", path=names)
    return name


def replace(target: str, tree: Tree, access: Access, *, keep: int = 1, tmpfs_only: bool = False) -> int:
    """Make `tree` what `target` shows; the number of the new generation.

    keep: how many generations stay; 0 for all of them.  tmpfs_only: on nothing but a file system in memory.
    Raises ConfigError, PolicyError, KrmSopsError; then `target` shows what it did before.
    """
    folder, name = os.path.split(os.path.normpath(target))
    if name in ("", ".", ".."):
        raise ConfigError(f"{shown(target)} cannot be the name of a link")
    try:
        parent = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _Generations(parent, name, access).replace(tree, keep, tmpfs_only=tmpfs_only)
        finally:
            os.close(parent)
    except OSError as error:
        raise KrmSopsError(f"cannot replace {shown(target)}: {error.strerror}") from None


class _Generations:
    """parent: the open folder of the link.  name: of the link.  Raises OSError where nothing else is said."""

    def __init__(self, parent: int, name: str, access: Access) -> None:
        self.parent = parent
        self.name = name
        self.access = access

    def replace(self, tree: Tree, keep: int, *, tmpfs_only: bool) -> int:
        self._current()
        try:
            os.mkdir(f"{self.name}.d", 0o700, dir_fd=self.parent)
        except FileExistsError:
            pass
        store = os.open(f"{self.name}.d", _FOLDER, dir_fd=self.parent)
        try:
            self._check(store, tmpfs_only=tmpfs_only)
            import _signal as signals
            import fcntl

            fcntl.flock(store, fcntl.LOCK_EX)
            mask = signals.pthread_sigmask(signals.SIG_BLOCK, (signals.SIGTERM, signals.SIGINT, signals.SIGHUP))
            try:  # signals wait until it is done, or undone
                return self._next(store, tree, keep)
            finally:
                signals.pthread_sigmask(signals.SIG_SETMASK, mask)
        finally:
            os.close(store)

    def _next(self, store: int, tree: Tree, keep: int) -> int:
        """store: the open folder of the generations, which is ours alone."""
        _remove(store, _INCOMING)
        number = max([self._current(), *_numbers(store)]) + 1
        try:
            self._write(store, tree)
            os.rename(_INCOMING, str(number), src_dir_fd=store, dst_dir_fd=store)
            os.fsync(store)
        except BaseException:
            _remove(store, _INCOMING)
            raise
        self._switch(number)
        for old in _numbers(store):
            if keep and old <= number - keep:
                _remove(store, str(old))
        return number

    def _current(self) -> int:
        """The number of the generation that the link shows; 0 for none. Raises ConfigError for anything else there."""
        try:
            found = os.readlink(self.name, dir_fd=self.parent)
        except FileNotFoundError:
            return 0
        except OSError:
            found = ""
        folder, _, number = found.rpartition("/")
        if folder != f"{self.name}.d" or not (number.isascii() and number.isdecimal()):
            raise ConfigError(
                f"{shown(self.name)} is there, but is no link to a generation in {shown(self.name)}.d",
                hint="name a path that is free, or move away what is there",
            )
        return int(number)

    def _check(self, store: int, *, tmpfs_only: bool) -> None:
        """Nobody else may have made the folder, or be able to put something into it. Raises PolicyError."""
        found = os.fstat(store)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise PolicyError(
                f"{shown(self.name)}.d belongs to somebody else, or others may write to it",
                hint="the folder that holds the generations must be the caller's own",
            )
        if tmpfs_only and _file_system(found.st_dev) not in _IN_MEMORY:
            raise PolicyError(
                f"{shown(self.name)}.d would be on a disk, and --tmpfs-only is given",
                hint="name a folder on a tmpfs: /run, /dev/shm, or an emptyDir with medium: Memory",
            )
        self._open_up(store)

    def _write(self, store: int, tree: Tree) -> None:
        os.mkdir(_INCOMING, 0o700, dir_fd=store)
        self._fill(store, _INCOMING, tree)

    def _fill(self, outer: int, name: str, tree: Tree) -> None:
        folder = os.open(name, _FOLDER, dir_fd=outer)
        try:
            for inner, content in tree.items():
                if isinstance(content, bytes):
                    self._file(folder, inner, content)
                else:
                    os.mkdir(inner, 0o700, dir_fd=folder)
                    self._fill(folder, inner, content)
            self._open_up(folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def _file(self, folder: int, name: str, content: bytes) -> None:
        with open(os.open(name, _NEW, 0, dir_fd=folder), "wb") as file:
            os.fchmod(file.fileno(), self.access.mode)  # first, while it is ours to do without a capability
            if (self.access.owner, self.access.group) != (-1, -1):
                os.fchown(file.fileno(), self.access.owner, self.access.group)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _open_up(self, folder: int) -> None:
        if self.access.group != -1:
            os.fchown(folder, -1, self.access.group)
        os.fchmod(folder, self.access.folder_mode)

    def _switch(self, number: int) -> None:
        beside = f".{self.name}.new"
        try:
            os.unlink(beside, dir_fd=self.parent)
        except FileNotFoundError:
            pass
        os.symlink(f"{self.name}.d/{number}", beside, dir_fd=self.parent)
        os.rename(beside, self.name, src_dir_fd=self.parent, dst_dir_fd=self.parent)
        os.fsync(self.parent)


def _numbers(store: int) -> list[int]:
    return [int(name) for name in os.listdir(store) if name.isascii() and name.isdecimal()]


def _remove(store: int, name: str) -> None:
    """A folder below `store`, whatever is in it, as far as that can be had; no link is followed."""
    import shutil

    shutil.rmtree(name, ignore_errors=True, dir_fd=store)


def _file_system(device: int) -> str:
    """The type of the file system with this device number, as Linux tells it; "" where nothing does."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    found = [line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2:3] == [wanted]]
    return found[-1] if found else ""
