"""The `hckms` key type: what is signed and asked, what is refused before anything is asked."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from krm_sops.credentials import Credentials
from krm_sops.errors import KeyUnavailable, MetadataError
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.keys.hckms import HuaweiKmsKey, is_region
from krm_sops.keys.hckms_credentials import AccessKey, authorization
from tests.interop.fakes.http import FakeHttp, as_http
from tests.interop.fakes.internet import Answer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

REGION, UUID = "tr-west-1", "0d0466b0-e727-4d9c-b35d-f84bb474a37f"
ID = f"{REGION}:{UUID}"
KMS = f"kms.{REGION}.myhuaweicloud.com"
IAM = f"iam.{REGION}.myhuaweicloud.com"
METADATA = "169.254.169.254"
DATA_KEY = bytes(range(32))
ENC = "AgDoAG7EsEc2OHpQxz4gDFDH54CqwaelpTdEl+Rfakecipher=="
PROJECT = "0123456789abcdef0123456789abcdef"
ENV = {"HUAWEICLOUD_SDK_AK": "AK0", "HUAWEICLOUD_SDK_SK": "s3cret", "HUAWEICLOUD_SDK_PROJECT_ID": PROJECT}


def kms(seen: Seen) -> Answer:
    if seen.path.endswith("/decrypt-data"):
        return Answer(200, {"key_id": UUID, "plain_text": b64encode(DATA_KEY).decode(), "plain_text_base64": "eA=="})
    return Answer(200, {"key_id": UUID, "cipher_text": ENC})


def given(
    http: FakeHttp,
    env: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    ambient: str = "auto",
) -> Credentials:
    return Credentials(Host(env=ENV if env is None else env, files=files or {}, http=as_http(http)), (), ambient)


def failure(credentials: Credentials, key_id: str = ID, enc: str = ENC) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        HuaweiKmsKey(key_id, enc).unwrap(credentials)
    assert "\n" not in caught.value.message
    assert "s3cret" not in caught.value.message
    return caught.value


def test_it_is_registered_and_read_from_metadata() -> None:
    key = KEY_TYPES["hckms"].from_fields({"key_id": ID, "enc": ENC, "created_at": "2025-12-18T16:20:00Z"})
    assert (type(key), key.identity, key.enc) == (HuaweiKmsKey, ID, ENC)


@pytest.mark.parametrize("key_id", ["", "tr-west-1", ":", ":uuid", "tr-west-1:", " :uuid"])
def test_a_key_id_without_region_or_uuid_is_no_metadata_as_in_sops(key_id: str) -> None:
    with pytest.raises(MetadataError, match="region:uuid"):
        HuaweiKmsKey.from_fields({"key_id": key_id, "enc": ENC})


def test_unwrap_asks_for_the_key_with_the_ciphertext() -> None:
    http = FakeHttp(**{KMS: kms})
    assert HuaweiKmsKey(ID, ENC).unwrap(given(http)) == DATA_KEY
    (seen,) = http.requests
    assert (seen.method, seen.host, seen.path) == ("POST", KMS, f"/v1.0/{PROJECT}/kms/decrypt-data")
    assert seen.json() == {"key_id": UUID, "encryption_algorithm": "SYMMETRIC_DEFAULT", "cipher_text": ENC}
    assert seen.headers["x-project-id"] == PROJECT
    assert seen.headers["content-type"] == "application/json;charset=UTF-8"


def test_wrap_gives_a_key_that_unwraps() -> None:
    http = FakeHttp(**{KMS: kms})
    key = HuaweiKmsKey(ID).wrap(DATA_KEY, given(http))
    assert (key.identity, key.enc) == (ID, ENC)
    (seen,) = http.requests
    assert seen.path == f"/v1.0/{PROJECT}/kms/encrypt-data"
    assert seen.json()["plain_text"] == b64encode(DATA_KEY).decode()


def test_the_signature_is_huaweis() -> None:
    """From the tests of huaweicloud-sdk-go-v3, core/auth/signer/signer_test.go."""
    key = AccessKey("AccessKey", "SecretKey", "", "")
    date = {"X-Sdk-Date": "20060102T150405Z"}
    for method, query, body, signature in (
        ("GET", "limit=1", b"", "5a2ce64c865e0e6046321c6f3d5a77ba8413eeaf355c3166c03d58d02ac79624"),
        (
            "POST",
            "key=value",
            b'{"Name":"test","Id":1}\n',
            "cecc2af119b18ab70b4d094c0750f3b42c02f254903179a0fc2cc72fc9db4f59",
        ),
    ):
        assert authorization(key, method, "/path", query, date, body) == (
            f"SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=x-sdk-date, Signature={signature}"
        )


def test_host_date_project_and_token_are_signed() -> None:
    http = FakeHttp(**{KMS: kms})
    HuaweiKmsKey(ID, ENC).unwrap(given(http, {**ENV, "HUAWEICLOUD_SDK_SECURITY_TOKEN": "temporary"}))
    (seen,) = http.requests
    signed = "host;x-project-id;x-sdk-date;x-security-token"
    assert f"Access=AK0, SignedHeaders={signed}, " in seen.headers["authorization"]
    assert seen.headers["x-security-token"] == "temporary"
    names = {"Host": KMS, "X-Sdk-Date": seen.headers["x-sdk-date"], "X-Project-Id": PROJECT}
    names["X-Security-Token"] = "temporary"
    key = AccessKey("AK0", "s3cret", "temporary", PROJECT)
    assert authorization(key, "POST", seen.path, "", names, seen.body) == seen.headers["authorization"]


@pytest.mark.parametrize(
    "key_id",
    [
        f"a.evil/:{UUID}",
        f"evil.example#:{UUID}",
        f"x@evil:{UUID}",
        f"cn-north-4.evil:{UUID}",
        f"cn-north:{UUID}",
        f"cn-north-4-5:{UUID}",
        f"CN-NORTH-4:{UUID}",
        f"cn-north-x:{UUID}",
        f"cn-north-٤:{UUID}",
        f"cn-north-4\n:{UUID}",
        f"127.0.0.1:{UUID}",
        f"{REGION}:../../v3/projects",
        f"{REGION}:{UUID}?x",
        f"{REGION}:a:b",
        f"{REGION}:a\nb",
        f"{REGION}:{'a' * 65}",
    ],
)
def test_s14_what_is_no_key_id_is_refused_before_anything_is_asked(key_id: str) -> None:
    http = FakeHttp(**{KMS: kms, METADATA: kms, IAM: kms})
    assert "region:uuid" in failure(given(http), key_id).message
    assert http.requests == []


@pytest.mark.parametrize(
    "region", ["cn-north-4", "eu-west-101", "my-kualalumpur-1", "ae-ad-1", "cn-southwest-3", "ru-moscow-1"]
)
def test_regions_of_the_sdk_are_regions(region: str) -> None:
    assert is_region(region)


def test_europe_has_its_own_domain_and_the_operator_may_name_an_endpoint() -> None:
    http = FakeHttp(**{"kms.eu-west-101.myhuaweicloud.eu": kms, "kms.corp": kms})
    HuaweiKmsKey(f"eu-west-101:{UUID}", ENC).unwrap(given(http))
    override = {**ENV, "HUAWEICLOUD_SDK_REGION_KMS_TR_WEST_1": "https://kms.corp/,https://other.corp"}
    HuaweiKmsKey(ID, ENC).unwrap(given(http, override))
    assert [seen.host for seen in http.requests] == ["kms.eu-west-101.myhuaweicloud.eu", "kms.corp"]


@pytest.mark.parametrize("project", ["a/b", "..", "a?b", "ä", "a" * 65, "a\nb"])
def test_s14_a_project_that_could_change_the_path_is_refused(project: str) -> None:
    http = FakeHttp(**{KMS: kms})
    assert "project id" in failure(given(http, {**ENV, "HUAWEICLOUD_SDK_PROJECT_ID": project})).message
    assert http.requests == []


def test_a_project_that_is_not_named_is_asked_for_once() -> None:
    http = FakeHttp(**{KMS: kms, IAM: lambda seen: Answer(200, {"projects": [{"id": PROJECT, "name": REGION}]})})
    credentials = given(http, {name: ENV[name] for name in ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")})
    for _ in range(2):
        HuaweiKmsKey(ID, ENC).unwrap(credentials)
    assert http.asked == [f"{IAM}/v3/projects?name={REGION}", *[f"{KMS}/v1.0/{PROJECT}/kms/decrypt-data"] * 2]
    assert "SignedHeaders=host;x-sdk-date," in http.requests[0].headers["authorization"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(200, {"projects": []}), "0 projects"),
        (Answer(200, {"projects": [{"id": "a"}, {"id": "b"}]}), "2 projects"),
        (Answer(200, b"garbage"), "0 projects"),
        (Answer(200, {"projects": [{"id": "../x"}]}), "project id"),
        (Answer(403, {"error": {"error_msg": "no right", "error_code": "IAM.0001"}}), "denied (HTTP 403, IAM.0001 no"),
    ],
)
def test_a_project_that_cannot_be_found(answer: Answer, why: str) -> None:
    http = FakeHttp(**{KMS: kms, IAM: lambda seen: answer})
    failed = failure(given(http, {name: ENV[name] for name in ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")}))
    assert why in failed.message
    assert "HUAWEICLOUD_SDK_PROJECT_ID" in failed.hint
    assert [seen.host for seen in http.requests] == [IAM]


PROFILE = f"[basic]\nak = AK1\nsk = s3cret%1\nproject_id = {PROJECT}\n[global]\nak = x\n".encode()


def test_a_profile_file_comes_next() -> None:
    home = {"HOME": "/h"}
    named = {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "/p", "HOME": "/h"}
    for env, files in (
        (home, {"/h/.huaweicloud/credentials": PROFILE}),
        (named, {"/p": PROFILE, "/h/.huaweicloud/credentials": b""}),
        (home, {"/h/.huaweicloud/credentials": b"\xef\xbb\xbf" + PROFILE}),
    ):
        http = FakeHttp(**{KMS: kms})
        HuaweiKmsKey(ID, ENC).unwrap(given(http, env, files))
        assert "Access=AK1," in http.requests[0].headers["authorization"]


@pytest.mark.parametrize(
    "content", [b"", b"[basic]\nak=x\n", b"no ini", b"[global]\nak=a\nsk=b\n", b"\xff", b"[basic\n"]
)
def test_a_profile_file_without_a_key_is_an_error(content: bytes) -> None:
    http = FakeHttp(**{KMS: kms, METADATA: kms})
    failed = failure(given(http, {"HOME": "/h"}, {"/h/.huaweicloud/credentials": content}))
    assert "[basic]" in failed.message
    assert http.requests == []


def test_a_named_profile_file_that_is_not_there_is_an_error() -> None:
    http = FakeHttp(**{KMS: kms, METADATA: kms})
    failed = failure(given(http, {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "/none"}))
    assert "HUAWEICLOUD_SDK_CREDENTIALS_FILE" in failed.message
    assert http.requests == []


def metadata(token_status: int) -> Callable[[Seen], Answer]:
    def answer(seen: Seen) -> Answer:
        if seen.path == "/meta-data/latest/api/token":
            return Answer(token_status, b"a-metadata-token")
        credential = {"access": "AK2", "secret": "s3cret", "securitytoken": "temporary", "expires_at": "x"}
        return Answer(200, {"credential": credential})

    return answer


@pytest.mark.parametrize("token_status", [200, 404])
def test_the_metadata_service_comes_last(token_status: int) -> None:
    http = FakeHttp(**{KMS: kms, METADATA: metadata(token_status)})
    HuaweiKmsKey(ID, ENC).unwrap(given(http, {"HUAWEICLOUD_SDK_PROJECT_ID": PROJECT}))
    token, key, call = http.requests
    assert (token.method, token.headers) == ("PUT", {"x-metadata-token-ttl-seconds": "21600"})
    assert (key.method, key.path) == ("GET", "/openstack/latest/securitykey")
    assert key.headers == ({"x-metadata-token": "a-metadata-token"} if token_status == 200 else {})
    assert "Access=AK2," in call.headers["authorization"]
    assert call.headers["x-security-token"] == "temporary"
    assert http.local == [METADATA, METADATA]


def test_no_credentials_anywhere_says_what_would_help() -> None:
    failed = failure(given(FakeHttp(), {}))
    assert "no Huawei Cloud credentials are set" in failed.message
    assert "HUAWEICLOUD_SDK_AK" in failed.hint


def test_s13_with_ambient_never_nothing_is_asked() -> None:
    http = FakeHttp(**{KMS: kms, METADATA: metadata(200)})
    assert failure(given(http, ambient="never")).message == "no credentials at hand"
    assert http.requests == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            400,
            {"error": {"error_code": "KMS.0308", "error_msg": "bad\ncipher"}},
            "refused (HTTP 400, KMS.0308 bad\\ncipher)",
        ),
        (
            401,
            {"error_code": "APIGW.0301", "error_msg": "Incorrect IAM"},
            "credentials refused (HTTP 401, APIGW.0301 Inc",
        ),
        (403, {"error": {"error_code": "KMS.0301", "error_msg": "no"}}, "denied (HTTP 403, KMS.0301 no)"),
        (404, {}, "not found (HTTP 404)"),
        (429, {"error_msg": "slow"}, "throttled (HTTP 429, slow)"),
        (307, {}, "not followed"),
    ],
)
def test_a_refusal_is_told_in_the_services_words(status: int, body: dict[str, object], said: str) -> None:
    http = FakeHttp(**{KMS: lambda seen: Answer(status, body, Location="https://evil.example/")})
    failed = failure(given(http))
    assert f"Huawei Cloud KMS: {said}" in failed.message or said in failed.message
    assert len(http.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"plain_text": 5}', b'{"plain_text": "*"}'])
def test_an_answer_without_a_plaintext_is_an_error(body: bytes) -> None:
    http = FakeHttp(**{KMS: lambda seen: Answer(200, body)})
    assert "KMS" in failure(given(http)).message


def test_an_empty_enc_is_refused_before_anything_is_asked() -> None:
    http = FakeHttp(**{KMS: kms})
    assert failure(given(http), ID, "").message == "enc is empty"
    assert http.requests == []


def test_a_server_without_an_agency_says_what_would_help() -> None:
    http = FakeHttp(**{METADATA: lambda seen: Answer(403, b"Please configure Cloud Service Agency first")})
    failed = failure(given(http, {}))
    assert failed.message.startswith("no Huawei Cloud credentials are set, and the metadata service: denied (HTTP 403)")
    assert "agency" in failed.hint
