"""How large, deep and slow an input may be; operators change these, inputs never (S23)."""

from __future__ import annotations

from krm_sops.errors import LimitError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MEBIBYTE = 1 << 20


class Limits:
    """input_bytes: a whole ResourceList.  document_bytes: one item or file.  depth: nested collections.

    document_nodes, run_nodes: collections and scalars after alias expansion.  key_entries: wrapped keys a document.
    remote_calls: calls of key services at once.  call_seconds: one such call.  retry_seconds: it with all its retries.
    """

    def __init__(
        self,
        *,
        input_bytes: int = 64 * MEBIBYTE,
        document_bytes: int = 5 * MEBIBYTE,
        depth: int = 100,
        document_nodes: int = 200_000,
        run_nodes: int = 1_000_000,
        key_entries: int = 100,
        run_seconds: int = 60,
        remote_calls: int = 20,
        call_seconds: int = 10,
        retry_seconds: int = 30,
    ) -> None:
        self.input_bytes = input_bytes
        self.document_bytes = document_bytes
        self.depth = depth
        self.document_nodes = document_nodes
        self.run_nodes = run_nodes
        self.key_entries = key_entries
        self.run_seconds = run_seconds
        self.remote_calls = remote_calls
        self.call_seconds = call_seconds
        self.retry_seconds = retry_seconds

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limits) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]

    def changed(self, changes: Mapping[str, int]) -> Limits:
        """changes: by name. Raises LimitError for a name or number that cannot be."""
        for name, number in changes.items():
            if name not in vars(self):
                raise LimitError(f"there is no limit {shown(name, 60)!r}; limits: {', '.join(vars(self))}")
            most = SOPS_VERBS.depth if name == "depth" else 1 << 40
            if not 1 <= number <= most:
                raise LimitError(f"the limit {name} cannot be {shown(number, 40)}: at least 1, at most {most}")
        return Limits(**{**vars(self), **changes}) if changes else self


FUNCTION = Limits()
SOPS_VERBS = Limits(
    input_bytes=1 << 40,
    document_bytes=1 << 40,
    depth=300,
    document_nodes=1 << 40,
    run_nodes=1 << 40,
    key_entries=1 << 20,
)
"""sops has no limit on size. The depth is what the interpreter's stack carries on every platform."""
