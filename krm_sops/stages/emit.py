"""The order of the stages as annotations: sync waves for Argo CD, dependencies for `kpt live apply`.

Both can be read back, so that a package that was rendered in place renders to the same again.

Sources: argo-cd 3.6, gitops-engine/pkg/sync/syncwaves (a wave is a whole number, 0 where there is none);
cli-utils, pkg/object/dependson (the grammar), and what its solver adds: an object waits for its namespace.
"""

from __future__ import annotations

from krm_sops.errors import InputError, LimitError, shown
from krm_sops.stages import BARRIER, STAGE
from krm_sops.tree import Branch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.krm.item import Item
    from krm_sops.stages.spec import Stage, StageSet
    from krm_sops.tree import Node

    Marks = dict[Item, dict[str, str]]

WAVE = "argocd.argoproj.io/sync-wave"
OWN_WAVE = "krm-sops.dev/own-wave"
"""The wave that an item had before; it is added to its stage's."""
HOOKS = ("argocd.argoproj.io/hook", "helm.sh/hook")
DEPENDS_ON = "config.kubernetes.io/depends-on"
_ANNOTATION_BYTES = 256 * 1024
"""What Kubernetes allows all annotations of an object together."""
_KEPT_FREE = 16 * 1024
_LONGEST_NAME = 253
_LEAST_STEP = 10
_PREFIX = "krm-sops-stage-"


def waves(stages: Sequence[Stage], is_deployed: Callable[[Item], bool]) -> Marks:
    """Waves for the items of these stages: the stage's number times a step, and the item's own wave.

    The step is the least power of ten, at least ten, by which no two stages overlap, nor the first one wave 0. Hooks
    keep what they have: their phases come before and after the waves of everything else. Raises InputError.
    """
    own = {
        item: _own_wave(item) for stage in stages for item in stage.items if is_deployed(item) and not _is_hook(item)
    }
    step = _LEAST_STEP
    while own and step <= max(max(own.values()), 0) - min(min(own.values()), 0):
        step *= 10
    marks: Marks = {}
    for stage in stages:
        for item in stage.items:
            if item in own:
                marks[item] = {WAVE: str(stage.number * step + own[item])}
                if own[item]:
                    marks[item][OWN_WAVE] = str(own[item])
    return marks


def _is_hook(item: Item) -> bool:
    return any(item.annotation(name) for name in HOOKS)


def _own_wave(item: Item) -> int:
    name = OWN_WAVE if item.annotation(STAGE) else WAVE
    text = item.annotation(name)
    if not text:
        return 0
    digits = text.removeprefix("-") if text[:1] != "+" else text[1:]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 8):
        path = ("metadata", "annotations", name)
        raise InputError(
            f"the annotation {name} is {shown(text, 60)!r}, no whole number of at most 7 digits", path=path
        )
    return int(text)


class Barriers:
    """One ConfigMap for each stage: it waits for the stage's items, and those of the next stage wait for it.

    So the references grow with the items, not with their pairs.
    """

    def __init__(self, stages: Sequence[Stage], is_deployed: Callable[[Item], bool]) -> None:
        """Raises InputError, LimitError."""
        self.stages = stages
        self.members = {stage: [item for item in stage.items if is_deployed(item)] for stage in stages}
        self.made_in = {name: stage for stage in stages for item in self.members[stage] for name in _makes(item)}
        self.marks: Marks = {}
        self.objects: dict[Stage, Branch] = {}
        last = last_stages(stages)
        for stage in stages:
            before = [self._reference(one) for one in last[stage]]
            for item in self.members[stage]:
                self._check_needs(item, stage)
                wanted = ",".join([*_own_references(item), *before])
                if wanted:
                    self.marks[item] = {DEPENDS_ON: wanted}
                elif item.annotation(DEPENDS_ON):
                    raise InputError(
                        f"waits for a stage that no longer comes before it; remove the annotation {DEPENDS_ON}",
                        path=("metadata", "annotations", DEPENDS_ON),
                    )
            self.objects[stage] = self._object(stage, before)

    def _namespace(self, stage: Stage) -> str:
        """The barrier's: the StageSet's, unless that is made in a later stage only."""
        wanted = stage.stage_set.namespace or "default"
        made = self.made_in.get((wanted,))
        return "default" if made is not None and made.number > stage.number else wanted

    def _reference(self, stage: Stage) -> str:
        return f"/namespaces/{self._namespace(stage)}/ConfigMap/{_barrier_name(stage)}"

    def _check_needs(self, item: Item, stage: Stage) -> None:
        """Raises InputError for what the engine would wait for in vain: it lets an object wait for what it needs."""
        group = item.field("apiVersion").rpartition("/")[0]
        for what, name in (("namespace", (item.namespace,)), ("definition", (group, item.kind))):
            made = self.made_in.get(name)
            if made is not None and made.number > stage.number:
                raise InputError(
                    f"{item} is in {stage}, but its {what} is made after that, in {made}", path=("metadata",)
                )

    def _object(self, stage: Stage, before: list[str]) -> Branch:
        references = [reference(item) for item in self.members[stage]] or before
        value = ",".join(references)
        if len(value) > _ANNOTATION_BYTES - _KEPT_FREE:
            raise LimitError(
                f"{stage}: its {len(references)} items do not fit into one annotation of 256 KiB",
                hint="split the stage in two",
                path=tuple(stage.where.split(".")),
            )
        notes = {BARRIER: f"{stage.stage_set.namespace}/{stage.stage_set.name}/{stage.name}"}
        if value:
            notes[DEPENDS_ON] = value
        return Branch(
            [
                Entry("apiVersion", "v1"),
                Entry("kind", "ConfigMap"),
                Entry(
                    "metadata",
                    Branch(
                        [
                            Entry("name", _barrier_name(stage)),
                            Entry("namespace", self._namespace(stage)),
                            Entry("annotations", Branch([Entry(*pair) for pair in notes.items()])),
                        ]
                    ),
                ),
            ]
        )


def last_stages(stages: Sequence[Stage]) -> dict[Stage, list[Stage]]:
    """What each stage waits for: the one before it, or the last ones of what its StageSet depends on."""
    ends = {(stage.stage_set.namespace, stage.stage_set.name): stage for stage in stages}
    found: dict[Stage, list[Stage]] = {}
    for stage in stages:
        at = stage.stage_set.stages.index(stage)
        found[stage] = (
            [stage.stage_set.stages[at - 1]]
            if at
            else [ends[name] for name in stage.stage_set.depends_on if name in ends]
        )
    return found


def _barrier_name(stage: Stage) -> str:
    name = f"{_PREFIX}{stage.stage_set.name}-{stage.name}"
    if len(name) > _LONGEST_NAME:
        raise LimitError(f"{stage}: a ConfigMap's name of more than {_LONGEST_NAME} characters would stand for it")
    return name


def _own_references(item: Item) -> list[str]:
    """What an item waits for by itself, without the barriers of an earlier run."""
    text = item.annotation(DEPENDS_ON)
    if not all(_is_plain(part.strip()) for part in text.split(",")):
        raise InputError("holds what cannot stand there", path=("metadata", "annotations", DEPENDS_ON))
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [part for part in parts if f"/ConfigMap/{_PREFIX}" not in part]


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not any(c in text for c in ' "\\')


def reference(item: Item) -> str:
    """As `config.kubernetes.io/depends-on` names an object. Raises InputError."""
    group = item.field("apiVersion").rpartition("/")[0]
    for part in (group, item.kind, item.name, item.namespace):
        if not _is_plain(part) or "/" in part or "," in part:
            raise InputError(f"{shown(part, 80)!r} cannot stand in {DEPENDS_ON}", path=("metadata", "name"))
    if not item.name:
        raise InputError("has no name, so nothing can wait for it", path=("metadata", "name"))
    if item.namespace:
        return f"{group}/namespaces/{item.namespace}/{item.kind}/{item.name}"
    if _is_builtin(group) and item.kind not in _CLUSTER_KINDS:
        raise InputError(
            "has no namespace, so nothing can wait for it", hint="write its namespace", path=("metadata", "namespace")
        )
    return f"{group}/{item.kind}/{item.name}"


def _is_builtin(group: str) -> bool:
    return "." not in group or group.endswith(".k8s.io")


def _makes(item: Item) -> list[tuple[str, ...]]:
    """What others need: a namespace, or the kind of a CustomResourceDefinition with its group."""
    group = item.field("apiVersion").rpartition("/")[0]
    if (group, item.kind) == ("", "Namespace"):
        return [(item.name,)]
    if (group, item.kind) == ("apiextensions.k8s.io", "CustomResourceDefinition"):
        return [(item.field("spec", "group"), item.field("spec", "names", "kind"))]
    return []


_CLUSTER_KINDS = (
    *("APIService", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding", "ClusterTrustBundle"),
    *("CSIDriver", "CSINode", "CustomResourceDefinition", "DeviceClass", "FlowSchema", "GatewayClass", "IngressClass"),
    *("IPAddress", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration"),
    *("Namespace", "Node", "PersistentVolume", "PriorityClass", "PriorityLevelConfiguration", "ResourceSlice"),
    *("RuntimeClass", "ServiceCIDR", "StorageClass", "StorageVersion", "StorageVersionMigration"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"),
    *("VolumeAttachment", "VolumeAttributesClass", "VolumeSnapshotClass", "VolumeSnapshotContent"),
)
"""Kinds of Kubernetes itself, and of its own CRDs, that are in no namespace."""


def kustomizations(stages: Sequence[Stage]) -> dict[Stage, Branch]:
    """A Kustomization of Flux for each stage."""
    before = last_stages(stages)
    return {stage: _kustomization(stage, before[stage]) for stage in stages}


_SOURCE_KINDS = ("GitRepository", "OCIRepository", "Bucket", "ExternalArtifact")


def is_produced(stage: Stage) -> bool:
    """Whether its source is the output of another object, which Flux cannot refer to."""
    return stage.source_fields.text("kind", "ExternalArtifact") not in _SOURCE_KINDS


def _kustomization(stage: Stage, before: list[Stage]) -> Branch:
    stage_set, own = stage.stage_set, stage.fields.node
    spec: list[Entry] = []
    if before:
        spec.append(Entry("dependsOn", [_named(one, stage_set) for one in before]))
    for name, default in (("interval", "10m"), ("retryInterval", None), ("timeout", None), ("suspend", None)):
        spec += _taken(name, own, stage_set.spec.node, default=default)
    spec += [Entry("path", "./" + stage.path), Entry("prune", own.get("prune") is not False)]
    spec += [Entry("wait", True), *_taken("force", own)]
    kind = stage.source_fields.text("kind", "ExternalArtifact")
    source = [
        Entry("kind", "ExternalArtifact" if is_produced(stage) else kind),
        Entry("name", stage.source),
    ]
    if stage.source_fields.text("namespace"):
        source.append(Entry("namespace", stage.source_fields.text("namespace")))
    spec.append(Entry("sourceRef", Branch(source)))
    spec += _taken("serviceAccountName", own, stage_set.spec.node)
    for name in ("kubeConfig", "decryption"):
        spec += _taken(name, stage_set.spec.node)
    for name in ("patches", "postBuild"):
        spec += _taken(name, own)
    metadata = [Entry("name", _flux_name(stage))]
    if stage_set.namespace:
        metadata.append(Entry("namespace", stage_set.namespace))
    metadata.append(Entry("annotations", Branch([Entry(STAGE, stage.name)])))
    return Branch(
        [
            Entry("apiVersion", "kustomize.toolkit.fluxcd.io/v1"),
            Entry("kind", "Kustomization"),
            Entry("metadata", Branch(metadata)),
            Entry("spec", Branch(spec)),
        ]
    )


def _flux_name(stage: Stage) -> str:
    return f"{stage.stage_set.name}-{stage.name}"


def _named(stage: Stage, seen_from: StageSet) -> Node:
    entries = [Entry("name", _flux_name(stage))]
    if stage.stage_set.namespace != seen_from.namespace:
        entries.append(Entry("namespace", stage.stage_set.namespace))
    return Branch(entries)


def _taken(name: str, *nodes: Branch, default: str | None = None) -> list[Entry]:
    """The first of these fields that there is."""
    for node in nodes:
        if node.get(name) is not None:
            return [Entry(name, node.get(name))]
    return [] if default is None else [Entry(name, default)]
