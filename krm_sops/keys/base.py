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
    flag: ClassVar[str]
    """The command line's flag for a list of such keys, without its dashes; the flags to add and remove end in it."""
    letter: ClassVar[str]
    """The flag in one letter, or ""."""
    flag_help: ClassVar[str]
    """What the list holds, for people; half a line."""
    variable: ClassVar[str]
    """The environment variable that stands in for the flag."""
    rule_field: ClassVar[str]
    """Its name in a creation rule of .sops.yaml: a list of keys, as for the flag."""
    group_field: ClassVar[str]
    """Its name in the key_groups of a creation rule."""
    group_entry: ClassVar[Mapping[str, str]]
    """The fields of an entry there -> those of an entry in metadata; none where an entry is a text as in a list."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        """One metadata entry. Raises MetadataError."""
        ...

    def fields(self) -> dict[str, str]:
        """The metadata entry again, with the names that `from_fields` takes; what sops leaves out is left out."""
        ...

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[Self]:
        """The keys of a comma list, split and trimmed as sops does it, not yet around a data key.

        shared: fields of a metadata entry that are said once for all of them, for those who have such fields.
        Raises KrmSopsError.
        """
        ...

    @property
    def identity(self) -> str:
        """Which key this is, as sops prints it: recipient, fingerprint, ARN. Public; foreign text."""
        ...

    @property
    def enc(self) -> str:
        """The wrapped data key (or share), as it stands in metadata."""
        ...

    def wrap(self, part: bytes, credentials: Credentials) -> Self:
        """The same key with `part` (a data key or share) wrapped by it. Raises KeyUnavailable."""
        ...

    def unwrap(self, credentials: Credentials) -> bytes:
        """The data key, or share, that `enc` wraps; any length.

        Raises WrongKey (none of the keys at hand is the one), KeyUnavailable (it is, but failed; says why).
        """
        ...
