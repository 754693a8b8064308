"""SopsDecrypt: every encrypted item becomes a plain one, or none does.

What was encrypted is replaced where it stands and the ``sops`` block goes; nothing else of an item moves. Values of
Secrets that are SOPS documents themselves become plain documents. Annotations
that kpt and kustomize put on items while functions run were not there when the document was encrypted, so they are
left aside (detached) while values and MAC are checked. They are never evidence of anything (S6).
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KrmSopsError, LimitError, PolicyError, shown
from krm_sops.functions import Answer, FunctionError, PolicyNeeded
from krm_sops.krm.config import AMBIENT, MAC_MODES, Fields, Selector, from_kustomize
from krm_sops.krm.item import LOCAL_CONFIG
from krm_sops.krm.results import Result
from krm_sops.tree import CIPHERTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.functions import Given
    from krm_sops.functions.embedded import Embedded
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.policy import Policy

_OPT_OUTS = ("kustomize.toolkit.fluxcd.io/decrypt", "krm-sops.dev/decrypt")
_SPEC = (
    *("decryption", "keys", "mac", "ambient", "strict", "selectors", "exclude", "allowPlaintext", "include"),
    *("needsHash", "keepOriginal"),
)
_INCLUDE = ("configMaps", "sopsSecrets")


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
        self.include: list[str] = []
        self.needs_hash = False
        self.keep_original = False
        self.mask = False
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
        spec = Fields(config.branch.get("spec"), "spec", _SPEC)
        self._common(spec)
        self.hand_in(spec)
        self.selectors = Selector.all_of(spec, "selectors")
        self.exclude = Selector.all_of(spec, "exclude")
        self.include = spec.names("include") if spec.has("include") else []
        for name in self.include:
            if name not in _INCLUDE:
                allowed = ", ".join(_INCLUDE)
                raise ConfigError(f"spec.include has {shown(name, 60)!r}; allowed: {allowed}", path=("spec", "include"))
        self.needs_hash = spec.flag("needsHash")
        self.keep_original = spec.flag("keepOriginal")

    def refuse_with_originals(self) -> None:
        """What SopsEncrypt could not undo, or not trust. Raises ConfigError."""
        why = ""
        if self.kustomize:
            why = "kustomize builds write no files, so that nothing is to be encrypted again"
        elif self.include:
            why = "with include, objects and values change that SopsEncrypt could not put back"
        elif self.mac == "tags":
            why = "only what its MAC verifies can be put back, so mac cannot be tags"
        if why:
            raise ConfigError(f"spec.keepOriginal: {why}", path=("spec", "keepOriginal"))

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

    def expands(self, item: Item) -> bool:
        """Whether Secrets take the item's place."""
        return "sopsSecrets" in self.include and _is_sops_secret(item)

    def names_namespace_of(self, item: Item) -> bool:
        """Whether a selector that names a namespace matches the item; one that names none stays in the config's own."""
        return any("namespace" in selector.texts and selector.matches(item) for selector in self.selectors)

    def obey(self, policy: Policy) -> list[PolicyError]:
        """Take over what is in force; what is wished for in vain."""
        refused: list[PolicyError] = []
        self.strict = self.strict or policy.strict
        self.mask = policy.mask
        try:
            self.mac = policy.mac_mode(self.mac, f"{self.where}.mac")
        except PolicyError as error:
            refused.append(error)
        try:
            self.ambient = policy.ambient_mode(self.ambient, f"{self.where}.ambient")
        except PolicyError as error:
            refused.append(error)
        return refused


def run(given: Given, host: Host, policy: Policy | None) -> Answer:
    """Decrypt in place. Raises FunctionError with everything that is wrong, ConfigError.

    policy: None where nothing is encrypted.
    """
    return run_with(Options(given.config), given, host, policy)


def run_with(options: Options, given: Given, host: Host, policy: Policy | None) -> Answer:
    """The same with options that are not read from the config."""
    answer = Answer()
    config = given.config
    options.kustomize = options.kustomize or given.from_kustomize
    if options.keep_original:
        options.refuse_with_originals()
    answer.keys_in_config = config is not None and (
        config.kind == "Secret" or any(key.has("value") for key in options.keys)
    )
    if options.needs_hash and not options.kustomize:
        raise ConfigError(
            "spec.needsHash: only kustomize adds the hash suffix, and it does not run this function",
            hint="leave it out here; under kustomize the config carries the annotation config.kubernetes.io/function",
            path=("spec", "needsHash"),
        )
    secrets = key_secrets(given, options, answer)
    refused: list[PolicyError] = options.obey(policy) if policy else []
    wanted = [item for item in given.encrypted() if _may_change(item, options, answer)]
    wanted = _without_sops_secrets(wanted, options, answer)
    values = _inside_of_values(given, options, answer, is_final=policy is not None)
    if options.keep_original and values:
        from krm_sops.functions.leftovers import tell_kept_inside

        tell_kept_inside(values, answer)
        values = {}
    wanted += values
    todo = [item for item in wanted if may_open(item, options, secrets)]
    if len(todo) < len(wanted):
        from krm_sops.functions.leftovers import tell_other_namespace

        tell_other_namespace([item for item in wanted if item not in todo], options.namespace, answer)
    _tell_lost(given, options, answer)
    if todo:
        if policy is None:
            raise PolicyNeeded
        from krm_sops.functions.decrypt_keys import Keys

        keys = Keys(given, host, policy, options, secrets, answer)
        refused += keys.refused()
        if not refused:
            from krm_sops.functions.decrypt_all import decrypt_all

            decrypt_all(todo, values, keys, options, answer)
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


def key_secrets(given: Given, options: Options, answer: Answer) -> list[Item]:
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
    return item.original_name == name and was_in(item, namespace)


def was_in(item: Item, namespace: str) -> bool:
    """Whether this was its namespace before kustomize changed it; where it may have had none, then it had none."""
    known = item.original_namespaces
    return namespace in known and (not namespace or "" not in known)


def may_open(item: Item, options: Options, secrets: list[Item]) -> bool:
    """Whether the config's keys may open an item (S12): all of them, or those that are in its namespace now.

    What an item was before kustomize's namespace transformer counts where it has moved along with the key Secret: else
    one could write another's namespace into a file, and have kustomize move it, decrypted, into one's own.
    """
    namespace = options.namespace
    if not namespace or item.namespace == namespace or options.names_namespace_of(item):
        return True
    moved = [secret.namespace for secret in secrets if secret.namespace != namespace]
    return item.namespace in moved and was_in(item, namespace)


def _may_change(item: Item, options: Options, answer: Answer) -> bool:
    return item not in answer.key_items and options.wants(item)


def _without_sops_secrets(wanted: list[Item], options: Options, answer: Answer) -> list[Item]:
    """The custom resources SopsSecret are their operators' to decrypt, unless `include` names them."""
    kept = [] if "sopsSecrets" in options.include else [item for item in wanted if _is_sops_secret(item)]
    if not kept:
        return wanted
    from krm_sops.functions.leftovers import tell_not_included

    for item in kept:
        tell_not_included(item, "stays encrypted, for its operator", "sopsSecrets", answer)
    return [item for item in wanted if item not in kept]


def _is_sops_secret(item: Item) -> bool:
    if not item.kind.endswith("SopsSecret"):
        return False
    from krm_sops.functions.expand import is_sops_secret

    return is_sops_secret(item.branch)


def _inside_of_values(given: Given, options: Options, answer: Answer, *, is_final: bool) -> dict[Item, list[Embedded]]:
    """The items that hold documents inside of their values. An item that is encrypted itself is opened as that only.

    is_final: the limits are the operator's. Raises LimitError where they are not.
    """
    kinds = ("Secret", "ConfigMap") if "configMaps" in options.include else ("Secret",)
    holders = [item for kind in kinds for item in given.of_kind(kind) if item.branch.number("sops") is None]
    holders = [item for item in holders if _may_change(item, options, answer)]
    if not holders:
        return {}
    from krm_sops.functions.embedded import Search

    search = Search(given.limits)
    found: dict[Item, list[Embedded]] = {}
    for item in holders:
        try:
            documents = search.inside(item)
        except LimitError as error:
            if not is_final:
                raise
            answer.results.append(Result.of(error, item))
            break
        if documents:
            found[item] = documents
    if search.lost:
        from krm_sops.functions.leftovers import tell_unreadable

        tell_unreadable(search.lost, answer)
    return found


def _tell_lost(given: Given, options: Options, answer: Answer) -> None:
    lost = [item for item in given.holding(CIPHERTEXT.encode()) if item.branch.number("sops") is None]
    if not lost:
        return
    from krm_sops.functions.leftovers import tell_lost, tell_not_included

    tell_lost(lost, answer)
    maps = [item for item in lost if item.kind == "ConfigMap" and _may_change(item, options, answer)]
    if maps and "configMaps" not in options.include:
        from krm_sops.functions.embedded import Search

        search = Search(given.limits)
        for item in maps:
            try:
                documents = search.inside(item)
            except LimitError:  # nobody asked for it to be read
                continue
            if documents:
                tell_not_included(item, "values that are encrypted documents stay encrypted", "configMaps", answer)


def _refuse_generator(given: Given) -> None:
    """kustomize gives a generator its own config as the only item, so it would do nothing and say nothing."""
    config = given.config
    if config is not None and any(item.kind == config.kind for item in given.named(config.name)):
        raise ConfigError(f"{config.kind} changes items: list it under transformers, not under generators")
