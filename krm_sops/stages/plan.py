"""All StageSets of a run: in the order of their dependencies, and which item belongs to which stage."""

from __future__ import annotations

from krm_sops.errors import ConfigError, InputError, KrmSopsError, shown
from krm_sops.krm.config import from_kustomize
from krm_sops.krm.item import LOCAL_CONFIG, ORIGIN, PACKAGE_PATH
from krm_sops.krm.results import Result
from krm_sops.stages import BARRIER, GROUP_VERSION, KIND, SOURCES, STAGE
from krm_sops.stages.spec import StageSet, normal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from krm_sops.krm.item import Item
    from krm_sops.stages.spec import Stage

_ORIGINS = (
    "under kustomize, set buildMetadata: [originAnnotations] in the kustomization; elsewhere, items carry the "
    "annotation internal.config.kubernetes.io/path"
)


class Plan:
    """sets, stages: in order.  loose: the items in no stage.  told_loose: those of them that one would expect in one.

    results: what is wrong, and what is to be told.
    """

    def __init__(self, items: Sequence[Item], config: Item | None = None, files: Collection[str] = ()) -> None:
        """config: a StageSet besides those among the items.  files: manifest files, of which some may hold no item."""
        self.items = items
        self.results: list[Result] = []
        self.stages: list[Stage] = []
        self.loose: list[Item] = []
        self.told_loose: set[Item] = set()
        self.stage_of: dict[Item, Stage] = {}
        self.is_kustomize = from_kustomize(config)
        self.top = config.annotation(PACKAGE_PATH) if config else ""
        self.sets = self._sets(config)
        if not self.failed:
            self._in_order()
        if not self.failed:
            self._take(files)

    @property
    def failed(self) -> bool:
        return any(result.is_error for result in self.results)

    def _wrong(self, error: KrmSopsError, item: Item | None) -> None:
        self.results.append(Result.of(error, item))

    def _sets(self, config: Item | None) -> list[StageSet]:
        found: dict[tuple[str, str], StageSet] = {}
        candidates = [item for item in self.items if is_stage_set(item)]
        if config is not None and not any(_is_same(item, config) for item in candidates):
            candidates.insert(0, config)
        for item in candidates:
            try:
                stage_set = StageSet(item)
                if (stage_set.namespace, stage_set.name) in found:
                    raise ConfigError(f"the StageSet {stage_set.label} is there twice", path=("metadata", "name"))
            except KrmSopsError as error:
                self._wrong(error, item)
                continue
            found[stage_set.namespace, stage_set.name] = stage_set
            self.results += stage_set.results
        return list(found.values())

    def _in_order(self) -> None:
        """Sort by `dependsOn`, otherwise as they came; and number the stages, where independent ones share numbers."""
        known = {(one.namespace, one.name): one for one in self.sets}
        done: dict[tuple[str, str], int] = {}
        ordered: list[StageSet] = []
        for start in self.sets:
            trail: list[tuple[StageSet, list[tuple[str, str]]]] = []
            self._enter(start, trail, done)
            while trail:
                current, waiting = trail[-1]
                if waiting:
                    other = known.get(waiting.pop(0))
                    if other is None:
                        continue
                    names = [one for one, _ in trail]
                    if other in names:
                        self._tell_cycle([*names[names.index(other) :], other])
                        return
                    self._enter(other, trail, done)
                    continue
                trail.pop()
                first = max((done[name] for name in current.depends_on if name in done), default=0)
                for stage in current.stages:
                    first += 1
                    stage.number = first
                done[current.namespace, current.name] = first
                ordered.append(current)
                self._tell_absent(current, known)
        self.sets = ordered
        self.stages = [stage for one in ordered for stage in one.stages]

    def _enter(
        self,
        stage_set: StageSet,
        trail: list[tuple[StageSet, list[tuple[str, str]]]],
        done: dict[tuple[str, str], int],
    ) -> None:
        if (stage_set.namespace, stage_set.name) not in done:
            trail.append((stage_set, list(stage_set.depends_on)))

    def _tell_cycle(self, cycle: list[StageSet]) -> None:
        names = " -> ".join(one.label for one in cycle)
        error = ConfigError(f"the StageSets wait for each other: {names}", path=("spec", "dependsOn"))
        self._wrong(error, cycle[0].item)

    def _tell_absent(self, stage_set: StageSet, known: Collection[tuple[str, str]]) -> None:
        for name in stage_set.depends_on:
            if name not in known:
                text = f"spec.dependsOn: {shown('/'.join(filter(None, name)))} is not here, so nothing waits for it"
                self.results.append(Result("info", "ControllerOnly", text, item=stage_set.item, field="spec.dependsOn"))

    def _take(self, files: Collection[str]) -> None:
        """Give each item to its stage. Told: a stage without any, an item that two want, items in none."""
        places = {item: self._place(item) for item in self.items}
        if self.stages and not any(places.values()) and not files:
            error = InputError("the items do not say which files they come from", hint=_ORIGINS)
            self._wrong(error, self.sets[0].item)
            return
        names = {*filter(None, places.values()), *files}
        for stage_set in self.sets:
            for stage in stage_set.stages:
                try:
                    self._place_stage(stage, names)
                except ConfigError as error:
                    self._wrong(error, stage_set.item)
        if self.failed:
            return
        by_folder: dict[str, list[Stage]] = {}
        for stage in self.stages:
            by_folder.setdefault(stage.folder, []).append(stage)
        for item, place in places.items():
            is_ours = is_stage_set(item) or is_generated(item) or _is_tooling(item)
            folders = [] if is_ours or not place else _folders(place)
            wanted = [stage for folder in folders for stage in by_folder.get(folder, ())]
            if len(wanted) > 1:
                self._tell_shared(item, wanted[:2])
            elif wanted:
                wanted[0].items.append(item)
                self.stage_of[item] = wanted[0]
            else:
                self._leave(item, place)

    def _place(self, item: Item) -> str:
        """The file that an item comes from, from the package's top; "" where it does not say.

        kpt counts from the package that the item is in, which may be one below the one that is rendered.
        """
        if item.file:
            package = item.annotation(PACKAGE_PATH)
            if not self.top or package in ("", self.top):
                return normal(item.file)
            return normal(package[len(self.top) :] + "/" + item.file) if package.startswith(f"{self.top}/") else ""
        origin = item.annotation(ORIGIN)
        fields = dict(line.partition(": ")[::2] for line in origin.split("\n") if line[:1] not in (" ", ""))
        if "repo" in fields:
            return ""
        return normal(fields.get("path", "") or fields.get("configuredIn", ""))

    def _place_stage(self, stage: Stage, names: Collection[str]) -> None:
        """Find its folder: beside the StageSet's own file, or at the package's top."""
        stage_set = stage.stage_set
        source = stage_set.sources.get(stage.source, normal(stage.source))
        own = self._place(stage_set.item).rpartition("/")[0]
        tops = list(dict.fromkeys(normal(f"{base}/{source}") for base in (own, "")))
        field = (*stage.where.split("."), "sourceRef", "name")
        top = next((top for top in tops if any(_is_below(name, top) for name in names)), None)
        if top is None:
            raise ConfigError(
                f"{stage.where}.sourceRef.name: unknown source {shown(stage.source, 80)!r}: "
                f"no manifest file is below {' or '.join('./' + shown(top) for top in tops)}",
                hint=f"put its manifests there, or say where they are: {SOURCES}: {shown(stage.source, 80)}=FOLDER",
                path=field,
            )
        stage.folder = normal(f"{top}/{stage.path}")
        if not any(_is_below(name, stage.folder) for name in names):
            raise ConfigError(
                f"{stage.where}: the stage {stage.name} has no manifest file below ./{shown(stage.folder)}",
                hint="its path does not fit the source, or .krmignore leaves its files out",
                path=(*stage.where.split("."), "path"),
            )

    def _tell_shared(self, item: Item, stages: list[Stage]) -> None:
        one, other = stages
        error = ConfigError(
            f"{item} is in two stages: {one} and {other}",
            hint="no stage's folder may be inside of another one's",
            path=(*other.where.split("."), "path"),
        )
        self._wrong(error, other.stage_set.item)

    def _leave(self, item: Item, place: str) -> None:
        self.loose.append(item)
        if is_stage_set(item) or is_generated(item) or _is_tooling(item):
            return
        if item.annotation(LOCAL_CONFIG) not in ("", "false"):
            return
        if self.is_kustomize and not place and item.annotation(ORIGIN) == "":
            self._wrong(InputError("does not say which file it comes from", hint=_ORIGINS), item)
            return
        if any((item.namespace, item.name) == (one.namespace, one.secret_ref) for one in self.sets):
            return
        self.told_loose.add(item)
        self.results.append(Result("info", "InNoStage", "is in no stage: it comes before all of them", item=item))

    def order(self) -> list[Item]:
        """All items: those in no stage, then stage by stage."""
        return [*self.loose, *(item for stage in self.stages for item in stage.items)]


def is_stage_set(item: Item) -> bool:
    return item.kind == KIND and item.field("apiVersion") == GROUP_VERSION


def is_generated(item: Item) -> bool:
    """Whether an earlier run made the object, so that this one makes it again."""
    if item.kind == "ConfigMap":
        return bool(item.annotation(BARRIER)) and item.branch.keys() == ["apiVersion", "kind", "metadata"]
    group = item.field("apiVersion").partition("/")[0]
    return group == "kustomize.toolkit.fluxcd.io" and item.kind == "Kustomization" and bool(item.annotation(STAGE))


def _is_same(item: Item, config: Item) -> bool:
    """Whether the item is the config's own file, or as good as that where the config does not say its file."""
    if (item.namespace, item.name) != (config.namespace, config.name):
        return False
    if item.annotation(PACKAGE_PATH) == config.annotation(PACKAGE_PATH) and item.file == config.file:
        return True
    return not config.file and item.branch.get("spec") == config.branch.get("spec")


def _is_tooling(item: Item) -> bool:
    """Whether it is something that no engine deploys."""
    group = item.field("apiVersion").partition("/")[0]
    return group in ("kpt.dev", "krm-sops.dev", "kustomize.config.k8s.io")


def _is_below(name: str, folder: str) -> bool:
    return not folder or name.startswith(folder + "/")


def _folders(name: str) -> list[str]:
    """All folders that a file is below, "" among them."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(len(parts) + 1)]
