"""The key types of the clouds over real sockets, TLS and a proxy, against fakes that check the wire; what the vendors'
libraries send beside what we send; and the real sops against the same fakes, in both directions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.http import Http
from krm_sops.keys.azure_kv import AzureKeyVaultKey
from krm_sops.keys.gcp_kms import GcpKmsKey
from krm_sops.keys.hckms import HuaweiKmsKey
from krm_sops.keys.hckms_credentials import AccessKey, authorization
from tests.interop.fakes.clouds import FakeAzure, FakeGoogle, FakeHuawei, jwt
from tests.interop.fakes.internet import Answer, Internet, Raw, Seen
from tests.unit.test_azure_kv import CERTIFICATE, CERTIFICATE_PEM, KEY_PEM
from tests.unit.test_gcp_kms import ACCOUNT, FEDERATED, IMPERSONATION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from krm_sops.keys.base import MasterKey

DATA_KEY = bytes(range(32))
ROOT = Path(__file__).parent.parent.parent
VECTORS = ROOT / "tests" / "vectors" / "cloud"
PATH = os.environ.get("PATH", "") + ":" + os.path.expanduser("~/go/bin")


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(tmp_path) as found:
        yield found


@pytest.fixture
def scope(internet: Internet) -> Iterator[Callable[..., Credentials]]:
    """Credentials of a run whose network is the fake one."""
    made: list[Http] = []

    def make(
        env: dict[str, str] | None = None,
        entries: tuple[KeyEntry, ...] = (),
        files: dict[str, bytes] | None = None,
        ambient: str = "auto",
        **options: Any,
    ) -> Credentials:
        known = {**internet.env, **(env or {})}
        options.setdefault("pause", lambda seconds: None)
        made.append(Http(known, **options))
        return Credentials(Host(env=known, files=files or {}, http=made[-1]), entries, ambient)

    yield make
    for http in made:
        http.close()


def entry(section: str, content: object) -> KeyEntry:
    return KeyEntry(section, "sops.of-a-cloud", json.dumps(content).encode(), "Secret/keys")


def round_trip(key: Any, credentials: Credentials) -> Any:
    wrapped = key.wrap(DATA_KEY, credentials)
    assert wrapped.enc
    assert wrapped.unwrap(credentials) == DATA_KEY
    return wrapped


def refusal(key: MasterKey, credentials: Credentials) -> KeyUnavailable:
    with pytest.raises(KeyUnavailable) as caught:
        key.unwrap(credentials)
    return caught.value


# Every way in, over the wire


def test_google_with_a_service_account_in_band(internet: Internet, scope: Callable[..., Credentials]) -> None:
    google = FakeGoogle(internet)
    round_trip(GcpKmsKey(google.key_id), scope(entries=(entry("gcp_kms", google.account),)))
    assert internet.tunnels == ["cloudkms.googleapis.com:443"], "one connection, and nobody else is spoken to"


@pytest.mark.parametrize("way", ["text", "path", "token", "adc", "gcloud", "metadata"])
def test_google_with_what_the_environment_offers(
    internet: Internet, scope: Callable[..., Credentials], way: str
) -> None:
    google = FakeGoogle(internet)
    account = json.dumps(google.account)
    well_known = "/home/u/.config/gcloud/application_default_credentials.json"
    env = {
        "text": {"GOOGLE_CREDENTIALS": account},
        "path": {"GOOGLE_CREDENTIALS": "/account.json"},
        "token": {"GOOGLE_OAUTH_ACCESS_TOKEN": google.token},
        "adc": {"GOOGLE_APPLICATION_CREDENTIALS": "/account.json"},
        "gcloud": {"HOME": "/home/u"},
        "metadata": {"GCE_METADATA_HOST": google.metadata_host},
    }[way]
    files = {"/account.json": account.encode(), **({well_known: account.encode()} if way == "gcloud" else {})}
    round_trip(GcpKmsKey(google.key_id), scope(env, files=files))


PRINCIPAL = {"tenantId": FakeAzure.tenant, "clientId": FakeAzure.client, "clientSecret": FakeAzure.secret}


@pytest.mark.parametrize(
    "content",
    [
        PRINCIPAL,
        {"tenant": FakeAzure.tenant, "appId": FakeAzure.client, "password": FakeAzure.secret},
        {
            "tenantId": FakeAzure.tenant,
            "clientId": FakeAzure.client,
            "clientCertificate": (KEY_PEM + CERTIFICATE_PEM).decode(),
            "clientCertificateSendChain": True,
        },
    ],
)
def test_azure_with_what_is_in_band(
    internet: Internet, scope: Callable[..., Credentials], content: dict[str, object]
) -> None:
    azure = FakeAzure(internet, CERTIFICATE)
    credentials = scope(entries=(entry("azure_kv", content),))
    round_trip(AzureKeyVaultKey(f"https://{azure.vault}", azure.name, azure.version), credentials)
    found = round_trip(AzureKeyVaultKey(f"https://{azure.vault}/", azure.name, ""), credentials)
    assert found.version == azure.version
    assert sorted(set(internet.tunnels)) == ["login.microsoftonline.com:443", f"{azure.vault}:443"]
    assert len(internet.tunnels) == 2


@pytest.mark.parametrize("way", ["secret", "certificate", "workload", "machine", "of several", "app service"])
def test_azure_with_what_the_environment_offers(
    internet: Internet, scope: Callable[..., Credentials], way: str
) -> None:
    azure = FakeAzure(internet, CERTIFICATE)
    principal = {"AZURE_TENANT_ID": azure.tenant, "AZURE_CLIENT_ID": azure.client}
    machine = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{azure.metadata_host}"}
    env = {
        "secret": {**principal, "AZURE_CLIENT_SECRET": azure.secret},
        "certificate": {**principal, "AZURE_CLIENT_CERTIFICATE_PATH": "/both.pem"},
        "workload": {**principal, "AZURE_FEDERATED_TOKEN_FILE": "/token"},
        "machine": machine,
        "of several": {**machine, "AZURE_CLIENT_ID": azure.client},
        "app service": {"IDENTITY_ENDPOINT": f"http://{azure.metadata_host}/msi/token", "IDENTITY_HEADER": "a-header"},
    }[way]
    files = {"/both.pem": KEY_PEM + CERTIFICATE_PEM, "/token": azure.federated.encode() + b"\n"}
    round_trip(AzureKeyVaultKey(f"https://{azure.vault}", azure.name, azure.version), scope(env, files=files))


@pytest.mark.parametrize("project", ["", FakeHuawei.project])
def test_huawei_with_a_signature(internet: Internet, scope: Callable[..., Credentials], project: str) -> None:
    huawei = FakeHuawei(internet)
    env = {
        "HUAWEICLOUD_SDK_AK": huawei.access,
        "HUAWEICLOUD_SDK_SK": huawei.secret,
        "HUAWEICLOUD_SDK_PROJECT_ID": project,
        "HUAWEICLOUD_SDK_SECURITY_TOKEN": "temporary",
    }
    round_trip(HuaweiKmsKey(f"{huawei.region}:{huawei.uuid}"), scope(env))
    env["HUAWEICLOUD_SDK_SK"] = "another"
    assert (
        "verify aksk signature fail"
        in refusal(HuaweiKmsKey(f"{huawei.region}:{huawei.uuid}", "YQ=="), scope(env)).message
    )


def test_twenty_threads_log_in_once(internet: Internet, scope: Callable[..., Credentials]) -> None:
    azure = FakeAzure(internet)
    credentials = scope(entries=(entry("azure_kv", PRINCIPAL),))
    key = AzureKeyVaultKey(f"https://{azure.vault}", azure.name, azure.version).wrap(
        DATA_KEY, scope(entries=(entry("azure_kv", PRINCIPAL),))
    )
    before = len(internet.requests)
    opened: list[bytes] = []
    threads = [threading.Thread(target=lambda: opened.append(key.unwrap(credentials))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [DATA_KEY] * 20
    assert [seen.host for seen in internet.requests[before:]].count("login.microsoftonline.com") == 1


# What goes wrong


def test_a_ciphertext_of_another_key_is_told_in_the_services_words(
    internet: Internet, scope: Callable[..., Credentials]
) -> None:
    google, azure, huawei = FakeGoogle(internet), FakeAzure(internet), FakeHuawei(internet)
    env = {"HUAWEICLOUD_SDK_AK": huawei.access, "HUAWEICLOUD_SDK_SK": huawei.secret}
    for key, credentials, words in (
        (GcpKmsKey(google.key_id, "YWJj"), scope(entries=(entry("gcp_kms", google.account),)), "Decryption failed"),
        (
            AzureKeyVaultKey(f"https://{azure.vault}", azure.name, "", "YWJj"),
            scope(entries=(entry("azure_kv", PRINCIPAL),)),
            "The parameter is incorrect",
        ),
        (HuaweiKmsKey(f"{huawei.region}:{huawei.uuid}", "YWJj"), scope(env), "Failed to decrypt"),
    ):
        failed = refusal(key, credentials)
        assert "refused (HTTP 400" in failed.message
        assert words in failed.message


def keys_and_scopes(scope: Callable[..., Credentials], **options: Any) -> list[tuple[str, Any, Credentials]]:
    """Each key type with credentials that need no call of their own, and the host of its service."""
    huawei = {"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "s", "HUAWEICLOUD_SDK_PROJECT_ID": "p"}
    env = {"GOOGLE_OAUTH_ACCESS_TOKEN": "t", **huawei}
    return [
        ("cloudkms.googleapis.com", GcpKmsKey(FakeGoogle.key_id, "YWJj"), scope(env, **options)),
        (
            "kms.tr-west-1.myhuaweicloud.com",
            HuaweiKmsKey(f"tr-west-1:{FakeHuawei.uuid}", "YWJj"),
            scope(env, **options),
        ),
        (
            "login.microsoftonline.com",
            AzureKeyVaultKey(f"https://{FakeAzure.vault}", "k", "", "YWJj"),
            scope(entries=(entry("azure_kv", PRINCIPAL),), **options),
        ),
    ]


@pytest.mark.parametrize(
    ("answer", "cause", "calls"),
    [
        (Answer(403, {"error": {"message": "no", "code": "x"}}), "denied", 1),
        (Answer(429, {}), "throttled", 5),
        (Answer(503, b"<html>"), "failed (HTTP 503)", 5),
        (Answer(302, Location="https://evil.example/"), "not followed", 1),
        (Answer(307, Location="https://evil.example/"), "not followed", 1),
        (Answer(200, b"\x00garbage"), "", 1),
        (Answer(200, b"x" * (1 << 20 | 1)), "more than 1 MiB", 1),
    ],
)
def test_how_a_service_may_fail(
    internet: Internet, scope: Callable[..., Credentials], answer: Answer, cause: str, calls: int
) -> None:
    internet.services["*"] = lambda seen: answer
    for host, key, credentials in keys_and_scopes(scope):
        internet.requests.clear()
        internet.tunnels.clear()
        failed = refusal(key, credentials)
        assert cause in failed.message
        assert "\x00" not in failed.message
        assert {seen.host for seen in internet.requests} == {host}
        assert len(internet.requests) == calls
        assert set(internet.tunnels) == {f"{host}:443"}


def test_a_service_that_is_throttled_for_a_while_is_waited_for(
    internet: Internet, scope: Callable[..., Credentials]
) -> None:
    google = FakeGoogle(internet)
    real = internet.services["cloudkms.googleapis.com"]
    busy = [Answer(429, {}), Answer(503, {})]
    internet.services["cloudkms.googleapis.com"] = lambda seen: busy.pop() if busy else real(seen)
    round_trip(GcpKmsKey(google.key_id), scope(entries=(entry("gcp_kms", google.account),)))


def test_a_service_that_hangs_is_left(scope: Callable[..., Credentials]) -> None:
    with Raw(*[b""] * 9) as silent:
        env = {"HTTPS_PROXY": f"http://127.0.0.1:{silent.port}"}
        google = {**env, "GOOGLE_OAUTH_ACCESS_TOKEN": "t"}
        limits = {"call_seconds": 0.05, "total_seconds": 0.05}
        failed = refusal(GcpKmsKey(FakeGoogle.key_id, "YWJj"), scope(google, **limits))
        assert "cloudkms.googleapis.com is unreachable through the proxy 127.0.0.1: no answer" in failed.message
        vault = AzureKeyVaultKey(f"https://{FakeAzure.vault}", "k", "", "YWJj")
        assert "timeout" in refusal(vault, scope(env, (entry("azure_kv", PRINCIPAL),), **limits)).message


def test_a_service_with_another_certificate_gets_no_token(
    internet: Internet, scope: Callable[..., Credentials]
) -> None:
    real = internet.tls_for
    internet.tls_for = lambda host: real("evil.example")  # type: ignore[method-assign]
    for _, key, credentials in keys_and_scopes(scope):
        assert "certificate is not trusted" in refusal(key, credentials).message
    assert internet.requests == []


# The vendors' libraries


def vectors(name: str) -> dict[str, dict[str, Any]]:
    return {found.get("what", found["path"]): found for found in json.loads((VECTORS / f"{name}.json").read_text())}


def same(ours: Seen, theirs: dict[str, Any], *, added: frozenset[str] = frozenset()) -> None:
    """added: parameters of the query that only the library sends."""
    mine, other = urlsplit(ours.path), urlsplit(theirs["path"])
    assert (ours.method, ours.host, mine.path) == (theirs["method"], theirs["host"], other.path)
    assert dict(parse_qsl(mine.query)) == {k: v for k, v in parse_qsl(other.query) if k not in added}
    for name, value in theirs["headers"].items():
        assert ours.headers[name].split(";")[0] == value.split(";")[0]


def test_google_is_asked_as_googles_library_asks(internet: Internet, scope: Callable[..., Credentials]) -> None:
    known = vectors("gcp")
    content = {"plaintext": "YQ==", "ciphertext": "CiR3cmFwcGVk", "access_token": "at", "accessToken": "imp"}
    internet.services["*"] = lambda seen: Answer(200, {**content, "value": "an-oidc-token"}, Metadata_Flavor="Google")
    credentials = scope(entries=(entry("gcp_kms", ACCOUNT),))
    GcpKmsKey(FakeGoogle.key_id, "CiR3cmFwcGVk").unwrap(credentials)
    GcpKmsKey(FakeGoogle.key_id).wrap(DATA_KEY, credentials)
    for ours, theirs in zip(internet.requests, (known["KMS decrypt"], known["KMS encrypt"]), strict=True):
        same(ours, theirs, added=frozenset({"$alt"}))
        assert ours.json() == json.loads(theirs["body"])
        head, claims, *_ = jwt(ours.headers["authorization"].removeprefix("Bearer "))
        assert head == theirs["token"][0]
        assert {**claims, "iat": 0, "exp": claims["exp"] - claims["iat"]} == theirs["token"][1]
    internet.requests.clear()
    login = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    federated = {**FEDERATED, "service_account_impersonation_url": IMPERSONATION}
    for env in (
        {"GOOGLE_CREDENTIALS": json.dumps(login)},
        {"GOOGLE_CREDENTIALS": json.dumps(federated)},
        {"GCE_METADATA_HOST": f"127.0.0.1:{internet.port}"},
    ):
        GcpKmsKey(FakeGoogle.key_id, "CiR3cmFwcGVk").unwrap(scope(env))
    requests = [seen for seen in internet.requests if seen.host != "cloudkms.googleapis.com"]
    names = ["authorized_user", "credential_source", "token exchange", "impersonation", "metadata server"]
    for ours, name in zip(requests, names, strict=True):
        theirs = known[name]
        same(ours, theirs)
        if name == "impersonation":
            assert {**ours.json(), "delegates": None} == json.loads(theirs["body"])
        else:
            form = dict(parse_qsl(theirs["body"]))
            if name == "token exchange":  # for impersonation the library asks for the lesser scope: either is taken
                form["scope"] = form["scope"].replace("auth/iam", "auth/cloud-platform")
            assert dict(parse_qsl(ours.body.decode())) == form


def test_azure_is_asked_as_azures_libraries_ask(internet: Internet, scope: Callable[..., Credentials]) -> None:
    known = vectors("azure")
    kid = f"https://{FakeAzure.vault}/keys/{FakeAzure.name}/{FakeAzure.version}"
    internet.services["*"] = lambda seen: Answer(200, {"kid": kid, "value": "AAEC", "access_token": "a-token"})
    vault = f"https://{FakeAzure.vault}"
    enc = json.loads(known["decrypt"]["body"])["value"]
    calls = [(FakeAzure.version, ""), ("", "newest version, ")]
    credentials = scope(entries=(entry("azure_kv", PRINCIPAL),))
    for version, _ in calls:
        AzureKeyVaultKey(vault, FakeAzure.name, version, enc).unwrap(credentials)
        AzureKeyVaultKey(vault, FakeAzure.name, version).wrap(DATA_KEY, credentials)
    login, *rest = internet.requests
    names = [f"{prefix}{verb}" for _, prefix in calls for verb in ("decrypt", "encrypt")]
    for ours, name in zip(rest, names, strict=True):
        same(ours, known[name])
        assert ours.json() == json.loads(known[name]["body"])
    same(login, known["login, client secret"])
    assert without_telemetry(known["login, client secret"]["form"]) == dict(parse_qsl(login.body.decode()))


def without_telemetry(form: dict[str, str]) -> dict[str, str]:
    """client_info asks for an id token's worth of facts, claims for tokens that can be revoked: neither is for us."""
    return {name: value for name, value in form.items() if name not in ("client_info", "claims")}


@pytest.mark.parametrize("name", ["certificate", "certificate and chain", "workload identity"])
def test_azure_gets_assertions_as_from_azures_libraries(
    internet: Internet, scope: Callable[..., Credentials], name: str
) -> None:
    theirs = vectors("azure")[f"login, {name}"]
    internet.services["*"] = lambda seen: Answer(200, {"value": "AAEC", "access_token": "a-token"})
    env = {"AZURE_TENANT_ID": FakeAzure.tenant, "AZURE_CLIENT_ID": FakeAzure.client}
    if name == "workload identity":
        env["AZURE_FEDERATED_TOKEN_FILE"] = "/token"
    else:
        env["AZURE_CLIENT_CERTIFICATE_PATH"] = "/both.pem"
        env["AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"] = str(name.endswith("chain"))
    files = {"/token": b"of-kubernetes", "/both.pem": KEY_PEM + CERTIFICATE_PEM}
    AzureKeyVaultKey(f"https://{FakeAzure.vault}", "k", "", "YWJj").unwrap(scope(env, files=files))
    ours = internet.requests[0]
    same(ours, theirs)
    form = dict(parse_qsl(ours.body.decode()))
    assertion = theirs.get("assertion")
    if assertion:
        head, claims, *_ = jwt(form["client_assertion"])
        form["client_assertion"] = "…"
        # Microsoft's Python signs with RS256 and names the certificate by SHA-1; its Go (sops, Flux) as we do
        assert sorted(head) == [name.replace("x5t", "x5t#S256") for name in assertion["header"]]
        assert {**claims, "aud": assertion["aud"], "iss": assertion["iss"], "sub": assertion["sub"]} == claims
    assert form == without_telemetry(theirs["form"])


@pytest.mark.parametrize("name", ["IMDS", "IMDS with a client id", "App Service", "App Service with a client id"])
def test_azures_metadata_services_are_asked_as_azures_libraries_ask(
    internet: Internet, scope: Callable[..., Credentials], name: str
) -> None:
    internet.services["*"] = lambda seen: Answer(200, {"value": "AAEC", "access_token": "a-token"})
    here = f"http://127.0.0.1:{internet.port}"
    env = {"IDENTITY_ENDPOINT": f"{here}/msi/token", "IDENTITY_HEADER": "a-header"}
    if name.startswith("IMDS"):
        env = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": here}
    if "client id" in name:
        env["AZURE_CLIENT_ID"] = FakeAzure.client
    AzureKeyVaultKey(f"https://{FakeAzure.vault}", "k", "", "YWJj").unwrap(scope(env))
    theirs = vectors("azure")[name]
    if name.startswith("App"):
        theirs["headers"].pop("metadata")  # which App Service does not ask for
    same(internet.requests[0], theirs)


def test_huaweis_signatures_are_those_of_huaweis_library() -> None:
    key = AccessKey("AK0", "s3cret", "", "")
    found = json.loads((VECTORS / "hckms.json").read_text())
    assert len(found) == 5
    for theirs in found:
        headers = dict(theirs["headers"])
        wanted = headers.pop("authorization")
        names = wanted.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        signed = {"X-Sdk-Date" if name == "x-sdk-date" else name: headers[name] for name in names}
        path, _, query = theirs["path"].partition("?")
        assert authorization(key, theirs["method"], path, query, signed, theirs["body"].encode()) == wanted


def test_huawei_is_asked_as_huaweis_library_asks(internet: Internet, scope: Callable[..., Credentials]) -> None:
    internet.services["*"] = lambda seen: Answer(
        200, {"plain_text": "AAEC", "cipher_text": "c", "projects": [{"id": FakeHuawei.project}]}
    )
    env = {"HUAWEICLOUD_SDK_AK": "AK0", "HUAWEICLOUD_SDK_SK": "s3cret"}
    credentials = scope(env)
    key_id = f"tr-west-1:{FakeHuawei.uuid}"
    HuaweiKmsKey(key_id, "AgDoAG7E==").unwrap(credentials)
    HuaweiKmsKey(key_id).wrap(b"\0\1\2", credentials)
    found = [
        one for one in json.loads((VECTORS / "hckms.json").read_text()) if "x-security-token" not in one["headers"]
    ]
    theirs = {one["path"]: one for one in found}
    assert len(internet.requests) == len(theirs) == 3
    for ours in internet.requests:
        other = theirs[ours.path]
        for name in ("authorization", "x-sdk-date", "user-agent"):
            other["headers"].pop(name)
        same(ours, other)
        assert ours.body.decode() == other["body"] == "" or ours.json() == json.loads(other["body"])


# The real sops, and ourselves as a program


def sops_path() -> str:
    found = shutil.which("sops", path=PATH)
    if found is None:
        pytest.skip("no sops")
    return found


def program(command: list[str], folder: Path, env: dict[str, str]) -> bytes:
    known = {"PATH": PATH, "HOME": str(folder), "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def google_case(internet: Internet) -> tuple[str, str, dict[str, str], Any]:
    google = FakeGoogle(internet)
    env = {"GOOGLE_CREDENTIALS": json.dumps(google.account), "SOPS_GCP_KMS_CLIENT_TYPE": "rest"}
    return "--gcp-kms", google.key_id, env, GcpKmsKey(google.key_id)


def azure_case(internet: Internet) -> tuple[str, str, dict[str, str], Any]:
    azure = FakeAzure(internet)
    env = {"AZURE_TENANT_ID": azure.tenant, "AZURE_CLIENT_ID": azure.client, "AZURE_CLIENT_SECRET": azure.secret}
    url = f"https://{azure.vault}/keys/{azure.name}/{azure.version}"
    return "--azure-kv", url, env, AzureKeyVaultKey(f"https://{azure.vault}", azure.name, azure.version)


def huawei_case(internet: Internet) -> tuple[str, str, dict[str, str], Any]:
    huawei = FakeHuawei(internet)
    env = {
        "HUAWEICLOUD_SDK_AK": huawei.access,
        "HUAWEICLOUD_SDK_SK": huawei.secret,
        "HUAWEICLOUD_SDK_PROJECT_ID": huawei.project,
        "HUAWEICLOUD_SDK_REGION_KMS_TR_WEST_1": huawei.endpoint,  # its library for Go knows no proxy
    }
    key_id = f"{huawei.region}:{huawei.uuid}"
    return "--hckms", key_id, env, HuaweiKmsKey(key_id)


@pytest.mark.parametrize("case", [google_case, azure_case, huawei_case])
def test_what_the_real_sops_encrypts_we_decrypt_and_the_other_way_round(
    internet: Internet, scope: Callable[..., Credentials], tmp_path: Path, case: Callable[[Internet], Any]
) -> None:
    flag, name, more, key = case(internet)
    sops = sops_path()
    env = {**internet.env, **more}
    plain = b"password: correct horse\n"
    (tmp_path / "plain.yaml").write_bytes(plain)
    encrypted = program([sops, "encrypt", flag, name, "plain.yaml"], tmp_path, env)
    (tmp_path / "secret.yaml").write_bytes(encrypted)
    assert program([sys.executable, "-m", "krm_sops", "decrypt", "secret.yaml"], tmp_path, env) == plain
    data_key = json.loads(program([sys.executable, "-c", OPEN, "secret.yaml"], tmp_path, env))
    wrapped = key.wrap(bytes(data_key), scope(more))
    enc = next(line for line in encrypted.decode().splitlines() if line.strip().startswith("enc: "))
    (tmp_path / "ours.yaml").write_text(encrypted.decode().replace(enc, f"{enc.partition(':')[0]}: {wrapped.enc}"))
    assert program([sops, "decrypt", "ours.yaml"], tmp_path, env) == plain


OPEN = """
import json, sys
from krm_sops.credentials import Credentials
from krm_sops.datakey import open_key
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.metadata import Metadata
from krm_sops.yamlio import read
branch = read(open(sys.argv[1]).read(), FUNCTION, 1000).root.get("sops")
key, = Metadata.from_branch(branch, 10).keys()
print(json.dumps(list(open_key(key, Credentials(Host()), 32))))
"""


@pytest.mark.parametrize(
    ("page", "case"), [("keys-gcp.md", google_case), ("keys-azure.md", azure_case), ("keys-huawei.md", huawei_case)]
)
def test_the_example_of_a_page_runs(
    internet: Internet, tmp_path: Path, page: str, case: Callable[[Internet], Any]
) -> None:
    """With the fakes instead of the clouds, and otherwise as it stands there."""
    _, _, more, _ = case(internet)
    if "GOOGLE_CREDENTIALS" in more:
        (tmp_path / "account.json").write_text(more.pop("GOOGLE_CREDENTIALS"))
    more.pop("AZURE_TENANT_ID", None)
    more.pop("AZURE_CLIENT_ID", None)
    text = (ROOT / "docs" / page).read_text()
    script = text.rpartition("```sh\n")[2].partition("```")[0]
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "krm-sops"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m krm_sops "$@"\n')
    command.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{Path(sops_path()).parent}:{PATH}"
    env = {**internet.env, **more, "PATH": path}
    assert program(["sh", "-euc", script], tmp_path, env) == b"password: correct horse\n"
