"""What a function has to say, as the KRM Functions Specification v1 spells it. Never a value, only where it stands."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.errors import KrmSopsError
    from krm_sops.krm.item import Item

_LONGEST_NAME, _LONGEST_PATH = 253, 1024
"""Characters: what Kubernetes allows, and more than anybody's path has."""


class Result:
    """severity: error, warning or info.  reason: the word of `tags.reason`.  field: a path in the object, or ""."""

    __slots__ = ("field", "hint", "item", "message", "reason", "severity")

    def __init__(
        self, severity: str, reason: str, message: str, *, hint: str = "", item: Item | None = None, field: str = ""
    ) -> None:
        self.severity = severity
        self.reason = reason
        self.message = message
        self.hint = hint
        self.item = item
        self.field = field

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    @classmethod
    def of(cls, error: KrmSopsError, item: Item | None = None) -> Result:
        return cls("error", error.reason, error.message, hint=error.hint, item=item, field=".".join(error.path))

    def line(self) -> str:
        """One line for people: what, where, why."""
        from krm_sops.errors import shown

        where = f"{self.item}: " if self.item is not None else ""
        field = "" if not self.field or self.message.startswith(self.field) else f"{shown(self.field)}: "
        return where + field + self.message

    def fields(self) -> dict[str, object]:
        """As the specification names them; foreign text is escaped, since some of it could stand in no YAML."""
        from krm_sops.errors import shown

        message = self.message + (f" (hint: {self.hint})" if self.hint else "")
        found: dict[str, object] = {"message": message, "severity": self.severity}
        item = self.item
        if item is not None:
            reference = {
                "apiVersion": item.field("apiVersion"),
                "kind": item.kind,
                "name": item.name,
                "namespace": item.namespace,
            }
            found["resourceRef"] = {name: shown(text, _LONGEST_NAME) for name, text in reference.items() if text}
            if self.field:
                found["field"] = {"path": shown(self.field, _LONGEST_PATH)}
            if item.file:
                found["file"] = {"path": shown(item.file, _LONGEST_PATH), "index": item.index}
        found["tags"] = {"reason": self.reason}
        return found


def in_block(results: Sequence[Result], margin: str = "") -> str:
    """The lines of a YAML list."""
    return "".join(line for result in results for line in _block(result.fields(), margin + "- "))


def _block(fields: dict[str, object], lead: str) -> list[str]:
    from krm_sops.stores.json import quote

    lines = []
    for name, value in fields.items():
        if isinstance(value, dict):
            lines.append(f"{lead}{name}:\n" if value else f"{lead}{name}: {{}}\n")
            lines += _block(value, " " * len(lead) + "  ")
        else:
            lines.append(f"{lead}{name}: {value if isinstance(value, int) else quote(str(value))}\n")
        lead = " " * len(lead)
    return lines


def in_flow(results: Sequence[Result]) -> str:
    """The elements of a JSON list."""
    return ", ".join(_flow(result.fields()) for result in results)


def _flow(value: object) -> str:
    from krm_sops.stores.json import quote

    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    return str(value) if isinstance(value, int) else quote(str(value))
