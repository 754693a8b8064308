"""The `azure_kv` section: a data key encrypted by an RSA key of Azure Key Vault or a Managed HSM.

Source: getsops/sops 3.13, azkv/keysource.go; Key Vault REST reference, 7.4, Decrypt and Encrypt.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, KeyUnavailable, shown
from krm_sops.keys.cloud import base64url_decoded, base64url_encoded, first_usable, only, post_json, refusal, text_at
from krm_sops.keys.wrapped import with_enc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar, Self

    from krm_sops.credentials import Credentials
    from krm_sops.keys.base import MasterKey

CLOUDS = {
    "vault.azure.net": "login.microsoftonline.com",
    "managedhsm.azure.net": "login.microsoftonline.com",
    "vault.azure.cn": "login.chinacloudapi.cn",
    "managedhsm.azure.cn": "login.chinacloudapi.cn",
    "vault.usgovcloudapi.net": "login.microsoftonline.us",
    "managedhsm.usgovcloudapi.net": "login.microsoftonline.us",
}
"""What the host of a vault ends in -> who gives the tokens for it."""
_API_VERSION = "7.4"
"""The newest that every cloud and the Managed HSM has."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_NAME = _LETTERS + _LETTERS.upper() + "-"
CREDENTIALS_HINT = (
    "add a sops.azure-kv entry with tenantId, clientId and clientSecret, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and "
    "AZURE_CLIENT_SECRET; on Azure let the workload have an identity (az login is not used)"
)
_HINTS = {
    401: "the credentials are of another tenant than the vault, or have expired",
    403: "give the identity the role Key Vault Crypto User (in an access policy: decrypt, and encrypt to encrypt), and "
    "look whether the vault's firewall lets this machine in",
    404: "the key, or this version of it, was deleted, disabled or never there",
    429: "the vault takes no more calls for now: unwrap fewer documents at once",
}


class AzureKeyVaultKey:
    __slots__ = ("created_at", "enc", "name", "vault_url", "version")

    section: ClassVar[str] = "azure_kv"
    entry_names: ClassVar[tuple[str, ...]] = ("sops.azure-kv",)
    flag: ClassVar[str] = "azure-kv"
    letter: ClassVar[str] = ""
    flag_help: ClassVar[str] = "keys of Azure Key Vault: https://VAULT/keys/NAME/VERSION"
    variable: ClassVar[str] = "SOPS_AZURE_KEYVAULT_URLS"
    rule_field: ClassVar[str] = "azure_keyvault"
    group_field: ClassVar[str] = "azure_keyvault"
    group_entry: ClassVar[Mapping[str, str]] = {
        "vaultUrl": "vault_url",
        "key": "name",
        "version": "version",
    }

    def __init__(self, vault_url: str, name: str, version: str, enc: str = "", created_at: str = "") -> None:
        """version: "" is the newest.  enc: base64url without padding."""
        self.vault_url = vault_url
        self.name = name
        self.version = version
        self.enc = enc
        self.created_at = created_at

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        return cls(*(fields.get(name, "") for name in ("vault_url", "name", "version", "enc", "created_at")))

    def fields(self) -> dict[str, str]:
        return {
            "created_at": self.created_at,
            "enc": self.enc,
            "name": self.name,
            "vault_url": self.vault_url,
            "version": self.version,
        }

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[Self]:  # noqa: ARG003
        """See keys/base.py. Differs from sops: a version that is not stated is filled in when the key wraps."""
        return [cls(*_parts(url.strip())) for url in text.split(",")]

    @property
    def identity(self) -> str:
        return f"{self.vault_url}/keys/{self.name}/{self.version}"

    def unwrap(self, credentials: Credentials) -> bytes:
        """See keys/base.py."""
        return self._call(credentials, "decrypt", base64url_decoded(self.enc, "enc"))[0]

    def wrap(self, part: bytes, credentials: Credentials) -> Self:
        """The key with `part` in `enc`, and with the version that did it. Raises KeyUnavailable."""
        wrapped, key_id = self._call(credentials, "encrypt", part)
        version = self.version or key_id.rpartition("/")[2]
        if not only(version, _NAME, 64):
            raise KeyUnavailable("Key Vault: the answer does not say which version of the key was used")
        return with_enc(self, base64url_encoded(wrapped), version=version)

    def _call(self, credentials: Credentials, verb: str, data: bytes) -> tuple[bytes, str]:
        """The result and the id of the key version that made it."""
        host = vault_host(self.vault_url)
        if not host:
            raise KeyUnavailable(
                "no address of a vault; it is https://NAME. and one of " + ", ".join(CLOUDS), hint="fix vault_url"
            )
        if not only(self.name, _NAME, 127) or (self.version and not only(self.version, _NAME, 64)):
            raise KeyUnavailable(
                "no name and version of a key: letters, digits and hyphens", hint="fix name and version"
            )
        from krm_sops.keys.azure_credentials import sources

        http = credentials.host.http
        url = f"https://{host}/keys/{self.name}/{self.version}/{verb}?api-version={_API_VERSION}"
        fields = {"alg": "RSA-OAEP-256", "value": base64url_encoded(data)}

        def call(headers: Mapping[str, str]) -> tuple[bytes, str]:
            response = post_json(http, url, headers, fields)
            found = response.json()
            if response.status != 200:
                words = " ".join(filter(None, (text_at(found, "error", "code"), text_at(found, "error", "message"))))
                raise refusal("Key Vault", response, words, _HINTS.get(response.status, ""))
            return base64url_decoded(text_at(found, "value"), "the value that Key Vault gave"), text_at(found, "kid")

        return first_usable(sources(credentials, host.partition(".")[2]), call, CREDENTIALS_HINT)


def _parts(url: str) -> tuple[str, str, str]:
    """Vault, name and version of ``https://VAULT/keys/NAME[/VERSION]``. Raises ConfigError."""
    vault, mark, rest = url.partition("/keys/")
    name, _, version = rest.partition("/")
    host = vault.removeprefix("https://")
    if not (mark and name and host) or host == vault or "/" in host + version:
        what = f"could not parse {shown(url)!r} into a valid Azure Key Vault key"
        raise ConfigError(what, hint="it is https://VAULT/keys/NAME or https://VAULT/keys/NAME/VERSION")
    return vault, name, version


def vault_host(url: str) -> str:
    """The host, where the whole URL is that of a vault and nothing else (S14); else ""."""
    if not url.startswith("https://"):
        return ""
    host = url[8:].removesuffix("/").lower()
    label, _, suffix = host.partition(".")
    if suffix in CLOUDS and only(label, _LETTERS + "-", 63) and label[0] != "-" and label[-1] != "-":
        return host
    return ""


if TYPE_CHECKING:
    _: type[MasterKey] = AzureKeyVaultKey
