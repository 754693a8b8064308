"""The verb in a process of its own, without sops beside it; tests/interop compares both."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from krm_sops.age import keygen
from tests.agefile import IDENTITY, recipient_of
from tests.pgp_encoder import EcdhKey
from tests.unit.test_pgp_public import Owner

ROOT = Path(__file__).resolve().parents[2]
RECIPIENT = recipient_of(IDENTITY)
PLAIN = "# first\na: b\nc_unencrypted: d\n"


def run(folder: Path, *arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "krm_sops", *arguments],
        cwd=folder,
        input=given,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(PLAIN)
    (tmp_path / "keys.txt").write_text(IDENTITY + "\n")
    return tmp_path


@pytest.mark.parametrize("name", ["a.yaml", "a.json", "a.env", "a.ini", "a.bin"])
@pytest.mark.parametrize("wanted", [(), ("--output-type", "yaml"), ("--output-type", "json")])
def test_what_is_encrypted_is_decrypted_again(folder: Path, name: str, wanted: tuple[str, ...]) -> None:
    plain = {
        "a.yaml": PLAIN,
        "a.json": '{\n\t"a": "b"\n}\n',
        "a.env": "A=b\n# c\n",
        "a.ini": "[s]\na = b\n",
        "a.bin": "\0x",
    }
    (folder / name).write_text(plain[name])
    done = run(folder, "encrypt", "--age", RECIPIENT, *wanted, name)
    assert (done.returncode, done.stderr) == (0, "")
    kind = wanted[-1] if wanted else {"env": "dotenv", "bin": "binary"}.get(name[2:], name[2:])
    back = {"env": "dotenv", "bin": "binary"}.get(name[2:], name[2:])
    opened = run(
        folder, "decrypt", "--input-type", kind, "--output-type", back, "--key-file", "keys.txt", given=done.stdout
    )
    assert opened.returncode == 0, opened.stderr
    if not wanted or kind != "json":  # JSON has no comments
        assert opened.stdout.strip() == plain[name].strip()


def test_in_place_keeps_the_mode_and_writes_nothing_to_stdout(folder: Path) -> None:
    (folder / "a.yaml").chmod(0o600)
    done = run(folder, "encrypt", "--age", RECIPIENT, "-i", "a.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "a.yaml").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["a.yaml", "keys.txt"]
    again = run(folder, "encrypt", "--age", RECIPIENT, "-i", "a.yaml")
    assert again.returncode == 203
    assert "encrypted already" in again.stderr


def test_a_failed_run_leaves_the_file_as_it_was(folder: Path) -> None:
    (folder / ".sops.yaml").write_text(f"creation_rules: [{{age: {RECIPIENT}, pgp: {'F' * 40}}}]")
    done = run(folder, "encrypt", "-i", "a.yaml", SOPS_GPG_EXEC="/bin/false")
    assert done.returncode == 1
    assert "could not generate data key" in done.stderr
    assert "F" * 40 in done.stderr
    assert (folder / "a.yaml").read_text() == PLAIN


def test_a_private_key_given_as_a_recipient_is_not_repeated(folder: Path) -> None:
    for arguments in (["--age", IDENTITY], ["--pgp", IDENTITY], ["--hckms", IDENTITY], ["--azure-kv", IDENTITY]):
        done = run(folder, "encrypt", *arguments, "a.yaml", SOPS_GPG_EXEC="/bin/false")
        assert done.returncode == 1
        assert "1EGTZ" not in done.stderr
    (folder / ".sops.yaml").write_text(f"creation_rules: [{{age: {IDENTITY}}}]")
    done = run(folder, "encrypt", "a.yaml")
    assert done.returncode == 1
    assert "1EGTZ" not in done.stderr


def test_s22_patterns_that_do_not_compile_are_errors(folder: Path) -> None:
    for flag in ("encrypted-regex", "unencrypted-regex", "encrypted-comment-regex", "unencrypted-comment-regex"):
        for pattern in ("(", "(?=x)", "(a)\\1", "a" * 1001):
            done = run(folder, "encrypt", "--age", RECIPIENT, f"--{flag}", pattern, "a.yaml")
            assert (done.returncode, done.stdout) == (1, ""), flag
            assert "regex" in done.stderr


def test_a_binary_file_ignores_rules_of_selection_and_says_so(folder: Path) -> None:
    (folder / "x").write_text("text")
    (folder / ".sops.yaml").write_text(f"creation_rules: [{{age: {RECIPIENT}, encrypted_suffix: _x}}]")
    done = run(folder, "encrypt", "x")
    assert done.returncode == 0
    assert "warning: encrypted_suffix is ignored" in done.stderr
    found = json.loads(done.stdout)
    assert found["data"].startswith("ENC[")
    assert not [name for name in found["sops"] if "crypted" in name]


def test_what_was_masked_is_not_encrypted(folder: Path) -> None:
    masked = "kind: Secret\nmetadata: {annotations: {krm-sops.dev/masked: ''}}\nstringData: {a: '***'}\n"
    for content in (masked, f"a: b\n---\n{masked}"):
        (folder / "m.yaml").write_text(content)
        done = run(folder, "encrypt", "--age", RECIPIENT, "-i", "m.yaml")
        assert done.returncode == 1
        assert "krm-sops.dev/masked" in done.stderr
        assert (folder / "m.yaml").read_text() == content


def test_shares_open_with_as_many_groups_as_the_threshold_says(folder: Path) -> None:
    others = [keygen.generate() for _ in range(2)]
    groups = [f"{{age: [{recipient}]}}" for recipient in (RECIPIENT, *(recipient for recipient, _ in others))]
    (folder / ".sops.yaml").write_text(f"creation_rules: [{{shamir_threshold: 2, key_groups: [{', '.join(groups)}]}}]")
    document = run(folder, "encrypt", "a.yaml").stdout
    (folder / "enc.yaml").write_text(document)
    assert run(folder, "decrypt", "--key-file", "keys.txt", "enc.yaml").returncode == 128
    (folder / "other.txt").write_text(others[1][1])
    done = run(folder, "decrypt", "--key-file", "keys.txt", "--key-file", "other.txt", "enc.yaml")
    assert done.stdout == PLAIN


def test_a_public_key_file_serves_a_fingerprint(folder: Path) -> None:
    owner, secret = Owner(1_000_000_000), EcdhKey()
    ring = owner.primary() + owner.user(made=1_000_000_001) + owner.subkey(secret.head(), made=1_000_000_001)
    text = (
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
        + base64.encodebytes(ring).decode()
        + "-----END PGP PUBLIC KEY BLOCK-----\n"
    )
    (folder / "public.asc").write_text(text)
    (folder / "secret.asc").write_bytes(secret.armored())
    done = run(folder, "encrypt", "--pgp", owner.name, "--key-file", "public.asc", "a.yaml")
    assert done.returncode == 0, done.stderr
    (folder / "enc.yaml").write_text(done.stdout)
    assert run(folder, "decrypt", "--key-file", "secret.asc", "enc.yaml").stdout == PLAIN


def test_an_ssh_key_is_a_recipient(folder: Path) -> None:
    key = Ed25519PrivateKey.generate()
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " me@here"
    (folder / "id").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    done = run(folder, "encrypt", "--age", line, "a.yaml")
    (folder / "enc.yaml").write_text(done.stdout)
    assert f"recipient: {line}" in done.stdout
    assert run(folder, "decrypt", "--key-file", "id", "enc.yaml").stdout == PLAIN


def test_no_two_documents_share_a_data_key_or_an_iv(folder: Path) -> None:
    """S18: equal values of one document differ, and so do two runs."""
    (folder / "a.yaml").write_text("a: [same, same]\nb: same\n")
    texts = [run(folder, "encrypt", "--age", RECIPIENT, "a.yaml").stdout for _ in range(2)]
    found = [line for text in texts for line in text.split() if line.startswith("ENC[")]
    ivs = [part for line in found for part in line.split(",") if part.startswith("iv:")]
    assert len(set(ivs)) == len(ivs) == 8
    assert all(len(base64.b64decode(iv[3:])) == 32 for iv in ivs)
