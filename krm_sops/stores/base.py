"""What every store is: bytes <-> branches. Imported for type checking only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from krm_sops.tree import Branch, Node


class Store(Protocol):
    def read(self, raw: bytes) -> tuple[list[Branch], Branch | None]:
        """An encrypted file: its documents without metadata, and the `sops` branch (nested, whatever the format).

        None instead of the branch where the document carries no metadata.  Raises StoreError.
        """
        ...

    def write_plain(self, branches: list[Branch], indent: int | None = None) -> bytes:
        """A decrypted file, byte for byte as sops writes it.  indent: sops' --indent.  Raises StoreError (exit 4)."""
        ...

    def write_value(self, value: Node) -> bytes:
        """One value for --extract (strings are written raw before this is asked).  Raises StoreError (exit 4)."""
        ...
