"""What a function has to say, as the KRM Functions Specification v1 spells it. Never a value, only where it stands."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.errors import KrmSopsError
    from krm_sops.krm.item import Item


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

    @classmethod
    def of(cls, error: KrmSopsError, item: Item | None = None) -> Result:
        return cls("error", error.reason, error.message, hint=error.hint, item=item, field=".".join(error.path))

    def line(self) -> str:
        """One line for people: what, where, why."""
        from krm_sops.errors import shown

        where = f"{self.item}: " if self.item is not None else ""
        return where + (f"{shown(self.field)}: " if self.field else "") + self.message

    def fields(self) -> dict[str, object]:
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
            found["resourceRef"] = {name: text for name, text in reference.items() if text}
            if self.field:
                found["field"] = {"path": self.field}
            if item.file:
                index = item.annotation("internal.config.kubernetes.io/index")
                found["file"] = {"path": item.file, "index": int(index) if index.isdecimal() and len(index) < 9 else 0}
        found["tags"] = {"reason": self.reason}
        return found
