"""The manifests below a folder that has no kustomization: which files, and which folders that are built.

As Flux makes a kustomization where there is none: every file, and a folder with a kustomization of its own as one
thing. Hidden files and folders are not looked at, links to folders not followed.
"""

from __future__ import annotations

import os

from krm_sops.builds import ignore
from krm_sops.builds.kustomization import find
from krm_sops.errors import ConfigError, LimitError, shown
from krm_sops.roots import open_below, read_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.limits import Limits

_SUFFIXES = (".yaml", ".yml", ".json")
_LARGEST_IGNORE = 1 << 16


class Found:
    """path: from the root.  is_build: a folder with a kustomization."""

    __slots__ = ("is_build", "path")

    def __init__(self, path: str, *, is_build: bool) -> None:
        self.path = path
        self.is_build = is_build


def manifests(root: str, folder: str, limits: Limits) -> list[Found]:
    """folder: from the root; itself without a kustomization. In the order of the names.

    Raises ConfigError, PolicyError for a link that leads out, LimitError, OSError.
    """
    found: list[Found] = []
    _walk(root, folder, (), [], found, limits)
    return found


def _walk(
    root: str,
    folder: str,
    inner: tuple[str, ...],
    rules: Sequence[tuple[int, list[ignore.Rule]]],
    found: list[Found],
    limits: Limits,
) -> None:
    """inner: the components from where the walk began.  rules: with the number of components to their folder."""
    if len(inner) > limits.depth:
        raise LimitError(f"{shown(folder)}: folders nested deeper than {limits.depth} (the limit depth)")
    own = _rules(root, folder)
    if own:
        rules = [*rules, (len(inner), own)]
    for name, is_folder in _listed(root, folder):
        path = (*inner, name)
        where = os.path.normpath(os.path.join(folder, name))
        if any(ignore.is_ignored(own, path[depth:], is_folder=is_folder) for depth, own in rules):
            continue
        if not is_folder:
            if name.endswith(_SUFFIXES):
                found.append(Found(where, is_build=False))
        elif _is_build(root, where, path, rules):
            found.append(Found(where, is_build=True))
        else:
            _walk(root, where, path, rules, found, limits)
        if len(found) > limits.run_nodes:
            raise LimitError(f"more than {limits.run_nodes} files (the limit run_nodes)")


def _is_build(root: str, folder: str, inner: tuple[str, ...], rules: Sequence[tuple[int, list[ignore.Rule]]]) -> bool:
    """Whether a folder has a kustomization that is not ignored itself."""
    name = find(root, folder)
    own = _rules(root, folder) if name else []
    rules = [*rules, (len(inner), own)]
    path = (*inner, name)
    return bool(name) and not any(ignore.is_ignored(one, path[depth:], is_folder=False) for depth, one in rules)


def _listed(root: str, folder: str) -> list[tuple[str, bool]]:
    """What a folder holds, and whether each is a folder itself."""
    descriptor = open_below(root, folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            return sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.name.startswith(".") and (not entry.is_symlink() or not entry.is_dir())
            )
    finally:
        os.close(descriptor)


def _rules(root: str, folder: str) -> list[ignore.Rule]:
    path = os.path.join(folder, ignore.NAME)
    try:
        raw = read_below(root, path, _LARGEST_IGNORE)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read {shown(path)}: {(error.strerror or 'unreadable').lower()}") from None
    return ignore.read(raw.decode("utf-8", "replace"), path)
