"""A kustomization file: finding and reading it, and which of its fields name files.

kustomize matches the names of fields in any letter case; here only the proper spelling passes, so that no file can be
named in a way that goes unnoticed (S2).
"""

from __future__ import annotations

import os

from krm_sops.builds.merging import merged
from krm_sops.errors import ConfigError, InputError, LimitError, shown
from krm_sops.krm.item import refuse_duplicates
from krm_sops.roots import open_below, read_below
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from krm_sops.limits import Limits

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
PLUGINS = ("generators", "transformers", "validators")
"""Fields whose entries are functions' configs, in files or inline."""
HELM = ("helmCharts", "helmGlobals", "helmChartInflationGenerator")
KEYED_SOURCES = ("configMapGenerator", "secretGenerator")
_PLAIN = (
    *("apiVersion", "kind", "metadata", "namePrefix", "nameSuffix", "namespace", "commonLabels", "labels"),
    *("commonAnnotations", "images", "imageTags", "replicas", "vars", "sortOptions", "generatorOptions"),
    "buildMetadata",
)
_NAMING = (
    *("resources", "bases", "components", "crds", "configurations", "openapi", "patches", "patchesJson6902"),
    *("patchesStrategicMerge", "replacements", *KEYED_SOURCES, *PLUGINS, *HELM),
)
FIELDS = frozenset((*_PLAIN, *_NAMING))
SOURCE_FIELDS = ("files", "env", "envs", "path", "paths")
"""Of an entry in a list, and of the config of a built-in transformer or generator: what names files."""


def find(root: str, folder: str) -> str:
    """The name of the kustomization file in a folder, "" for none. Raises ConfigError for several, OSError."""
    descriptor = open_below(root, folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = [name for name in NAMES if _is_there(name, descriptor)]
    finally:
        os.close(descriptor)
    if len(found) > 1:
        raise ConfigError(f"{shown(folder)} has several kustomization files: {', '.join(found)}", hint="keep one")
    return found[0] if found else ""


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def read(root: str, path: str, limits: Limits) -> Branch:
    """A kustomization file. path: from the root.

    Raises ConfigError for what kustomize would not take or could take in another way, LimitError, PolicyError, OSError.
    """
    from krm_sops.yamlio import read as read_yaml

    raw = read_below(root, path, limits.document_bytes)
    try:
        source = read_yaml(raw.decode().removeprefix("\ufeff"), limits, limits.document_nodes)
        refuse_duplicates(source.root)
        branch = merged(source, is_old=True)
    except LimitError as error:
        raise LimitError(f"{shown(path)}: {error.message}") from None
    except InputError as error:
        raise ConfigError(f"{shown(path)}: {error.message}", hint=error.hint) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{shown(path)}: no UTF-8") from None
    if not isinstance(branch, Branch):
        raise ConfigError(f"{shown(path)} is no mapping")
    check_names(branch, FIELDS, path, "")
    return branch


def check_names(branch: Branch, known: Collection[object], path: str, where: str) -> None:
    """Raises ConfigError for a field that is not known."""
    for entry in branch.entries:
        if entry.key not in known:
            raise ConfigError(f"{shown(path)}: {where}{shown(entry.key, 60)} is no field of a kustomization")


def check_spelling(branch: Branch, names: Iterable[str], path: str, where: str) -> None:
    """Raises ConfigError for a field that is one of `names` but for its letter case."""
    for entry in branch.entries:
        key = str(entry.key)
        if key not in names and key.casefold() in names:
            raise ConfigError(f"{shown(path)}: {where}{shown(key, 60)} must be spelled {key.casefold()}")
