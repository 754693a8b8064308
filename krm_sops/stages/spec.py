"""One StageSet, field by field: what is decided here, and what only its controller can do, which is told."""

from __future__ import annotations

from krm_sops.errors import ConfigError, shown
from krm_sops.krm.config import Fields
from krm_sops.krm.results import Result
from krm_sops.stages import ALLOW_PLAINTEXT, EMIT, SOURCES
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.krm.item import Item

SPEC = ("decryption", "dependsOn", "stages")
CONTROLLERS = (
    *("interval", "retryInterval", "driftDetectionInterval", "timeout", "onTimeout", "suspend", "serviceAccountName"),
    *("kubeConfig", "version", "migrations", "migrationsSourceRef", "rollbackOnFailure", "onRollback"),
    *("updateWindows", "windowScope", "errorBudget"),
)
_STAGE = ("name", "sourceRef", "path", "patches", "postBuild")
_STAGE_CONTROLLERS = (
    *("migrationAnchor", "serviceAccountName", "prune", "timeout", "onTimeout", "force", "conflictPolicy"),
    *("applyHelmHookResources", "actions", "readyChecks", "promotion"),
)
_FLUX = ("interval", "retryInterval", "timeout", "suspend", "serviceAccountName", "kubeConfig", "prune", "force")
"""What a Kustomization of Flux has as well."""
EMISSIONS = ("argocd", "kpt", "flux")
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"


class Stage:
    """of: the StageSet's label.  where: its path in the spec.  folder: where its manifests are, from the package's top.

    number: how many stages come before it for certain, and itself.  items: its own, in the order that they came in.
    """

    def __init__(self, fields: Fields, of: StageSet) -> None:
        self.stage_set = of
        self.where = fields.where
        self.fields = fields
        self.name = fields.text("name")
        if not self.name or self.name.strip(_NAME) or self.name.startswith("-") or self.name.endswith("-"):
            raise ConfigError(
                f"{self.where}.name is {shown(self.name, 60)!r}; lower case letters, digits and dashes are allowed",
                path=(*self.where.split("."), "name"),
            )
        source = Fields(
            fields.node.get("sourceRef"), f"{self.where}.sourceRef", ("apiVersion", "kind", "name", "namespace")
        )
        self.source = source.text("name")
        self.source_fields = source
        if not self.source:
            raise ConfigError(f"{self.where}.sourceRef needs a name", path=(*self.where.split("."), "sourceRef"))
        self.path = _inner(fields.text("path"), f"{self.where}.path")
        self.folder = ""
        self.number = 0
        self.items: list[Item] = []
        self.patches = fields.mappings("patches", ("patch", "target")) if fields.has("patches") else []
        build = fields.mapping("postBuild", ("substitute", "substituteFrom"))
        self.substitute = build.texts("substitute")
        self.substitute_from = [_reference(one) for one in build.mappings("substituteFrom", _REFERENCE)]

    def __str__(self) -> str:
        return f"{self.stage_set.label}: stage {self.name}"


_REFERENCE = ("kind", "name", "optional")


def _reference(fields: Fields) -> tuple[str, str, bool, str]:
    """kind, name, whether it may be missing, and where it stands."""
    name = fields.text("name")
    if not name:
        raise ConfigError(f"{fields.where} needs a name", path=tuple(fields.where.split(".")))
    return fields.choice("kind", ("ConfigMap", "Secret"), ""), name, fields.flag("optional"), fields.where


class StageSet:
    """item: the object.  depends_on: (namespace, name) of others.  results: what is to be told about its fields."""

    def __init__(self, item: Item) -> None:
        """Raises ConfigError."""
        self.item = item
        self.name = item.name
        self.namespace = item.namespace
        self.label = "/".join(shown(part, 80) for part in (self.namespace, self.name) if part)
        self.results: list[Result] = []
        self._told: set[str] = set()
        for field, text in (("name", self.name), ("namespace", self.namespace or "default")):
            if not text or text.strip(_NAME + ".") or text[0] in "-.":  # it becomes part of names, also of folders
                raise ConfigError(
                    f"metadata.{field} is {shown(text, 60)!r}; lower case letters, digits, dots and dashes are allowed",
                    path=("metadata", field),
                )
        self.emit = item.annotation(EMIT)
        if self.emit and self.emit not in EMISSIONS:
            raise ConfigError(
                f"the annotation {EMIT} is {shown(self.emit, 60)!r}; allowed: {', '.join(EMISSIONS)}",
                path=("metadata", "annotations", EMIT),
            )
        self.allows_plaintext = item.annotation(ALLOW_PLAINTEXT) == "true"
        self.sources = _sources(item.annotation(SOURCES))
        self.spec = self._fields(item.branch.get("spec"), "spec", "spec", SPEC, CONTROLLERS)
        self.decrypts = self.spec.has("decryption")
        decryption = self.spec.mapping("decryption", ("provider", "secretRef"))
        if self.decrypts:
            decryption.choice("provider", ("sops",), "")
        self.secret_ref = decryption.mapping("secretRef", ("name",)).text("name")
        self.depends_on = self._dependencies()
        self.stages = self._stages()

    def _fields(self, node: object, where: str, told_as: str, own: Sequence[str], others: Sequence[str]) -> Fields:
        """A mapping; of its fields those that are not ours are told, each once."""
        if not isinstance(node, Branch):
            raise ConfigError(f"{where} must be a mapping", path=tuple(where.split(".")))
        known = tuple(str(entry.key) for entry in node.entries)
        for name in known:
            field = f"{told_as}.{name}"
            if name in own or field in self._told or (self.emit == "flux" and name in _FLUX):
                continue
            self._told.add(field)
            if name in others:
                text = f"{field} is for the controller: nothing of it is decided here"
                self.results.append(Result("info", "ControllerOnly", text, item=self.item, field=field))
            else:
                text = f"{shown(field)} is no field of a StageSet that is known here"
                self.results.append(Result("warning", "InvalidConfig", text, item=self.item, field=field))
        return Fields(node, where, known)

    def _dependencies(self) -> list[tuple[str, str]]:
        found = []
        value = self.spec.node.get("dependsOn") or []
        if not isinstance(value, list):
            raise ConfigError("spec.dependsOn must be a list", path=("spec", "dependsOn"))
        for at, node in enumerate(value):
            fields = self._fields(
                node, f"spec.dependsOn[{at}]", "spec.dependsOn[]", ("name", "namespace"), ("minVersion",)
            )
            if not fields.text("name"):
                raise ConfigError(f"{fields.where} needs a name", path=tuple(fields.where.split(".")))
            found.append((fields.text("namespace") or self.namespace, fields.text("name")))
        return found

    def _stages(self) -> list[Stage]:
        value = self.spec.node.get("stages")
        if not isinstance(value, list) or not value:
            raise ConfigError("spec.stages must be a list of at least one stage", path=("spec", "stages"))
        found: list[Stage] = []
        for at, node in enumerate(value):
            fields = self._fields(node, f"spec.stages[{at}]", "spec.stages[]", _STAGE, _STAGE_CONTROLLERS)
            stage = Stage(fields, self)
            before = next((one for one in found if one.name == stage.name), None)
            if before is not None:
                raise ConfigError(
                    f"{stage.where}.name repeats {shown(stage.name, 60)!r}, the name of {before.where}",
                    path=(*stage.where.split("."), "name"),
                )
            found.append(stage)
        unused = sorted(set(self.sources) - {stage.source for stage in found})
        if unused:
            raise ConfigError(
                f"the annotation {SOURCES} names an unknown source {shown(unused[0], 60)!r}, which no stage has",
                path=("metadata", "annotations", SOURCES),
            )
        return found


def _sources(text: str) -> dict[str, str]:
    """``name=folder,…``."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, folder = part.partition("=")
        if not name or not equals or name in found:
            raise ConfigError(
                f"the annotation {SOURCES} has {shown(part, 80)!r}; it is name=folder,…, each name once",
                path=("metadata", "annotations", SOURCES),
            )
        found[name] = normal(folder)
        if folder.startswith("/"):
            raise ConfigError(
                f"the annotation {SOURCES}: {shown(folder, 80)!r} is no path in the package",
                path=("metadata", "annotations", SOURCES),
            )
    return found


def normal(path: str) -> str:
    """Without ``.``, and with ``..`` only in front; "" for the top."""
    out: list[str] = []
    for part in path.split("/"):
        if part == ".." and out and out[-1] != "..":
            out.pop()
        elif part not in ("", "."):
            out.append(part)
    return "/".join(out)


def _inner(path: str, where: str) -> str:
    found = normal(path)
    if path.startswith("/") or found.startswith(".."):
        raise ConfigError(f"{where} leads out of its source: {shown(path, 80)}", path=tuple(where.split(".")))
    return found
