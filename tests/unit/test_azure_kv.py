"""The `azure_kv` key type: what is asked with whose credentials, what is refused before anything is asked."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.keys.azure_kv import CLOUDS, AzureKeyVaultKey, vault_host
from tests.interop.fakes.http import FakeHttp, as_http
from tests.interop.fakes.internet import Answer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

VAULT = "https://my-vault.vault.azure.net"
HOST = "my-vault.vault.azure.net"
NAME, VERSION = "sops-key", "b86c2e6ad9054f4abf69cc185b99aa60"
DATA_KEY = bytes(range(32))
WRAPPED = bytes(range(256))
ENC = urlsafe_b64encode(WRAPPED).rstrip(b"=").decode()
LOGIN = "login.microsoftonline.com"
TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
PRINCIPAL = {"tenantId": TENANT, "clientId": CLIENT, "clientSecret": "s3cret~of.the-app"}
IMDS = "169.254.169.254"
RSA = generate_private_key(65537, 2048)


def url64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def vault(seen: Seen) -> Answer:
    kid = f"{VAULT}/keys/{NAME}/{VERSION}"
    if "/decrypt?" in seen.path:
        return Answer(200, {"kid": kid, "value": url64(DATA_KEY)})
    return Answer(200, {"kid": kid, "value": ENC})


def token(seen: Seen) -> Answer:
    return Answer(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": "a-token-of-the-fake-kind"})


def services(**more: Callable[[Seen], Answer]) -> FakeHttp:
    return FakeHttp(**{HOST: vault, LOGIN: token, **more})


def entry(content: Any) -> KeyEntry:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return KeyEntry("azure_kv", "sops.azure-kv", data, "Secret/keys")


def given(
    http: FakeHttp,
    *entries: KeyEntry,
    env: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    ambient: str = "auto",
) -> Credentials:
    return Credentials(Host(env=env or {}, files=files or {}, http=as_http(http)), entries, ambient)


def key(url: str = VAULT, name: str = NAME, version: str = VERSION, enc: str = ENC) -> AzureKeyVaultKey:
    return AzureKeyVaultKey(url, name, version, enc)


def failure(credentials: Credentials, of: AzureKeyVaultKey | None = None) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        (of or key()).unwrap(credentials)
    assert "\n" not in caught.value.message
    assert "s3cret" not in caught.value.message
    return caught.value


def form(seen: Seen) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(seen.body.decode(), strict_parsing=True).items()}


def certificate(private: RSAPrivateKey = RSA, name: str = "app") -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=private.public_key(),
        serial_number=1337,
        not_valid_before=now,
        not_valid_after=now + dt.timedelta(days=1),
    )
    return builder.sign(private, SHA256())


CERTIFICATE = certificate()
CERTIFICATE_PEM = CERTIFICATE.public_bytes(Encoding.PEM)
KEY_PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_it_is_registered_and_read_from_metadata() -> None:
    fields = {"vault_url": VAULT, "name": NAME, "version": VERSION, "enc": ENC, "created_at": "x"}
    found = KEY_TYPES["azure_kv"].from_fields(fields)
    assert (type(found), found.identity, found.enc) == (AzureKeyVaultKey, f"{VAULT}/keys/{NAME}/{VERSION}", ENC)


def test_unwrap_logs_in_and_asks_the_vault() -> None:
    http = services()
    assert key().unwrap(given(http, entry(PRINCIPAL))) == DATA_KEY
    login, call = http.requests
    assert (login.method, login.host, login.path) == ("POST", LOGIN, f"/{TENANT}/oauth2/v2.0/token")
    assert form(login) == {
        "client_id": CLIENT,
        "scope": "https://vault.azure.net/.default",
        "grant_type": "client_credentials",
        "client_secret": "s3cret~of.the-app",
    }
    assert (call.method, call.host) == ("POST", HOST)
    assert call.path == f"/keys/{NAME}/{VERSION}/decrypt?api-version=7.4"
    assert call.headers["authorization"] == "Bearer a-token-of-the-fake-kind"
    assert call.json() == {"alg": "RSA-OAEP-256", "value": ENC}


def test_wrap_gives_a_key_that_unwraps_with_the_version_that_was_used() -> None:
    http = services()
    found = AzureKeyVaultKey(VAULT, NAME, "").wrap(DATA_KEY, given(http, entry(PRINCIPAL)))
    assert (found.version, found.enc) == (VERSION, ENC)
    assert http.requests[1].path == f"/keys/{NAME}//encrypt?api-version=7.4"
    assert http.requests[1].json() == {"alg": "RSA-OAEP-256", "value": url64(DATA_KEY)}
    pinned = AzureKeyVaultKey(VAULT, NAME, "0" * 32).wrap(DATA_KEY, given(services(), entry(PRINCIPAL)))
    assert pinned.version == "0" * 32


def test_wrap_without_a_version_needs_an_answer_that_names_it() -> None:
    http = services(**{HOST: lambda seen: Answer(200, {"value": ENC})})
    with pytest.raises(KeyUnavailable, match="which version"):
        AzureKeyVaultKey(VAULT, NAME, "").wrap(DATA_KEY, given(http, entry(PRINCIPAL)))


def test_one_login_serves_all_vaults_of_a_cloud() -> None:
    http = services(**{"other.vault.azure.net": vault, "hsm.managedhsm.azure.net": vault})
    credentials = given(http, entry(PRINCIPAL))
    for url in (VAULT, VAULT + "/", "https://other.vault.azure.net"):
        key(url).unwrap(credentials)
    assert [seen.host for seen in http.requests].count(LOGIN) == 1
    key("https://hsm.managedhsm.azure.net").unwrap(credentials)
    assert form(http.requests[-2])["scope"] == "https://managedhsm.azure.net/.default"


@pytest.mark.parametrize("suffix", CLOUDS)
def test_every_cloud_has_its_own_login(suffix: str) -> None:
    login = CLOUDS[suffix]
    http = FakeHttp(**{f"v.{suffix}": vault, login: token})
    key(f"https://v.{suffix}").unwrap(given(http, entry(PRINCIPAL)))
    assert [seen.host for seen in http.requests] == [login, f"v.{suffix}"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https://vault.azure.net",
        "https://.vault.azure.net",
        "https://my-vault.vault.azure.net.evil",
        "https://my-vault.vault.azure.net.evil.example/",
        "https://evil.example/my-vault.vault.azure.net",
        "https://evilvault.azure.net",
        "https://a.b.vault.azure.net",
        "https://x@my-vault.vault.azure.net",
        "https://my-vault.vault.azure.net@evil.example",
        "https://x@evil",
        "https://my-vault.vault.azure.net:8443",
        "https://my-vault.vault.azure.net:443",
        "https://my-vault.vault.azure.net/path",
        "https://my-vault.vault.azure.net//",
        "https://my-vault.vault.azure.net?x",
        "https://my-vault.vault.azure.net#x",
        "https://evil.example#.vault.azure.net",
        "https://evil.example\\.vault.azure.net",
        "https://my_vault.vault.azure.net",
        "https://-.vault.azure.net",
        "https://my-vault.vault.azure.net\n",
        " https://my-vault.vault.azure.net",
        "http://my-vault.vault.azure.net",
        "HTTPS://my-vault.vault.azure.net",
        "https://127.0.0.1",
        "https://[::1]",
        "https://169.254.169.254",
        "https://mÿ.vault.azure.net",
        "my-vault.vault.azure.net",
    ],
)
def test_s14_what_is_no_address_of_a_vault_is_refused_before_anything_is_asked(url: str) -> None:
    http = services(**{IMDS: token})
    assert vault_host(url) == ""
    assert "address of a vault" in failure(given(http, entry(PRINCIPAL)), key(url)).message
    assert http.requests == []


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("", VERSION),
        ("..", VERSION),
        ("a/b", VERSION),
        ("a?b", VERSION),
        ("a#b", VERSION),
        ("a\n", VERSION),
        ("%2e%2e", VERSION),
        ("a" * 128, VERSION),
        (NAME, ".."),
        (NAME, "x/../.."),
        (NAME, "x?"),
        (NAME, "x\n"),
        (NAME, "a" * 65),
        (NAME, " "),
        (NAME, "٣"),
    ],
)
def test_s14_names_and_versions_that_could_change_the_path_are_refused(name: str, version: str) -> None:
    http = services()
    assert "name and version" in failure(given(http, entry(PRINCIPAL)), key(VAULT, name, version)).message
    assert http.requests == []


@pytest.mark.parametrize("enc", ["", "a", "YWJj+", "YWJj/w", "YQ==", "ÄÄ", "a b"])
def test_enc_that_is_no_base64url_is_refused_before_anything_is_asked(enc: str) -> None:
    http = services()
    assert "enc is" in failure(given(http, entry(PRINCIPAL)), key(enc=enc)).message
    assert http.requests == []


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(PRINCIPAL).encode(),
        "".join(f"{name}: {value}\n" for name, value in PRINCIPAL.items()).encode(),
        b"\xef\xbb\xbf" + json.dumps(PRINCIPAL).encode(),
        json.dumps(PRINCIPAL).encode("utf-16"),
        b"\xff\xfe" + json.dumps(PRINCIPAL).encode("utf-16-le"),
        b"\xfe\xff" + json.dumps(PRINCIPAL).encode("utf-16-be"),
        json.dumps(
            {"appId": CLIENT, "tenant": TENANT, "password": PRINCIPAL["clientSecret"], "displayName": "x"}
        ).encode(),
        json.dumps({name.upper(): value for name, value in PRINCIPAL.items()}).encode(),
        json.dumps({**PRINCIPAL, "authorityHost": f"https://{LOGIN}/"}).encode(),
        json.dumps({**PRINCIPAL, "clientCertificate": "not looked at", "password": "nor this", "appId": "x"}).encode(),
    ],
)
def test_row_7_a_secret_in_every_form_that_flux_takes(content: bytes) -> None:
    http = services()
    assert key().unwrap(given(http, entry(content))) == DATA_KEY
    assert http.requests[0].path == f"/{TENANT}/oauth2/v2.0/token"
    assert (form(http.requests[0])["client_id"], form(http.requests[0])["client_secret"]) == (
        CLIENT,
        "s3cret~of.the-app",
    )


PKCS1_LABELLED_AS_PKCS8 = RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).replace(
    b"RSA PRIVATE", b"PRIVATE"
)
OTHER = generate_private_key(65537, 2048)
OTHER_PEM = certificate(OTHER, "other").public_bytes(Encoding.PEM)


def pkcs12(password: bytes | None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return b64encode(serialize_key_and_certificates(b"x", RSA, CERTIFICATE, None, encryption)).decode()


@pytest.mark.parametrize(
    ("text", "password"),
    [
        (KEY_PEM + CERTIFICATE_PEM, ""),
        (CERTIFICATE_PEM + KEY_PEM, ""),
        (CERTIFICATE_PEM + KEY_PEM, "not needed"),
        (PKCS1_LABELLED_AS_PKCS8 + CERTIFICATE_PEM, ""),
        (RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()) + CERTIFICATE_PEM, ""),
        (OTHER_PEM + CERTIFICATE_PEM + KEY_PEM, ""),
        (
            RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")) + CERTIFICATE_PEM,
            "pw",
        ),
        (pkcs12(b"pw").encode(), "pw"),
        (pkcs12(None).encode(), ""),
    ],
)
def test_row_7_a_certificate_in_every_form_that_flux_takes(text: bytes, password: str) -> None:
    http = services()
    content = {"tenantId": TENANT, "clientId": CLIENT, "clientCertificate": text.decode()}
    if password:
        content["clientCertificatePassword"] = password
    key().unwrap(given(http, entry(content)))
    fields = form(http.requests[0])
    assert fields["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert "client_secret" not in fields
    head, claims, signature = fields["client_assertion"].split(".")
    RSA.public_key().verify(  # raises if the assertion is not the certificate's
        urlsafe_b64decode(signature + "=="), f"{head}.{claims}".encode(), PSS(MGF1(SHA256()), 32), SHA256()
    )
    assert json.loads(urlsafe_b64decode(head + "==")) == {
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": url64(CERTIFICATE.fingerprint(SHA256())),
    }
    found = json.loads(urlsafe_b64decode(claims + "=="))
    assert found["aud"] == f"https://{LOGIN}/{TENANT}/oauth2/v2.0/token"
    assert found["iss"] == found["sub"] == CLIENT
    assert found["exp"] - found["nbf"] == 600
    assert len(found["jti"]) == 32


@pytest.mark.parametrize("send", [True, "true", False, "false"])
def test_row_7_the_chain_goes_along_when_asked(send: object) -> None:
    http = services()
    text = (OTHER_PEM + CERTIFICATE_PEM + KEY_PEM).decode()
    content = {"tenantId": TENANT, "clientId": CLIENT, "clientCertificate": text, "clientCertificateSendChain": send}
    key().unwrap(given(http, entry(content)))
    head = json.loads(urlsafe_b64decode(form(http.requests[0])["client_assertion"].split(".")[0] + "=="))
    chain = [x509.load_der_x509_certificate(b64decode(text)) for text in head.get("x5c", [])]
    assert chain == ([CERTIFICATE, x509.load_pem_x509_certificate(OTHER_PEM)] if send in (True, "true") else [])


def test_row_7_a_certificate_that_cannot_be_used_is_said_without_its_content() -> None:
    ec = generate_ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for text, password in (
        ("some-client-certificate", ""),
        ("c29tZQ==", ""),
        (CERTIFICATE_PEM.decode(), ""),
        (KEY_PEM.decode(), ""),
        ((KEY_PEM + OTHER_PEM).decode(), ""),
        ((ec + CERTIFICATE_PEM).decode(), ""),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ""),
        (pkcs12(b"pw"), "other"),
        (pkcs12(b"pw"), ""),
    ):
        http = services()
        content = {
            "tenantId": TENANT,
            "clientId": CLIENT,
            "clientCertificate": text,
            "clientCertificatePassword": password,
        }
        failed = failure(given(http, entry(content)))
        assert "clientCertificate" in failed.message
        assert "BEGIN" not in failed.message
        assert http.requests == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"some string",
        b"- a\n",
        b"\xff\xfea",
        b"\xff",
        b"{",
        {},
        {"tenantId": TENANT},
        {"tenantId": TENANT, "clientSecret": "s3cret"},
        {"authorityHost": "https://login.microsoftonline.com"},
        {"tenant": TENANT, "appId": CLIENT},
        {**PRINCIPAL, "clientId": 5},
    ],
)
def test_row_7_an_entry_without_usable_credentials_is_an_error(content: Any) -> None:
    http = services(**{IMDS: token})
    assert "sops.azure-kv" in failure(given(http, entry(content))).message
    assert http.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "https://evil.example",
        "https://login.microsoftonline.com.evil.example/",
        "https://login.microsoftonline.com/evil",
        "https://login.microsoftonline.com@evil.example",
        "https://login.microsoftonline.com:444",
        "http://login.microsoftonline.com",
        "http://169.254.169.254/",
    ],
)
def test_s13_a_login_host_elsewhere_is_refused(host: str) -> None:
    http = services(**{IMDS: token, "evil.example": token})
    assert "authorityHost" in failure(given(http, entry({**PRINCIPAL, "authorityHost": host}))).message
    assert http.requests == []


def test_another_login_host_of_microsoft_is_taken() -> None:
    http = services(**{"login.microsoftonline.us": token})
    key().unwrap(given(http, entry({**PRINCIPAL, "authorityHost": "https://login.microsoftonline.us"})))
    assert http.requests[0].host == "login.microsoftonline.us"


@pytest.mark.parametrize("tenant", ["a/b", "..", ".", "a..b", "a?b", "a@b", "a b", "a\n", "x" * 300, "%2e"])
def test_s14_a_tenant_that_could_change_the_address_is_refused(tenant: str) -> None:
    http = services()
    assert "tenant" in failure(given(http, entry({**PRINCIPAL, "tenantId": tenant}))).message
    assert http.requests == []


def test_s13_a_client_id_alone_is_ambient_power() -> None:
    http = services(**{IMDS: token})
    env = {"IDENTITY_ENDPOINT": f"http://{IMDS}/msi/token", "IDENTITY_HEADER": "h"}
    failed = failure(given(http, entry({"clientId": CLIENT}), env=env))
    assert "managed identity" in failed.message
    assert "ambient: always" in failed.hint
    assert http.requests == []
    key().unwrap(given(http, entry({"clientId": CLIENT}), ambient="always"))
    assert parse_qs(urlsplit(http.requests[0].path).query)["client_id"] == [CLIENT]


def test_row_10_s13_with_an_entry_nothing_ambient_is_used_unless_asked() -> None:
    denied = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret.\r\nTrace ID: 1"}
    http = services(**{IMDS: token, LOGIN: lambda seen: Answer(401, denied)})
    failed = failure(given(http, entry(PRINCIPAL)))
    assert [seen.host for seen in http.requests] == [LOGIN]
    assert "AADSTS7000215: Invalid client secret." in failed.message
    assert "Trace" not in failed.message
    assert key().unwrap(given(http, entry(PRINCIPAL), ambient="always")) == DATA_KEY


def test_a_login_that_failed_is_not_repeated_for_every_document() -> None:
    http = services(**{LOGIN: lambda seen: Answer(401, {"error": "invalid_client"})})
    credentials = given(http, entry(PRINCIPAL))
    assert failure(credentials).message == failure(credentials).message
    assert len(http.requests) == 1


def test_without_entries_and_ambient_nothing_is_asked() -> None:
    http = services(**{IMDS: token})
    failed = failure(given(http, ambient="never", env={"AZURE_TENANT_ID": "t"}))
    assert failed.message == "no credentials at hand"
    assert http.requests == []


PRINCIPAL_ENV = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT}


def test_the_environment_gives_a_secret_a_certificate_or_a_workload_identity() -> None:
    files = {
        "/cert.pem": KEY_PEM + CERTIFICATE_PEM,
        "/cert.pfx": b64decode(pkcs12(b"pw")),
        "/token": b"of-kubernetes\n",
    }
    for env, name in (
        ({"AZURE_CLIENT_SECRET": "s3cret"}, "client_secret"),
        ({"AZURE_CLIENT_CERTIFICATE_PATH": "/cert.pem"}, "client_assertion"),
        (
            {"AZURE_CLIENT_CERTIFICATE_PATH": "/cert.pfx", "AZURE_CLIENT_CERTIFICATE_PASSWORD": "pw"},
            "client_assertion",
        ),
        ({"AZURE_FEDERATED_TOKEN_FILE": "/token"}, "client_assertion"),
    ):
        http = services()
        assert key().unwrap(given(http, env={**PRINCIPAL_ENV, **env}, files=files)) == DATA_KEY
        assert name in form(http.requests[0])
    assert form(http.requests[0])["client_assertion"] == "of-kubernetes"


def test_the_operator_may_name_another_login_host() -> None:
    http = services(**{"login.corp": token})
    env = {**PRINCIPAL_ENV, "AZURE_CLIENT_SECRET": "s3cret", "AZURE_AUTHORITY_HOST": "https://login.corp/"}
    key().unwrap(given(http, env=env))
    assert http.requests[0].host == "login.corp"
    assert "AZURE_AUTHORITY_HOST" in failure(given(services(), env={**env, "AZURE_AUTHORITY_HOST": "http://x"})).message


@pytest.mark.parametrize("variable", ["AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE"])
def test_a_file_that_is_not_there_is_named_by_its_variable(variable: str) -> None:
    http = services()
    failed = failure(given(http, env={**PRINCIPAL_ENV, variable: "/none"}))
    assert variable in failed.message
    assert "mounted" in failed.hint
    assert http.requests == []


def test_a_managed_identity_of_the_machine() -> None:
    http = services(**{IMDS: token})
    key().unwrap(given(http))
    seen = http.requests[0]
    assert (seen.method, seen.headers) == ("GET", {"metadata": "true"})
    assert seen.path == (
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
    )
    assert http.local == [IMDS]
    key().unwrap(given(http, env={"AZURE_CLIENT_ID": CLIENT}))
    assert http.requests[2].path.endswith(f"&client_id={CLIENT}")


def test_a_managed_identity_of_app_service() -> None:
    http = services(**{"127.0.0.1:41741": token})
    env = {"IDENTITY_ENDPOINT": "http://127.0.0.1:41741/msi/token", "IDENTITY_HEADER": "a-header"}
    key().unwrap(given(http, env=env))
    seen = http.requests[0]
    assert (seen.method, seen.headers) == ("GET", {"x-identity-header": "a-header"})
    assert seen.path == "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net"


def test_no_credentials_anywhere_says_what_would_help() -> None:
    failed = failure(given(services()))
    assert "no secret, certificate or federated token is set" in failed.message
    assert "az login is not used" in failed.hint


def test_an_identity_that_does_not_exist() -> None:
    gone = {"error": "invalid_request", "error_description": "Identity not found"}
    http = services(**{IMDS: lambda seen: Answer(400, gone)})
    assert "the managed identity: refused (HTTP 400, Identity not found)" in failure(given(http)).message


@pytest.mark.parametrize(
    ("status", "code", "cause", "hint"),
    [
        (400, "BadParameter", "refused", ""),
        (401, "Unauthorized", "credentials refused", "tenant"),
        (403, "Forbidden", "denied", "Key Vault Crypto User"),
        (404, "KeyNotFound", "not found", "deleted"),
        (429, "Throttled", "throttled", "fewer documents"),
        (503, "Unavailable", "failed", ""),
    ],
)
def test_a_refusal_is_told_in_the_services_words(status: int, code: str, cause: str, hint: str) -> None:
    words = {"error": {"code": code, "message": "Caller is\r\nnot \u202e authorized"}}
    http = services(**{HOST: lambda seen: Answer(status, words)})
    failed = failure(given(http, entry(PRINCIPAL)))
    assert failed.message == (
        f"Key Vault: {cause} (HTTP {status}, {code} Caller is\\r\\nnot \\u202e authorized) "
        "(with sops.azure-kv of Secret/keys)"
    )
    assert hint in failed.hint


def test_s33_a_service_that_repeats_the_token_does_not_get_it_into_a_message() -> None:
    http = services(**{HOST: lambda seen: Answer(403, {"error": {"message": seen.headers["authorization"]}})})
    message = failure(given(http, entry(PRINCIPAL))).message
    assert "a-token" not in message
    assert "***" in message


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"value": 5}', b'{"value": "*"}', b'{"value": "YQ=="}'])
def test_an_answer_without_a_value_is_an_error(body: bytes) -> None:
    http = services(**{HOST: lambda seen: Answer(200, body)})
    assert "Key Vault" in failure(given(http, entry(PRINCIPAL))).message


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"access_token": 5}', b'{"access_token": ""}'])
def test_a_login_without_a_token_is_an_error(body: bytes) -> None:
    http = services(**{LOGIN: lambda seen: Answer(200, body)})
    assert "no token in the answer" in failure(given(http, entry(PRINCIPAL))).message


def test_redirects_are_not_followed() -> None:
    elsewhere = Answer(302, Location="https://evil.example/")
    for who in (HOST, LOGIN):
        http = services(**{who: lambda seen: elsewhere, "evil.example": token})
        assert "not followed" in failure(given(http, entry(PRINCIPAL))).message
        assert "evil.example" not in [seen.host for seen in http.requests]
