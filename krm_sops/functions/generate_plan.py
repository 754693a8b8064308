"""What a generator's config asks for, in one form for all three kinds: which files go into which objects.

Ours refuses what it does not know. Those of ksops and SopsSecretGenerator are taken as these tools take them: unknown
fields are ignored, with a warning, and scalars stand for strings.
Sources: viaduct-ai/kustomize-sops 4.5.1, ksops.go; goabout/kustomize-sopssecretgenerator 1.6.0, SopsSecretGenerator.go.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, shown
from krm_sops.functions.decrypt import Options
from krm_sops.krm.config import AMBIENT, FUNCTION_ANNOTATIONS, Fields, from_kustomize
from krm_sops.krm.item import LOCAL_CONFIG, is_injected
from krm_sops.krm.results import Result
from krm_sops.tree import Branch, Entry
from krm_sops.yamlwrite import scalar_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.krm.item import Item
    from krm_sops.tree import Node

_TOP = ("apiVersion", "kind", "metadata")
_METADATA = ("name", "namespace", "labels", "annotations")
_SECRET = ("metadata", "type", "files", "binaryFiles", "envs")
_CONFIG_MAP = ("metadata", "files", "binaryFiles", "envs")
SPEC = (*("files", "secretFrom", "configMapFrom", "keys", "decryption", "ambient", "mac", "strict", "allowPlaintext"),)
NEEDS_HASH, BEHAVIOR = "kustomize.config.k8s.io/needs-hash", "kustomize.config.k8s.io/behavior"


class Source:
    """One entry of a list of files.

    where: its field ("spec.files[2]").  key: what the content is called in the object; "" where it says that itself,
    as a manifest does.  field: of the object.  coded: as base64.
    """

    __slots__ = ("coded", "field", "key", "path", "where")

    def __init__(self, where: str, path: str, key: str = "", field: str = "", *, coded: bool = False) -> None:
        self.where = where
        self.path = path
        self.key = key
        self.field = field
        self.coded = coded


class Target:
    """One object made of files.  head: all of it but the values.  fields: those that hold values, in their order."""

    def __init__(self, where: str, head: Branch, fields: Sequence[str]) -> None:
        self.where = where
        self.head = head
        self.fields = fields
        self.sources: list[Source] = []


class GeneratorOptions(Options):
    """As for SopsDecrypt, without what is about items."""

    def __init__(self, config: Item, spec: Fields | None) -> None:
        super().__init__(None)
        self.namespace = config.namespace
        self.kustomize = from_kustomize(config)
        if spec is None:
            return
        self.hand_in(spec)
        self.ambient = spec.choice("ambient", AMBIENT, "auto")
        self.mac = spec.choice("mac", ("auto", "strict"), "auto")
        self.strict = spec.flag("strict")
        self.allow_plaintext = spec.flag("allowPlaintext")


class Plan:
    """own: our kind, with wildcards in paths, and strict.  dialect: how envs files are read (`generate_env`)."""

    def __init__(self, config: Item, dialect: str) -> None:
        self.config = config
        self.own = config.kind == "SopsGenerator"
        self.dialect = dialect
        self.options = GeneratorOptions(config, None)
        self.manifests: list[Source] = []
        self.targets: list[Target] = []
        self.warnings: list[Result] = []

    def fields(self, node: Node, where: str, allowed: Sequence[str]) -> Fields:
        """One mapping of the config. Raises ConfigError."""
        if self.own or not isinstance(node, Branch):
            return Fields(node, where, allowed)
        for entry in node.entries:
            if entry.key not in allowed:
                text = f"{where} has no field {shown(entry.key, 60)!r}, so it is ignored; known: {', '.join(allowed)}"
                self.warnings.append(Result("warning", "InvalidConfig", text, item=self.config))
        return Fields(Branch(entry for entry in node.entries if entry.key in allowed), where, allowed)

    def each(self, fields: Fields, name: str, allowed: Sequence[str]) -> list[Fields]:
        elements = fields.node.get(name)
        if elements is None or not isinstance(elements, list):
            return fields.mappings(name, ())  # none, or the error
        return [self.fields(one, _path(fields, f"{name}[{at}]"), allowed) for at, one in enumerate(elements)]

    def head(self, fields: Fields, kind: str) -> Branch:
        """apiVersion, kind, metadata and type of an object."""
        where = _path(fields, "metadata")
        metadata = self.fields(fields.node.get("metadata"), where, _METADATA)
        if not metadata.text("name"):
            raise ConfigError("an object needs a metadata.name", path=(where, "name"))
        found = [Entry("name", metadata.text("name"))]
        if metadata.text("namespace"):
            found.append(Entry("namespace", metadata.text("namespace")))
        for group in ("labels", "annotations"):
            texts = self._texts(metadata, group)
            if texts:
                found.append(Entry(group, Branch(Entry(name, text) for name, text in texts.items())))
        return _head(kind, found, fields.text("type") if kind == "Secret" else "")

    def _texts(self, metadata: Fields, group: str) -> dict[str, str]:
        node = metadata.node.get(group)
        if not self.own and isinstance(node, Branch):
            node = Branch(Entry(entry.key, _as_text(entry.value)) for entry in node.entries)
        return Fields(Branch([Entry(group, node)]), metadata.where, (group,)).texts(group)

    def files(self, fields: Fields, name: str, field: str, *, coded: bool = False) -> list[Source]:
        """The sources of a list of ``key=path`` or ``path``."""
        found = []
        for where, text in _listed(fields, name):
            parts = text.split("=")
            if len(parts) > 2 or not all(parts):
                raise ConfigError(f"{shown(text)!r} is neither a path nor key=path", path=(where,))
            key = parts[0] if len(parts) == 2 else _base_name(text)
            found.append(Source(where, parts[-1], key, field, coded=coded))
        return found

    def envs(self, fields: Fields, field: str, *, coded: bool = False) -> list[Source]:
        return [Source(where, path, "", field, coded=coded) for where, path in _listed(fields, "envs")]


def plan_of(config: Item) -> Plan:
    """Raises ConfigError."""
    return {"SopsGenerator": _own, "ksops": _ksops, "SopsSecretGenerator": _sops_secret_generator}[config.kind](config)


def _own(config: Item) -> Plan:
    plan = Plan(config, "dotenv")
    Fields(config.branch, "functionConfig", (*_TOP, "spec"))
    spec = Fields(config.branch.get("spec"), "spec", SPEC)
    plan.options = GeneratorOptions(config, spec)
    plan.manifests = [Source(where, path) for where, path in _listed(spec, "files")]
    _add_secrets(plan, spec)
    for fields in plan.each(spec, "configMapFrom", _CONFIG_MAP):
        target = Target(fields.where, plan.head(fields, "ConfigMap"), ("data", "binaryData"))
        target.sources += plan.files(fields, "files", "data")
        target.sources += plan.files(fields, "binaryFiles", "binaryData", coded=True)
        target.sources += plan.envs(fields, "data")
        plan.targets.append(target)
    if not any(spec.has(name) for name in ("files", "secretFrom", "configMapFrom")):
        raise ConfigError("spec needs at least one of files, secretFrom, configMapFrom", path=("spec",))
    return plan


def _ksops(config: Item) -> Plan:
    plan = Plan(config, "godotenv")
    top = plan.fields(config.branch, "ksops", (*_TOP, "files", "secretFrom"))
    if not top.has("files") and not top.has("secretFrom"):
        raise ConfigError("ksops needs at least one of files, secretFrom")
    plan.manifests = [Source(where, path) for where, path in _listed(top, "files")]
    _add_secrets(plan, top)
    return plan


def _add_secrets(plan: Plan, fields: Fields) -> None:
    for secret in plan.each(fields, "secretFrom", _SECRET):
        target = Target(secret.where, plan.head(secret, "Secret"), ("stringData", "data"))
        target.sources += plan.files(secret, "files", "stringData")
        target.sources += plan.files(secret, "binaryFiles", "data", coded=True)
        target.sources += plan.envs(secret, "stringData")
        plan.targets.append(target)


def _sops_secret_generator(config: Item) -> Plan:
    plan = Plan(config, "lines")
    allowed = (*_TOP, "envs", "files", "behavior", "disableNameSuffixHash", "type")
    top = plan.fields(config.branch, config.kind, allowed)
    head = plan.head(top, "Secret")
    metadata = head.get("metadata")
    assert isinstance(metadata, Branch)
    given = metadata.get("annotations")
    own = (*FUNCTION_ANNOTATIONS, LOCAL_CONFIG)
    kept = [entry for entry in given.entries if not _is_ours(str(entry.key), own)] if isinstance(given, Branch) else []
    if not top.flag("disableNameSuffixHash"):
        kept.append(Entry(NEEDS_HASH, "true"))
    if top.text("behavior"):
        kept.append(Entry(BEHAVIOR, top.text("behavior")))
    rest = [entry for entry in metadata.entries if entry.key != "annotations"]
    head = _head("Secret", [*rest, *([Entry("annotations", Branch(kept))] if kept else [])], top.text("type"))
    target = Target("", head, ("data",))
    target.sources += plan.envs(top, "data", coded=True)
    target.sources += plan.files(top, "files", "data", coded=True)
    plan.targets.append(target)
    return plan


def _is_ours(annotation: str, own: Sequence[str]) -> bool:
    """Whether an annotation is about the config, not for the Secret."""
    return annotation in own or is_injected(annotation)


def _head(kind: str, metadata: list[Entry], type_: str) -> Branch:
    head = [Entry("apiVersion", "v1"), Entry("kind", kind), Entry("metadata", Branch(metadata))]
    return Branch([*head, *([Entry("type", type_)] if type_ else [])])


def _listed(fields: Fields, name: str) -> list[tuple[str, str]]:
    """The field and the text of each element of a list of strings."""
    texts = fields.names(name) if fields.has(name) else []
    return [(_path(fields, f"{name}[{at}]"), text) for at, text in enumerate(texts)]


def _path(fields: Fields, name: str) -> str:
    """The field, as the config spells it: those of the foreign kinds stand at its top."""
    return f"{fields.where}.{name}" if fields.where.startswith(("spec", "secretFrom")) else name


def _base_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _as_text(value: Node) -> Node:
    if value is None:
        return ""
    return value if isinstance(value, (str, Branch, list)) else scalar_text(value, indent=0)  # type: ignore[arg-type]
