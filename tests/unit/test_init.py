"""``krm-sops init``: what it writes, where the key goes, and what it never touches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import agefile

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPIENT = agefile.recipient_of(agefile.IDENTITY)
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 me: # 'x'"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def repo(home: Path) -> Path:
    return home.parent / "repo"


def program(*arguments: str, cwd: Path, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "krm_sops", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_it_makes_passes_the_gate_and_opens_with_the_key_it_made(repo, home):
    done = program("init", cwd=repo, home=home)
    assert (done.returncode, done.stderr) == (0, "")
    key = home / ".config/sops/age/keys.txt"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert str(key) in done.stdout
    assert done.stdout.splitlines()[-1] == "next: krm-sops decrypt secret.enc.yaml"
    assert "AGE-SECRET" not in done.stdout
    assert sorted(os.listdir(repo)) == [".git", ".sops.yaml", "secret.enc.yaml"]
    assert program("check", "--strict", cwd=repo, home=home).returncode == 0
    opened = yaml.safe_load(program("decrypt", "secret.enc.yaml", cwd=repo, home=home).stdout)
    assert opened["stringData"] == {"user": "example", "password": "replace-me"}
    block = yaml.safe_load((repo / "secret.enc.yaml").read_text())["sops"]
    assert block["mac_only_encrypted"] is True
    assert block["encrypted_regex"] == "^(data|stringData)$"


def test_the_rule_is_for_secrets_anywhere_below_and_for_nothing_else(repo, home):
    program("init", "--age", RECIPIENT, cwd=repo, home=home)
    (repo / "apps").mkdir()
    for name, status in (("db.enc.yaml", 0), ("db.enc.yml", 0), ("db.yaml", 1)):
        path = repo / "apps" / name
        path.write_text("kind: Secret\nstringData: {a: b}\n")
        assert program("encrypt", "-i", f"apps/{name}", cwd=repo, home=home).returncode == status


def test_nothing_is_overwritten_and_nothing_is_left_half_done(repo, home):
    for name in (".sops.yaml", "secret.enc.yaml"):
        (repo / name).write_text("mine")
        done = program("init", cwd=repo, home=home)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"{name} is there already" in done.stderr
        assert (repo / name).read_text() == "mine"
        assert os.listdir(home) == []
        (repo / name).unlink()


def test_the_key_that_sops_would_use_is_used(repo, home):
    key = home / "key.txt"
    key.write_text(agefile.IDENTITY + "\n")
    done = program("init", cwd=repo, home=home, SOPS_AGE_KEY_FILE=str(key))
    assert f"found the age key {RECIPIENT}" in done.stdout
    assert key.read_text() == agefile.IDENTITY + "\n"
    assert RECIPIENT in (repo / ".sops.yaml").read_text()


def test_of_several_keys_one_has_to_be_named(repo, home):
    key = home / "key.txt"
    key.write_text(f"{agefile.IDENTITY}\n{agefile.OTHER_IDENTITY}\n")
    done = program("init", cwd=repo, home=home, SOPS_AGE_KEY_FILE=str(key))
    assert done.returncode == 1
    assert "holds 2 keys" in done.stderr
    assert not (repo / ".sops.yaml").exists()


@pytest.mark.parametrize("recipients", [RECIPIENT, SSH, f"{RECIPIENT},{SSH}"])
def test_recipients_are_spelled_so_that_they_are_read_again(repo, home, recipients):
    assert program("init", "--age", recipients, cwd=repo, home=home).returncode == 0
    rule = yaml.safe_load((repo / ".sops.yaml").read_text())["creation_rules"][0]
    assert rule["key_groups"] == [{"age": recipients.split(",")}]
    block = yaml.safe_load((repo / "secret.enc.yaml").read_text())["sops"]
    assert [entry["recipient"] for entry in block["age"]] == recipients.split(",")


def test_a_key_is_never_made_in_the_repository(repo):
    """S30: nor through a link."""
    (repo / "inner").mkdir()
    outside = repo.parent / "link"
    outside.symlink_to(repo / "inner")
    for home in (repo, outside):
        done = program("init", cwd=repo, home=home)
        assert done.returncode == 1
        assert "would be in the repository" in done.stderr
    assert sorted(os.listdir(repo)) == [".git", "inner"]
    assert os.listdir(repo / "inner") == []


def test_variables_of_sops_do_not_change_for_whom_it_encrypts(repo, home):
    other = agefile.recipient_of(agefile.OTHER_IDENTITY)
    program("init", "--age", RECIPIENT, cwd=repo, home=home, SOPS_AGE_RECIPIENTS=other, SOPS_CONFIG="/nowhere")
    block = yaml.safe_load((repo / "secret.enc.yaml").read_text())["sops"]
    assert [entry["recipient"] for entry in block["age"]] == [RECIPIENT]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [(["absent"], 2, "there is no folder"), (["a", "b"], 1, "one folder"), (["--age", "age1x"], 1, "age")],
)
def test_what_cannot_be_is_refused(repo, home, arguments, status, text):
    done = program("init", *arguments, cwd=repo, home=home)
    assert (done.returncode, done.stdout) == (status, "")
    assert text in done.stderr
    assert os.listdir(repo) == [".git"]
