"""Key types: metadata section -> implementation. A further one is a file in this folder and a line in
this table. The order is the one in which sops reads a group."""

from __future__ import annotations

from krm_sops.registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.keys.base import MasterKey

KEY_TYPES: Registry[type[MasterKey]] = Registry(
    kms="krm_sops.keys.aws_kms:AwsKmsKey",
    gcp_kms="krm_sops.keys.gcp_kms:GcpKmsKey",
    hckms="krm_sops.keys.hckms:HuaweiKmsKey",
    azure_kv="krm_sops.keys.azure_kv:AzureKeyVaultKey",
    hc_vault="krm_sops.keys.hc_vault:VaultKey",
    pgp="krm_sops.keys.pgp:PgpKey",
    age="krm_sops.keys.age:AgeKey",
)
