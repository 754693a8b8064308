"""Creation rules and flags for keys of clouds: the real sops and krm-sops ask a key service, which wraps for all types.

Both must write the same metadata, and have asked the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("h2", reason="h2 is not installed")
from tests.interop.fakes.keyservice import Asked, FakeKeyService, plaintext

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(SOPS is None, reason="sops is not installed")

AGE = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqr2a"
ARN = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-00000000000"
ROLE = "arn:aws:iam::123456789012:role/x"
GCP = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
AZURE = "https://name.vault.azure.net/keys/key/0123456789abcdef"
VAULT = "https://vault.example.com:8200/v1/transit/keys/dev"
HUAWEI = "eu-west-101:00000000-0000-0000-0000-000000000000"


def rule(text: str) -> str:
    return "creation_rules:\n  - " + text.strip().replace("\n", "\n    ")


RULES = {
    "strings": rule(
        f"kms: {ARN}\ngcp_kms: {GCP}\nazure_keyvault: {AZURE}\n"
        f"hc_vault_transit_uri: {VAULT}\nhckms: [{HUAWEI}]\npgp: {'A' * 40}"
    ),
    "lists": rule(
        f"kms: [{ARN}1, {ARN}2]\ngcp_kms: [{GCP}, {GCP}2]\nazure_keyvault: [{AZURE}, {AZURE}0]\n"
        f"hc_vault_transit_uri: [{VAULT}, {VAULT}2]\nhckms: [{HUAWEI}, {HUAWEI}1]\npgp: [{'A' * 40}, 'AB CD']"
    ),
    "comma lists": rule(
        f"kms: '{ARN}1, {ARN}2'\ngcp_kms: '{GCP},{GCP}2,'\nazure_keyvault: '{AZURE} , {AZURE}0'\n"
        f"hc_vault_transit_uri: '{VAULT}, {VAULT}2'\nhckms: ['{HUAWEI}, {HUAWEI}1,']"
    ),
    "roles and a profile": rule(f"kms: '{ARN}+{ROLE}, {ARN}2'\naws_profile: deploy"),
    "a profile that is a number": rule(f"kms: {ARN}\naws_profile: 0123"),
    "other engines": rule("hc_vault_transit_uri: ['https://v/v1/a/b/c/keys/k', 'http://127.0.0.1:8200/v2/x/y/z/']"),
    "groups": rule(
        f"""key_groups:
- kms: [{{arn: '{ARN}', role: '{ROLE}', context: {{b: x, a: 012, c: true}}, aws_profile: p}}, {{arn: '{ARN}'}}]
  gcp_kms: [{{resource_id: '{GCP}'}}, {{resource_id: '{GCP}', other: x}}]
  hckms: [{{key_id: '{HUAWEI}'}}]
  azure_keyvault: [{{vaultUrl: 'https://x.vault.azure.net', key: k, version: v}}]
  hc_vault: ['{VAULT}']
- pgp: [{"A" * 40}, '{"A" * 39} A', 'a!']
  kms: [{{arn: ' {ARN}+{ROLE}'}}]
- merge:
  - kms: [{{arn: '{ARN}', context: {{a: b}}}}]
  - kms: [{{arn: '{ARN}', context: {{a: b}}}}, {{arn: '{ARN}', context: {{a: c}}}}, {{arn: '{ARN}', aws_profile: q}}]
  gcp_kms: [~, {{resource_id: '{GCP}'}}]
shamir_threshold: 2"""
    ),
    "an alias in a group": f"x: &k {{arn: '{ARN}', context: {{a: b}}}}\n"
    + rule("key_groups: [{kms: [*k, {<<: *k, role: r}]}]"),
}
FLAGS = [
    ["--kms", f"{ARN}1,{ARN}2+{ROLE}", "--aws-profile", "p", "--encryption-context", "b:x,a:y"],
    ["-k", f" {ARN}1 , {ARN}2"],
    ["--gcp-kms", f"{GCP}, {GCP}2", "--hckms", f"{HUAWEI},,{HUAWEI}1"],
    ["--azure-kv", f"{AZURE}, {AZURE}0", "--hc-vault-transit", f"{VAULT},,{VAULT}2"],
    ["--pgp", "A, B C", "--kms", ARN],
]
VARIABLES = {
    "SOPS_KMS_ARN": ARN,
    "SOPS_GCP_KMS_IDS": GCP,
    "SOPS_AZURE_KEYVAULT_URLS": AZURE,
    "SOPS_VAULT_URIS": VAULT,
    "SOPS_HUAWEICLOUD_KMS_IDS": HUAWEI,
    "SOPS_PGP_FP": "A" * 40,
}


@pytest.fixture(scope="module")
def service() -> Iterator[FakeKeyService]:
    with FakeKeyService(lambda _: plaintext(b"wrapped")) as made:
        yield made


def asked(service: FakeKeyService) -> list[tuple[str, bytes]]:
    """Which keys, without the data key: in any order, as sops' own group order is another one."""
    found = sorted((call.path, _key(call)) for call in service.asked)
    service.asked.clear()
    return found


def _key(call: Asked) -> bytes:
    length, at, shift = 0, 1, 0
    while True:
        length |= (call.message[at] & 127) << shift
        at += 1
        shift += 7
        if call.message[at - 1] < 128:
            return bytes(sorted(call.message[at : at + length]))  # an encryption context has no order


def same(service: FakeKeyService, folder: Path, config: str, arguments: list[str], **env: str) -> str:
    (folder / "a.yaml").write_text("a: b\n")
    if config:
        (folder / ".sops.yaml").write_text(config)
    words = ["--enable-local-keyservice=false", f"--keyservice={service.address}", *arguments, "a.yaml"]
    environment = {"PATH": PATH, "HOME": str(folder), "PYTHONPATH": str(ROOT), **env}
    texts, calls = [], []
    for argv in ([str(SOPS), "encrypt", *words], [sys.executable, "-m", "krm_sops", "encrypt", *words]):
        done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        text = re.sub(r"ENC\[AES256_GCM,data:[^,]*,iv:[^,]*,tag:[^,]*,", "ENC[", done.stdout)
        texts.append(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text))
        calls.append(asked(service))
    assert texts[0] == texts[1]
    assert calls[0] == calls[1]
    return texts[0]


@pytest.mark.parametrize("name", RULES)
def test_rules(service: FakeKeyService, tmp_path: Path, name: str) -> None:
    same(service, tmp_path, RULES[name], [])


@pytest.mark.parametrize("arguments", FLAGS, ids=lambda arguments: " ".join(arguments)[:60])
def test_flags(service: FakeKeyService, tmp_path: Path, arguments: list[str]) -> None:
    same(service, tmp_path, RULES["strings"], arguments)


def test_variables(service: FakeKeyService, tmp_path: Path) -> None:
    for name, value in VARIABLES.items():
        same(service, tmp_path, "", [], **{name: value})
    same(service, tmp_path, "", [], **VARIABLES)


def test_a_context_of_the_command_line_is_not_for_keys_of_rules(service: FakeKeyService, tmp_path: Path) -> None:
    assert "context" not in same(service, tmp_path, rule(f"kms: {ARN}"), ["--encryption-context=a:b"])


def test_a_key_without_a_version_is_refused(service: FakeKeyService, tmp_path: Path) -> None:
    """The service does not tell which one it took, and a newer one would not open the document. sops asks the vault."""
    (tmp_path / "a.yaml").write_text("a: b\n")
    key = AZURE.rpartition("/")[0]
    argv = ["--enable-local-keyservice=false", "--keyservice", service.address, "--azure-kv", key, "a.yaml"]
    environment = {"PATH": PATH, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "krm_sops", "encrypt", *argv]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "version" in done.stderr
