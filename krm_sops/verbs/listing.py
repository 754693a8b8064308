"""The files that a build of a folder decrypts: its own, and what its kustomizations name in other ones.

It answers whether there is something to decrypt, for a program that has to choose who builds a folder (Argo CD), so it
goes by what files hold, not by their names. Nothing is read outside of the root. What a build would refuse is passed
over here: the build says it better.
"""

from __future__ import annotations

import os
from stat import S_ISDIR

from krm_sops.builds.kustomization import KEYED_SOURCES, PLUGINS, find, read
from krm_sops.builds.manifests import manifests
from krm_sops.errors import KrmSopsError, PolicyError
from krm_sops.functions import FUNCTIONS
from krm_sops.functions.embedded import Search
from krm_sops.functions.expand import is_sops_secret
from krm_sops.krm.item import OPT_OUTS
from krm_sops.krm.stream import Stream
from krm_sops.roots import open_below, read_below, relative
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.tree import Node

_FOLDERS = ("resources", "bases", "components", *PLUGINS)
_PATCHES = ("patches", "patchesJson6902", "patchesStrategicMerge")


def encrypted_files(root: str, start: str, limits: Limits) -> list[str]:
    """Paths from `root`, in the order of the build. A config of one of our functions counts: it names such files.

    start: a file or folder, from the root.  Raises KrmSopsError, OSError where it cannot be read.
    """
    return list(_Search(root, limits).below(start))


class _Search:
    def __init__(self, root: str, limits: Limits) -> None:
        self.root = root
        self.limits = limits
        self.embedded = Search(limits)
        self.seen: set[str] = set()

    def below(self, path: str) -> Iterator[str]:
        path = os.path.normpath(path)
        if path in self.seen:
            return
        self.seen.add(path)
        if not self._is_folder(path):
            if self._is_encrypted(path, is_manifest=True):
                yield path
            return
        name = find(self.root, path)
        if name:
            yield from self._build(path, name)
            return
        for found in manifests(self.root, path, self.limits):
            yield from self.below(found.path)

    def _build(self, folder: str, name: str) -> Iterator[str]:
        """name: of its kustomization file."""
        kustomization = read(self.root, os.path.join(folder, name), self.limits)
        for field in _FOLDERS:
            for reference in _texts(kustomization.get(field)):
                path = self._path(reference, folder)
                try:
                    if "\n" not in reference:
                        yield from self.below(path) if path else ()
                    elif self._is_encrypted_manifest(reference.encode()):
                        yield os.path.normpath(os.path.join(folder, name))
                except (KrmSopsError, OSError):  # a remote base, a file that is not there
                    continue
        for path, by_name in self._inputs(kustomization, folder):
            if path and path not in self.seen:
                self.seen.add(path)
                if self._is_encrypted(path, is_manifest=False, by_name=by_name):
                    yield path

    def _inputs(self, kustomization: Branch, folder: str) -> Iterator[tuple[str, str]]:
        """Files that are no resources, and the names that their formats follow from."""
        for field in KEYED_SOURCES:
            for generator in _branches(kustomization.get(field)):
                for source in _texts(generator.get("files")):
                    key, equals, path = source.partition("=")
                    yield self._path(path if equals else key, folder), key
                for source in [*_texts(generator.get("envs")), *_texts([generator.get("env")])]:
                    yield self._path(source, folder), source
        for field in _PATCHES:
            listed = kustomization.get(field)
            for reference in [*_texts(listed), *_texts([patch.get("path") for patch in _branches(listed)])]:
                yield self._path(reference, folder), reference

    def _path(self, reference: str, folder: str) -> str:
        """From the root; "" for what leads out of it."""
        try:
            return relative(self.root, os.path.join(self.root, folder, reference))
        except (PolicyError, ValueError):
            return ""

    def _is_folder(self, path: str) -> bool:
        descriptor = open_below(self.root, path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return S_ISDIR(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)

    def _is_encrypted(self, path: str, *, is_manifest: bool, by_name: str = "") -> bool:
        try:
            raw = read_below(self.root, path, self.limits.document_bytes)
            if is_manifest:
                return self._is_encrypted_manifest(raw)
            return b"sops" in raw and STORES[format_for_path(by_name)].read(raw, self.limits)[1] is not None
        except (KrmSopsError, OSError):
            return False

    def _is_encrypted_manifest(self, raw: bytes) -> bool:
        stream = Stream(self.limits)
        stream.add(raw)
        if any(_is_wanted(item) for item in stream.encrypted()) or any(stream.of_kind(kind) for kind in FUNCTIONS):
            return True
        return any(self.embedded.inside(item) for item in stream.of_kind("Secret") if _is_wanted(item))


def _is_wanted(item: Item) -> bool:
    """Whether it is decrypted without a config that asks for it."""
    return not is_sops_secret(item.branch) and all(item.annotation(name).lower() != "disabled" for name in OPT_OUTS)


def _texts(node: Node) -> list[str]:
    """Elements of a list that could be paths."""
    return [text for text in node if isinstance(text, str) and text] if isinstance(node, list) else []


def _branches(node: Node) -> list[Branch]:
    return [branch for branch in node if isinstance(branch, Branch)] if isinstance(node, list) else []
