"""SopsEncrypt: what SopsDecrypt decrypted with keepOriginal is encrypted again, and new Secrets by creation rules.

Always with the exact reader of the list (S17): a Secret that is overlooked would stay plain.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KrmSopsError, shown
from krm_sops.functions import Answer, FunctionError, PolicyNeeded
from krm_sops.functions.decrypt import Options, key_secrets, may_open
from krm_sops.functions.in_place import lost
from krm_sops.krm.config import AMBIENT, Fields, Selector, from_kustomize
from krm_sops.krm.item import LOCAL_CONFIG, ORIGINAL, PACKAGE_PATH
from krm_sops.krm.results import Result
from krm_sops.tree import Branch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.functions import Given
    from krm_sops.functions.decrypt_keys import Keys
    from krm_sops.functions.encrypt_item import Sealing
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.policy import Policy
    from krm_sops.rules import Rules

SPEC = ("creationRules", "decryption", "keys", "ambient", "strict", "exclude", "freshDataKey")


class EncryptOptions(Options):
    """fresh: a document that changed gets a new data key. Raises ConfigError."""

    def __init__(self, config: Item) -> None:
        super().__init__(None)
        self.namespace = config.namespace
        Fields(config.branch, "functionConfig", ("apiVersion", "kind", "metadata", "spec"))
        spec = Fields(config.branch.get("spec"), "spec", SPEC)
        self.hand_in(spec)
        self.mac = "strict"
        self.ambient = spec.choice("ambient", AMBIENT, "auto")
        self.strict = spec.flag("strict")
        self.exclude = Selector.all_of(spec, "exclude")
        self.fresh = spec.choice("freshDataKey", ("never", "onChange"), "never") == "onChange"
        self.rules = _rules(spec)


def _rules(spec: Fields) -> Rules | None:
    if not spec.has("creationRules"):
        return None
    from krm_sops.rules import Rules
    from krm_sops.yamlwrite import write

    text = write([Branch([Entry("creation_rules", spec.node.get("creationRules"))])])
    try:
        return Rules(text.encode(), "spec.creationRules", "")
    except ConfigError as error:
        error.path = ("spec", "creationRules")
        raise


def run(given: Given, host: Host, policy: Policy | None) -> Answer:
    """Raises FunctionError with everything that is wrong, ConfigError, NotPlainError."""
    config = given.config
    assert config is not None
    if given.from_kustomize or from_kustomize(config):
        raise ConfigError(
            "SopsEncrypt is for kpt fn render: kustomize builds write no files, so that nothing is to be encrypted",
            hint="to encrypt files, use krm-sops encrypt",
        )
    options = EncryptOptions(config)
    if policy is None:
        raise PolicyNeeded
    answer = Answer()
    answer.keys_in_config = any(key.has("value") for key in options.keys)
    secrets = key_secrets(given, options, answer)
    refused = options.obey(policy)
    carried = [item for item in given.items if item.annotation(ORIGINAL)]
    new = _new_secrets(given, options, answer)
    answer.results += [*lost(given.items, new), *_in_lists(given, options)]
    if (carried or new) and not refused:
        from krm_sops.functions.decrypt_keys import Keys

        keys = Keys(given, host, policy, options, secrets, answer)
        refused = keys.refused()
        if not refused:
            _encrypt(carried, new, keys, options)
    answer.results += [Result.of(error, config) for error in refused]
    if options.strict:
        for result in answer.results:
            if result.severity == "warning":
                result.severity = "error"
    if any(result.is_error for result in answer.results):
        raise FunctionError(answer)
    for item in answer.key_items:
        item.annotate(LOCAL_CONFIG, "true")
    return answer


def _new_secrets(given: Given, options: Options, answer: Answer) -> list[Item]:
    """The plain Secrets that nothing says may stay plain."""
    found = [
        item
        for item in given.items
        if (item.field("apiVersion"), item.kind) == ("v1", "Secret")
        and item.branch.number("sops") is None
        and not item.annotation(ORIGINAL)
        and item not in answer.key_items
        and not any(selector.matches(item) for selector in options.exclude)
    ]
    if not found:
        return []
    from krm_sops.gate import ENCRYPTED
    from krm_sops.gate.judge import Gate

    plain = {item for item, _ in Gate(ENCRYPTED, given.limits).items(found)}
    return [item for item in found if item in plain]


def _in_lists(given: Given, options: Options) -> list[Result]:
    """An error for each Secret that stands plain inside of a List, where nothing could encrypt it for sops."""
    lists = [
        item
        for item in given.items
        if item.kind.endswith("List")
        and item.branch.number("sops") is None
        and not any(selector.matches(item) for selector in options.exclude)
    ]
    if not lists:
        return []
    from krm_sops.gate import ENCRYPTED
    from krm_sops.gate.judge import Gate

    text = "a Secret that is not encrypted, inside of a list"
    hint = "let the function that makes it give it as an object of its own; or name the list in spec.exclude"
    return [
        Result("error", "InvalidDocument", text, hint=hint, item=item, field=finding.field)
        for item, finding in Gate(ENCRYPTED, given.limits).items(lists)
        if finding.rule == "PlainSecret"
    ]


def _encrypt(carried: list[Item], new: list[Item], keys: Keys, options: EncryptOptions) -> None:
    """Raises nothing: what is wrong is in the answer."""
    from krm_sops.functions.decrypt_item import Opening
    from krm_sops.functions.encrypt_item import Sealing

    answer = keys.answer
    try:
        credentials = keys.credentials()
    except KrmSopsError as error:
        answer.results.append(Result.of(error, keys.reading))
        return
    opening = Opening(credentials, options, answer, keys.limits, keys.proofs)
    sealing = Sealing(opening, options.rules, fresh=options.fresh)
    _seal_carried(carried, keys, sealing)
    _seal_new([item for item in new if may_open(item, options, keys.secrets)], keys.given.items, sealing)


def _seal_carried(items: list[Item], keys: Keys, sealing: Sealing) -> None:
    from krm_sops.functions.decrypt_all import open_ahead_of
    from krm_sops.functions.encrypt_item import original_of, seal_again
    from krm_sops.functions.regroup import groups

    answer, options = keys.answer, keys.options
    now: dict[Item, tuple[Item, bytes]] = {}
    for item in items:
        try:
            was, raw = original_of(item, sealing.opening.limits)
        except KrmSopsError as error:
            answer.results.append(Result.of(error, item))
            continue
        if may_open(was, options, keys.secrets):
            now[was] = item, raw
        else:
            _tell_other_namespace(item, options, answer)
    open_ahead_of([was.branch.get("sops") for was in now], sealing.opening.credentials, keys.limits.key_entries)
    left = list(reversed(groups([*now, *keys.given.encrypted()])))
    while left:
        group = left.pop()
        if now.keys().isdisjoint(group.members):
            continue
        try:
            seal_again(group, now, sealing)
        except KrmSopsError as error:
            if group.is_guess:
                left += reversed(group.alone())
            else:
                answer.results.append(Result.of(error, sealing.item))


def _tell_other_namespace(item: Item, options: Options, answer: Answer) -> None:
    text = f"stays plain: it was not in the config's namespace {shown(options.namespace, 80)!r} when it was encrypted"
    hint = "list another SopsEncrypt with its namespace, or leave the config's own namespace out"
    answer.results.append(Result("warning", "OtherNamespace", text, hint=hint, item=item))


def _seal_new(new: list[Item], items: list[Item], sealing: Sealing) -> None:
    """Those of one file together: sops gives all documents of a file one `sops` block."""
    from krm_sops.functions.encrypt_item import seal_new

    answer = sealing.opening.answer
    files: dict[object, list[Item]] = {}
    for item in items:
        files.setdefault(_file(item) if item.file else item, []).append(item)
    for together in files.values():
        wanted = [item for item in together if item in new]
        if not wanted:
            continue
        sealing.item = wanted[0]
        try:
            if len(wanted) < len(together):
                raise ConfigError(
                    "a new Secret in a file with other objects, which sops could not read",
                    hint="let the function that makes it give it a file of its own (the path annotation)",
                )
            seal_new(sorted(wanted, key=lambda item: item.index), sealing)
        except KrmSopsError as error:
            answer.results.append(Result.of(error, sealing.item))


def _file(item: Item) -> tuple[str, str]:
    return item.annotation(PACKAGE_PATH), item.file
