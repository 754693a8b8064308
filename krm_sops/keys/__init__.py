"""Key types: metadata section -> implementation. A further one is a file in this folder and a line in this table."""

from __future__ import annotations

from krm_sops.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.keys.base import MasterKey

KEY_TYPES = Registry["type[MasterKey]"](
    age="krm_sops.keys.age:AgeKey",
    pgp="krm_sops.keys.pgp:PgpKey",
)
