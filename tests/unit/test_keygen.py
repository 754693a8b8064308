"""``krm-sops keygen``: identity files as age-keygen makes them, and recipients of keys that are there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from krm_sops.age.ssh_ed25519 import age_recipient
from tests import agefile

ROOT = Path(__file__).resolve().parent.parent.parent
SSH = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SSH_PRIVATE = SSH.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
SSH_PUBLIC = SSH.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
SSH_RECIPIENT = age_recipient(SSH.public_key().public_bytes_raw())


def keygen(*arguments: str, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "krm_sops", "keygen", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_identity_file_says_when_it_was_made_and_whose_it_is(tmp_path):
    done = keygen(cwd=tmp_path)
    created, public, secret = done.stdout.splitlines()
    assert re.fullmatch(r"# created: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", created)
    assert re.fullmatch(r"AGE-SECRET-KEY-1[0-9A-Z]{58}", secret)
    recipient = agefile.recipient_of(secret)
    assert public == f"# public key: {recipient}"
    assert done.stderr == f"krm-sops: Public key: {recipient}\n"
    assert keygen(cwd=tmp_path).stdout.splitlines()[2] != secret


def test_a_file_is_for_its_owner_only_and_never_overwritten(tmp_path):
    done = keygen("-o", "key.txt", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    path = tmp_path / "key.txt"
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    again = keygen("-o", "key.txt", cwd=tmp_path)
    assert again.returncode == 3
    assert "is there already" in again.stderr
    assert "public key" not in again.stderr.lower()  # nobody has the private one
    assert path.read_text() == before


def test_a_link_is_not_followed(tmp_path):
    """S30."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert keygen("-o", "link", cwd=tmp_path).returncode == 3
    assert not (tmp_path / "elsewhere").exists()


def test_recipients_of_an_identity_file_are_told_from_a_file_and_from_stdin(tmp_path):
    (tmp_path / "key.txt").write_text(f"# mine\n{agefile.IDENTITY}\n{agefile.OTHER_IDENTITY}\n")
    wanted = "".join(f"{agefile.recipient_of(one)}\n" for one in (agefile.IDENTITY, agefile.OTHER_IDENTITY))
    assert keygen("-y", "key.txt", cwd=tmp_path).stdout == wanted
    assert keygen("-y", cwd=tmp_path, given=(tmp_path / "key.txt").read_text()).stdout == wanted
    keygen("-y", "-o", "recipients.txt", "key.txt", cwd=tmp_path)
    assert (tmp_path / "recipients.txt").read_text() == wanted


@pytest.mark.parametrize("given", [SSH_PRIVATE, SSH_PUBLIC, f"{SSH_PUBLIC} me@host\n", f"# x\nhost {SSH_PUBLIC}\n"])
def test_ssh_keys_have_a_recipient_whether_private_public_or_scanned(tmp_path, given):
    assert keygen("-y", cwd=tmp_path, given=given).stdout == f"{SSH_RECIPIENT}\n"


def test_an_ssh_key_becomes_the_identity_of_its_recipient(tmp_path):
    (tmp_path / "id_ed25519").write_text(SSH_PRIVATE)
    done = keygen("--from-ssh", "id_ed25519", cwd=tmp_path)
    assert agefile.recipient_of(done.stdout.splitlines()[2]) == SSH_RECIPIENT


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["extra"], "too many arguments"),
        (["-y", "a", "b"], "too many arguments"),
        (["-y", "--pq"], "only one of"),
        (["--from-ssh", "rsa"], "no Ed25519 SSH private key"),
        (["-y", "rsa"], "cannot be told"),
        (["-y", "broken"], "line 1"),
        (["-y", "absent"], "non-existent"),
        (["-o", "no/folder"], "cannot write no/folder"),
    ],
)
def test_what_cannot_be_is_refused_and_no_key_is_quoted(tmp_path, arguments, text):
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (tmp_path / "rsa").write_bytes(rsa)
    (tmp_path / "broken").write_text(agefile.IDENTITY[:-4] + "\n")
    done = keygen(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert text in done.stderr
    assert agefile.IDENTITY[16:40] not in done.stderr
