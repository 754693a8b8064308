"""What every key type is. Imported for type checking only; implementations satisfy it by shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from krm_sops.credentials import Credentials


class MasterKey(Protocol):
    section: ClassVar[str]
    """Its name in metadata."""
    entry_names: ClassVar[tuple[str, ...]]
    """Which entries of a key Secret or key folder are its keys: suffixes ("*.agekey" is ".agekey") or whole names."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        """One metadata entry. Raises MetadataError."""
        ...

    def fields(self) -> dict[str, str]:
        """The metadata entry again, with the names that `from_fields` takes; what sops leaves out is left out."""
        ...

    @property
    def identity(self) -> str:
        """Which key this is, as sops prints it: recipient, fingerprint, ARN. Public; foreign text."""
        ...

    @property
    def enc(self) -> str:
        """The wrapped data key (or share), as it stands in metadata."""
        ...

    def unwrap(self, credentials: Credentials) -> bytes:
        """The data key, or share, that `enc` wraps; any length.

        Raises WrongKey (none of the keys at hand is the one), KeyUnavailable (it is, but failed; says why).
        """
        ...
