"""One PATH of `render`: what it names is read, built where it is a kustomization, and decrypted."""

from __future__ import annotations

import os

from krm_sops import cli
from krm_sops.builds.kustomization import NAMES, find
from krm_sops.builds.manifests import Found, manifests
from krm_sops.errors import ConfigError, InputError, KrmSopsError, shown
from krm_sops.functions import Answer, FunctionError
from krm_sops.functions.decrypt import run as decrypt
from krm_sops.krm.item import LOCAL_CONFIG, MASK, MASKED, mask_at
from krm_sops.krm.results import Result
from krm_sops.krm.stream import Stream
from krm_sops.roots import read_below, relative, source_root
from krm_sops.tree import Branch, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.krm.stream import Allowance, Document
    from krm_sops.policy import Flags, Policy


class Part:
    """What is decrypted together: the files of a PATH, or a build. files: its documents, by the file they go to."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.files: dict[str, list[Document]] = {}
        self.left_out: set[Item] = set()

    def texts(self) -> Iterator[tuple[str, str]]:
        for name, documents in self.files.items():
            text = self.stream.write(documents, without=self.left_out)
            if text:
                yield name, text


class Rendering:
    """One PATH.  allowance: what is left of the limits.  allow_remote, allow_others: as in `Build`.

    folder: what the names of its files start from.  skipped: files without any object.
    """

    def __init__(
        self,
        path: str,
        host: Host,
        policy: Policy,
        flags: Flags,
        allowance: Allowance,
        *,
        allow_remote: bool = False,
        allow_others: bool = False,
    ) -> None:
        self.path = path
        self.host = host
        self.policy = policy
        self.flags = flags
        self.limits = policy.limits
        self.allowance = allowance
        self.allow_remote = allow_remote
        self.allow_others = allow_others
        self.folder = os.path.realpath(path if path != "-" and os.path.isdir(path) else os.path.dirname(path) or ".")
        self.parts: list[Part] = []
        self.results: list[Result] = []
        self.skipped: list[str] = []

    def run(self) -> bool:
        """Whether all is well; `results` say what is not."""
        try:
            self._read()
        except KrmSopsError as error:
            self._failed(error)
        else:
            for part in self.parts:
                try:
                    self._decrypt(part)
                except KrmSopsError as error:
                    self._failed(error)
        if self.policy.strict:
            for result in self.results:
                if result.severity == "warning":
                    result.severity = "error"
        return not any(result.is_error for result in self.results)

    def _failed(self, error: KrmSopsError) -> None:
        self.results += error.answer.results if isinstance(error, FunctionError) else [Result.of(error)]

    def _part(self) -> Part:
        part = Part(Stream(self.limits, allowance=self.allowance))
        self.parts.append(part)
        return part

    def _read(self) -> None:
        if self.path == "-":
            return self._read_stdin()
        is_folder = os.path.isdir(self.path)
        start = self.path if is_folder else os.path.dirname(self.path) or "."
        if os.path.basename(self.path) in NAMES:  # what it says, rather than what it is
            is_folder = True
        root = _root(self.host, self.policy, start)
        try:
            path = relative(root, os.path.basename(self.path) if not is_folder else ".", start)
            if not is_folder:
                part = self._part()
                if not self._read_file(root, path, part, os.path.basename(path)):
                    raise ConfigError(f"{shown(self.path)}: no Kubernetes object, which has apiVersion and kind")
                return None
            self._read_folder(root, path)
        except OSError as error:
            raise ConfigError(f"cannot read {shown(self.path)}: {(error.strerror or 'unreadable').lower()}") from None
        return None

    def _read_stdin(self) -> None:
        raw = cli.read_in(self.limits.input_bytes)
        part = self._part()
        found = part.stream.add(raw)
        for document in found:
            root = document.source.root if document.source else None
            if isinstance(root, Branch) and root.get("functionConfig") is not None:
                hint = "start krm-sops without a verb"
                raise ConfigError("a ResourceList with a functionConfig is for the function", hint=hint)
            if not document.is_krm:
                raise ConfigError(f"{document}: no Kubernetes object, which has apiVersion and kind")
        part.files["stdin.yaml"] = found

    def _read_file(self, root: str, path: str, part: Part, name: str) -> bool:
        """Add a file to a part; False for one without any object. path: from the root.  name: what it is called."""
        try:
            raw = read_below(root, path, self.limits.input_bytes)
        except OSError as error:
            raise ConfigError(f"cannot read {shown(path)}: {(error.strerror or 'unreadable').lower()}") from None
        found = part.stream.parse(raw, path)
        found = [document for document in found if not document.is_empty]
        wrong = [document for document in found if not document.is_krm]
        if len(wrong) == len(found):
            return False
        if wrong:
            raise ConfigError(f"{wrong[0]}: no Kubernetes object, unlike others of the same file")
        part.stream.documents += found
        part.files[name] = found
        return True

    def _read_folder(self, root: str, folder: str) -> None:
        builds = []
        if find(root, folder):
            builds = [Found(folder, is_build=True)]
        else:
            files = self._part()
            for found in manifests(root, folder, self.limits):
                if found.is_build:
                    builds.append(found)
                elif not self._read_file(root, found.path, files, os.path.relpath(found.path, folder)):
                    self.skipped.append(found.path)
        for found in builds:
            self._build(root, found.path, os.path.relpath(found.path, folder))

    def _build(self, root: str, path: str, name: str) -> None:
        from krm_sops.builds.kustomize import Build

        build = Build(
            root,
            self.host,
            self.limits,
            self.flags,
            self._credentials,
            allow_remote=self.allow_remote,
            allow_others=self.allow_others,
        )
        try:
            output = build.run(path)
        finally:
            self.results += [result for result in build.results if not result.is_error]
        part = self._part()
        part.stream.from_kustomize = True
        part.stream.originals = build.originals
        part.files[os.path.normpath(f"{name}/manifests.yaml")] = part.stream.add(output)

    def _credentials(self) -> Credentials:
        """The keys for what is decrypted before a build: the operator's, and ambient ones."""
        from krm_sops.functions.decrypt import Options
        from krm_sops.functions.decrypt_keys import Keys

        options = Options(None)
        options.obey(self.policy)
        answer = Answer()
        keys = Keys(Stream(self.limits), self.host, self.policy, options, [], answer)
        found = keys.credentials()
        self.results += answer.results
        return found

    def _decrypt(self, part: Part) -> None:
        answer = decrypt(part.stream, self.host, self.policy)
        for result in answer.results:
            if result.reason == InputError.reason and not _is_kept(result.item):
                result.severity = "error"  # ciphertext that nothing can decrypt is of no use to a cluster
        self.results += answer.results
        if self.policy.mask and part.stream.from_kustomize:
            _mark(part.stream)
        part.left_out.update(answer.key_items)
        part.left_out.update(
            item
            for item in part.stream.holding(LOCAL_CONFIG.encode())
            if item.annotation(LOCAL_CONFIG) not in ("", "false")
        )


def _is_kept(item: Item | None) -> bool:
    """Whether it is the ConfigMap of an encrypted envs file, which keeps the ciphertext, and what goes with it."""
    return item is not None and item.kind == "ConfigMap" and item.field("data", "sops_mac") != ""


def _mark(stream: Stream) -> None:
    """Annotate the objects into which masked files were built; those that were decrypted after the build are."""
    for document in stream.documents:
        if MASK in document.text or mask_at("Secret", ("data", "")) in document.text:
            for item in document.items:
                found = {mask_at(item.kind, path) for path in (("stringData", ""), ("data", ""))}
                if not item.edits and any(leaf in found for leaf in leaves(item.branch)):
                    item.annotate(MASKED, "true")


def _root(host: Host, policy: Policy, start: str) -> str:
    """The root for a PATH: its repository; where it is in none, the working folder, if that holds it and no keys."""
    root = source_root(host, policy, start)
    here = os.path.realpath(".")
    home = os.path.realpath(host.home() or "/")
    is_alone = root == os.path.realpath(start) and not os.path.lexists(f"{root}/.git")
    holds_home = f"{home}/".startswith(here.rstrip("/") + "/")
    if policy.root or not is_alone or holds_home or not root.startswith(here + "/"):
        return root
    return source_root(host, policy, ".")
