"""SopsDecrypt: every encrypted item becomes a plain one, or none does.

What was encrypted is replaced where it stands and the ``sops`` block goes; nothing else of an item moves. Annotations
that kpt and kustomize put on items while functions run were not there when the document was encrypted, so they are
left aside (detached) while values and MAC are checked. They are never evidence of anything (S6).
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KrmSopsError, LimitError, PolicyError, shown
from krm_sops.functions import Answer, FunctionError
from krm_sops.krm.config import Fields, Selector, from_kustomize
from krm_sops.krm.item import LOCAL_CONFIG, PACKAGE_PATH, PATH, refuse_duplicates
from krm_sops.krm.results import Result
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials, KeyEntry
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.krm.resourcelist import ResourceList
    from krm_sops.limits import Limits

_OPT_OUTS = ("kustomize.toolkit.fluxcd.io/decrypt", "krm-sops.dev/decrypt")
_MODES = ("auto", "strict", "tags")
_AMBIENT = ("auto", "always", "never")
_SPEC = ("decryption", "keys", "mac", "ambient", "strict", "selectors", "exclude", "allowPlaintext")
_NOT_YET = ("include", "keepOriginal", "needsHash")


class InPlaceError(PolicyError):
    reason = "PlaintextInPlace"


class Options:
    """What the functionConfig asks for. Raises ConfigError."""

    def __init__(self, config: Item | None) -> None:
        self.mac = "auto"
        self.ambient = "auto"
        self.strict = False
        self.allow_plaintext = False
        self.secret_ref = ""
        self.keys: list[Fields] = []
        self.selectors: list[Selector] = []
        self.exclude: list[Selector] = []
        self.kustomize = from_kustomize(config)
        if config is None or config.kind == "Secret":
            return
        if config.kind == "ConfigMap":
            data = Fields(
                config.branch.get("data"), "data", ("mac", "ambient", "strict", "secretRef", "allowPlaintext")
            )
            self._common(data)
            self.secret_ref = data.text("secretRef")
            return
        Fields(config.branch, "functionConfig", ("apiVersion", "kind", "metadata", "spec"))
        spec = Fields(config.branch.get("spec"), "spec", (*_SPEC, *_NOT_YET))
        for name in _NOT_YET:
            if spec.has(name):
                raise ConfigError(f"spec.{name} is not available in this version", path=("spec", name))
        self._common(spec)
        decryption = spec.mapping("decryption", ("provider", "secretRef"))
        if spec.has("decryption"):
            decryption.choice("provider", ("sops",), "sops")
            self.secret_ref = decryption.mapping("secretRef", ("name",)).text("name")
        self.keys = spec.mappings("keys", ("value", "env", "file"))
        for key in self.keys:
            if sum(map(key.has, ("value", "env", "file"))) != 1:
                raise ConfigError(f"{key.where} needs exactly one of value, env, file", path=(key.where,))
        self.selectors = Selector.all_of(spec, "selectors")
        self.exclude = Selector.all_of(spec, "exclude")

    def _common(self, fields: Fields) -> None:
        self.mac = fields.choice("mac", _MODES, "auto")
        self.ambient = fields.choice("ambient", _AMBIENT, "auto")
        self.strict = fields.flag("strict")
        self.allow_plaintext = fields.flag("allowPlaintext")

    def wants(self, item: Item) -> bool:
        if any(item.annotation(name).lower() == "disabled" for name in _OPT_OUTS):
            return False
        if self.selectors and not any(selector.matches(item) for selector in self.selectors):
            return False
        return not any(selector.matches(item) for selector in self.exclude)


def run(given: ResourceList, host: Host) -> Answer:
    """Decrypt in place. Raises FunctionError with everything that is wrong, ConfigError."""
    answer = Answer()
    config = given.config
    options = Options(config)
    answer.keys_in_config = config is not None and (
        config.kind == "Secret" or any(key.has("value") for key in options.keys)
    )
    keys = _Keys(given, host, options, answer)
    keys.find_secrets()
    todo = [item for item in given.encrypted() if options.wants(item)]
    if todo:
        _decrypt_all(todo, keys, options, answer)
    elif options.kustomize:
        _refuse_generator(given)
    if options.strict:
        for result in answer.results:
            if result.severity == "warning":
                result.severity = "error"
    if any(result.severity == "error" for result in answer.results):
        answer.results = [result for result in answer.results if result.severity == "error"]
        raise FunctionError(answer)
    for item in answer.key_items:
        try:
            item.annotate(LOCAL_CONFIG, "true")
        except KrmSopsError as error:
            answer.results.append(Result.of(error, item))
            raise FunctionError(answer) from None
    return answer


def _decrypt_all(todo: list[Item], keys: _Keys, options: Options, answer: Answer) -> None:
    from krm_sops.functions.decrypt_item import decrypt_item

    try:
        credentials = keys.credentials()
    except KrmSopsError as error:
        answer.results.append(Result.of(error))
        return
    if not options.allow_plaintext and not options.kustomize:
        in_place = [item for item in todo if item.annotation(PACKAGE_PATH)]
        if in_place:
            answer.results.append(Result.of(_in_place(), in_place[0]))
            return
    _open_ahead(todo, credentials, keys.limits.key_entries)
    for item in todo:
        try:
            _check_size(item, keys.limits)
            decrypt_item(item, credentials, options, answer, keys.limits.key_entries)
        except KrmSopsError as error:
            answer.results.append(Result.of(error, item))


def _open_ahead(items: list[Item], credentials: Credentials, key_entries: int) -> None:
    """Ask the services that keep keys for all items together; what is wrong with an item is told in its turn."""
    from krm_sops.datakey import LOCAL, open_ahead
    from krm_sops.keys import KEY_TYPES
    from krm_sops.metadata import Metadata

    telling = {"key_groups", *KEY_TYPES}.difference(LOCAL)
    documents: list[Metadata] = []
    for item in items:
        block = item.branch.get("sops")
        if isinstance(block, Branch) and any(entry.value and entry.key in telling for entry in block.entries):
            try:
                documents.append(Metadata.from_branch(block, key_entries))
            except KrmSopsError:
                continue
    open_ahead(documents, credentials)


def _refuse_generator(given: ResourceList) -> None:
    """kustomize gives a generator its own config as the only item, so it would do nothing and say nothing."""
    config = given.config
    if config is not None and any(item.kind == config.kind for item in given.named(config.name)):
        raise ConfigError(f"{config.kind} changes items: list it under transformers, not under generators")


def _check_size(item: Item, limits: Limits) -> None:
    entries = item.place.entries
    if entries[-1][1] - entries[0][0] > limits.document_bytes:
        raise LimitError(f"an encrypted item of more than {limits.document_bytes} bytes (the limit document_bytes)")
    if item.place.after - item.place.first_leaf > limits.document_nodes:
        raise LimitError(f"an encrypted item of more than {limits.document_nodes} nodes (the limit document_nodes)")


def _in_place() -> KrmSopsError:
    return InPlaceError(
        "kpt fn render would write this item's plaintext into the package",
        hint="set allowPlaintext: true and render with -o to a place outside the package; "
        "or keep the item encrypted in git with the krm-sops.dev/decrypt: disabled annotation or a selector; "
        "or decrypt where it is deployed",
    )


class _Keys:
    """Keys in the order of the contract: functionConfig, key Secret among the items, mounted folder; then ambient."""

    def __init__(self, given: ResourceList, host: Host, options: Options, answer: Answer) -> None:
        self.given = given
        self.host = host
        self.options = options
        self.answer = answer
        self.limits = given.limits
        self.secrets: list[Item] = []

    def find_secrets(self) -> None:
        """The key Secrets among the items: the one that `secretRef` names, and the functionConfig's own file."""
        config = self.given.config
        if config is None:
            return
        namespace, name = config.namespace, config.name
        if config.kind == "Secret" and config.file:
            self.answer.key_items += [item for item in self.given.named(name) if _is_secret(item, namespace, name)]
        if self.options.secret_ref:
            named = self.given.named(self.options.secret_ref)
            self.secrets = [item for item in named if _is_secret(item, namespace, self.options.secret_ref)]
            self.answer.key_items += self.secrets

    def credentials(self) -> Credentials:
        """Raises ConfigError."""
        from krm_sops.credentials import Credentials

        entries: list[KeyEntry] = []
        config = self.given.config
        if config is not None and config.kind == "Secret":
            entries += self._from_secret(config, "functionConfig Secret")
        for key in self.options.keys:
            entries.append(self._from_field(key))
        if self.options.secret_ref:
            entries += self._from_secret(self._referred(), "Secret")
        from krm_sops.keysources import from_folder

        found, misnamed = from_folder(self.host)
        self._warn(misnamed, "the key folder", None)
        return Credentials(self.host, [*entries, *found], self.options.ambient)

    def _referred(self) -> Item:
        config = self.given.config
        assert config is not None
        namespace = config.namespace
        where = f"in namespace {shown(namespace, 80)}" if namespace else "without a namespace, like the config"
        if len(self.secrets) != 1:
            raise ConfigError(
                f"secretRef names the Secret {shown(self.options.secret_ref, 80)!r}, "
                f"of which there are {len(self.secrets)} {where} among the items",
                hint="the key Secret must be one of the resources, in the namespace of the config that names it",
            )
        return self.secrets[0]

    def _from_secret(self, secret: Item, what: str) -> list[KeyEntry]:
        from binascii import Error, a2b_base64

        from krm_sops.keysources import from_entries

        refuse_duplicates(secret.branch)
        origin = f"{what} {shown(secret.name, 80)}"
        raw: list[tuple[str, bytes]] = []
        for field in ("data", "stringData"):
            values = secret.branch.get(field)
            if values is None:
                continue
            if not isinstance(values, Branch):
                raise ConfigError(f"{origin}: {field} is no mapping")
            for entry in values.entries:
                name = shown(entry.key, 80)
                if not isinstance(entry.value, str):
                    raise ConfigError(f"{origin}: the entry {name} is no string")
                if field == "stringData":
                    raw.append((str(entry.key), entry.value.encode("utf-8", "surrogateescape")))
                    continue
                try:
                    raw.append((str(entry.key), a2b_base64("".join(entry.value.split()), strict_mode=True)))
                except (Error, ValueError):
                    raise ConfigError(f"{origin}: the entry {name} is no base64", hint="is it encrypted?") from None
        found, misnamed = from_entries(raw, origin)
        self._warn(misnamed, origin, secret)
        return found

    def _warn(self, misnamed: list[str], origin: str, item: Item | None) -> None:
        for name in misnamed:
            self.answer.results.append(
                Result(
                    "warning",
                    "InvalidConfig",
                    f"{origin}: the entry {shown(name, 80)!r} looks like a key but is ignored for its name",
                    hint="name it *.agekey, *.asc or *.sshkey",
                    item=item,
                )
            )

    def _from_field(self, key: Fields) -> KeyEntry:
        from krm_sops.keysources import from_file, from_text

        if key.has("value"):
            return from_text(key.text("value").encode(), "value", f"{key.where}.value")
        if key.has("env"):
            name = key.text("env")
            value = self.host.env.get(name)
            if not value:
                raise ConfigError(
                    f"{key.where}.env names {shown(name, 80)}, which is not set",
                    hint="a container sees only the variables that it is given (-e, envs)",
                )
            return from_text(value.encode("utf-8", "surrogateescape"), name, f"${shown(name, 80)}")
        path = key.text("file")
        return from_file(self._resolved(path), self.host, f"{key.where}.file {shown(path)}")

    def _resolved(self, path: str) -> str:
        """A path relative to the config's own file where kpt tells it, else to the working folder."""
        config = self.given.config
        assert config is not None
        package, file = config.annotation(PACKAGE_PATH), config.annotation(PATH)
        if path.startswith("/") or not package:
            return path
        folder, slash, _ = file.rpartition("/")
        return f"{package}/{folder}{slash}{path}"


def _is_secret(item: Item, namespace: str, name: str) -> bool:
    if (item.field("apiVersion"), item.kind) != ("v1", "Secret"):
        return False
    return item.original_name == name and namespace in item.original_namespaces
