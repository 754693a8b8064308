"""StageSet: items leave in the order of their stages, decrypted under their StageSet's own keys, and say their stage.

Every StageSet of the list counts, the functionConfig among them, each in its own credential scope (S5): what it opens
are the items of its stages, by the key Secret of its own namespace (S12).
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, InputError, KrmSopsError, shown
from krm_sops.functions import Answer, FunctionError, PolicyNeeded
from krm_sops.functions.decrypt import InPlaceError, Options, run_with
from krm_sops.krm.config import from_kustomize
from krm_sops.krm.item import LOCAL_CONFIG
from krm_sops.krm.results import Result
from krm_sops.stages import ALLOW_PLAINTEXT, KIND, STAGE
from krm_sops.stages.objects import with_annotations
from krm_sops.stages.plan import Plan, is_generated, is_stage_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from krm_sops.functions import Given
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.policy import Policy
    from krm_sops.stages.spec import Stage, StageSet
    from krm_sops.tree import Branch


class StageOptions(Options):
    """What a StageSet asks for: its stages' items, whatever their namespaces, by the key Secret of its own."""

    def __init__(self, stage_set: StageSet) -> None:
        super().__init__(None)
        self.namespace = stage_set.namespace
        self.secret_ref = stage_set.secret_ref
        self.allow_plaintext = stage_set.allows_plaintext

    def names_namespace_of(self, item: Item) -> bool:  # noqa: ARG002 (a stage names its items by their files)
        return True


class Members:
    """What `decrypt` is given for one StageSet: some items of its stages, and all others to look for its key Secret.

    keys: where key Secrets are looked for.
    """

    def __init__(self, given: Given, stage_set: StageSet, own: Collection[Item], keys: Given) -> None:
        self.given = given
        self.keys = keys
        self.limits: Limits = given.limits
        self.config: Item | None = stage_set.item
        self.from_kustomize = given.from_kustomize or from_kustomize(given.config)
        self.originals: Mapping[str, bytes] = given.originals
        self._own = own

    @property
    def items(self) -> list[Item]:
        return self._of(self.given.items)

    def _of(self, items: list[Item]) -> list[Item]:
        return [item for item in items if item in self._own]

    def encrypted(self) -> list[Item]:
        return self._of(self.given.encrypted())

    def holding(self, text: bytes) -> list[Item]:
        return self._of(self.given.holding(text))

    def of_kind(self, kind: str) -> list[Item]:
        return self._of(self.given.of_kind(kind))

    def named(self, name: str) -> list[Item]:
        return [item for item in self.keys.named(name) if not is_stage_set(item)]


def run(given: Given, host: Host, policy: Policy | None) -> Answer:
    """Raises FunctionError with everything that is wrong; NotPlainError where the exact reader is not at work."""
    plan = Plan(given.items, given.config)
    return Rendering(plan, given, host, policy).run()


class Rendering:
    """plan: of all items that are given.  answer: what comes of it.  made: an object that stands for a stage.

    keys: where key Secrets are looked for, if not among the items.  built: items that kustomize made.
    """

    def __init__(self, plan: Plan, given: Given, host: Host, policy: Policy | None, keys: Given | None = None) -> None:
        self.plan = plan
        self.given = given
        self.keys = keys or given
        self.built: Collection[Item] = ()
        self.made: dict[Stage, Branch] = {}
        self.host = host
        self.policy = policy
        self.answer = Answer()
        self.answer.results += plan.results
        self.opened: dict[Item, StageSet] = {}

    def run(self) -> Answer:
        """Raises FunctionError, PolicyNeeded."""
        names = {item.field("spec", "decryption", "secretRef", "name") for item in self.given.of_kind(KIND)}
        referred = [item for name in sorted(names) for item in self._secrets(name)]
        if not self.plan.failed:
            for stage_set in self.plan.sets:
                self._decrypt(stage_set)
        if not self._failed():
            for stage in self.plan.stages:
                self._shape(stage)
        if not self._failed():
            self._mark()
        if self._failed():
            self.answer.key_items = referred
            raise FunctionError(self.answer)
        self.answer.order = self.plan.order()
        self.answer.added = list(self.made.values())
        return self.answer

    def _failed(self) -> bool:
        return any(result.is_error for result in self.answer.results)

    def _wrong(self, error: KrmSopsError, item: Item) -> None:
        self.answer.results.append(Result.of(error, item))

    def _secrets(self, name: str) -> list[Item]:
        return [item for item in self.given.named(name) if item.kind == "Secret"]

    def _decrypt(self, stage_set: StageSet) -> None:
        own = {item for stage in stage_set.stages for item in stage.items}
        if stage_set.emit == "flux":
            return
        if not stage_set.decrypts:
            self._tell_encrypted(Members(self.given, stage_set, own, self.keys))
            return
        built = own.intersection(self.built)
        self._decrypt_members(Members(self.given, stage_set, own - built, self.keys), stage_set)
        if built:
            members = Members(self.given, stage_set, built, self.keys)
            members.from_kustomize = True
            self._decrypt_members(members, stage_set)

    def _decrypt_members(self, members: Members, stage_set: StageSet) -> None:
        encrypted = [item for item in members.encrypted() if not item.edits]
        try:
            answer = run_with(StageOptions(stage_set), members, self.host, self.policy)
        except FunctionError as error:
            answer = error.answer
            for result in answer.results:
                if result.item is None:
                    result.item = stage_set.item
                if result.reason == InPlaceError.reason:
                    result.hint = (
                        f'render with -o, and annotate the StageSet with {ALLOW_PLAINTEXT}: "true"; '
                        "or let Flux decrypt: krm-sops.dev/emit: flux"
                    )
        except KrmSopsError as error:
            self._wrong(error, stage_set.item)
            return
        self.answer.results += answer.results
        self.answer.key_items += answer.key_items
        self.opened |= {item: stage_set for item in encrypted if item.edits and item not in answer.key_items}

    def _tell_encrypted(self, members: Members) -> None:
        for item in members.encrypted():
            text = "stays encrypted: its StageSet has no spec.decryption"
            self.answer.results.append(Result("warning", "StillEncrypted", text, item=item))

    def _is_deployed(self, item: Item) -> bool:
        if item in self.answer.key_items or item.replacement == []:
            return False
        return item.annotation(LOCAL_CONFIG) in ("", "false")

    def _shape(self, stage: Stage) -> None:
        """Its patches, then its variables, as the controller would."""
        if stage.stage_set.emit == "flux":
            return
        items = [item for item in stage.items if self._is_deployed(item)]
        try:
            variables = self._variables(stage)
            if stage.patches:
                if self.policy is None:
                    raise PolicyNeeded
                from krm_sops.stages.patching import Patching

                Patching(stage, items, variables, self.host, self.given.limits).run()
        except KrmSopsError as error:
            self._wrong(error, stage.stage_set.item)
            return
        for item in items if variables else ():
            try:
                self._substitute(item, variables)
            except KrmSopsError as error:
                self._wrong(error, item)

    def _substitute(self, item: Item, variables: Mapping[str, str]) -> None:
        from krm_sops.stages.substitution import is_opted_out, keys_with_variables, substitute_item

        if is_opted_out(item) or (not item.spells("${") and item.replacement is None):
            return
        if item.replacement is None:
            substitute_item(item, variables)
        if keys_with_variables(item):
            text = "a key holds ${…}; keys are not substituted"
            self.answer.results.append(Result("warning", "InvalidDocument", text, item=item))

    def _variables(self, stage: Stage) -> dict[str, str]:
        """Those of `substituteFrom` in their order, then `substitute`. Raises ConfigError, InputError."""
        from krm_sops.stages.substitution import check_name

        found: dict[str, str] = {}
        for kind, name, is_optional, where in stage.substitute_from:
            source = self._source(stage.stage_set, kind, name)
            if source is not None:
                found.update(self._values(source, stage.stage_set))
            elif not is_optional:
                namespace = shown(stage.stage_set.namespace or "none", 80)
                raise ConfigError(
                    f"{where}: no {kind} {shown(name, 80)!r} in the StageSet's namespace ({namespace}) is here",
                    path=tuple(where.split(".")),
                )
        found.update(stage.substitute)
        for name in found:
            check_name(name, f"{stage.where}.postBuild")
        return found

    def _source(self, stage_set: StageSet, kind: str, name: str) -> Item | None:
        found = [
            item
            for item in self.given.named(name)
            if (item.field("apiVersion"), item.kind) == ("v1", kind) and item.namespace == stage_set.namespace
        ]
        if len(found) > 1:
            raise ConfigError(f"postBuild.substituteFrom: {kind} {shown(name, 80)} is here more than once")
        return found[0] if found else None

    def _values(self, item: Item, stage_set: StageSet) -> dict[str, str]:
        from krm_sops.stages.objects import plain_tree
        from krm_sops.stages.substitution import values_of

        if item.branch.number("sops") is not None and self.opened.get(item) is not stage_set:
            raise InputError(f"postBuild.substituteFrom: {item} is encrypted, and is in no stage of this StageSet")
        return values_of(plain_tree(item, self.given.limits), item)

    def _mark(self) -> None:
        """Say each item's stage, and what the engine that deploys them has to know. The StageSets stay here."""
        marks: dict[Item, dict[str, str]] = {}
        try:
            for emit in dict.fromkeys(one.emit for one in self.plan.sets):
                marks |= self._emitted(emit)
        except KrmSopsError as error:
            self._wrong(error, self.plan.sets[0].item)
            return
        for stage in self.plan.stages:
            for item in stage.items:
                if item in self.answer.key_items or (
                    stage.stage_set.emit == "flux" and item.branch.number("sops") is not None
                ):
                    continue
                self._annotate(item, {STAGE: stage.name, **marks.get(item, {})})
        for stage_set in self.plan.sets:
            if stage_set.item in self.plan.loose:
                self._annotate(stage_set.item, {LOCAL_CONFIG: "true"})
        self.answer.consumed = [item for item in self.given.items if is_generated(item)]

    def _annotate(self, item: Item, notes: Mapping[str, str]) -> None:
        if item.replacement is not None:
            item.replacement = [with_annotations(branch, notes) for branch in item.replacement]
            return
        try:
            for name, value in notes.items():
                item.annotate(name, value)
        except KrmSopsError as error:
            self._wrong(error, item)

    def _emitted(self, emit: str) -> dict[Item, dict[str, str]]:
        from krm_sops.stages import emit as emission

        stages = [stage for stage in self.plan.stages if stage.stage_set.emit == emit]
        if emit == "argocd":
            return emission.waves(stages, self._is_deployed)
        if emit == "kpt":
            barriers = emission.Barriers(stages, self._is_deployed)
            self.made |= barriers.objects
            return barriers.marks
        if emit == "flux":
            self.made |= emission.kustomizations(stages)
            for stage in filter(emission.is_produced, stages):
                text = (
                    f"{stage.where}.sourceRef: Flux knows no such kind; an ExternalArtifact of the same name is taken"
                )
                self.answer.results.append(
                    Result(
                        "warning", "ControllerOnly", text, item=stage.stage_set.item, field=f"{stage.where}.sourceRef"
                    )
                )
        return {}
