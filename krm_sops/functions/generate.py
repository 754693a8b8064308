"""SopsGenerator, ksops and SopsSecretGenerator: Kubernetes objects made of encrypted files.

Files are read as they were authored, so their MAC is checked, always. Nothing is read outside of the repository (S2).
"""

from __future__ import annotations

import os
from binascii import b2a_base64

from krm_sops.errors import ConfigError, InputError, KrmSopsError, shown
from krm_sops.functions import Answer, FunctionError, PolicyNeeded
from krm_sops.functions.decrypt import InPlaceError, key_secrets
from krm_sops.functions.decrypt_keys import Keys
from krm_sops.functions.files import AS_MANIFEST, AS_NAMES, Files, in_file
from krm_sops.functions.generate_env import is_key, pairs
from krm_sops.functions.generate_paths import has_wildcards, matching
from krm_sops.functions.generate_plan import Source, plan_of
from krm_sops.krm.item import LOCAL_CONFIG, MASK, PACKAGE_PATH, PATH, refuse_duplicates
from krm_sops.krm.results import Result
from krm_sops.roots import source_root
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Entry, Timestamp, to_bytes
from krm_sops.values import to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.functions import Given
    from krm_sops.functions.decrypt import Options
    from krm_sops.functions.files import EncryptedFile
    from krm_sops.functions.generate_plan import Plan, Target
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.policy import Policy
    from krm_sops.tree import Node

_NO_FILES = (
    "a container sees no files: start the function as an executable (exec), or mount the folder and give its --root"
)


def run(given: Given, host: Host, policy: Policy | None) -> Answer:
    """Raises FunctionError with everything that is wrong, ConfigError, PolicyError."""
    config = given.config
    assert config is not None
    if policy is None:
        raise PolicyNeeded
    answer = Answer()
    plan = plan_of(config)
    options = plan.options
    options.kustomize = options.kustomize or given.from_kustomize
    answer.keys_in_config = any(key.has("value") for key in options.keys)
    answer.results += plan.warnings
    keys = Keys(given, host, policy, options, key_secrets(given, options, answer), answer)
    refused = [*options.obey(policy), *keys.refused()]
    answer.results += [Result.of(error, config) for error in refused]
    if not refused:
        try:
            what = "set allowPlaintext: true" if plan.own else "use kind SopsGenerator with allowPlaintext: true"
            refuse_in_place(given, config, options, what)
            answer.added = _Work(plan, files_of(config, host, policy, options), answer).objects(keys)
        except KrmSopsError as error:
            answer.results.append(Result.of(error, config))
        if policy.mask:
            from krm_sops.functions.masking import marked

            answer.added = [marked(made) for made in answer.added]
    return concluded(answer, given, config, options)


def concluded(answer: Answer, given: Given, config: Item, options: Options) -> Answer:
    """The answer of what makes objects, when all is known that is wrong. Raises FunctionError."""
    if options.strict:
        for result in answer.results:
            if result.severity == "warning":
                result.severity = "error"
    if any(result.is_error for result in answer.results):
        raise FunctionError(answer)
    for item in answer.key_items:
        item.annotate(LOCAL_CONFIG, "true")
    if options.kustomize:  # which gives a generator its own config as the only item; in a package it is a file
        same = [item for item in given.named(config.name) if item.kind == config.kind]
        answer.consumed = [item for item in same if not item.annotation(PATH)]
    return answer


def run_items(given: Given, host: Host, policy: Policy | None, kind: str) -> Answer:
    """Every item of this kind is a config, and gives way to what it generates, as ksops has it. Raises as `run`."""
    from krm_sops.krm.stream import Stream

    whole = Answer()
    for config in given.of_kind(kind):
        answer = run(Stream(given.limits, config), host, policy)
        whole.results += answer.results
        whole.added += answer.added
        whole.consumed.append(config)
    return whole


def refuse_in_place(given: Given, config: Item, options: Options, what: str) -> None:
    """what: how to allow it, for the hint. Raises InPlaceError."""
    if options.allow_plaintext or options.kustomize:
        return
    if config.annotation(PACKAGE_PATH) or given.holding(PACKAGE_PATH.encode()):
        raise InPlaceError(
            "kpt fn render would write the generated plaintext into the package",
            hint=f"{what} and render with -o to a place outside the package; or generate where it is deployed",
        )


def files_of(config: Item, host: Host, policy: Policy, options: Options) -> Files:
    """The repository of the config: relative paths start at its own file (kpt), else in the working folder."""
    package = "" if options.kustomize else config.annotation(PACKAGE_PATH)
    if package and not os.path.isfile(f"{package}/Kptfile"):  # an annotation alone does not say where to read
        raise ConfigError(f"the package {shown(package)} is not here", hint=_NO_FILES)
    root = source_root(host, policy, package or ".")
    if root == "/":
        raise ConfigError("there is no repository here whose files could be read", hint=_NO_FILES)
    folder = f"{package}/{os.path.dirname(config.annotation(PATH))}" if package else "."
    return Files(root, folder, policy.limits, mask=policy.mask)


class _Work:
    """From a plan to objects; what is wrong is noted source by source.

    encrypted: the files, by their paths.  plain: the same by what they are for, too; each is opened once.
    """

    def __init__(self, plan: Plan, files: Files, answer: Answer) -> None:
        self.plan = plan
        self.files = files
        self.answer = answer
        self.encrypted: dict[str, EncryptedFile] = {}
        self.plain: dict[tuple[str, str], list[Branch]] = {}

    def objects(self, keys: Keys) -> list[Branch]:
        """Nothing where something is wrong: the errors are in the answer's results."""
        plan = self.plan
        plan.manifests = self._found(plan.manifests)
        for target in plan.targets:
            target.sources = self._found(target.sources)
        sources = [*plan.manifests, *(source for target in plan.targets for source in target.sources)]
        for source in sources:
            self._read(source)
        credentials = None if self._failed else self._credentials(keys)
        if credentials is None:
            return []
        for source in sources:
            self._open(source, credentials)
        if self._failed:
            return []
        made = [(source.where, branch) for source in plan.manifests for branch in self._manifests(source)]
        made += [(target.where, self._object(target)) for target in plan.targets]
        self._refuse_same(made)
        return [branch for _, branch in made]

    @property
    def _failed(self) -> bool:
        return any(result.is_error for result in self.answer.results)

    def _fail(self, error: KrmSopsError, where: str) -> None:
        result = Result.of(error, self.plan.config)
        result.field = where
        self.answer.results.append(result)

    def _warn(self, reason: str, text: str, where: str) -> None:
        self.answer.results.append(Result("warning", reason, text, item=self.plan.config, field=where))

    def _found(self, sources: list[Source]) -> list[Source]:
        """One source for each file that a wildcard matches."""
        found = []
        for source in sources:
            if not (self.plan.own and has_wildcards(source.path)):
                found.append(source)
                continue
            try:
                found += self._expanded(source)
            except KrmSopsError as error:
                self._fail(error, source.where)
        return found

    def _expanded(self, source: Source) -> list[Source]:
        paths = matching(source.path, self.files)
        is_named = source.key and source.key != os.path.basename(source.path)
        if is_named and len(paths) > 1:
            raise ConfigError(f"{shown(source.path)} matches {len(paths)} files, which cannot all be {source.key!r}")
        keys = [source.key if is_named or not source.key else os.path.basename(path) for path in paths]
        return [
            Source(source.where, path, key, source.field, coded=source.coded)
            for path, key in zip(paths, keys, strict=True)
        ]

    def _read(self, source: Source) -> None:
        if source.path not in self.encrypted:
            try:
                self.encrypted[source.path] = self.files.read(source.path)
            except KrmSopsError as error:
                self._fail(error, source.where)

    def _credentials(self, keys: Keys) -> Credentials | None:
        from krm_sops.datakey import open_ahead

        try:
            credentials = keys.credentials()
        except KrmSopsError as error:
            self.answer.results.append(Result.of(error, keys.reading or self.plan.config))
            return None
        open_ahead([file.metadata for file in self.encrypted.values()], credentials)
        return credentials

    def _use(self, source: Source) -> str:
        """What the file is for, where that makes a difference."""
        if not self.files.mask or source.key:
            return ""
        return AS_MANIFEST if source in self.plan.manifests else AS_NAMES

    def _open(self, source: Source, credentials: Credentials) -> None:
        place = (source.path, self._use(source))
        if place in self.plain:
            return
        self.plain[place] = []
        file = self.encrypted[source.path]
        try:
            self.plain[place] = file.decrypt(credentials, place[1])
        except KrmSopsError as error:
            self._fail(error, source.where)
        if file.unopened:
            text = f"{shown(file.path)}: {file.unopened} comments do not fit their tags and stay encrypted"
            self._warn("TagMismatch", text, source.where)

    def _manifests(self, source: Source) -> list[Branch]:
        """The objects in an encrypted manifest."""
        plain = self.plain[source.path, self._use(source)]
        try:
            if self.encrypted[source.path].format == "binary":
                plain = STORES["yaml"].read_plain(STORES["binary"].write_plain(plain), self.files.limits)
            return [found for branch in plain if branch.keys() for found in _objects(branch)]
        except KrmSopsError as error:
            self._fail(in_file(error, source.path), source.where)
            return []

    def _object(self, target: Target) -> Branch:
        """One object with the content of its files."""
        values: dict[str, dict[str, str]] = {field: {} for field in target.fields}
        for source in target.sources:
            for key, value in self._values(source):
                self._put(values, source, key, self._spelled(source, key, value))
        filled = [
            Entry(field, Branch(Entry(*pair) for pair in sorted(of.items()))) for field, of in values.items() if of
        ]
        return Branch([*target.head.entries, *filled])

    def _values(self, source: Source) -> list[tuple[str, bytes]]:
        """Keys and values of one file. Nothing where something is wrong."""
        file, plain = self.encrypted[source.path], self.plain[source.path, self._use(source)]
        try:
            if source.key:
                return [(source.key, file.written(plain))]
            found = pairs(self.plan.dialect, file.format, plain)
            if self.files.mask and file.format == "binary":
                found = [(key, MASK) for key, _ in found]
            return [(key, to_bytes(value)) for key, value in found]
        except KrmSopsError as error:
            self._fail(in_file(error, source.path), source.where)
            return []

    def _put(self, values: dict[str, dict[str, str]], source: Source, key: str, value: str) -> None:
        """Add one value. A key twice is refused; in the foreign kinds, the later one counts, as in their tools."""
        shown_key = shown(key, 80)
        if any(key in found for found in values.values()):
            text = f"{shown(source.path)}: there is a key {shown_key!r} before this one"
            if self.plan.own:
                self._fail(ConfigError(text), source.where)
            else:
                self._warn("InvalidConfig", text + ", which is not used", source.where)
        elif self.plan.own and not is_key(key):
            text = f"{shown(source.path)}: {shown_key!r} cannot be a key: letters, digits, '-', '_' and '.' only"
            self._fail(ConfigError(text), source.where)
        values[source.field][key] = value

    def _spelled(self, source: Source, key: str, value: bytes) -> str:
        if source.coded:
            return b2a_base64(value, newline=False).decode()
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass  # an exception that is raised above would carry the plaintext along
        text = f"{shown(source.path)}: the value of {shown(key, 80)!r} is no UTF-8"
        self._fail(InputError(text, hint="list it under binaryFiles"), source.where)
        return ""

    def _refuse_same(self, made: list[tuple[str, Branch]]) -> None:
        """Two objects of one identity: no orchestrator takes them."""
        known: dict[tuple[str, ...], str] = {}
        for where, branch in made:
            identity = tuple(_text(branch, *path) for path in (("apiVersion",), ("kind",), _NAMESPACE, _NAME))
            if identity in known:
                _, kind, namespace, name = identity
                shown_name = "/".join(shown(part, 80) for part in (kind, namespace, name) if part)
                self._fail(ConfigError(f"{shown_name} is already made by {known[identity]}"), where)
            known[identity] = where or "this config"


_NAME, _NAMESPACE = ("metadata", "name"), ("metadata", "namespace")
_TEXTS = {("v1", "Secret"): ("stringData", "data"), ("v1", "ConfigMap"): ("data", "binaryData")}
"""Where Kubernetes wants strings, whatever their text looks like."""


def _objects(branch: Branch) -> list[Branch]:
    """A document as an object, or those of a List. Raises InputError."""
    refuse_duplicates(branch)
    items = branch.get("items")
    if branch.get("kind") == "List" and isinstance(items, list):
        return [found for item in items if isinstance(item, Branch) for found in _objects(item)]
    for path in (("apiVersion",), ("kind",), _NAME):
        if not _text(branch, *path):
            hint = "files are manifests; for the content of a file, use secretFrom"
            raise InputError(f"no Kubernetes object: {'.'.join(path)} is missing", hint=hint)
    fields = _TEXTS.get((_text(branch, "apiVersion"), _text(branch, "kind")), ())
    return [
        Branch(
            Entry(entry.key, _texts(entry.value) if entry.key in fields else entry.value) for entry in branch.entries
        )
    ]


def _texts(values: Node) -> Node:
    """A mapping whose numbers, booleans and times are strings."""
    if not isinstance(values, Branch):
        return values
    return Branch(
        Entry(
            entry.key, to_text(entry.value) if isinstance(entry.value, (bool, int, float, Timestamp)) else entry.value
        )
        for entry in values.entries
    )


def _text(branch: Branch, *path: str) -> str:
    node: Node = branch
    for key in path:
        node = node.get(key) if isinstance(node, Branch) else None
    return node if isinstance(node, str) else ""
