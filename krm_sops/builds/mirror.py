"""A private copy of what a kustomization names: regular files of the repository, and nothing else (S2, S24).

kustomize sees only this copy, in which it may not leave the folder of a kustomization. Each kustomization is written
anew from what was understood of it, each file it names is looked up below the repository's root, and what Flux would
decrypt before a build is put under a name that nobody can guess, for the one entry that names it.

Source of what is decrypted, and by which format: fluxcd/kustomize-controller 1.9, internal/decryptor/decryptor.go.
"""

from __future__ import annotations

import os

from krm_sops.builds import kustomization
from krm_sops.errors import ConfigError, InputError, KrmSopsError, LimitError, PolicyError, shown
from krm_sops.functions.files import AS_MANIFEST, EncryptedFile, in_file
from krm_sops.krm.stream import Stream
from krm_sops.roots import open_below, read_below, relative
from krm_sops.stores import STORES, format_for_path
from krm_sops.stores.json import in_one_line
from krm_sops.tree import Branch, Entry
from krm_sops.yamlio import read as read_yaml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from krm_sops.builds.plugins import Plugins
    from krm_sops.builds.private import PrivateFolder
    from krm_sops.credentials import Credentials
    from krm_sops.krm.item import Item
    from krm_sops.krm.stream import Document
    from krm_sops.limits import Limits
    from krm_sops.metadata import Metadata
    from krm_sops.tree import Node

SOURCE = "source"
"""The repository's root, in the private folder."""
_OUTSIDE = ".krm-sops-root"
"""Below a kustomization's folder: the files that it names outside of this folder, by their paths from the root."""
_MARKERS = {
    "yaml": b"mac: ENC[",
    "json": b'"mac": "ENC[',
    "binary": b'"mac": "ENC[',
    "dotenv": b"sops_mac=ENC[",
    "ini": b"[sops]",
}
"""By which Flux takes a file for encrypted: then it must be one. Other spellings of the same count where it is."""


class Input:
    """A file to decrypt before the build. place: where its plaintext goes.

    as_value: it becomes one value, whole.  is_patch: kustomize reads it as one.
    """

    __slots__ = ("as_value", "file", "is_patch", "place")

    def __init__(self, file: EncryptedFile, place: str, *, as_value: bool, is_patch: bool) -> None:
        self.file = file
        self.place = place
        self.as_value = as_value
        self.is_patch = is_patch


class Mirror:
    """originals: the manifests that may be encrypted, as they are, by their paths from the root.

    inputs: what is still to be decrypted.  remote: the first resource of somewhere else, "" for none.
    names: the private names, and what they stand for.  configs: those of functions' configs, and what kustomize would
    call them in annotations.  mask: no plaintext is written.
    """

    def __init__(
        self,
        root: str,
        limits: Limits,
        private: PrivateFolder,
        plugins: Plugins,
        *,
        allow_remote: bool = False,
        mask: bool = False,
    ) -> None:
        self.root = root
        self.limits = limits
        self.private = private
        self.plugins = plugins
        self.allow_remote = allow_remote
        self.mask = mask
        self.originals: dict[str, bytes] = {}
        self.inputs: list[Input] = []
        self.remote = ""
        self.names: dict[str, str] = {}
        self.configs: dict[str, str] = {}
        self._folders: set[str] = set()
        self._written: dict[str, bytes] = {}
        self._bytes_left = limits.input_bytes
        self._nodes_left = limits.run_nodes

    def add(self, folder: str) -> str:
        """Copy a folder with its kustomization, and all that this one names. folder: from the root. Its kind.

        Raises ConfigError, PolicyError, LimitError.
        """
        if folder in self._folders:
            return ""
        self._folders.add(folder)
        try:
            name = kustomization.find(self.root, folder)
        except OSError as error:
            raise ConfigError(f"cannot read {shown(folder)}: {_why(error)}") from None
        if not name:
            raise ConfigError(f"{shown(folder)} has no kustomization file", hint="name a file, or add a kustomization")
        path = os.path.normpath(os.path.join(folder, name))
        try:
            branch = kustomization.read(self.root, path, self.limits)
        except OSError as error:
            raise ConfigError(f"cannot read {shown(path)}: {_why(error)}") from None
        place = os.path.normpath(os.path.join(folder, "kustomization.yaml"))
        new = _Kustomization(self, folder, path).rewritten(branch)
        self._write(place, in_one_line(new).encode() + b"\n", path)
        return str(branch.get("kind") or "Kustomization")

    def decrypt(self, credentials: Credentials) -> None:
        """Write the plaintext of all inputs. Raises what `EncryptedFile.decrypt` does."""
        for given in self.inputs:
            file = given.file
            if self.mask and not given.as_value:  # whose keys kustomize needs
                use = AS_MANIFEST if given.is_patch else ""
                content = STORES[file.format].write_plain(file.decrypt(credentials, use))
            else:
                content = file.content(credentials)
            self.private.write(f"{SOURCE}/{given.place}", content)

    @property
    def metadata(self) -> list[Metadata]:
        return [given.file.metadata for given in self.inputs]

    def path_of(self, reference: str, folder: str, kustomization_path: str) -> str:
        """What a reference in `folder` means, from the root. Raises PolicyError."""
        if reference.startswith("/"):
            raise PolicyError(
                f"{shown(kustomization_path)}: {shown(reference)} is an absolute path",
                hint="name files relative to the kustomization, inside the repository",
            )
        try:
            return relative(self.root, reference, os.path.join(self.root, folder))
        except PolicyError as error:
            raise PolicyError(f"{shown(kustomization_path)}: {error.message}", hint=error.hint) from None

    def read(self, path: str, kustomization_path: str) -> bytes:
        """path: from the root. Raises ConfigError, PolicyError, LimitError."""
        limits = self.limits
        try:
            raw = read_below(self.root, path, min(self._bytes_left, limits.input_bytes))
        except PolicyError as error:
            raise PolicyError(f"{shown(kustomization_path)}: {error.message}", hint=error.hint) from None
        except OSError as error:
            if error.errno == 27:
                text = f"files of more than {limits.input_bytes >> 20} MiB together (the limit input_bytes)"
                raise LimitError(f"{shown(kustomization_path)}: {text}") from None
            raise ConfigError(f"{shown(kustomization_path)}: cannot read {shown(path)}: {_why(error)}") from None
        except ValueError:
            raise ConfigError(f"{shown(kustomization_path)}: no file can be called {shown(path)}") from None
        self._bytes_left -= len(raw)
        return raw

    def is_folder(self, path: str) -> bool:
        try:
            os.close(open_below(self.root, path, os.O_RDONLY | os.O_DIRECTORY))
        except (OSError, ValueError):
            return False
        return True

    def unlinked(self, folder: str, kustomization_path: str) -> str:
        """A folder by its own name: where kustomize says that it is. Raises PolicyError."""
        return self.path_of(
            os.path.relpath(os.path.realpath(f"{self.root}/{folder}"), self.root), ".", kustomization_path
        )

    def copy(self, path: str, folder: str, raw: bytes) -> str:
        """Put a file where kustomize may read it for the kustomization in `folder`; the reference to it."""
        inner = path if folder == "." else path.removeprefix(folder + "/")
        inside = folder == "." or inner != path
        inner = inner if inside else f"{_OUTSIDE}/{path}"
        self._write(os.path.normpath(os.path.join(folder, inner)), raw, path)
        return f"./{inner}"

    def hide(self, content: bytes | None, folder: str, suffix: str, meant: str) -> tuple[str, str]:
        """A place that nobody can guess, with this content if there is one yet: the reference, the path from the root.

        meant: what it stands for, in messages.
        """
        name = os.urandom(16).hex() + suffix
        self.names[name] = meant
        place = os.path.normpath(os.path.join(folder, name))
        if content is not None:
            self.private.write(f"{SOURCE}/{place}", content)
        return f"./{name}", place

    def encrypted_input(
        self, path: str, raw: bytes, format_: str, folder: str, *, as_value: bool, is_patch: bool
    ) -> str:
        """The reference to what this file's plaintext will be; "" where it is not encrypted as this format."""
        limits = self.limits
        if b"sops" not in raw:
            return ""
        if len(raw) > limits.document_bytes:
            text = f"an encrypted file of more than {limits.document_bytes} bytes (the limit document_bytes)"
            raise LimitError(f"{shown(path)}: {text}")
        try:
            file = EncryptedFile(path, format_, raw, limits, self._nodes_left, mask=self.mask)
        except KrmSopsError as error:
            if isinstance(error, InputError) and _MARKERS[format_] not in raw:
                return ""
            raise in_file(error, path) from None
        self._nodes_left -= file.nodes
        reference, place = self.hide(None, folder, "", path)
        self.inputs.append(Input(file, place, as_value=as_value, is_patch=is_patch))
        return reference

    def _write(self, place: str, content: bytes, path: str) -> None:
        if self._written.setdefault(place, content) is not content:
            if self._written[place] != content:
                raise ConfigError(f"{shown(path)} is a kustomization, which cannot be named as a file")
            return
        self.private.write(f"{SOURCE}/{place}", content)


class _Kustomization:
    """One kustomization, on its way into the mirror. folder, path: its folder's and its own, from the root."""

    def __init__(self, mirror: Mirror, folder: str, path: str) -> None:
        self.mirror = mirror
        self.folder = folder
        self.path = path

    def rewritten(self, branch: Branch) -> Branch:
        ways: dict[str, Callable[[Node, str], Node]] = {
            "resources": self._each(self._resource),
            "bases": self._each(self._resource),
            "components": self._each(self._resource),
            "crds": self._each(self._file),
            "configurations": self._each(self._file),
            "patchesStrategicMerge": self._each(self._file_or_text),
            "openapi": self._sources,
            "replacements": self._each_entry,
            "patchesJson6902": self._each_entry,
            "configMapGenerator": self._each_entry,
            "patches": self._each_entry,
            "secretGenerator": self._each_entry,
            **dict.fromkeys(kustomization.PLUGINS, self._each(self._plugin)),
            **dict.fromkeys(kustomization.HELM, self._refuse_helm),
        }
        entries = []
        for entry in branch.entries:
            key = str(entry.key)
            way = ways.get(key)
            entries.append(Entry(key, way(entry.value, key) if way and entry.value is not None else entry.value))
        return Branch(entries)

    def _each(self, way: Callable[[str, str], str]) -> Callable[[Node, str], Node]:
        def rewritten(node: Node, field: str) -> Node:
            if not isinstance(node, list):
                raise self._wrong(f"{field} is no list")
            found: list[Node] = []
            for element in node:
                if not isinstance(element, str):
                    raise self._wrong(f"{field} holds something else than texts")
                found.append(way(element, field))
            return found

        return rewritten

    def _each_entry(self, node: Node, field: str) -> Node:
        if not isinstance(node, list):
            raise self._wrong(f"{field} is no list")
        return [self._sources(element, field) for element in node]

    def _sources(self, node: Node, field: str) -> Node:
        """A mapping that may name files."""
        if not isinstance(node, Branch):
            raise self._wrong(f"{field} holds something else than mappings")
        kustomization.check_spelling(node, kustomization.SOURCE_FIELDS, self.path, f"{field}: ")
        entries = []
        for entry in node.entries:
            value = entry.value
            if entry.key in ("path", "env") and value is not None:
                value = self._source(value, field, str(entry.key))
            elif entry.key in ("files", "envs", "paths") and value is not None:
                if not isinstance(value, list):
                    raise self._wrong(f"{field}: {entry.key} is no list")
                value = [self._source(element, field, str(entry.key)) for element in value]
            elif entry.key == "replacements" and isinstance(value, list):  # of the built-in transformer
                value = self._each_entry(value, field)
            entries.append(Entry(entry.key, value))
        return Branch(entries)

    def _source(self, value: Node, field: str, key: str) -> Node:
        """One reference in a generator or a patch, its file decrypted where Flux would."""
        if not isinstance(value, str):
            raise self._wrong(f"{field}: {key} holds something else than texts")
        if key == "paths":
            return self._file_or_text(value, field)
        name, equals, reference = value.partition("=") if key == "files" else ("", "", value)
        reference = reference if equals else value
        if not reference:
            return value
        path = self._path(reference)
        raw = self.mirror.read(path, self.path)
        if key == "files":
            name = name if equals else os.path.basename(reference)
        new = self._decrypted(path, raw, field, key, name if equals else reference)
        new = new or self.mirror.copy(path, self.folder, raw)
        return f"{name}={new}" if key == "files" else new

    def _decrypted(self, path: str, raw: bytes, field: str, key: str, named: str) -> str:
        """named: what its format follows from."""
        if field not in ("secretGenerator", "patches"):
            return ""
        format_ = "json" if named.endswith(".dockerconfigjson") else format_for_path(named)
        if key in ("env", "envs") and format_ == "binary":
            format_ = "dotenv"
        return self.mirror.encrypted_input(
            path, raw, format_, self.folder, as_value=key == "files", is_patch=field == "patches"
        )

    def _resource(self, reference: str, field: str) -> str:
        """A manifest, a folder with a kustomization, or something remote."""
        mirror = self.mirror
        if _is_remote(reference):
            if not mirror.allow_remote:
                raise PolicyError(
                    f"{shown(self.path)}: {shown(reference)} is remote, and nothing is fetched for a build",
                    hint="copy it into the repository, or allow it with --allow-remote",
                )
            mirror.remote = mirror.remote or reference
            return reference
        path = self._path(reference)
        if not mirror.is_folder(path):
            if field == "components":
                raise self._wrong(f"the component {shown(reference)} is no folder of the repository")
            raw = mirror.read(path, self.path)
            if b"sops" in raw:
                mirror.originals[path] = raw
                self._refuse_encrypted_list(path, raw)
            return mirror.copy(path, self.folder, raw)
        path = mirror.unlinked(path, self.path)
        mirror.add(path)
        inner = os.path.relpath(path, self.folder)
        return inner if inner.startswith("..") else f"./{inner}"

    def _refuse_encrypted_list(self, path: str, raw: bytes) -> None:
        """kustomize takes a List apart: its ``sops`` block would be lost, and each value's place in the document."""
        if b"List" not in raw:
            return
        for document in Stream(self.mirror.limits).parse(raw, path):
            if any(map(_is_encrypted_list, _items(document))):
                raise InputError(
                    f"{document}: an encrypted List, which kustomize takes apart, so that nothing could decrypt it",
                    hint="encrypt its objects as documents of their own; or render the file without a kustomization",
                )

    def _file(self, reference: str, _field: str) -> str:
        path = self._path(reference)
        return self.mirror.copy(path, self.folder, self.mirror.read(path, self.path))

    def _file_or_text(self, text: str, field: str) -> str:
        """A file, unless the text is the content itself."""
        return text if _is_inline(text, self.mirror) else self._file(text, field)

    def _plugin(self, text: str, field: str) -> str:
        mirror = self.mirror
        is_inline = _is_inline(text, mirror)
        if is_inline:
            raw, where = text.encode("utf-8", "surrogateescape"), f"{self.path}: {field}"
        elif _is_remote(text):
            raise PolicyError(f"{shown(self.path)}: {shown(text)} is remote, and so can be no function's config")
        else:
            where = self._path(text)
            if mirror.is_folder(where):
                raise PolicyError(
                    f"{shown(self.path)}: {field} names the folder {shown(text)}, whose functions are known only when "
                    "it is built",
                    hint="list the files of the functions' configs",
                )
            raw = mirror.read(where, self.path)
        configs = mirror.plugins.rewritten(raw, where, lambda node: self._sources(node, field))
        content = "---\n".join(in_one_line(config) + "\n" for config in configs).encode()
        if is_inline:
            return content.decode()
        reference = mirror.hide(content, self.folder, ".yaml", where)[0]
        mirror.configs[os.path.basename(reference)] = os.path.relpath(where, self.folder)
        return reference

    def _refuse_helm(self, _node: Node, field: str) -> Node:
        raise PolicyError(
            f"{shown(self.path)}: {field}: helm is not started", hint="render the chart before, and list its output"
        )

    def _path(self, reference: str) -> str:
        if _is_remote(reference):
            raise PolicyError(f"{shown(self.path)}: {shown(reference)} is remote, and nothing is fetched for a build")
        return self.mirror.path_of(reference, self.folder, self.path)

    def _wrong(self, text: str) -> ConfigError:
        return ConfigError(f"{shown(self.path)}: {text}")


def _is_remote(reference: str) -> bool:
    """Whether kustomize would fetch it, unless it is there: an address, or what git takes for one."""
    lower = reference.lower()
    return "://" in lower or lower.startswith(("git::", "git@", "gh:", "github.com", "http:", "https:")) or "?" in lower


def _is_inline(text: str, mirror: Mirror) -> bool:
    """Whether an entry is content rather than a file's name."""
    if "\n" in text.strip():
        return True
    try:
        return isinstance(read_yaml(text, mirror.limits, mirror.limits.document_nodes).root, (Branch, list))
    except InputError:
        return False


def _items(document: Document) -> list[Item]:
    """Nothing where it is no YAML: kustomize says so."""
    try:
        return document.items
    except InputError:
        return []


def _is_encrypted_list(item: Item) -> bool:
    return item.kind.endswith("List") and {"items", "sops"}.issubset(item.branch.keys())


def _why(error: OSError) -> str:
    return (error.strerror or "unreadable").lower()
