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
        self.identity = identity
        self.enc = enc

    def unwrap(self, credentials: Credentials) -> bytes:
        raise KeyUnavailable(f"this version of krm-sops cannot open {self.section} keys yet")


class AwsKmsKey(RemoteKey):
    section = "kms"
    entry_names = ("sops.aws-kms",)

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        role = fields.get("role")
        return cls(fields.get("arn", "") + (f"+{role}" if role else ""), fields.get("enc", ""))


class GcpKmsKey(RemoteKey):
    section = "gcp_kms"
    entry_names = ("sops.gcp-kms",)

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        return cls(fields.get("resource_id", ""), fields.get("enc", ""))


class HuaweiKmsKey(RemoteKey):
    section = "hckms"
    entry_names = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        return cls(fields.get("key_id", ""), fields.get("enc", ""))


class AzureKeyVaultKey(RemoteKey):
    section = "azure_kv"
    entry_names = ("sops.azure-kv",)

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        place = f"{fields.get('vault_url', '')}/keys/{fields.get('name', '')}/{fields.get('version', '')}"
        return cls(place, fields.get("enc", ""))


class VaultKey(RemoteKey):
    section = "hc_vault"
    entry_names = ("sops.vault-token",)

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        address, engine, name = (fields.get(field, "") for field in ("vault_address", "engine_path", "key_name"))
        return cls(f"{address}/v1/{engine}/keys/{name}", fields.get("enc", ""))


if TYPE_CHECKING:
    _: tuple[type[MasterKey], ...] = (AwsKmsKey, GcpKmsKey, HuaweiKmsKey, AzureKeyVaultKey, VaultKey)
