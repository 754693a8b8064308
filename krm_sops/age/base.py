"""What every identity is. Imported for type checking only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from krm_sops.age.format import Stanza

    Unwrap: TypeAlias = Callable[[Sequence[Stanza]], bytes | None]
    Ask: TypeAlias = Callable[[str], str]


class Identity(Protocol):
    @property
    def costly(self) -> bool:
        """Whether `unwrap` may start a program or ask a person: then it is tried last."""
        ...

    @property
    def label(self) -> str:
        """What people know it by. Public, short."""
        ...

    def opener_for(self, recipient: str) -> Unwrap | None:
        """How to open what is wrapped for exactly this recipient; None where that is not known to be this identity."""
        ...

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """The file key, 16 bytes; None where no stanza is for this identity.

        Raises HeaderError (a stanza of its type is malformed), IdentityError (it could not be used).
        """
        ...
