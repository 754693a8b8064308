"""Functions: functionConfig -> what is done. A further one is a file in this folder and a line in this table."""

from __future__ import annotations

from krm_sops.errors import ConfigError, KrmSopsError, LimitError, PolicyError, ResourceListError, shown
from krm_sops.krm.item import refuse_duplicates
from krm_sops.krm.resourcelist import NotPlainError, ResourceList
from krm_sops.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.krm.results import Result
    from krm_sops.limits import Limits
    from krm_sops.policy import Flags, Policy
    from krm_sops.tree import Branch

    class Given(Protocol):
        """What a function is given: a ResourceList, or a Stream. Described there.

        from_kustomize: kustomize has sorted and perhaps changed the items, whether or not the config says so.
        """

        limits: Limits
        from_kustomize: bool
        originals: Mapping[str, bytes]

        @property
        def config(self) -> Item | None: ...
        @property
        def items(self) -> list[Item]: ...
        def encrypted(self) -> list[Item]: ...
        def holding(self, text: bytes) -> list[Item]: ...
        def named(self, name: str) -> list[Item]: ...
        def of_kind(self, kind: str) -> list[Item]: ...

    Function = Callable[[Given, Host, Policy | None], "Answer"]

FUNCTIONS: Registry[Function] = Registry(
    SopsDecrypt="krm_sops.functions.decrypt:run",
    SopsGenerator="krm_sops.functions.generate:run",
    ksops="krm_sops.functions.generate:run",
    SopsSecretGenerator="krm_sops.functions.generate:run",
    SopsEncrypt="krm_sops.functions.encrypt:run",
    SopsTemplate="krm_sops.functions.template:run",
    SopsCheck="krm_sops.functions.check:run",
    StageSet="krm_sops.functions.stages:run",
)
"""By the kind of the functionConfig."""
GENERATORS = ("SopsGenerator", "ksops", "SopsSecretGenerator")
"""Those that make objects of files, and need no items."""
_OF_ALL_ITEMS = ("SopsCheck", "StageSet")
"""Those that look at every item, which only the exact reader can give."""
GROUP_VERSION = "krm-sops.dev/v1alpha1"
_GROUP_VERSIONS = {
    "ksops": "viaduct.ai/v1",
    "SopsSecretGenerator": "goabout.com/v1beta1",
    "StageSet": "stages.metio.wtf/v1",
}
"""Of the kinds that are not our own."""


class Answer:
    """What a function came to.

    key_items: the key Secrets it used.  keys_in_config: the functionConfig holds a key.  added: objects that come after
    the items.  consumed: items that do not leave when all went well, such as a generator's config.  order: all items
    as they are to leave; None for the order that they came in.
    """

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.key_items: list[Item] = []
        self.keys_in_config = False
        self.added: list[Branch] = []
        self.consumed: list[Item] = []
        self.order: list[Item] | None = None


class FunctionError(KrmSopsError):
    """A function failed; `answer` holds at least one result of severity error, and what must not be printed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("the function failed")
        self.answer = answer


class PolicyNeeded(Exception):
    """Raised by a function that got no policy, and found something to open after all: ask it again with one."""


def function_for(config: Item | None) -> Function:
    """Raises ConfigError for a kind that is none of ours."""
    kind = config.kind if config else ""
    version = config.field("apiVersion") if config else ""
    if config is None or (version, kind) in (("v1", "ConfigMap"), ("v1", "Secret")):
        return FUNCTIONS["SopsDecrypt"]
    if kind in FUNCTIONS and version == group_version(kind):
        return FUNCTIONS[kind]
    known = ", ".join(f"{group_version(name)} {name}" for name in FUNCTIONS)
    raise ConfigError(
        f"functionConfig of kind {shown(version, 80)} {shown(kind, 80)} is unknown; "
        f"allowed: v1 ConfigMap, v1 Secret, {known}"
    )


def group_version(kind: str) -> str:
    return _GROUP_VERSIONS.get(kind, GROUP_VERSION)


def run(
    raw: bytes,
    host: Host,
    limits: Limits,
    flags: Flags | None = None,
    items_of: str = "",
    originals: Mapping[str, bytes] | None = None,
) -> tuple[bytes, list[Result], int]:
    """The whole program: ResourceList bytes in; ResourceList bytes, what to say, and the exit status out.

    limits: the defaults, for what is read before the policy is.  items_of: a kind of generators of which every item is
    a config, where there is no functionConfig.  originals: the files that a build made the items of, where they are at
    hand, by their paths from the root.
    Fails closed: on an error all items leave exactly as they came, those that bear keys left out.
    Raises ResourceListError, LimitError, PolicyError where there is no list to answer in.
    """
    policy: Policy | None = None
    exact = is_needed = False
    while True:
        try:
            given = ResourceList(raw, policy.limits if policy else limits, exact=exact)
            given.originals = originals or {}
            if not exact and given.config is not None and given.config.kind in _OF_ALL_ITEMS:
                raise NotPlainError
            if policy is None and (is_needed or given.encrypted()):
                try:
                    policy = _policy(host, limits, flags)
                except PolicyError as error:
                    return _run(given, host, error, items_of)
                if policy.limits != limits:
                    continue
            return _run(given, host, policy, items_of)
        except NotPlainError:
            exact = True
        except PolicyNeeded:
            is_needed = True
        except LimitError:
            if policy is not None:
                raise
            policy = _policy(host, limits, flags)  # it may allow more


def _policy(host: Host, limits: Limits, flags: Flags | None) -> Policy:
    from krm_sops.policy import in_force

    policy = in_force(host, limits, flags)
    policy.apply_to(host)
    return policy


def _run(
    given: ResourceList, host: Host, policy: Policy | PolicyError | None, items_of: str
) -> tuple[bytes, list[Result], int]:
    """policy: None where nothing is encrypted; the error where there is one that cannot be used."""
    is_bare = given.config is None and not items_of
    if is_bare and policy is None and not (given.holding(b"ENC[AES256_GCM,") or given.of_kind("Secret")):
        return given.raw, [], 0  # nothing to do, so nothing more is imported
    answer = Answer()
    try:
        if isinstance(policy, PolicyError):
            raise policy
        if given.config is not None:
            refuse_duplicates(given.config.branch)
        if given.config is None and items_of:
            from krm_sops.functions.generate import run_items

            answer = run_items(given, host, policy, items_of)
        else:
            answer = function_for(given.config)(given, host, policy)
    except FunctionError as error:
        answer = error.answer
    except ResourceListError:
        raise
    except KrmSopsError as error:
        from krm_sops.krm.results import Result

        answer.results.append(Result.of(error, given.config if isinstance(error, ConfigError) else None))
        answer.keys_in_config = True
    failed = any(result.severity == "error" for result in answer.results)
    output = given.write(
        answer.results,
        without=_key_bearing(given, answer) if failed else answer.consumed,
        keep_config=not (failed or answer.keys_in_config),  # a key that failed may stand in any field
        changed=not failed,
        added=answer.added,
        order=None if failed else answer.order,
    )
    return output, answer.results, 1 if failed else 0


def _key_bearing(given: ResourceList, answer: Answer) -> list[Item]:
    """The items that hold keys, whatever else is wrong: the functionConfig's own file, and the Secret that it names."""
    config = given.config
    if config is None:
        return []
    found = list(answer.key_items)
    if answer.keys_in_config:
        found += [item for item in given.named(config.name) if item.kind == config.kind]
    referred = config.field("spec", "decryption", "secretRef", "name") or config.field("data", "secretRef")
    found += [item for item in given.named(referred) if item.kind == "Secret"]
    return list(dict.fromkeys(found))
