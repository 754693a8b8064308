"""SopsDecrypt: every encrypted item becomes a plain one, or none does.

What was encrypted is replaced where it stands and the ``sops`` block goes; nothing else of an item moves. Annotations
that kpt and kustomize put on items while functions run were not there when the document was encrypted, so they are
left aside (detached) while values and MAC are checked. They are never evidence of anything (S6).
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KrmSopsError, PolicyError, shown
from krm_sops.functions import Answer, FunctionError
from krm_sops.krm.config import AMBIENT, MAC_MODES, Fields, Selector, from_kustomize
from krm_sops.krm.item import LOCAL_CONFIG, PACKAGE_PATH
from krm_sops.krm.results import Result
from krm_sops.tree import Branch, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.functions.decrypt_keys import Keys
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.krm.resourcelist import ResourceList
    from krm_sops.policy import Policy
    from krm_sops.tree import Node

_OPT_OUTS = ("kustomize.toolkit.fluxcd.io/decrypt", "krm-sops.dev/decrypt")
_SPEC = ("decryption", "keys", "mac", "ambient", "strict", "selectors", "exclude", "allowPlaintext")
_NOT_YET = ("include", "keepOriginal", "needsHash")


class InPlaceError(PolicyError):
    reason = "PlaintextInPlace"


class Options:
    """What the functionConfig asks for. Raises ConfigError."""

    def __init__(self, config: Item | None) -> None:
        self.where = "spec"
        self.namespace = config.namespace if config else ""
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
            self.where = "data"
            data = Fields(
                config.branch.get("data"), "data", ("mac", "ambient", "strict", "secretRef", "allowPlaintext")
            )
            self._common(data)
            self.secret_ref = data.text("secretRef")
            return
        Fields(config.branch, "functionConfig", ("apiVersion", "kind", "metadata", "spec"))
        spec = Fields(config.branch.get("spec"), "spec", _SPEC, _NOT_YET)
        self._common(spec)
        self.hand_in(spec)
        self.selectors = Selector.all_of(spec, "selectors")
        self.exclude = Selector.all_of(spec, "exclude")

    def hand_in(self, spec: Fields) -> None:
        """The keys that a spec names: its `decryption` and `keys`."""
        decryption = spec.mapping("decryption", ("provider", "secretRef"))
        if spec.has("decryption"):
            decryption.choice("provider", ("sops",), "sops")
            self.secret_ref = decryption.mapping("secretRef", ("name",)).text("name")
        self.keys = spec.mappings("keys", ("value", "env", "file"))
        for key in self.keys:
            if sum(map(key.has, ("value", "env", "file"))) != 1:
                raise ConfigError(f"{key.where} needs exactly one of value, env, file", path=(key.where,))

    def _common(self, fields: Fields) -> None:
        self.mac = fields.choice("mac", MAC_MODES, "auto")
        self.ambient = fields.choice("ambient", AMBIENT, "auto")
        self.strict = fields.flag("strict")
        self.allow_plaintext = fields.flag("allowPlaintext")

    def wants(self, item: Item) -> bool:
        if any(item.annotation(name).lower() == "disabled" for name in _OPT_OUTS):
            return False
        if self.selectors and not any(selector.matches(item) for selector in self.selectors):
            return False
        return not any(selector.matches(item) for selector in self.exclude)

    def names_namespace_of(self, item: Item) -> bool:
        """Whether a selector that names a namespace matches the item; one that names none stays in the config's own."""
        return any("namespace" in selector.texts and selector.matches(item) for selector in self.selectors)

    def obey(self, policy: Policy) -> list[PolicyError]:
        """Take over what is in force; what is wished for in vain."""
        refused: list[PolicyError] = []
        self.strict = self.strict or policy.strict
        try:
            self.mac = policy.mac_mode(self.mac, f"{self.where}.mac")
        except PolicyError as error:
            refused.append(error)
        try:
            self.ambient = policy.ambient_mode(self.ambient, f"{self.where}.ambient")
        except PolicyError as error:
            refused.append(error)
        return refused


def run(given: ResourceList, host: Host, policy: Policy | None) -> Answer:
    """Decrypt in place. Raises FunctionError with everything that is wrong, ConfigError.

    policy: None where nothing is encrypted.
    """
    answer = Answer()
    config = given.config
    options = Options(config)
    answer.keys_in_config = config is not None and (
        config.kind == "Secret" or any(key.has("value") for key in options.keys)
    )
    secrets = key_secrets(given, options, answer)
    refused: list[PolicyError] = options.obey(policy) if policy else []
    wanted = [item for item in given.encrypted() if item not in answer.key_items and options.wants(item)]
    todo = [item for item in wanted if _may_open(item, options, secrets)]
    _tell_left([item for item in wanted if item not in todo], options, answer)
    _tell_lost(given, answer)
    if todo:
        assert policy is not None
        from krm_sops.functions.decrypt_keys import Keys

        keys = Keys(given, host, policy, options, secrets, answer)
        refused += keys.refused()
        if not refused:
            _decrypt_all(todo, keys, options, answer)
    elif options.kustomize:
        _refuse_generator(given)
    answer.results += [Result.of(error, config) for error in refused]
    if options.strict:
        for result in answer.results:
            if result.severity == "warning":
                result.severity = "error"
    if any(result.is_error for result in answer.results):
        answer.results = [result for result in answer.results if result.reason != "MacUnverifiable" or result.is_error]
        raise FunctionError(answer)
    for item in answer.key_items:
        try:
            item.annotate(LOCAL_CONFIG, "true")
        except KrmSopsError as error:
            answer.results.append(Result.of(error, item))
            raise FunctionError(answer) from None
    return answer


def key_secrets(given: ResourceList, options: Options, answer: Answer) -> list[Item]:
    """The Secrets that `secretRef` names; as key items also the functionConfig's own file."""
    config = given.config
    if config is None:
        return []
    namespace = config.namespace
    if config.kind == "Secret" and config.file:
        answer.key_items += [item for item in given.named(config.name) if _is_secret(item, namespace, config.name)]
    found = [item for item in given.named(options.secret_ref) if _is_secret(item, namespace, options.secret_ref)]
    answer.key_items += found
    return found


def _is_secret(item: Item, namespace: str, name: str) -> bool:
    if (item.field("apiVersion"), item.kind) != ("v1", "Secret"):
        return False
    return item.original_name == name and _was_in(item, namespace)


def _was_in(item: Item, namespace: str) -> bool:
    """Whether this was its namespace before kustomize changed it; where it may have had none, then it had none."""
    known = item.original_namespaces
    return namespace in known and (not namespace or "" not in known)


def _may_open(item: Item, options: Options, secrets: list[Item]) -> bool:
    """Whether the config's keys may open an item (S12): all of them, or those that are in its namespace now.

    What an item was before kustomize's namespace transformer counts where it has moved along with the key Secret: else
    one could write another's namespace into a file, and have kustomize move it, decrypted, into one's own.
    """
    namespace = options.namespace
    if not namespace or item.namespace == namespace or options.names_namespace_of(item):
        return True
    moved = [secret.namespace for secret in secrets if secret.namespace != namespace]
    return item.namespace in moved and _was_in(item, namespace)


def _decrypt_all(todo: list[Item], keys: Keys, options: Options, answer: Answer) -> None:
    from krm_sops.functions.decrypt_item import Opening, decrypt_group
    from krm_sops.functions.regroup import groups

    try:
        credentials = keys.credentials()
    except KrmSopsError as error:
        answer.results.append(Result.of(error, keys.reading))
        return
    if not options.allow_plaintext and not options.kustomize:
        in_place = [item for item in todo if item.annotation(PACKAGE_PATH)]
        if in_place:
            answer.results.append(Result.of(_in_place(), in_place[0]))
            return
    _open_ahead(todo, credentials, keys.limits.key_entries)
    opening = Opening(credentials, options, answer, keys.limits, keys.proofs)
    wanted = set(todo)
    for group in groups(keys.given.encrypted()):
        if wanted.isdisjoint(group.members):
            continue
        try:
            decrypt_group(group, wanted, opening)
        except KrmSopsError as error:
            answer.results.append(Result.of(error, opening.item))


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


def _tell_left(left: list[Item], options: Options, answer: Answer) -> None:
    """Say which items stay encrypted for their namespace."""
    hint = (
        "name that namespace in one of spec.selectors, or leave the config's own namespace out; "
        "if it is to stay encrypted, a selector with the config's own namespace says so"
    )
    for item in left:
        text = (
            f"stays encrypted: it is not in the config's namespace {shown(options.namespace, 80)!r}, "
            "and no selector names its own"
        )
        answer.results.append(Result("warning", "OtherNamespace", text, hint=hint, item=item))


def _tell_lost(given: ResourceList, answer: Answer) -> None:
    """Say which items hold ciphertext but no ``sops`` block, as a file does that was cut off before its end."""
    for item in given.holding(b"ENC[AES256_GCM,"):
        if not _has_block(item.branch) and any(_is_ciphertext(leaf) for leaf in leaves(item.branch)):
            text = "holds encrypted values but no sops block, so nothing can decrypt it"
            hint = "was the file cut off, or the block taken out? restore the document as it was encrypted"
            answer.results.append(Result("warning", "InvalidDocument", text, hint=hint, item=item))


def _has_block(node: Node) -> bool:
    """Whether there is a ``sops`` block, at the top or of a document inside of a field."""
    if isinstance(node, Branch):
        return any(entry.key == "sops" or _has_block(entry.value) for entry in node.entries)
    return isinstance(node, list) and any(map(_has_block, node))


def _is_ciphertext(leaf: object) -> bool:
    return isinstance(leaf, str) and leaf.startswith("ENC[AES256_GCM,")


def _refuse_generator(given: ResourceList) -> None:
    """kustomize gives a generator its own config as the only item, so it would do nothing and say nothing."""
    config = given.config
    if config is not None and any(item.kind == config.kind for item in given.named(config.name)):
        raise ConfigError(f"{config.kind} changes items: list it under transformers, not under generators")


def _in_place() -> KrmSopsError:
    return InPlaceError(
        "kpt fn render would write this item's plaintext into the package",
        hint="set allowPlaintext: true and render with -o to a place outside the package; "
        "or keep the item encrypted in git with the krm-sops.dev/decrypt: disabled annotation or a selector; "
        "or decrypt where it is deployed",
    )
