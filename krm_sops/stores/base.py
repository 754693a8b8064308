"""What every store is: bytes <-> branches. Imported for type checking only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from krm_sops.limits import SOPS_VERBS

if TYPE_CHECKING:
    from krm_sops.limits import Limits
    from krm_sops.tree import Branch, Node


class Store(Protocol):
    def read(self, raw: bytes, limits: Limits = SOPS_VERBS) -> tuple[list[Branch], Branch | None]:
        """An encrypted file: its documents without metadata, and the `sops` branch (nested, whatever the format).

        None instead of the branch where the document carries no metadata.  Raises StoreError, LimitError.
        """
        ...

    def read_plain(self, raw: bytes, limits: Limits = SOPS_VERBS) -> list[Branch]:
        """A file that is to be encrypted: what looks like metadata is an entry like any other.

        Raises StoreError, LimitError.
        """
        ...

    def is_reserved(self, key: str) -> bool:
        """Whether metadata stand under this key, or would take it away, at the top of a document."""
        ...

    def write_encrypted(self, branches: list[Branch], metadata: Branch, indent: int | None = None) -> bytes:
        """An encrypted file, byte for byte as sops writes it.

        Raises StoreError (exit 4): what this format cannot hold, more documents than it can, a reserved key.
        """
        ...

    def write_plain(self, branches: list[Branch], indent: int | None = None) -> bytes:
        """A decrypted file, byte for byte as sops writes it.  indent: sops' --indent.  Raises StoreError (exit 4)."""
        ...

    def write_value(self, value: Node) -> bytes:
        """One value for --extract (strings are written raw before this is asked).  Raises StoreError (exit 4)."""
        ...
