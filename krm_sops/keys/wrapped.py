"""A key around another data key."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from krm_sops.keys.base import MasterKey

    K = TypeVar("K", bound=MasterKey)


def with_enc(key: K, enc: str, **others: str) -> K:
    """The same key with another `enc`. Its `created_at` stays, or is now.  others: fields that wrapping determines."""
    fields = {**key.fields(), **others, "enc": enc}
    if fields.get("created_at") == "":
        from time import gmtime, strftime

        fields["created_at"] = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    return type(key).from_fields(fields)
