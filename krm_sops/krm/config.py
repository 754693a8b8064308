"""The functionConfig, field by field: an unknown field or a wrong type is an error that says what is allowed."""

from __future__ import annotations

from krm_sops.errors import ConfigError, shown
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.krm.item import Item
    from krm_sops.tree import Node

GROUP_VERSION = "krm-sops.dev/v1alpha1"
MAC_MODES = ("tags", "auto", "strict")
"""Laxest first."""
AMBIENT = ("never", "auto", "always")
"""Tightest first."""
FUNCTION_ANNOTATIONS = ("config.kubernetes.io/function", "config.k8s.io/function")


class Fields:
    """One mapping of a config.  where: its path, for messages ("spec", "spec.keys[0]")."""

    def __init__(self, node: Node, where: str, allowed: Sequence[str]) -> None:
        if node is None:
            node = Branch()
        if not isinstance(node, Branch):
            raise ConfigError(f"{where} must be a mapping", path=(where,))
        self.where = where
        self.node = node
        for key in (entry.key for entry in node.entries):
            if key not in allowed:
                raise ConfigError(
                    f"{where} has no field {shown(key, 60)!r}; allowed: {', '.join(allowed)}", path=(where,)
                )

    def has(self, name: str) -> bool:
        return self.node.get(name) is not None

    def _path(self, name: str) -> tuple[str, ...]:
        return (*self.where.split("."), name)

    def text(self, name: str, default: str = "") -> str:
        value = self.node.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise ConfigError(f"{self.where}.{name} must be a string", path=self._path(name))
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise ConfigError(
                f"{self.where}.{name} is {shown(value, 60)!r}; allowed: {', '.join(choices)}", path=self._path(name)
            )
        return value

    def flag(self, name: str) -> bool:
        """A boolean; in a ConfigMap, whose values are strings, also its spelling."""
        value = self.node.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        if self.where == "data" and value in ("true", "false"):
            return value == "true"
        raise ConfigError(f"{self.where}.{name} must be true or false", path=self._path(name))

    def mapping(self, name: str, allowed: Sequence[str]) -> Fields:
        return Fields(self.node.get(name), f"{self.where}.{name}", allowed)

    def mappings(self, name: str, allowed: Sequence[str]) -> list[Fields]:
        value = self.node.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise ConfigError(f"{self.where}.{name} must be a list", path=self._path(name))
        return [Fields(element, f"{self.where}.{name}[{at}]", allowed) for at, element in enumerate(value)]

    def names(self, name: str) -> list[str]:
        """A list of strings."""
        value = self.node.get(name)
        if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
            raise ConfigError(f"{self.where}.{name} must be a list of strings", path=self._path(name))
        return [element for element in value if isinstance(element, str)]

    def number(self, name: str) -> int:
        value = self.node.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"{self.where}.{name} must be a whole number", path=self._path(name))
        return value

    def texts(self, name: str) -> dict[str, str]:
        """A mapping of strings."""
        value = self.node.get(name)
        found: dict[str, str] = {}
        if value is None:
            return found
        if not isinstance(value, Branch):
            raise ConfigError(f"{self.where}.{name} must be a mapping", path=self._path(name))
        for entry in value.entries:
            if not isinstance(entry.key, str) or not isinstance(entry.value, str):
                raise ConfigError(f"{self.where}.{name} must hold strings", path=self._path(name))
            found[entry.key] = entry.value
        return found


_SELECTOR = ("apiVersion", "kind", "name", "namespace", "labels", "annotations")


class Selector:
    """Which items are meant, as in a Kptfile: every field that is given must be equal."""

    def __init__(self, fields: Fields) -> None:
        self.texts = {name: fields.text(name) for name in _SELECTOR[:4] if fields.has(name)}
        self.maps = {name: fields.texts(name) for name in _SELECTOR[4:]}

    @classmethod
    def all_of(cls, fields: Fields, name: str) -> list[Selector]:
        return [cls(one) for one in fields.mappings(name, _SELECTOR)]

    def matches(self, item: Item) -> bool:
        for name, wanted in self.texts.items():
            path = (name,) if name in ("apiVersion", "kind") else ("metadata", name)
            if item.field(*path) != wanted:
                return False
        return all(
            item.field("metadata", group, name) == wanted
            for group, pairs in self.maps.items()
            for name, wanted in pairs.items()
        )


def from_kustomize(config: Item | None) -> bool:
    """Whether kustomize runs us: the functionConfig itself says how to start the function."""
    return config is not None and any(config.annotation(name) for name in FUNCTION_ANNOTATIONS)
