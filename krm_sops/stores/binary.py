"""Any bytes <-> tree: encrypted, the whole file is one string under the key `data` of a JSON document.

Source: getsops/sops 3.13, stores/json/store.go, BinaryStore.
"""

from __future__ import annotations

from krm_sops.errors import StoreError
from krm_sops.limits import SOPS_VERBS
from krm_sops.stores.json import STORE as JSON
from krm_sops.tree import Branch, Entry, from_bytes, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.limits import Limits
    from krm_sops.stores.base import Store
    from krm_sops.tree import Node


class BinaryStore:
    def read(self, raw: bytes, limits: Limits = SOPS_VERBS) -> tuple[list[Branch], Branch | None]:
        return JSON.read(raw, limits)

    def read_plain(self, raw: bytes, limits: Limits = SOPS_VERBS) -> list[Branch]:  # noqa: ARG002 (flat, so its size is enough)
        return [Branch([Entry("data", from_bytes(raw))])]

    def is_reserved(self, key: str) -> bool:
        return JSON.is_reserved(key)

    def write_encrypted(self, branches: list[Branch], metadata: Branch, indent: int | None = None) -> bytes:
        return JSON.write_encrypted(branches, metadata, indent)

    def write_plain(self, branches: list[Branch], indent: int | None = None) -> bytes:  # noqa: ARG002 (nothing to indent)
        if len(branches) != 1:
            raise StoreError(f"{len(branches)} documents where a binary file is one")
        data = branches[0].get("data")
        if not isinstance(data, str):
            raise StoreError(
                "the document holds no binary file: no string under the key data", hint="is its format another one?"
            )
        return to_bytes(data)

    def write_value(self, value: Node) -> bytes:  # noqa: ARG002 (refused whatever it is)
        raise StoreError("a binary file has no single values")


STORE: Store = BinaryStore()
