"""Audits of hostile trees and hostile repositories: nothing of them runs, no name of theirs acts (S15, S31, S33)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.security import made

ROOT = Path(__file__).resolve().parents[2]
GIT = shutil.which("git")
GOOD = made.yaml(made.encrypted())
NAMES = ["\x1b[31m.yaml", "a\n::add-mask::x.yaml", "\u202egpj.yaml", "--output=x.yaml", ":(top)x.yaml", "\udcff.yaml"]
needs_git = pytest.mark.skipif(GIT is None, reason="git is not installed")


def environment(home: Path, **more: str) -> dict[str, str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {**env, **more}


def audit(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "krm_sops", "audit", *arguments]
    return subprocess.run(argv, cwd=cwd, env=environment(cwd.parent, **env), capture_output=True, timeout=60)


def rows(cwd: Path, **env: str) -> Any:
    done = audit("--format", "json", "--recipient", made.RECIPIENT, "--history", cwd=cwd, **env)
    assert done.returncode == 0, done.stderr
    return next(iter(json.loads(done.stdout)["values"].values()))


def git(*arguments: str, cwd: Path) -> None:
    subprocess.run([GIT or "", *arguments], cwd=cwd, env=environment(cwd.parent), check=True, timeout=60)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    git("init", "-q", "-b", "main", ".", cwd=path)
    return path


def commit(repo: Path) -> None:
    git("add", "-A", cwd=repo)
    git("commit", "-qm", "x", cwd=repo)


def is_harmless(output: bytes) -> bool:
    text = output.decode()
    lines = [line.removeprefix("krm-sops: ") for line in text.splitlines()]
    return all(line.isprintable() for line in lines) and not any(line.startswith("::") for line in lines)


@needs_git
def test_names_of_files_are_escaped_in_every_report(repo):
    """S33."""
    for name in NAMES:
        (repo / name).write_text(GOOD)
    commit(repo)
    for arguments in ([], ["--recipient", made.RECIPIENT], ["--recipient", made.RECIPIENT, "--history"]):
        for form in ("text", "json"):
            done = audit("--format", form, *arguments, cwd=repo)
            assert done.returncode == 0, done.stderr
            assert is_harmless(done.stdout + done.stderr)
    assert len({row["file"] for row in rows(repo)}) == len(NAMES)


def test_recipients_names_and_paths_of_values_are_escaped(tmp_path):
    """S33: what stands in the sops block, in .sops.yaml and in keys is foreign text."""
    hostile = "\x1b[2J\n::error::x\u202e"
    block = made.encrypted({"data": {hostile: "x"}}, age=[{"recipient": hostile, "enc": "x"}])
    (tmp_path / "a.json").write_text(json.dumps(block))
    (tmp_path / "b.yaml").write_text(GOOD)
    (tmp_path / ".git").mkdir()
    comment = "\x1b[2J\u202e::x"
    rules = f"creation_rules:\n- path_regex: '\x1b'\n  age:\n  - {made.RECIPIENT} # {comment}\n"
    for text in (rules.replace("\x1b", "x"), rules):
        (tmp_path / ".sops.yaml").write_text(text)
        for arguments in ([], ["--recipient", hostile], ["--recipient", made.RECIPIENT]):
            for form in ("text", "json"):
                done = audit("--format", form, *arguments, cwd=tmp_path)
                assert done.returncode == 0, done.stderr
                assert is_harmless(done.stdout + done.stderr)


@needs_git
def test_nothing_of_a_repository_runs(repo):
    """S15, S31: hooks, filters, textconv, an external diff, fsmonitor, a pager, a signature's program, a submodule."""
    marker = repo.parent / "marker"
    program = repo / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    program.chmod(0o755)
    (repo / "a.yaml").write_text(GOOD)
    (repo / ".gitattributes").write_text("* filter=x diff=x\n")
    (repo / ".gitmodules").write_text(f'[submodule "m"]\n\tpath = m\n\turl = ext::{program}\n\tupdate = !{program}\n')
    commit(repo)
    settings = {
        "core.fsmonitor": program,
        "core.hooksPath": repo / "hooks",
        "core.pager": program,
        "core.sshCommand": program,
        "core.askPass": program,
        "core.editor": program,
        "diff.external": program,
        "diff.x.textconv": program,
        "diff.x.command": program,
        "filter.x.smudge": program,
        "filter.x.clean": program,
        "filter.x.process": program,
        "gpg.program": program,
        "log.showSignature": "true",
        "alias.cat-file": f"!{program}",
        "alias.rev-list": f"!{program}",
        "pager.rev-list": program,
        "pager.diff-tree": program,
        "credential.helper": f"!{program}",
        "diff.submodule": "log",
        "protocol.ext.allow": "always",
    }
    for name, value in settings.items():
        git("config", name, str(value), cwd=repo)
    (repo / "hooks").mkdir()
    for hook in ("post-checkout", "fsmonitor-watchman", "reference-transaction", "post-index-change"):
        shutil.copy(program, repo / "hooks" / hook)
    assert {row["file"] for row in rows(repo)} == {"a.yaml"}
    assert not marker.exists()


@needs_git
def test_variables_of_git_do_not_lead_it_elsewhere(repo, tmp_path):
    """S31."""
    (repo / "a.yaml").write_text(GOOD)
    commit(repo)
    other = tmp_path / "other"
    other.mkdir()
    git("init", "-q", ".", cwd=other)
    (other / "b.yaml").write_text(GOOD)
    commit(other)
    trace = tmp_path / "trace"
    found = rows(
        repo,
        GIT_DIR=str(other / ".git"),
        GIT_WORK_TREE=str(other),
        GIT_OBJECT_DIRECTORY=str(other / ".git/objects"),
        GIT_TRACE=str(trace),
        GIT_EXTERNAL_DIFF=f"touch {trace}",
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0="core.worktree",
        GIT_CONFIG_VALUE_0="/",
    )
    assert {row["file"] for row in found} == {"a.yaml"}
    assert not trace.exists()


@needs_git
@pytest.mark.parametrize("wanted", ["--output=x", "--all", "-h", "@{upstream}", "x\n--output=y"])
def test_what_is_asked_for_is_no_argument_of_git(repo, wanted):
    """S31."""
    (repo / "a.yaml").write_text(GOOD)
    commit(repo)
    before = sorted(os.listdir(repo))
    done = audit(f"--recipient={wanted}", "--history", cwd=repo)
    assert done.returncode == 0
    assert b"0 values in 0 files" in done.stdout
    assert sorted(os.listdir(repo)) == before


@needs_git
def test_replaced_objects_hide_nothing(repo):
    """S31: refs/replace would show another file in the place of the one that was committed."""
    (repo / "a.yaml").write_text(GOOD)
    commit(repo)
    (repo / "empty").write_text("")
    commit(repo)
    ids = [
        subprocess.run(
            [GIT or "", "rev-parse", f"HEAD:{name}"], cwd=repo, env=environment(repo), capture_output=True, check=True
        ).stdout.strip()
        for name in ("a.yaml", "empty")
    ]
    git("replace", *(one.decode() for one in ids), cwd=repo)
    assert {row["file"] for row in rows(repo)} == {"a.yaml"}


def test_links_are_not_followed_out_of_the_tree(tmp_path):
    """S2."""
    tree = tmp_path / "tree"
    (tree / ".git").mkdir(parents=True)
    (tmp_path / "secret.yaml").write_text(GOOD)
    (tree / "link.yaml").symlink_to("../secret.yaml")
    (tree / ".sops.yaml").symlink_to("/etc/hostname")
    assert b"no encrypted document" in audit(cwd=tree).stdout
    done = audit("--format", "json", "link.yaml", cwd=tree)
    found = json.loads(done.stdout)
    assert found["documents"] == []
    assert "leads out" in found["findings"][0]["message"]


def test_a_copied_mac_hides_no_document(tmp_path):
    """Two blocks with one MAC are one document only where sops would read them so: both are told, with their keys."""
    other = made.encrypted(age=[{"recipient": "age1mallory", "enc": "x"}])
    (tmp_path / "two.yaml").write_text(f"{GOOD}---\n{made.yaml(other)}")
    found = json.loads(audit("--format", "json", cwd=tmp_path).stdout)
    assert {one["recipient"] for one in found["recipients"]} == {made.RECIPIENT, "age1mallory"}
