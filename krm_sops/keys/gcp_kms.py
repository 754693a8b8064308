"""The `gcp_kms` section: a data key encrypted by a symmetric key of Google Cloud KMS.

Source: getsops/sops 3.13, gcpkms/keysource.go; Cloud KMS REST reference, v1, cryptoKeys.decrypt and .encrypt.
"""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, shown
from krm_sops.keys.cloud import base64_decoded, base64_encoded, first_usable, only, post_json, refusal, text_at
from krm_sops.keys.wrapped import with_enc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar, Self

    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.keys.base import MasterKey

_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789-"
_NAME = _LOWER + _LOWER.upper() + "_"
CREDENTIALS_HINT = (
    "add a sops.gcp-kms entry with a service account's JSON, or set GOOGLE_CREDENTIALS or "
    "GOOGLE_APPLICATION_CREDENTIALS; on Google Cloud let the workload have an identity"
)
_HINTS = {
    401: "the credentials have expired or were revoked",
    403: "give the identity the role roles/cloudkms.cryptoKeyDecrypter on this key (cryptoKeyEncrypterDecrypter to "
    "encrypt)",
    404: "the key's project, location, ring or name is another, or the identity may not see it",
    429: "raise the quota of cryptographic requests, or unwrap fewer documents at once",
}


class GcpKmsKey:
    __slots__ = ("created_at", "enc", "resource_id")

    section: ClassVar[str] = "gcp_kms"
    entry_names: ClassVar[tuple[str, ...]] = ("sops.gcp-kms",)
    flag: ClassVar[str] = "gcp-kms"
    letter: ClassVar[str] = ""
    flag_help: ClassVar[str] = "resource ids of Google Cloud KMS: projects/…/cryptoKeys/NAME"
    variable: ClassVar[str] = "SOPS_GCP_KMS_IDS"
    rule_field: ClassVar[str] = "gcp_kms"
    group_field: ClassVar[str] = "gcp_kms"
    group_entry: ClassVar[Mapping[str, str]] = {"resource_id": "resource_id"}

    def __init__(self, resource_id: str, enc: str = "", created_at: str = "") -> None:
        """resource_id: ``projects/P/locations/L/keyRings/R/cryptoKeys/K``.  enc: base64."""
        self.resource_id = resource_id
        self.enc = enc
        self.created_at = created_at

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        return cls(*(fields.get(name, "") for name in ("resource_id", "enc", "created_at")))

    def fields(self) -> dict[str, str]:
        return {"created_at": self.created_at, "enc": self.enc, "resource_id": self.resource_id}

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[Self]:  # noqa: ARG003
        """See keys/base.py."""
        return [cls(resource_id) for resource_id in text.replace(" ", "").split(",")]

    @property
    def identity(self) -> str:
        return self.resource_id

    def unwrap(self, credentials: Credentials) -> bytes:
        """See keys/base.py."""
        return self._call(credentials, "decrypt", "ciphertext", base64_decoded(self.enc, "enc"), "plaintext")

    def wrap(self, part: bytes, credentials: Credentials) -> Self:
        """The key with `part` in `enc`. Raises KeyUnavailable."""
        wrapped = self._call(credentials, "encrypt", "plaintext", part, "ciphertext")
        return with_enc(self, base64_encoded(wrapped))

    def _call(self, credentials: Credentials, verb: str, given: str, data: bytes, wanted: str) -> bytes:
        if not is_resource_id(self.resource_id):
            raise KeyUnavailable(
                "no resource id of the form projects/…/locations/…/keyRings/…/cryptoKeys/…", hint="fix resource_id"
            )
        from krm_sops.keys.gcp_credentials import sources

        host = credentials.host
        url = f"{endpoint(host)}/v1/{self.resource_id}:{verb}"

        def call(headers: Mapping[str, str]) -> bytes:
            response = post_json(host.http, url, headers, {given: base64_encoded(data)})
            found = response.json()
            if response.status != 200:
                words = " ".join(filter(None, (text_at(found, "error", "status"), text_at(found, "error", "message"))))
                raise refusal("Cloud KMS", response, words, _HINTS.get(response.status, ""))
            text = text_at(found, wanted)
            if not text:
                raise KeyUnavailable(f"Cloud KMS: the answer holds no {wanted}")
            return base64_decoded(text, f"the {wanted} that Cloud KMS gave")

        return first_usable(sources(credentials), call, CREDENTIALS_HINT)


def is_resource_id(text: str) -> bool:
    """Whether each part has its own alphabet, so that nothing of it can change where a request goes (S14)."""
    parts = text.split("/")
    if len(parts) != 8 or parts[::2] != ["projects", "locations", "keyRings", "cryptoKeys"]:
        return False
    project, location, ring, key = parts[1::2]
    return (
        only(project, _LOWER + ".:", 100)  # "example.com:name" is a project of a domain
        and ".." not in project
        and project[0] not in ".:"
        and only(location, _LOWER, 63)
        and only(ring, _NAME, 63)
        and only(key, _NAME, 63)
    )


def endpoint(host: Host) -> str:
    """Google's, or what the operator's environment names instead, as for sops."""
    given = host.env.get("SOPS_GCP_KMS_ENDPOINT")
    if not given:
        return f"https://cloudkms.{host.env.get('SOPS_GCP_KMS_UNIVERSE_DOMAIN') or 'googleapis.com'}"
    url = given if "://" in given else f"https://{given}"
    if url.count("/") > 2 + url.endswith("/"):
        raise KeyUnavailable(f"SOPS_GCP_KMS_ENDPOINT {shown(given)} is no host, host:port or https://host")
    return url.rstrip("/")


if TYPE_CHECKING:
    _: type[MasterKey] = GcpKmsKey
