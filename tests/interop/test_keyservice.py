"""The real ``sops keyservice``, with keys that only it has; and the real sops as the other client."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("h2", reason="h2 is not installed")
from tests.interop.fakes.internet import closed_port
from tests.interop.fakes.keyservice import FakeKeyService, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS, AGE_KEYGEN, GPG = (shutil.which(name, path=PATH) for name in ("sops", "age-keygen", "gpg"))
ROOT = Path(__file__).resolve().parents[2]
PLAIN = b"a: secret\n"

pytestmark = pytest.mark.skipif(SOPS is None or AGE_KEYGEN is None, reason="sops or age is not installed")


class Place:
    """A home folder, with or without keys, and what runs in it."""

    def __init__(self, folder: Path, **env: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.env = {"PATH": PATH, "HOME": str(folder), "GNUPGHOME": str(folder / "gnupg"), **env}

    def run(self, *argv: str, given: bytes = b"", status: int | None = 0, **env: str) -> tuple[bytes, str]:
        done = subprocess.run(
            argv, input=given, env={**self.env, **env}, cwd=self.folder, capture_output=True, check=False
        )
        assert status is None or done.returncode == status, done.stderr.decode()
        return done.stdout, done.stderr.decode()

    def krm_sops(self, *arguments: str, status: int = 0, **env: str) -> tuple[bytes, str]:
        program = (sys.executable, "-m", "krm_sops", "decrypt", *arguments)
        return self.run(*program, status=status, PYTHONPATH=str(ROOT), **env)


class Keys(Place):
    """Where an age key and a PGP key are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SOPS_AGE_KEY_FILE=str(folder / "keys.txt"))
        self.run("age-keygen", "-o", "keys.txt")
        self.recipient = self.run("age-keygen", "-y", "keys.txt")[0].decode().strip()
        self.fingerprint = ""
        if GPG is not None:
            (folder / "gnupg").mkdir(mode=0o700)
            gpg = ("gpg", "--batch", "--passphrase", "")
            self.run(*gpg, "--quick-generate-key", "krm-sops test <test@example.com>", "default", "default", "never")
            listed = self.run("gpg", "--list-secret-keys", "--with-colons")[0].decode().splitlines()
            self.fingerprint = next(line for line in listed if line.startswith("fpr")).split(":")[9]

    def encrypted(self, path: Path, *keys: str) -> str:
        text, _ = self.run(str(SOPS), "encrypt", *keys, "--filename-override", "a.yaml", given=PLAIN)
        path.write_bytes(text)
        return str(path)


class Service:
    def __init__(self, keys: Place, network: str, address: str) -> None:
        assert SOPS is not None
        self._process = subprocess.Popen(
            [SOPS, "keyservice", "--network", network, "--address", address],
            env=keys.env,
            cwd=keys.folder,
            stderr=subprocess.DEVNULL,
        )
        self.address = f"{network}://{address}"
        for _ in range(100):
            if self._listens(network, address):
                return
            time.sleep(0.1)
        raise AssertionError("the key service does not start")

    def _listens(self, network: str, address: str) -> bool:
        host, _, port = address.rpartition(":")
        with socket.socket(socket.AF_INET if network == "tcp" else socket.AF_UNIX) as sock:
            return sock.connect_ex((host, int(port)) if network == "tcp" else address) == 0

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    folder = tmp_path_factory.mktemp("k")
    found = Keys(folder / "keys")
    yield found
    if found.fingerprint:
        found.run("gpgconf", "--kill", "gpg-agent", status=None)


@pytest.fixture(scope="module", params=["tcp", "unix"])
def service(request: pytest.FixtureRequest, keys: Keys) -> Iterator[Service]:
    address = f"127.0.0.1:{closed_port()}" if request.param == "tcp" else str(keys.folder / "s.sock")
    found = Service(keys, request.param, address)
    yield found
    found.stop()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Place:
    """A place without keys."""
    return Place(tmp_path / "home")


def test_an_age_key_that_only_the_service_has(keys: Keys, service: Service, elsewhere: Place) -> None:
    path = keys.encrypted(elsewhere.folder / "a.yaml", "--age", keys.recipient)
    _, said = elsewhere.krm_sops(path, status=128)
    assert "no age identity" in said
    assert elsewhere.krm_sops("--keyservice", service.address, path) == (PLAIN, "")
    assert elsewhere.krm_sops(path, SOPS_KEYSERVICE=service.address) == (PLAIN, "")
    assert elsewhere.run(str(SOPS), "decrypt", "--keyservice", service.address, path)[0] == PLAIN


@pytest.mark.skipif(GPG is None, reason="gpg is not installed")
def test_a_pgp_key_that_only_the_service_has(keys: Keys, service: Service, elsewhere: Place) -> None:
    path = keys.encrypted(elsewhere.folder / "a.yaml", "--pgp", keys.fingerprint)
    elsewhere.krm_sops(path, status=128)
    assert elsewhere.krm_sops("--keyservice", service.address, path) == (PLAIN, "")


@pytest.mark.skipif(GPG is None, reason="gpg is not installed")
def test_shares_of_two_groups(keys: Keys, service: Service, elsewhere: Place) -> None:
    rules = f"creation_rules: [{{key_groups: [{{age: [{keys.recipient}]}}, {{pgp: ['{keys.fingerprint}']}}]}}]"
    (keys.folder / "rules.yaml").write_text(rules)
    path = elsewhere.folder / "a.yaml"
    path.write_bytes(
        keys.run(*(str(SOPS), "--config", "rules.yaml", "encrypt", "--filename-override", "a.yaml"), given=PLAIN)[0]
    )
    assert elsewhere.krm_sops("--keyservice", service.address, str(path)) == (PLAIN, "")
    age_only = ("--key-file", str(keys.folder / "keys.txt"))
    elsewhere.krm_sops(*age_only, str(path), status=128)
    assert elsewhere.krm_sops(*age_only, "--keyservice", service.address, str(path)) == (PLAIN, "")


def test_local_keys_can_be_left_out(keys: Keys, service: Service, elsewhere: Place) -> None:
    path = keys.encrypted(elsewhere.folder / "a.yaml", "--age", keys.recipient)
    key_file = ("--key-file", str(keys.folder / "keys.txt"))
    assert elsewhere.krm_sops(*key_file, path)[0] == PLAIN
    _, said = elsewhere.krm_sops(*key_file, "--enable-local-keyservice=false", path, status=128)
    assert "neither a local key service nor another one" in said
    elsewhere.krm_sops(*key_file, path, SOPS_ENABLE_LOCAL_KEYSERVICE="false", status=128)
    asked = ("--enable-local-keyservice=false", "--keyservice", service.address)
    assert elsewhere.krm_sops(*key_file, *asked, path)[0] == PLAIN


def test_a_dead_service_is_passed_over(keys: Keys, service: Service, elsewhere: Place) -> None:
    path = keys.encrypted(elsewhere.folder / "a.yaml", "--age", keys.recipient)
    dead = f"tcp://127.0.0.1:{closed_port()}"
    assert elsewhere.krm_sops("--keyservice", dead, "--keyservice", service.address, path)[0] == PLAIN
    _, said = elsewhere.krm_sops("--keyservice", dead, path, status=128)
    assert f"{dead} is unreachable: connection refused" in said


def test_a_service_without_the_key_says_so(keys: Keys, elsewhere: Place, tmp_path: Path) -> None:
    path = keys.encrypted(elsewhere.folder / "a.yaml", "--age", keys.recipient)
    keyless = Service(Place(tmp_path / "keyless"), "tcp", f"127.0.0.1:{closed_port()}")
    try:
        _, said = elsewhere.krm_sops("--keyservice", keyless.address, path, status=128)
    finally:
        keyless.stop()
    assert f"{keyless.address}: failed (gRPC 2, failed to load age identities" in said


def test_an_address_that_the_operator_did_not_write_is_local(keys: Keys, elsewhere: Place) -> None:
    path = keys.encrypted(elsewhere.folder / "a.yaml", "--age", keys.recipient)
    out, said = elsewhere.krm_sops(path, SOPS_KEYSERVICE="tcp://192.0.2.1:5000", status=1)
    assert out == b""
    assert "SOPS_KEYSERVICE: tcp://192.0.2.1:5000 is on another host" in said


METADATA = """\
a: ENC[AES256_GCM,data:p6XFTpMT,iv:QuwEkFh3aXFNN9SLDcZenZobbnfX3h4V0kDm9kUABcQ=,tag:smKeHF9vmeMA30G8sMfUdg==,type:str]
sops:
    kms:
        - arn: arn:aws:kms:eu-west-1:111122223333:key/0
          role: arn:aws:iam::111122223333:role/r
          context:
            team: a
          created_at: "2026-01-01T00:00:00Z"
          enc: a2V5
          aws_profile: prod
        - {arn: "arn:aws:kms:eu-west-1:111122223333:key/1", created_at: "2026-01-01T00:00:00Z", enc: a2V5}
    gcp_kms:
        - {resource_id: projects/p/locations/l/keyRings/r/cryptoKeys/k, created_at: "2026-01-01T00:00:00Z", enc: a2V5}
    hckms:
        - {key_id: "tr-west-1:abc-123", created_at: "2026-01-01T00:00:00Z", enc: a2V5}
    azure_kv:
        - vault_url: https://v.vault.azure.net
          name: n
          version: "1"
          created_at: "2026-01-01T00:00:00Z"
          enc: a2V5
    hc_vault:
        - vault_address: https://vault.example.com:8200
          engine_path: team/transit
          key_name: k
          created_at: "2026-01-01T00:00:00Z"
          enc: vault:v1:a2V5
    age:
        - recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
          enc: |
            -----BEGIN AGE ENCRYPTED FILE-----
            -----END AGE ENCRYPTED FILE-----
    pgp:
        - {fp: 0123456789ABCDEF0123456789ABCDEF01234567, created_at: "2026-01-01T00:00:00Z", enc: message}
    lastmodified: "2026-01-01T00:00:00Z"
    mac: ENC[AES256_GCM,data:i4lu,iv:JAODFNF45r/hcEtLwJPS37n26z7D/MGKtPvjr1CdhYE=,tag:miieYClyESNe6W2dBsqUCA==,type:str]
    version: 3.13.3
"""


def test_every_key_type_is_asked_for_in_the_bytes_that_sops_sends(elsewhere: Place) -> None:
    """The service is a fake that knows no key, so both ask it for each."""
    path = elsewhere.folder / "a.yaml"
    path.write_text(METADATA)
    arguments = ("--enable-local-keyservice=false", "--decryption-order", "age,pgp", "--keyservice")
    with FakeKeyService(lambda asked: Reply(None, {"grpc-status": "5", "grpc-message": "unknown key"})) as fake:
        elsewhere.run(str(SOPS), "decrypt", *arguments, fake.address, str(path), status=128)
        theirs = [(asked.path, asked.frame, asked.message) for asked in fake.asked]
        fake.asked.clear()
        _, said = elsewhere.krm_sops(*arguments, fake.address, str(path), status=128)
        ours = [(asked.path, asked.frame, asked.message) for asked in fake.asked]
    assert len(theirs) == 8
    assert ours == theirs
    assert "8 tried" in said
    assert "not found (gRPC 5, unknown key)" in said
