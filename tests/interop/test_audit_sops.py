"""keygen, init and audit with the real age, sops and git: keys that age reads, files that sops opens, and a history of
what sops encrypted, in which a recipient came and went.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS, AGE, AGE_KEYGEN, GIT = (shutil.which(name, path=PATH) for name in ("sops", "age", "age-keygen", "git"))
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(None in (SOPS, AGE, AGE_KEYGEN, GIT), reason="sops, age or git is not installed")


class World:
    """A repository, and the keys of Alice and Bob; Alice's are at hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = folder / "repo"
        self.repo.mkdir()
        self.env = {"PATH": PATH, "HOME": str(folder), "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"}
        self.env |= {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.run("git", "init", "-q", "-b", "main", ".")
        self.keys = {name: self.key(name) for name in ("alice", "bob")}
        self.env["SOPS_AGE_KEY_FILE"] = str(folder / "alice.txt")

    def key(self, name: str) -> str:
        path = self.folder / f"{name}.txt"
        self.krm_sops("keygen", "-o", str(path))
        return self.run("age-keygen", "-y", str(path)).strip()

    def run(self, *argv: str, given: str | None = None, status: int = 0) -> str:
        done = subprocess.run(
            argv, cwd=self.repo, env=self.env, input=given, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == status, done.stderr
        return done.stdout

    def krm_sops(self, *arguments: str, status: int = 0) -> str:
        return self.run(sys.executable, "-m", "krm_sops", *arguments, status=status)

    def audit(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.krm_sops("audit", "--format", "json", *arguments, status=status))

    def rules(self, *names: str) -> None:
        lines = "".join(f"    - {self.keys[name]}  # {name}\n" for name in names)
        text = f"creation_rules:\n- encrypted_regex: ^stringData$\n  key_groups:\n  - age:\n{lines}"
        (self.repo / ".sops.yaml").write_text(text)

    def commit(self, text: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", text)

    def encrypt(self, name: str, **values: str) -> None:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": values}
        (self.repo / name).write_text(json.dumps(body))
        self.run("sops", "encrypt", "-i", name)

    def sops_set(self, name: str, key: str, value: str) -> None:
        self.run("sops", "set", name, f'["stringData"]["{key}"]', json.dumps(value))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("flags", [(), ("--pq",)])
def test_age_opens_what_is_for_a_key_of_keygen(world, flags):
    path = world.folder / "key.txt"
    world.krm_sops("keygen", *flags, "-o", str(path))
    recipient = world.krm_sops("keygen", "-y", str(path))
    assert recipient == world.run("age-keygen", "-y", str(path))
    (world.repo / "plain").write_text("hello")
    world.run("age", "-r", recipient.strip(), "-o", "cipher", "plain")
    assert world.run("age", "-d", "-i", str(path), "cipher") == "hello"


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_age_opens_with_the_identity_of_an_ssh_key(world):
    world.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "id")
    (world.repo / "id.txt").write_text(world.krm_sops("keygen", "--from-ssh", "id"))
    recipient = world.krm_sops("keygen", "-y", "id.pub").strip()
    assert recipient == world.run("age-keygen", "-y", "id.txt").strip()
    (world.repo / "plain").write_text("hello")
    world.run("age", "-r", recipient, "-o", "cipher", "plain")
    assert world.run("age", "-d", "-i", "id.txt", "cipher") == "hello"


def test_sops_opens_the_example_of_init_and_goes_on_by_its_rule(world):
    world.krm_sops("init", ".")
    assert "replace-me" in world.run("sops", "decrypt", "secret.enc.yaml")
    world.encrypt("db.enc.yaml", password="secret")
    text = (world.repo / "db.enc.yaml").read_text()
    assert "mac_only_encrypted: true" in text
    assert "name: x" in text
    world.krm_sops("check", "--strict")
    found = world.audit("--fail-on", "drift,uncovered,weak")
    assert [one["file"] for one in found["documents"]] == ["db.enc.yaml", "secret.enc.yaml"]
    assert found["findings"] == []


@pytest.mark.parametrize("name", ["a.yaml", "a.json", "a.env", "a.ini", "a.txt"])
def test_files_of_sops_in_every_format_are_seen_with_their_macs(world, name):
    world.rules("alice", "bob")
    text = {"a.json": '{"a": "b"}', "a.yaml": "# c\na: b\nl: [1, 2]\n", "a.ini": "[s]\na = b\n", "a.env": "A=b\n"}
    (world.repo / ".sops.yaml").write_text((world.repo / ".sops.yaml").read_text().replace("^stringData$", "."))
    (world.repo / name).write_text(text.get(name, "hello"))
    world.run("sops", "encrypt", "-i", name)
    found = world.audit("--mac")
    assert found["findings"] == []
    assert [(one["file"], one["mac"]) for one in found["documents"]] == [(name, "holds")]
    groups = found["documents"][0]["keyGroups"]
    assert [[key["name"] for key in group] for group in groups] == [["alice", "bob"]]
    mac = {**world.env}
    world.env["SOPS_AGE_KEY_FILE"] = str(world.folder / "nobody.txt")
    world.krm_sops("keygen", "-o", world.env["SOPS_AGE_KEY_FILE"])
    assert world.audit("--mac", "--fail-on", "mac")["documents"][0]["mac"] == "unknown"
    world.env = mac


def test_a_documents_of_several_is_one_document(world):
    world.rules("alice")
    (world.repo / "two.yaml").write_text("stringData: {a: b}\n---\nstringData: {c: d}\n")
    world.run("sops", "encrypt", "-i", "two.yaml")
    assert [one["mac"] for one in world.audit("--mac")["documents"]] == ["holds"]
    found = world.audit("--recipient", "alice")
    assert [one["path"] for one in found["values"]["alice"]] == ["stringData.a", "stringData.c"]


def test_sops_updatekeys_would_change_what_audit_calls_drift(world):
    world.rules("alice")
    world.encrypt("a.yaml", a="1")
    world.encrypt("b.yaml", a="1")
    world.rules("alice", "bob")
    world.run("sops", "updatekeys", "-y", "a.yaml")
    found = world.audit("--fail-on", "drift", status=1)
    assert [(one["kind"], one["file"]) for one in found["findings"]] == [("drift", "b.yaml")]
    assert world.keys["bob"] in found["findings"][0]["message"]
    world.run("sops", "updatekeys", "-y", "b.yaml")
    assert world.audit("--fail-on", "drift")["findings"] == []


def test_history_tells_every_value_that_a_former_recipient_could_open(world):
    """Bob leaves; the data key stays until it is rotated, and so long he can open what is written."""
    world.rules("alice")
    world.encrypt("db.yaml", before="1")
    world.encrypt("other.yaml", never="1")
    world.commit("before Bob")
    world.rules("alice", "bob")
    world.run("sops", "updatekeys", "-y", "db.yaml")
    world.commit("Bob comes")
    world.sops_set("db.yaml", "during", "2")
    world.commit("a value while Bob is there")
    world.rules("alice")
    world.run("sops", "updatekeys", "-y", "db.yaml")
    world.commit("Bob goes, by updatekeys alone")
    world.sops_set("db.yaml", "after", "3")
    world.commit("a value that is written with the data key that Bob has")
    world.run("sops", "rotate", "-i", "db.yaml")
    world.commit("rotated")
    world.sops_set("db.yaml", "safe", "4")
    world.commit("a value that Bob cannot open")

    assert world.audit("--recipient", "bob")["values"]["bob"] == []
    rows = world.audit("--recipient", "bob", "--history")["values"]["bob"]
    assert {(row["file"], row["path"], row["byDataKey"]) for row in rows} == {
        ("db.yaml", "stringData.before", False),
        ("db.yaml", "stringData.during", False),
        ("db.yaml", "stringData.after", True),
    }
    assert not any(row["isThere"] for row in rows)
    commits = world.run("git", "log", "--format=%H", "--reverse").split()
    assert {row["path"].rpartition(".")[2]: commits.index(row["commit"]) for row in rows} == {
        "before": 0,  # with the data key of which Bob was a recipient later
        "during": 2,
        "after": 4,
    }
    by_key = world.audit("--recipient", world.keys["bob"], "--history")["values"]
    assert list(by_key.values()) == [rows]
    mine = world.audit("--recipient", "alice", "--history")["values"]["alice"]
    assert {row["path"] for row in mine if row["isThere"]} == {
        f"stringData.{key}" for key in ("before", "during", "after", "safe", "never")
    }


def test_history_reaches_other_branches_stashes_and_what_the_reflog_knows(world):
    world.rules("alice", "bob")
    world.commit("rules")
    for where in ("branch", "stash", "dropped"):
        if where == "branch":
            world.run("git", "checkout", "-qb", "side")
        world.encrypt(f"{where}.yaml", a="1")
        if where == "stash":
            world.run("git", "add", "-A")
            world.run("git", "stash", "-q")
        else:
            world.commit(where)
        if where == "branch":
            world.run("git", "checkout", "-q", "main")
        if where == "dropped":
            world.run("git", "reset", "-q", "--hard", "HEAD~1")
    rows = world.audit("--recipient", "bob", "--history")["values"]["bob"]
    assert {row["file"] for row in rows} == {"branch.yaml", "stash.yaml", "dropped.yaml"}


def test_a_shallow_clone_is_told(world):
    world.rules("alice")
    world.encrypt("a.yaml", a="1")
    world.commit("one")
    (world.repo / "x").write_text("x")
    world.commit("two")
    world.run("git", "clone", "-q", "--depth", "1", f"file://{world.repo}", str(world.folder / "clone"))
    world.repo = world.folder / "clone"
    argv = [sys.executable, "-m", "krm_sops", "audit", "--recipient", "alice", "--history"]
    done = subprocess.run(argv, cwd=world.repo, env=world.env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert "shallow clone" in done.stderr
