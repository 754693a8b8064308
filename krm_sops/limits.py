"""How large, deep and slow an input may be; operators change these, inputs never (S23)."""

from __future__ import annotations

MEBIBYTE = 1 << 20


class Limits:
    """input_bytes: a whole ResourceList.  document_bytes: one item or file.  depth: nested collections.

    document_nodes, run_nodes: collections and scalars after alias expansion.  key_entries: wrapped keys a document.
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
    ) -> None:
        self.input_bytes = input_bytes
        self.document_bytes = document_bytes
        self.depth = depth
        self.document_nodes = document_nodes
        self.run_nodes = run_nodes
        self.key_entries = key_entries
        self.run_seconds = run_seconds


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
