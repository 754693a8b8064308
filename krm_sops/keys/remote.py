"""The key types whose keys stay in a service. They are known by name; this version cannot reach the services yet."""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar, Self

    from krm_sops.credentials import Credentials
    from krm_sops.keys.base import MasterKey


class RemoteKey:
    section: ClassVar[str]
    entry_names: ClassVar[tuple[str, ...]]

    def __init__(self, identity: str, enc: str) -> None:
        self._identity = identity
        self._enc = enc

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def enc(self) -> str:
        return self._enc

    def unwrap(self, credentials: Credentials) -> bytes:  # noqa: ARG002 - whatever is at hand
        raise KeyUnavailable(f"this version of krm-sops cannot open {self.section} keys yet")


class VaultKey(RemoteKey):
    section: ClassVar[str] = "hc_vault"
    entry_names: ClassVar[tuple[str, ...]] = ("sops.vault-token",)

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        address, engine, name = (fields.get(field, "") for field in ("vault_address", "engine_path", "key_name"))
        return cls(f"{address}/v1/{engine}/keys/{name}", fields.get("enc", ""))


if TYPE_CHECKING:
    _: type[MasterKey] = VaultKey
