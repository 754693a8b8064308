"""A real Vault or OpenBao server (`vault` or `bao` on PATH), and the real sops with its real Vault client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import KeyUnavailable
from krm_sops.host import Host
from krm_sops.http import Http
from krm_sops.keys.hc_vault import VaultKey
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES
from tests.interop.fakes.internet import Answer, Internet, Seen, closed_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SERVER = shutil.which("bao", path=PATH) or shutil.which("vault", path=PATH)
SOPS = shutil.which("sops", path=PATH)
ROOT = Path(__file__).resolve().parents[2]
DATA_KEY = bytes(range(32))
needs_server = pytest.mark.skipif(SERVER is None, reason="neither vault nor bao is installed")
needs_sops = pytest.mark.skipif(SOPS is None, reason="sops is not installed")


class Vault:
    """A server in memory, with transit at two places, and as root."""

    def __init__(self, folder: Path) -> None:
        assert SERVER is not None
        port = closed_port()
        self.address = f"http://127.0.0.1:{port}"
        arguments = ["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]
        self._process = subprocess.Popen(
            [SERVER, *arguments, f"-dev-listen-address=127.0.0.1:{port}"],
            env={"PATH": PATH, "HOME": str(folder)},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()
        for mount in ("transit", "team/transit"):
            self.write(f"sys/mounts/{mount}", type="transit")
            self.write(f"{mount}/keys/sops")
        self.write("transit/keys/other")

    def _wait(self) -> None:
        for _ in range(300):
            try:
                with urlopen(f"{self.address}/v1/sys/health"):
                    return
            except URLError:
                time.sleep(0.1)
        raise AssertionError("the server does not start")

    def write(self, path: str, method: str = "POST", **fields: Any) -> dict[str, Any]:
        request = Request(f"{self.address}/v1/{path}", json.dumps(fields).encode(), method=method)
        request.add_header("X-Vault-Token", "root")
        try:
            with urlopen(request) as answer:
                found: dict[str, Any] = json.loads(answer.read() or b"{}")
                return found
        except HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error

    def token(self, *paths: str) -> str:
        """One that may do no more than update these paths."""
        rules = "\n".join(f'path "{path}" {{ capabilities = ["update"] }}' for path in paths)
        self.write("sys/policies/acl/test", "PUT", policy=rules)
        token: str = self.write("auth/token/create", policies=["test"])["auth"]["client_token"]
        return token

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def key(self, engine: str = "transit", name: str = "sops", enc: str = "") -> VaultKey:
        return VaultKey(self.address, engine, name, enc)

    def credentials(self, token: str = "root", **env: str) -> Credentials:
        host = Host(env={"VAULT_ADDR": self.address, **env}, files={})
        return Credentials(host, [KeyEntry("hc_vault", "sops.vault-token", token.encode(), "test")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vault")


@pytest.fixture(scope="module")
def vault(folder: Path) -> Iterator[Vault]:
    found = Vault(folder)
    yield found
    found.stop()


@pytest.fixture
def scope(vault: Vault) -> Iterator[Callable[..., Credentials]]:
    made: list[Credentials] = []

    def make(*arguments: str, **env: str) -> Credentials:
        made.append(vault.credentials(*arguments, **env))
        return made[-1]

    yield make
    for one in made:
        one.host.http.close()


def sops(folder: Path, *arguments: str, given: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    assert SOPS is not None
    return subprocess.run(
        [SOPS, *arguments],
        input=given,
        env={"PATH": PATH, "HOME": str(folder), "VAULT_TOKEN": "root", **env},
        cwd=folder,
        capture_output=True,
        check=False,
    )


def failure(key: VaultKey, credentials: Credentials) -> str:
    with pytest.raises(KeyUnavailable) as caught:
        key.unwrap(credentials)
    return caught.value.message


@needs_server
@needs_sops
@pytest.mark.parametrize("engine", ["transit", "team/transit"])
def test_what_sops_encrypts_opens_and_what_we_wrap_opens_for_sops(
    vault: Vault, scope: Callable[..., Credentials], folder: Path, engine: str
) -> None:
    uri = f"{vault.address}/v1/{engine}/keys/sops"
    plain = b'{\n\t"a": "secret"\n}\n'
    types = ("--input-type", "json", "--output-type", "json")
    made = sops(folder, "encrypt", "--hc-vault-transit", uri, *types, "--filename-override", "a.json", given=plain)
    assert made.returncode == 0, made.stderr.decode()
    branches, block = STORES["json"].read(made.stdout)
    assert block is not None
    metadata = Metadata.from_branch(block, 10)
    credentials = scope()
    data_key = recover(metadata, credentials)
    opened, _ = EncryptedDocument(branches, metadata).decrypt(data_key)
    assert STORES["json"].write_plain(opened) == plain

    (key,) = metadata.key_groups[0]
    assert isinstance(key, VaultKey)
    assert key.identity == uri
    document = json.loads(made.stdout)
    document["sops"]["hc_vault"][0]["enc"] = key.wrap(key.unwrap(credentials), credentials).enc
    again = sops(folder, "decrypt", *types, "--filename-override", "a.json", given=json.dumps(document).encode())
    assert again.stdout == plain, again.stderr.decode()


@needs_server
@needs_sops
@pytest.mark.parametrize("named", [True, False])
def test_a_function_with_the_entry_of_a_key_secret(vault: Vault, folder: Path, named: bool) -> None:
    """Row 5, and what is stricter here: the operator names the server as well."""
    secret = b"apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\nstringData:\n  password: hunter2\n"
    uri = f"{vault.address}/v1/transit/keys/sops"
    rule = ("--encrypted-regex", "^stringData$", "--filename-override", "a.yaml")
    item = sops(folder, "encrypt", "--hc-vault-transit", uri, *rule, given=secret).stdout.decode()
    config = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    token = vault.token("transit/decrypt/sops")
    given = (
        "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\nitems:\n- "
        + item.rstrip("\n").replace("\n", "\n  ")
        + f"\nfunctionConfig: {json.dumps({**config, 'stringData': {'sops.vault-token': token}})}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "krm_sops"],
        input=given.encode(),
        env={"HOME": str(folder), "PYTHONPATH": str(ROOT), **({"VAULT_ADDR": vault.address} if named else {})},
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == (0 if named else 1), done.stderr.decode()
    assert (b'password: "hunter2"' in done.stdout) is named
    assert (b"set VAULT_ADDR" in done.stderr) is not named
    assert token.encode() not in done.stderr


@needs_server
def test_a_token_needs_no_more_than_update_on_decrypt(vault: Vault, scope: Callable[..., Credentials]) -> None:
    wrapped = vault.key().wrap(DATA_KEY, scope())
    least = scope(vault.token("transit/decrypt/sops"))
    assert wrapped.unwrap(least) == DATA_KEY
    assert "denied (HTTP 403" in failure(vault.key("team/transit", enc=wrapped.enc), least)
    with pytest.raises(KeyUnavailable, match="permission denied"):
        vault.key().wrap(DATA_KEY, least)


@needs_server
def test_a_revoked_token(vault: Vault, scope: Callable[..., Credentials]) -> None:
    wrapped = vault.key().wrap(DATA_KEY, scope())
    token = vault.token("transit/decrypt/sops")
    vault.write("auth/token/revoke", token=token)
    assert "denied (HTTP 403" in failure(wrapped, scope(token))


@needs_server
def test_what_the_server_says_of_keys_that_do_not_fit(vault: Vault, scope: Callable[..., Credentials]) -> None:
    credentials = scope()
    enc = vault.key().wrap(DATA_KEY, credentials).enc
    assert "encryption key not found" in failure(vault.key(name="gone", enc=enc), credentials)
    assert "message authentication failed" in failure(vault.key(name="other", enc=enc), credentials)
    assert "not found (HTTP 404" in failure(vault.key("nowhere", enc=enc), credentials)
    assert "invalid ciphertext" in failure(vault.key(enc="nonsense"), credentials)
    assert "refused (HTTP 400" in failure(vault.key(enc=""), credentials)


@needs_server
def test_an_older_version_of_a_key_opens_until_it_is_retired(vault: Vault, scope: Callable[..., Credentials]) -> None:
    credentials = scope()
    vault.write("transit/keys/turned")
    old = vault.key(name="turned").wrap(DATA_KEY, credentials)
    vault.write("transit/keys/turned/rotate")
    assert old.unwrap(credentials) == DATA_KEY
    assert vault.key(name="turned").wrap(DATA_KEY, credentials).enc.startswith("vault:v2:")
    vault.write("transit/keys/turned/config", min_decryption_version=2)
    assert "refused (HTTP 400" in failure(old, credentials)


@needs_server
def test_a_workload_logs_in_with_its_service_account_token(
    vault: Vault, scope: Callable[..., Credentials], tmp_path: Path
) -> None:
    """Row 12, with the real auth method; a fake of the Kubernetes API answers its TokenReview."""
    now = int(time.time())
    claims = {
        "aud": [vault.address],
        "sub": "system:serviceaccount:apps:sops",
        "nbf": now - 60,
        "exp": now + 600,
        "kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "sops", "uid": "1"}},
    }
    middle = urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    head = urlsafe_b64encode(b'{"alg":"RS256","typ":"JWT"}').rstrip(b"=").decode()
    jwt = f"{head}.{middle}.c2lnbmF0dXJl"

    def kubernetes(seen: Seen) -> Answer:
        assert seen.path == "/apis/authentication.k8s.io/v1/tokenreviews"
        review = seen.json()
        known = review["spec"]["token"] == jwt
        user = {"username": claims["sub"], "uid": "1", "groups": ["system:serviceaccounts"]}
        review["status"] = {"authenticated": known, "user": user, "audiences": review["spec"].get("audiences", [])}
        return Answer(201, review, Content_Type="application/json")

    with Internet(tmp_path) as api:
        api.services["127.0.0.1"] = kubernetes
        vault.write("sys/auth/kubernetes", type="kubernetes")
        vault.write(
            "auth/kubernetes/config",
            kubernetes_host=f"http://127.0.0.1:{api.port}",
            token_reviewer_jwt=jwt,
            kubernetes_ca_cert=Path(api.env["SSL_CERT_FILE"]).read_text(),
            disable_local_ca_jwt=True,
        )
        vault.token("transit/decrypt/sops")
        vault.write(
            "auth/kubernetes/role/apps_sops",
            bound_service_account_names=["sops"],
            bound_service_account_namespaces=["apps"],
            audience=vault.address,
            policies=["test"],
        )
        http = scope().host.http
        wrapped = vault.key().wrap(DATA_KEY, scope())
        logins = f"instances:\n  - address: {vault.address}\n    loginPath: auth/kubernetes/login\n"

        def logging_in(more: str = "") -> Credentials:
            files = {"/logins": (logins + more).encode(), "/token": jwt.encode()}
            return Credentials(Host(env={"KRM_SOPS_VAULT_LOGIN": "/logins"}, files=files, http=http))

        assert wrapped.unwrap(logging_in("    tokenFile: /token\n")) == DATA_KEY
        assert len(api.requests) == 1
        nobody = failure(wrapped, logging_in("    tokenFile: /token\n    role: nobody\n"))
        assert 'refused (HTTP 400, invalid role name "nobody")' in nobody


@needs_server
def test_a_sealed_server(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    try:
        http = Http({}, pause=lambda seconds: None)
        host = Host(env={"VAULT_ADDR": vault.address, "VAULT_TOKEN": "root"}, files={}, http=http)
        credentials = Credentials(host)
        wrapped = vault.key().wrap(DATA_KEY, credentials)
        vault.write("sys/seal", "PUT")
        assert "Vault is sealed" in failure(wrapped, credentials)
        http.close()
    finally:
        vault.stop()


@needs_sops
@pytest.mark.parametrize("namespace", ["", "team/a"])
def test_the_request_is_the_one_that_sops_makes(folder: Path, tmp_path: Path, namespace: str) -> None:
    """Method, path, body and the headers that a Vault looks at; the server is a fake that notes them."""
    with Internet(tmp_path) as server:
        server.services["127.0.0.1"] = lambda seen: Answer(403, {"errors": ["permission denied"]})
        address = f"http://127.0.0.1:{server.port}"
        uri = f"{address}/v1/team/transit/keys/sops"
        env = {"VAULT_NAMESPACE": namespace} if namespace else {}
        sops(folder, "encrypt", "--hc-vault-transit", uri, "--filename-override", "a.json", given=b'{"a": 1}', **env)
        host = Host(env={"VAULT_ADDR": address, "VAULT_TOKEN": "root", **env}, files={})
        with pytest.raises(KeyUnavailable):
            VaultKey(address, "team/transit", "sops").wrap(DATA_KEY, Credentials(host))
        host.http.close()
    theirs, *retried, ours = server.requests
    assert {seen.path for seen in retried} <= {theirs.path}
    assert (ours.method, ours.path, sorted(ours.json())) == (theirs.method, theirs.path, sorted(theirs.json()))
    assert len(ours.json()["plaintext"]) == len(theirs.json()["plaintext"])
    for name in ("x-vault-token", "x-vault-request", "x-vault-namespace"):
        assert ours.headers.get(name) == theirs.headers.get(name), name
