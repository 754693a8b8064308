"""What a SopsTemplate asks for: where values come from, and which objects they go into."""

from __future__ import annotations

from krm_sops.errors import ConfigError, shown
from krm_sops.functions.generate_plan import GeneratorOptions
from krm_sops.krm.config import Fields
from krm_sops.tree import Branch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.krm.item import Item

SPEC = (
    *("secrets", "templates", "items", "allowConfigMap", "checksum"),
    *("keys", "decryption", "ambient", "mac", "strict", "allowPlaintext"),
)
_KINDS = {"Secret": "stringData", "ConfigMap": "data"}
"""And where their texts stand."""


class From:
    """Where values come from: the Secret of a name among the items, or an encrypted file.

    prefix: what their names begin with.  values: only these, as new name -> old name; None for all.
    """

    def __init__(self, fields: Fields) -> None:
        self.where = fields.where
        self.secret, self.file = fields.text("secret"), fields.text("file")
        if bool(self.secret) == bool(self.file):
            raise ConfigError(f"{fields.where} needs either secret or file", path=(fields.where,))
        self.prefix = fields.text("name") or self.secret
        self.values = fields.texts("values") if fields.has("values") else None

    @property
    def label(self) -> str:
        return f"{self.where} ({'Secret ' if self.secret else ''}{shown(self.secret or self.file, 80)})"


class Made:
    """An object that a template describes.  texts: key -> its text.  files: key -> the path of a template file."""

    def __init__(self, fields: Fields, namespace: str) -> None:
        """namespace: the config's."""
        self.where = fields.where
        self.kind = fields.choice("kind", tuple(_KINDS), "Secret")
        field = _KINDS[self.kind]
        if any(fields.has(name) for name in ("data", "stringData") if name != field):
            raise ConfigError(f"{fields.where}: the texts of a {self.kind} stand in {field}", path=(fields.where,))
        metadata = fields.mapping("metadata", ("name", "namespace", "labels", "annotations"))
        self.name = metadata.text("name")
        if not self.name:
            raise ConfigError("an object needs a metadata.name", path=(metadata.where, "name"))
        if metadata.has("namespace") and metadata.text("namespace") != namespace:
            raise ConfigError(
                f"{metadata.where}.namespace is not the config's, {shown(namespace, 80)!r}",
                hint="secrets stay in their namespace: use a SopsTemplate of that one",
                path=(metadata.where, "namespace"),
            )
        self.metadata = metadata
        self.type = fields.text("type") if self.kind == "Secret" else ""
        self.texts = fields.texts(field)
        self.files = _files(fields)
        if not self.texts and not self.files:
            raise ConfigError(f"{fields.where} needs {field} or files", path=(fields.where,))
        for key in self.files:
            if key in self.texts:
                raise ConfigError(f"{fields.where}: the key {shown(key, 80)!r} occurs twice", path=(fields.where,))

    def head(self, namespace: str) -> Branch:
        """All of it but its values."""
        found = [Entry("name", self.name)]
        if namespace:
            found.append(Entry("namespace", namespace))
        for group in ("labels", "annotations"):
            texts = self.metadata.texts(group)
            if texts:
                found.append(Entry(group, Branch(Entry(*pair) for pair in texts.items())))
        head = [Entry("apiVersion", "v1"), Entry("kind", self.kind), Entry("metadata", Branch(found))]
        return Branch([*head, Entry("type", self.type)] if self.type else head)


class Plan:
    """items: kind and name of items that are templates.  checksum: whether workloads get one; None where possible."""

    def __init__(self, config: Item) -> None:
        """Raises ConfigError."""
        Fields(config.branch, "functionConfig", ("apiVersion", "kind", "metadata", "spec"))
        spec = Fields(config.branch.get("spec"), "spec", SPEC)
        self.options = GeneratorOptions(config, spec)
        self.sources = [From(one) for one in spec.mappings("secrets", ("secret", "file", "name", "values"))]
        allowed = ("kind", "metadata", "type", "data", "stringData", "files")
        self.made = [Made(one, config.namespace) for one in spec.mappings("templates", allowed)]
        self.items: list[tuple[str, str]] = []
        for one in spec.mappings("items", ("kind", "name")):
            self.items.append((one.choice("kind", tuple(_KINDS), "Secret"), one.text("name")))
        self.checksum = spec.flag("checksum") if spec.has("checksum") else None
        if not self.sources:
            raise ConfigError("spec.secrets must say where values come from", path=("spec", "secrets"))
        if not self.made and not self.items:
            raise ConfigError("spec needs templates or items", path=("spec",))
        kinds = [made.kind for made in self.made] + [kind for kind, _ in self.items]
        if "ConfigMap" in kinds and not spec.flag("allowConfigMap"):
            raise ConfigError(
                "a ConfigMap is no place for secrets",
                hint="use a Secret, or set allowConfigMap: true",
                path=("spec", "allowConfigMap"),
            )
        names = [(made.kind, made.name) for made in self.made] + self.items
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{twice[0]} {shown(twice[1], 80)} is named twice", path=("spec",))


def _files(fields: Fields) -> dict[str, str]:
    """Keys and paths of a list of ``key=path`` or ``path``."""
    found: dict[str, str] = {}
    for text in fields.names("files") if fields.has("files") else []:
        key, equals, path = text.partition("=")
        if not equals:
            key, path = text.rpartition("/")[2], text
        if not key or not path or key in found:
            raise ConfigError(
                f"{shown(text)!r} is neither a path nor key=path, or its key occurs twice", path=(fields.where, "files")
            )
        found[key] = path
    return found
