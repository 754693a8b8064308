"""sops' own functional tests (Rust), with krm-sops as the program that they drive.

The sources are those of the Go module that `go install` left behind, or of KRM_SOPS_SOPS_SOURCE; nothing of them is in
this repository. Built once into the user's cache folder. The tests of publishing need a Vault on PATH. Those that sops
itself ignores need an account of AWS, whose place moto takes where it is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.interop.fakes.internet import closed_port
from tests.interop.programs import link

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "v3.13.3"
PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
NEEDS_VAULT = {"publish_json_file_vault", "publish_json_file_vault_version_1"}
NEEDS_AWS = {"encrypt_json_file_kms", "publish_json_file_s3", "roundtrip_kms_encryption_context"}
LINE = re.compile(r"^test tests::(\w+) \.\.\. (\w+)", re.MULTILINE)


def source() -> Path:
    given = os.environ.get("KRM_SOPS_SOPS_SOURCE")
    modules = os.environ.get("GOMODCACHE") or f"{os.environ.get('GOPATH') or Path.home() / 'go'}/pkg/mod"
    folder = Path(given or f"{modules}/github.com/getsops/sops/v3@{VERSION}")
    if not (folder / "functional-tests").is_dir():
        pytest.skip(f"the sources of sops {VERSION} are not there: go install github.com/getsops/sops/v3/cmd/sops")
    return folder


@pytest.fixture(scope="module")
def suite() -> Path:
    """The tests, built, in a folder to run them in."""
    for program in ("cargo", "gpg"):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / f"krm-sops-tests/sops-{VERSION}"
    if not cache.is_dir():
        shutil.copytree(source() / "functional-tests", cache, copy_function=shutil.copyfile)
    argv = ("cargo", "test", "--no-run", "--message-format", "json")
    for folder in (cache, *cache.rglob("*")):  # the module cache is read-only
        folder.chmod(0o755 if folder.is_dir() or os.access(folder, os.X_OK) else 0o644)
    built = subprocess.run(argv, cwd=cache, env={**os.environ, "PATH": PATH}, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"cargo cannot build them: {built.stderr[-300:]}")
    made = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    (program,) = {one["executable"] for one in made if one.get("executable") and one["target"]["kind"] == ["lib"]}
    shutil.copy(program, cache / "tests")
    return cache


class Vault:
    """A server in memory with both versions of the key-value store, where the suite's `.sops.yaml` wants them."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("vault", path=PATH) or shutil.which("bao", path=PATH)
        self.env: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        if program is None:
            return
        address = f"127.0.0.1:{closed_port()}"
        self.process = subprocess.Popen(
            [
                program,
                "server",
                "-dev",
                "-dev-no-store-token",
                "-dev-root-token-id=root",
                f"-dev-listen-address={address}",
            ],
            env={"PATH": PATH, "HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.env = {"VAULT_ADDR": f"http://{address}", "VAULT_TOKEN": "root"}
        for _ in range(300):
            try:
                self._ask("sys/health")
                break
            except URLError:
                time.sleep(0.1)
        mounts = self._ask("sys/mounts")["data"]
        for mount, version in (("kv", "1"), ("secret", "2")):
            if f"{mount}/" not in mounts:
                self._ask(f"sys/mounts/{mount}", {"type": "kv", "options": {"version": version}})

    def _ask(self, path: str, fields: object = None) -> dict[str, dict[str, object]]:
        body = json.dumps(fields).encode() if fields else None
        request = Request(f"{self.env['VAULT_ADDR']}/v1/{path}", body, {"X-Vault-Token": "root"})
        with urlopen(request) as answer:
            return json.loads(answer.read() or b"{}")

    def holds(self, path: str) -> object:
        return self._ask(path)["data"]


def started(suite: Path, folder: Path, more: dict[str, str], *argv: str) -> str:
    """What the suite says when it is run in a folder of its own, with our program as sops."""
    work = folder / "suite"
    work.mkdir()
    for name in (".sops.yaml", "res"):
        (work / name).symlink_to(suite / name)
    link(work, "sops")
    keys = folder / "gnupg"
    keys.mkdir(mode=0o700)
    env = {"PATH": PATH, "HOME": str(folder), "GNUPGHOME": str(keys), "TMPDIR": str(folder), **more}
    private = source() / "pgp/sops_functional_tests_key.asc"
    subprocess.run(["gpg", "--batch", "--import", private], env=env, check=True, capture_output=True)
    done = subprocess.run([suite / "tests", *argv], cwd=work, env=env, capture_output=True, text=True, timeout=600)
    return done.stdout


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def test_sops_own_functional_tests(
    suite: Path, vault: Vault, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = started(suite, tmp_path, vault.env, "--test-threads", "2")
    found = dict(LINE.findall(said))
    passed = {name for name, outcome in found.items() if outcome == "ok"}
    with capsys.disabled():
        print(f"\nsops' functional tests: {len(passed)} of {len(found)} passed")
    assert len(found) == 41
    assert {name for name, outcome in found.items() if outcome == "ignored"} == NEEDS_AWS
    expected = set(found) - NEEDS_AWS - (set() if vault.env else NEEDS_VAULT)
    assert expected - passed == set(), said[-3000:]
    if vault.env:
        values = {"foo": 2, "bar": "baz"}
        assert vault.holds("kv/functional-test-version-1/test_encrypt_publish_vault_version_1.json") == values
        there = vault.holds("secret/data/functional-test/test_encrypt_publish_vault.json")
        assert isinstance(there, dict)
        assert there["data"] == values


def test_those_that_need_aws_with_moto_as_aws(suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """sops' own test does not look into the bucket; here somebody does."""
    from tests.interop.test_aws_moto import KEYS, Moto

    moto = Moto()
    try:
        bucket = moto.client("s3", "us-east-1")
        bucket.create_bucket(Bucket="sops-publish-functional-tests")
        arn = moto.client("kms").create_key()["KeyMetadata"]["Arn"]
        env = {**KEYS, "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": moto.url, "FUNCTIONAL_TEST_KMS_ARN": arn}
        said = started(suite, tmp_path, env, "--ignored")
        passed = {name for name, outcome in LINE.findall(said) if outcome == "ok"}
        with capsys.disabled():
            print(f"\nsops' functional tests that need AWS: {len(passed)} of {len(NEEDS_AWS)} passed")
        assert passed == NEEDS_AWS, said[-3000:]
        name = "functional-test/test_encrypt_publish_s3.json"
        there = bucket.get_object(Bucket="sops-publish-functional-tests", Key=name)["Body"].read()
        assert b"sops" in there
        assert b"baz" not in there
    finally:
        moto.stop()
