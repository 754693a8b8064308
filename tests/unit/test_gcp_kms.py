"""The `gcp_kms` key type: what is asked with whose credentials, what is refused before anything is asked."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64decode
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.keys.gcp_credentials import service_account
from krm_sops.keys.gcp_kms import GcpKmsKey, is_resource_id
from tests.interop.fakes.http import FakeHttp, as_http
from tests.interop.fakes.internet import Answer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "projects/my-project/locations/europe-west3/keyRings/ring/cryptoKeys/key_1"
DATA_KEY = bytes(range(32))
WRAPPED = b"\x0a\x24wrapped"
ENC = b64encode(WRAPPED).decode()
KMS = "cloudkms.googleapis.com"
RSA = generate_private_key(65537, 2048)
PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ACCOUNT = {
    "type": "service_account",
    "client_email": "sops@my-project.iam.gserviceaccount.com",
    "private_key_id": "0123",
    "private_key": PEM,
    "token_uri": "https://oauth2.googleapis.com/token",
}
METADATA = "metadata.google.internal"


def kms(seen: Seen) -> Answer:
    if seen.path.endswith(":decrypt"):
        return Answer(200, {"plaintext": b64encode(DATA_KEY).decode(), "plaintextCrc32c": "1"})
    return Answer(200, {"name": f"{ID}/cryptoKeyVersions/1", "ciphertext": ENC})


def refused(status: int, word: str, message: str) -> Callable[[Seen], Answer]:
    return lambda seen: Answer(status, {"error": {"code": status, "message": message, "status": word}})


def token(name: str = "access_token") -> Callable[[Seen], Answer]:
    return lambda seen: Answer(200, {name: "a-token-of-the-fake-kind", "expires_in": 3599}, Metadata_Flavor="Google")


def entry(content: Any) -> KeyEntry:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return KeyEntry("gcp_kms", "sops.gcp-kms", data, "Secret/keys")


def given(
    http: FakeHttp,
    *entries: KeyEntry,
    env: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    ambient: str = "auto",
) -> Credentials:
    return Credentials(Host(env=env or {}, files=files or {}, http=as_http(http)), entries, ambient)


def failure(credentials: Credentials, resource_id: str = ID, enc: str = ENC) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        GcpKmsKey(resource_id, enc).unwrap(credentials)
    assert "\n" not in caught.value.message
    assert "PRIVATE" not in caught.value.message
    return caught.value


def bearer(http: FakeHttp) -> str:
    return http.requests[-1].headers["authorization"].removeprefix("Bearer ")


def test_it_is_registered_and_read_from_metadata() -> None:
    key = KEY_TYPES["gcp_kms"].from_fields({"resource_id": ID, "enc": ENC, "created_at": "2024-01-01T00:00:00Z"})
    assert (type(key), key.identity, key.enc) == (GcpKmsKey, ID, ENC)


def test_unwrap_asks_for_the_key_with_the_ciphertext() -> None:
    http = FakeHttp(**{KMS: kms})
    assert GcpKmsKey(ID, ENC).unwrap(given(http, entry(ACCOUNT))) == DATA_KEY
    (seen,) = http.requests
    assert (seen.method, seen.host, seen.path) == ("POST", KMS, f"/v1/{ID}:decrypt")
    assert seen.headers["content-type"] == "application/json"
    assert seen.body == b'{"ciphertext":"%s"}' % ENC.encode()


def test_wrap_gives_a_key_that_unwraps() -> None:
    http = FakeHttp(**{KMS: kms})
    key = GcpKmsKey(ID).wrap(DATA_KEY, given(http, entry(ACCOUNT)))
    assert (key.identity, key.enc) == (ID, ENC)
    assert http.requests[0].path == f"/v1/{ID}:encrypt"
    assert http.requests[0].json() == {"plaintext": b64encode(DATA_KEY).decode()}


def test_enc_may_have_line_breaks_as_in_go() -> None:
    http = FakeHttp(**{KMS: kms})
    GcpKmsKey(ID, ENC[:4] + "\r\n" + ENC[4:] + "\n").unwrap(given(http, entry(ACCOUNT)))
    assert http.requests[0].json() == {"ciphertext": ENC}


def test_row_8_a_service_account_signs_its_own_token_and_sends_its_key_nowhere() -> None:
    http = FakeHttp(**{KMS: kms})
    GcpKmsKey(ID, ENC).unwrap(given(http, entry(ACCOUNT)))
    assert http.asked == [f"{KMS}/v1/{ID}:decrypt"]
    head, claims, signature = bearer(http).split(".")
    RSA.public_key().verify(
        urlsafe_b64decode(signature + "=="), f"{head}.{claims}".encode(), PKCS1v15(), SHA256()
    )  # raises if it is not the account's
    found = json.loads(urlsafe_b64decode(claims + "=="))
    assert json.loads(urlsafe_b64decode(head + "==")) == {"alg": "RS256", "typ": "JWT", "kid": "0123"}
    assert found["iss"] == found["sub"] == ACCOUNT["client_email"]
    assert found["exp"] - found["iat"] == 3600
    assert found["scope"] == "https://www.googleapis.com/auth/cloud-platform"


def test_a_token_is_made_once_in_a_scope() -> None:
    http = FakeHttp(**{KMS: kms})
    credentials = given(http, entry(ACCOUNT))
    for _ in range(2):
        GcpKmsKey(ID, ENC).unwrap(credentials)
    assert http.requests[0].headers["authorization"] == http.requests[1].headers["authorization"]


@pytest.mark.parametrize(
    "resource_id",
    [
        "",
        ID + "/cryptoKeyVersions/1",
        ID + "?alt=media",
        ID + "#",
        ID + "\n",
        ID + "/",
        "/" + ID,
        ID.replace("key_1", ".."),
        ID.replace("key_1", "%2e%2e"),
        ID.replace("key_1", "a:decrypt?x="),
        ID.replace("key_1", ""),
        ID.replace("key_1", "k" * 64),
        ID.replace("ring/", "ring/../"),
        ID.replace("my-project", "../.."),
        ID.replace("my-project", ".."),
        ID.replace("my-project", "a..b"),
        ID.replace("my-project", "x@evil.example"),
        ID.replace("my-project", "evil.example\\"),
        ID.replace("europe-west3", "Europe"),
        ID.replace("europe-west3", "a.b"),
        ID.replace("projects", "Projects"),
        ID.replace("my-project", "prøject"),
        ID.replace("my-project", "٣"),
        "https://evil.example/" + ID,
    ],
)
def test_s14_what_is_no_resource_id_is_refused_before_anything_is_asked(resource_id: str) -> None:
    http = FakeHttp(**{KMS: kms, METADATA: token()})
    assert "resource id" in failure(given(http, entry(ACCOUNT)), resource_id).message
    assert http.requests == []


@pytest.mark.parametrize("project", ["my-project", "123456", "example.com:my-project", "a"])
def test_every_form_of_project_is_a_resource_id(project: str) -> None:
    assert is_resource_id(ID.replace("my-project", project))


@pytest.mark.parametrize("enc", ["", "a", "a-_b", "YWJj=", "ÄÄÄÄ", "YW Jj"])
def test_enc_that_is_no_base64_is_refused_before_anything_is_asked(enc: str) -> None:
    http = FakeHttp(**{KMS: kms})
    assert failure(given(http, entry(ACCOUNT)), ID, enc).message in ("enc is no base64", "enc is empty")
    assert http.requests == []


@pytest.mark.parametrize(
    "content",
    [
        {
            "type": "external_account",
            "audience": "//iam.googleapis.com/x",
            "token_url": "https://evil.example/token",
            "credential_source": {"url": "http://169.254.169.254/"},
        },
        {"type": "external_account", "credential_source": {"file": "/etc/passwd"}},
        {"type": "external_account", "credential_source": {"executable": {"command": "touch /tmp/x"}}},
        {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"},
        {"type": "impersonated_service_account", "service_account_impersonation_url": "https://evil.example/"},
        {"type": "external_account_authorized_user"},
        {"type": "gdch_service_account"},
        {"type": ["service_account"]},
        {},
    ],
)
def test_s13_in_band_credentials_that_borrow_power_are_refused_before_anything_is_asked(content: Any) -> None:
    http = FakeHttp(**{KMS: kms, METADATA: token(), "169.254.169.254": token(), "evil.example": token()})
    failed = failure(given(http, entry(content), files={"/etc/passwd": b"root"}))
    assert "only service_account is taken" in failed.message
    assert "GOOGLE_APPLICATION_CREDENTIALS" in failed.hint
    assert http.requests == []


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/token",
        "https://oauth2.googleapis.com.evil/token",
        "",
        None,
        1,
        "http://oauth2.googleapis.com/token",
    ],
)
def test_s13_a_token_address_elsewhere_is_refused(uri: object) -> None:
    http = FakeHttp(**{KMS: kms})
    assert "token_uri" in failure(given(http, entry({**ACCOUNT, "token_uri": uri}))).message
    assert http.requests == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b"private_key: x",
        {**ACCOUNT, "private_key": "SECRET"},
        {**ACCOUNT, "private_key": None},
        {**ACCOUNT, "client_email": ""},
    ],
)
def test_an_entry_that_is_no_service_account_is_said_without_its_content(content: Any) -> None:
    http = FakeHttp(**{KMS: kms, METADATA: token()})
    failed = failure(given(http, entry(content)))
    assert "sops.gcp-kms" in failed.message
    assert "SECRET" not in failed.message
    assert http.requests == []


def test_row_10_s13_with_an_entry_nothing_ambient_is_used_unless_asked() -> None:
    http = FakeHttp(**{KMS: refused(403, "PERMISSION_DENIED", "no"), METADATA: token()})
    env = {"GOOGLE_OAUTH_ACCESS_TOKEN": "ambient-token"}
    failure(given(http, entry(ACCOUNT), env=env))
    assert len(http.requests) == 1
    assert bearer(http) != "ambient-token"
    failure(given(http, entry(ACCOUNT), env=env, ambient="always"))
    assert len(http.requests) == 3
    assert bearer(http) == "ambient-token"


def test_without_entries_and_ambient_nothing_is_asked() -> None:
    http = FakeHttp(**{KMS: kms, METADATA: token()})
    failed = failure(given(http, ambient="never", env={"GOOGLE_OAUTH_ACCESS_TOKEN": "t"}))
    assert failed.message == "no credentials at hand"
    assert "sops.gcp-kms" in failed.hint
    assert http.requests == []


def test_google_credentials_as_text_or_as_path_come_first() -> None:
    text = json.dumps(ACCOUNT)
    more = {"GOOGLE_OAUTH_ACCESS_TOKEN": "t", "GOOGLE_APPLICATION_CREDENTIALS": "/none"}
    for env in ({"GOOGLE_CREDENTIALS": text, **more}, {"GOOGLE_CREDENTIALS": "/sa.json", **more}):
        http = FakeHttp(**{KMS: kms})
        GcpKmsKey(ID, ENC).unwrap(given(http, env=env, files={"/sa.json": text.encode()}))
        assert bearer(http).count(".") == 2
    http = FakeHttp(**{KMS: kms})
    assert "GOOGLE_CREDENTIALS names cannot be read" in failure(given(http, env={"GOOGLE_CREDENTIALS": "/no"})).message
    assert http.requests == []


def test_a_token_in_the_environment_comes_next() -> None:
    http = FakeHttp(**{KMS: kms})
    env = {"GOOGLE_OAUTH_ACCESS_TOKEN": "t0ken", "GOOGLE_APPLICATION_CREDENTIALS": "/none"}
    GcpKmsKey(ID, ENC).unwrap(given(http, env=env))
    assert bearer(http) == "t0ken"


def test_application_default_credentials_from_variable_gcloud_and_metadata_server() -> None:
    account = json.dumps(ACCOUNT).encode()
    well_known = "/home/u/.config/gcloud/application_default_credentials.json"
    env = {"GOOGLE_APPLICATION_CREDENTIALS": "/sa.json", "HOME": "/home/u"}
    http = FakeHttp(**{KMS: kms, METADATA: token()})
    GcpKmsKey(ID, ENC).unwrap(given(http, env=env, files={"/sa.json": account, well_known: b""}))
    GcpKmsKey(ID, ENC).unwrap(given(http, env={"HOME": "/home/u"}, files={well_known: account}))
    moved = {"CLOUDSDK_CONFIG": "/c", "HOME": "/home/u"}
    GcpKmsKey(ID, ENC).unwrap(
        given(http, env=moved, files={"/c/application_default_credentials.json": account, well_known: b""})
    )
    assert all(seen.headers["authorization"].count(".") == 2 for seen in http.requests)
    GcpKmsKey(ID, ENC).unwrap(given(http))
    assert bearer(http) == "a-token-of-the-fake-kind"


def test_the_metadata_server_is_asked_as_google_wants() -> None:
    http = FakeHttp(**{KMS: kms, "10.0.0.1:8080": token()})
    GcpKmsKey(ID, ENC).unwrap(given(http, env={"GCE_METADATA_HOST": "10.0.0.1:8080"}))
    seen = http.requests[0]
    assert (seen.method, seen.path) == ("GET", "/computeMetadata/v1/instance/service-accounts/default/token")
    assert seen.headers == {"metadata-flavor": "Google"}
    assert http.local == ["10.0.0.1:8080"]


def test_no_credentials_anywhere_says_what_would_help() -> None:
    failed = failure(given(FakeHttp()))
    assert "no Google credentials are set" in failed.message
    assert "GOOGLE_CREDENTIALS" in failed.hint


def test_something_that_is_no_metadata_server_is_not_believed() -> None:
    http = FakeHttp(**{KMS: kms, METADATA: lambda seen: Answer(200, {"access_token": "captive portal"})})
    assert "what answers for the metadata server is none" in failure(given(http)).message
    assert http.asked == [f"{METADATA}/computeMetadata/v1/instance/service-accounts/default/token"]


def test_a_login_with_gcloud() -> None:
    person = {
        "type": "authorized_user",
        "client_id": "i",
        "client_secret": "s",
        "refresh_token": "r",
        "quota_project_id": "q",
    }
    http = FakeHttp(**{KMS: kms, "oauth2.googleapis.com": token()})
    GcpKmsKey(ID, ENC).unwrap(given(http, env={"GOOGLE_CREDENTIALS": json.dumps(person)}))
    login, call = http.requests
    assert (login.method, login.path) == ("POST", "/token")
    assert login.headers["content-type"] == "application/x-www-form-urlencoded"
    assert login.body == b"grant_type=refresh_token&client_id=i&client_secret=s&refresh_token=r"
    assert call.headers["authorization"] == "Bearer a-token-of-the-fake-kind"
    assert call.headers["x-goog-user-project"] == "q"


def test_a_login_that_has_expired_says_so() -> None:
    person = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    gone = Answer(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    http = FakeHttp(**{"oauth2.googleapis.com": lambda seen: gone})
    failed = failure(given(http, env={"GOOGLE_CREDENTIALS": json.dumps(person)}))
    assert "Token has been expired or revoked." in failed.message
    assert "gcloud auth" in failed.hint


FEDERATED: dict[str, Any] = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/github",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {
        "url": "https://token.actions.githubusercontent.com/get?audience=x",
        "headers": {"Authorization": "Bearer of-github"},
        "format": {"type": "json", "subject_token_field_name": "value"},
    },
}
IMPERSONATION = (
    "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
    "sops@my-project.iam.gserviceaccount.com:generateAccessToken"
)


def test_workload_identity_federation_as_in_github_actions() -> None:
    http = FakeHttp(
        **{
            KMS: kms,
            "token.actions.githubusercontent.com": lambda seen: Answer(200, {"value": "an-oidc-token"}),
            "sts.googleapis.com": token(),
            "iamcredentials.googleapis.com": lambda seen: Answer(200, {"accessToken": "of-the-account"}),
        }
    )
    found = {**FEDERATED, "service_account_impersonation_url": IMPERSONATION}
    env = {"GOOGLE_APPLICATION_CREDENTIALS": "/wif.json"}
    GcpKmsKey(ID, ENC).unwrap(given(http, env=env, files={"/wif.json": json.dumps(found).encode()}))
    source, exchange, impersonation, call = http.requests
    assert source.headers == {"authorization": "Bearer of-github"}
    assert parse_qs(exchange.body.decode()) == {
        "grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "audience": [FEDERATED["audience"]],
        "scope": ["https://www.googleapis.com/auth/cloud-platform"],
        "requested_token_type": ["urn:ietf:params:oauth:token-type:access_token"],
        "subject_token_type": ["urn:ietf:params:oauth:token-type:jwt"],
        "subject_token": ["an-oidc-token"],
    }
    assert impersonation.headers["authorization"] == "Bearer a-token-of-the-fake-kind"
    assert impersonation.json() == {"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "3600s"}
    assert call.headers["authorization"] == "Bearer of-the-account"


def test_workload_identity_federation_with_a_token_in_a_file() -> None:
    http = FakeHttp(**{KMS: kms, "sts.googleapis.com": token()})
    found = {**FEDERATED, "credential_source": {"file": "/token"}}
    files = {"/token": b"from-the-file\n"}
    GcpKmsKey(ID, ENC).unwrap(given(http, env={"GOOGLE_CREDENTIALS": json.dumps(found)}, files=files))
    assert parse_qs(http.requests[0].body.decode())["subject_token"] == ["from-the-file"]


@pytest.mark.parametrize(
    "source",
    [
        None,
        {},
        {"executable": {"command": "touch /tmp/x"}},
        {"environment_id": "aws1", "url": "http://169.254.169.254/"},
    ],
)
def test_federation_that_needs_a_program_or_aws_is_refused(source: object) -> None:
    http = FakeHttp(**{KMS: kms, "169.254.169.254": token()})
    found = {**FEDERATED, "credential_source": source}
    failed = failure(given(http, env={"GOOGLE_CREDENTIALS": json.dumps(found)}))
    assert "credential_source" in failed.message
    assert http.requests == []


def test_an_impersonated_service_account_of_gcloud() -> None:
    found = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": IMPERSONATION,
        "delegates": ["projects/-/serviceAccounts/d"],
        "source_credentials": {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"},
    }
    http = FakeHttp(
        **{
            KMS: kms,
            "oauth2.googleapis.com": token(),
            "iamcredentials.googleapis.com": token("accessToken"),
        }
    )
    GcpKmsKey(ID, ENC).unwrap(given(http, env={"GOOGLE_CREDENTIALS": json.dumps(found)}))
    assert [seen.host for seen in http.requests] == ["oauth2.googleapis.com", "iamcredentials.googleapis.com", KMS]
    assert http.requests[1].json()["delegates"] == ["projects/-/serviceAccounts/d"]


@pytest.mark.parametrize(
    ("env", "host"),
    [
        ({"SOPS_GCP_KMS_UNIVERSE_DOMAIN": "s3nsapis.fr"}, "cloudkms.s3nsapis.fr"),
        ({"SOPS_GCP_KMS_ENDPOINT": "cloudkms.s3nsapis.fr:443"}, "cloudkms.s3nsapis.fr:443"),
        ({"SOPS_GCP_KMS_ENDPOINT": "https://kms.corp/", "SOPS_GCP_KMS_UNIVERSE_DOMAIN": "x"}, "kms.corp"),
    ],
)
def test_the_operator_may_name_another_endpoint(env: dict[str, str], host: str) -> None:
    http = FakeHttp(**{host: kms})
    GcpKmsKey(ID, ENC).unwrap(given(http, entry(ACCOUNT), env=env))
    assert http.asked == [f"{host}/v1/{ID}:decrypt"]


def test_an_endpoint_with_a_path_is_refused() -> None:
    http = FakeHttp(**{"kms.corp": kms})
    failed = failure(given(http, entry(ACCOUNT), env={"SOPS_GCP_KMS_ENDPOINT": "https://kms.corp/x"}))
    assert "SOPS_GCP_KMS_ENDPOINT" in failed.message
    assert http.requests == []


@pytest.mark.parametrize(
    ("status", "word", "cause", "hint"),
    [
        (400, "INVALID_ARGUMENT", "refused", ""),
        (401, "UNAUTHENTICATED", "credentials refused", "expired"),
        (403, "PERMISSION_DENIED", "denied", "roles/cloudkms.cryptoKeyDecrypter"),
        (404, "NOT_FOUND", "not found", "location"),
        (429, "RESOURCE_EXHAUSTED", "throttled", "quota"),
        (503, "UNAVAILABLE", "failed", ""),
    ],
)
def test_a_refusal_is_told_in_the_services_words(status: int, word: str, cause: str, hint: str) -> None:
    http = FakeHttp(**{KMS: refused(status, word, "some\nwords\x1b[31m of theirs")})
    failed = failure(given(http, entry(ACCOUNT)))
    assert failed.message == (
        f"Cloud KMS: {cause} (HTTP {status}, {word} some\\nwords\\x1b[31m of theirs) (with sops.gcp-kms of Secret/keys)"
    )
    assert hint in failed.hint


def test_s33_a_service_that_repeats_the_token_does_not_get_it_into_a_message() -> None:
    http = FakeHttp(**{KMS: lambda seen: Answer(403, {"error": {"message": seen.headers["authorization"]}})})
    message = failure(given(http, entry(ACCOUNT))).message
    assert bearer(http) not in message
    assert "Bearer ***" in message


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"plaintext": 5}', b'{"plaintext": ""}', b'{"plaintext": "*"}']
)
def test_an_answer_without_a_plaintext_is_an_error(body: bytes) -> None:
    http = FakeHttp(**{KMS: lambda seen: Answer(200, body)})
    assert "Cloud KMS" in failure(given(http, entry(ACCOUNT))).message


def test_a_redirect_is_not_followed() -> None:
    http = FakeHttp(**{KMS: lambda seen: Answer(307, Location="https://evil.example/"), "evil.example": kms})
    assert "not followed" in failure(given(http, entry(ACCOUNT))).message
    assert len(http.requests) == 1


def test_two_entries_are_both_tried() -> None:
    http = FakeHttp(**{KMS: lambda seen: kms(seen)})
    credentials = given(http, entry(b"broken"), entry(ACCOUNT))
    assert GcpKmsKey(ID, ENC).unwrap(credentials) == DATA_KEY


def test_the_token_is_a_pure_function_of_account_and_time() -> None:
    one, two = (service_account(ACCOUNT, "here", 1_700_000_000)["Authorization"] for _ in range(2))
    assert one == two
    assert json.loads(b64decode(one.split(".")[1] + "=="))["iat"] == 1_700_000_000
