"""A folder with StageSets: its manifests as one stream, folders with a kustomization built under their stage's keys."""

from __future__ import annotations

import os

from krm_sops.builds.kustomization import find
from krm_sops.builds.manifests import manifests
from krm_sops.errors import ConfigError, shown
from krm_sops.functions import Answer
from krm_sops.krm.stream import Stream
from krm_sops.roots import read_below, relative, source_root
from krm_sops.stages.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.policy import Flags, Policy
    from krm_sops.stages.spec import Stage


class Package:
    """files: those that hold manifests, from the package's top; a build counts as its kustomization file.

    built: the items that kustomize made.  root: the folder that no read leaves, if not the repository.  keys: where key
    Secrets are looked for, if not in the package itself.  builds: False leaves out what would have to be built.
    """

    def __init__(
        self,
        path: str,
        host: Host,
        policy: Policy,
        flags: Flags,
        *,
        root: str = "",
        keys: Package | None = None,
        builds: bool = True,
    ) -> None:
        """Raises KrmSopsError."""
        if not os.path.isdir(path):
            raise ConfigError(f"{shown(path)} is no folder")
        self.host = host
        self.policy = policy
        self.flags = flags
        self.keys = keys or self
        self.root = root or source_root(host, policy, path)
        self.top = relative(self.root, ".", path)
        self.stream = Stream(policy.limits)
        self.files: list[str] = []
        self.built: set[Item] = set()
        kustomizations = []
        try:
            for found in manifests(self.root, self.top, policy.limits):
                name = os.path.relpath(found.path, self.top)
                if found.is_build:
                    kustomizations.append(name)
                else:
                    self._read(found.path, name)
        except OSError as error:
            raise ConfigError(f"cannot read {shown(path)}: {(error.strerror or 'unreadable').lower()}") from None
        if kustomizations:
            names = {name: f"{name}/{find(self.root, os.path.join(self.top, name))}" for name in kustomizations}
            self.files += names.values()
            if builds:
                self._build(names)

    def _read(self, path: str, name: str) -> None:
        try:
            raw = read_below(self.root, path, self.policy.limits.input_bytes)
        except OSError as error:
            raise ConfigError(f"cannot read {shown(path)}: {(error.strerror or 'unreadable').lower()}") from None
        found = self.stream.parse(raw, name)
        objects = [document for document in found if document.is_krm]
        if found and not objects:
            return
        if len(objects) < len(found):
            wrong = next(document for document in found if document not in objects)
            raise ConfigError(f"{wrong}: no Kubernetes object, unlike others of the same file")
        self.files.append(name)
        self.stream.documents += found

    def _build(self, names: dict[str, str]) -> None:
        """Build the folders of stages; others are left out, as nobody says with which keys. names: of their files."""
        from krm_sops.builds.kustomize import Build

        stages = Plan(self.stream.items, files=self.files).stages
        for name, file in names.items():
            stage = next((one for one in stages if f"{name}/".startswith(f"{one.folder}/" if one.folder else "")), None)
            if stage is None:
                continue
            credentials = _Credentials(self, stage)
            build = Build(self.root, self.host, self.policy.limits, self.flags, credentials.found)
            documents = self.stream.add(build.run(os.path.normpath(os.path.join(self.top, name))), file)
            self.stream.originals = {**self.stream.originals, **build.originals}
            self.built.update(item for document in documents for item in document.items)


class _Credentials:
    """The keys for what is decrypted before a build: those of the stage's StageSet."""

    def __init__(self, package: Package, stage: Stage) -> None:
        self.package = package
        self.stage_set = stage.stage_set

    def found(self) -> Credentials:
        from krm_sops.functions.decrypt import key_secrets
        from krm_sops.functions.decrypt_keys import Keys
        from krm_sops.functions.stages import Members, StageOptions

        package = self.package
        options = StageOptions(self.stage_set)
        options.obey(package.policy)
        answer = Answer()
        members = Members(package.stream, self.stage_set, (), package.keys.stream)
        secrets = key_secrets(members, options, answer)
        return Keys(members, package.host, package.policy, options, secrets, answer).credentials()
