"""The `hckms` section: a data key encrypted by a symmetric key of Huawei Cloud's KMS (DEW).

Source: getsops/sops 3.13, hckms/keysource.go; KMS API reference, v1.0, encrypt-data and decrypt-data.
"""

from __future__ import annotations

from krm_sops.errors import KeyUnavailable, MetadataError, shown
from krm_sops.keys.cloud import base64_decoded, base64_encoded, first_usable, only, refusal, text_at
from krm_sops.keys.wrapped import with_enc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, Self

    from krm_sops.credentials import Credentials
    from krm_sops.host import Host
    from krm_sops.keys.base import MasterKey
    from krm_sops.keys.hckms_credentials import AccessKey

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NAME = _LETTERS + _LETTERS.upper() + "0123456789-"
CREDENTIALS_HINT = (
    "set HUAWEICLOUD_SDK_AK, HUAWEICLOUD_SDK_SK and HUAWEICLOUD_SDK_PROJECT_ID where the function runs, or mount a "
    "profile file and name it in HUAWEICLOUD_SDK_CREDENTIALS_FILE; on Huawei Cloud let the server have an agency"
)
_HINTS = {
    401: "the access key is wrong, was disabled, has expired, or this machine's clock is off",
    403: "give the user or agency kms:cmk:decrypt (kms:cmk:encrypt to encrypt) in the key's project",
    404: "the key's region, project or id is another",
}


class HuaweiKmsKey:
    __slots__ = ("created_at", "enc", "key_id")

    section: ClassVar[str] = "hckms"
    entry_names: ClassVar[tuple[str, ...]] = ()
    flag: ClassVar[str] = "hckms"
    letter: ClassVar[str] = ""
    flag_help: ClassVar[str] = "keys of Huawei Cloud KMS: region:uuid"
    variable: ClassVar[str] = "SOPS_HUAWEICLOUD_KMS_IDS"
    rule_field: ClassVar[str] = "hckms"
    group_field: ClassVar[str] = "hckms"
    group_entry: ClassVar[Mapping[str, str]] = {"key_id": "key_id"}

    def __init__(self, key_id: str, enc: str = "", created_at: str = "") -> None:
        """key_id: ``region:uuid``.  enc: the service's text, as it is."""
        self.key_id = key_id
        self.enc = enc
        self.created_at = created_at

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Self:
        region, _, uuid = fields.get("key_id", "").partition(":")
        if not region.strip() or not uuid.strip():
            raise MetadataError(f"hckms key_id {shown(fields.get('key_id', ''), 80)} is not of the form region:uuid")
        return cls(fields["key_id"], fields.get("enc", ""), fields.get("created_at", ""))

    def fields(self) -> dict[str, str]:
        return {"created_at": self.created_at, "enc": self.enc, "key_id": self.key_id}

    @classmethod
    def from_list(cls, text: str, shared: Mapping[str, str]) -> list[Self]:  # noqa: ARG003
        """See keys/base.py."""
        return [cls.from_fields({"key_id": part.strip()}) for part in text.split(",") if part.strip()]

    @property
    def identity(self) -> str:
        return self.key_id

    def unwrap(self, credentials: Credentials) -> bytes:
        """See keys/base.py."""
        if not self.enc:
            raise KeyUnavailable("enc is empty")
        plain = self._call(credentials, "decrypt-data", {"cipher_text": self.enc}, "plain_text")
        return base64_decoded(plain, "the plain_text that KMS gave")

    def wrap(self, part: bytes, credentials: Credentials) -> Self:
        """The key with `part` in `enc`. Raises KeyUnavailable."""
        wrapped = self._call(credentials, "encrypt-data", {"plain_text": base64_encoded(part)}, "cipher_text")
        return with_enc(self, wrapped)

    def _call(self, credentials: Credentials, verb: str, given: Mapping[str, str], wanted: str) -> str:
        region, _, uuid = self.key_id.strip().partition(":")
        if not is_region(region) or not only(uuid, _NAME, 64):
            raise KeyUnavailable("no key id of the form region:uuid", hint="fix key_id")
        from krm_sops.keys.hckms_credentials import project_of, signed_request, sources

        host = credentials.host
        fields = {"key_id": uuid, "encryption_algorithm": "SYMMETRIC_DEFAULT", **given}

        def call(key: AccessKey) -> str:
            project = project_of(key, region, credentials)
            path = f"/v1.0/{project}/kms/{verb}"
            response = signed_request(host, key, "POST", endpoint(host, region), path, project=project, fields=fields)
            found = response.json()
            if response.status != 200:
                raise refusal("Huawei Cloud KMS", response, words_of(found), _HINTS.get(response.status, ""))
            text = text_at(found, wanted)
            if not text:
                raise KeyUnavailable(f"Huawei Cloud KMS: the answer holds no {wanted}")
            return text

        return first_usable(sources(credentials), call, CREDENTIALS_HINT)


def is_region(text: str) -> bool:
    """Whether it has the form of all regions there are (cn-north-4, eu-west-101): no other host can result (S14)."""
    parts = text.split("-")
    return (
        len(parts) == 3
        and len(parts[0]) == 2
        and only(parts[0], _LETTERS, 2)
        and only(parts[1], _LETTERS, 20)
        and only(parts[2], "0123456789", 3)
    )


def endpoint(host: Host, region: str) -> str:
    """The region's, or what the operator's environment names instead, as for Huawei's SDK."""
    given = host.env.get(f"HUAWEICLOUD_SDK_REGION_KMS_{region.upper().replace('-', '_')}", "").partition(",")[0]
    return given.rstrip("/") or f"https://kms.{domain(region)}"


def domain(region: str) -> str:
    return f"{region}.myhuaweicloud.{'eu' if region.startswith('eu-west-1') else 'com'}"


def words_of(found: Mapping[str, Any]) -> str:
    """What went wrong: KMS says it in an object `error`, the gateway before it at the top."""
    inner = found.get("error")
    source = inner if isinstance(inner, dict) else found
    return " ".join(filter(None, (text_at(source, "error_code"), text_at(source, "error_msg"))))


if TYPE_CHECKING:
    _: type[MasterKey] = HuaweiKmsKey
