"""The files that a command line names, each read below its repository's root, and the `.sops.yaml` it is under."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from krm_sops.errors import ConfigError, PolicyError, shown
from krm_sops.roots import read_below, source_root
from krm_sops.rules import FILE_NAME, Rules
from krm_sops.verbs.files import FileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from krm_sops.host import Host
    from krm_sops.policy import Policy

EXCLUDE_HELP = "  --exclude GLOB         do not look at these files or folders; * matches / too; repeatable\n"


class Sources:
    def __init__(self, host: Host, policy: Policy, exclude: Sequence[str], tell: Callable[[str, str], None]) -> None:
        """tell: gets a message and the file or folder that it is about, where one cannot be read or used."""
        self._host = host
        self._policy = policy
        self._exclude = [glob.rstrip("/") for glob in exclude]
        self._tell = tell
        self._roots: dict[str, str] = {}
        self._rules: dict[tuple[str, str], Rules | None] = {}

    def files(self, path: str) -> Iterator[str]:
        """A file, or the regular ones below a folder. Raises FileError where nothing is there."""
        if os.path.isdir(path):
            yield from self._below(path)
        elif not os.path.lexists(path):
            raise FileError(f"cannot operate on non-existent file {shown(path)}", 2)
        elif not self._is_excluded(path):
            yield path

    def place(self, path: str) -> tuple[str, str]:
        """The root that nothing is read outside of, and the path from there."""
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        root = self._roots.get(folder)
        if root is None:
            here = source_root(self._host, self._policy)
            is_here = folder == here or folder.startswith(here.rstrip("/") + "/")
            root = self._roots[folder] = here if is_here else source_root(self._host, self._policy, folder)
        return root, os.path.relpath(os.path.join(folder, name), root)

    def rules_for(self, root: str, path: str) -> Rules | None:
        """The nearest `.sops.yaml`, from the file's folder upwards to the root. It is not under itself."""
        folder, name = os.path.split(path)
        if name == FILE_NAME:
            return None
        while True:
            rules = self._rules_of(root, folder)
            if rules is not None or not folder:
                return rules
            folder = os.path.dirname(folder)

    def _rules_of(self, root: str, folder: str) -> Rules | None:
        """The `.sops.yaml` of one folder."""
        if (root, folder) not in self._rules:
            self._rules[root, folder] = self._read_rules(root, folder)
        return self._rules[root, folder]

    def _read_rules(self, root: str, folder: str) -> Rules | None:
        path = os.path.join(folder, FILE_NAME)
        try:
            raw = read_below(root, path, self._policy.limits.document_bytes)
        except (OSError, PolicyError):
            return None
        name = os.path.relpath(os.path.join(root, path))
        try:
            return Rules(raw, name, os.path.join(root, folder).rstrip("/"))
        except ConfigError as error:
            self._tell(error.message, name)
        return None

    def _is_excluded(self, path: str) -> bool:
        """Whether a glob is for it, or for a folder that it is in: by its path or by its name alone."""
        at = os.path.normpath(path)
        while at not in ("", "/"):
            if any(fnmatchcase(at, glob) or fnmatchcase(os.path.basename(at), glob) for glob in self._exclude):
                return True
            at = os.path.dirname(at)
        return False

    def _below(self, folder: str) -> Iterator[str]:
        """The regular files below a folder, in order. A link's target has its own turn, or is none of this folder's."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._tell(f"a folder that cannot be listed: {error.strerror}", os.path.normpath(folder))
            return
        for entry in entries:
            if self._is_excluded(entry.path):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".git":
                    yield from self._below(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path
