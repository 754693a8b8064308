"""provision: nothing in clear on disk or in process arguments; programs get only what they need (S15, S33)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from krm_sops.functions import FUNCTIONS
from tests.security import made

ROOT = Path(__file__).resolve().parents[2]
SECRETS = [f"{name}-provisioned-secret-5521" for name in ("process", "script", "op", "plugin", "variable", "old")]
PRINTS = """#!{python} -IS
import sys
sys.stdin.read()
print("{name}-provisioned" + "-secret-" + str(5000 + 521), end="")
"""
SPEC = """
secrets:
  process: {type: process, value: {command: process}}
  script: {type: script, value: {content: 'printf "script-provisioned%s" "-secret-$((5000 + 521))"'}}
  op: {type: op-read, value: {uri: "op://v/i/f"}}
  plugin: {type: plugin, value: {command: plugin}}
  variable: {type: env, value: {name: SECRET}}
  old: {type: sops, value: {file: old.enc.yaml, path: old}}
  age: {type: age-keypair}
  ssh: {type: ssh-keypair}
  random: {type: random}
"""
CALLS = "trace=%file,%process,write,pwrite64,writev,sendto,sendmsg,ftruncate,memfd_create"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    for name in ("process", "op", "plugin"):
        (tmp_path / "bin" / name).write_text(PRINTS.format(python=sys.executable, name=name))
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "key.txt").write_text(made.IDENTITY + "\n")
    (tmp_path / "spec.yaml").write_text(SPEC)
    flags = ("--age", made.RECIPIENT, "--filename-override", "a.yaml", "--output", "old.enc.yaml")
    run(tmp_path, "encrypt", *flags, given="old: old-provisioned-secret-5521\n")
    return tmp_path


def run(
    folder: Path, *arguments: str, trace: bool = False, given: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    strace = ["strace", "-f", "-y", "-v", "-s", "100000", "-e", CALLS, "-o", str(folder.parent / "calls")]
    argv = [*(strace if trace else ()), sys.executable, "-m", "krm_sops", *arguments]
    path = f"{folder}/bin:{os.environ['PATH']}"
    return subprocess.run(
        argv,
        cwd=folder,
        input=given,
        env={"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def calls_of(folder: Path, *arguments: str, **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = folder.parent / "calls"
    done = run(folder, *arguments, trace=True, **env)
    if "ptrace" in done.stderr or not log.exists():
        pytest.skip("strace may not trace here")
    return done, log.read_text(errors="replace").splitlines()


def holding(lines: list[str]) -> list[str]:
    """The calls that show a secret, also one that was made: those begin in a way that is known."""
    return [line for line in lines if any(mark in line for mark in (*SECRETS, "AGE-SECRET-KEY-", "PRIVATE KEY-----"))]


def test_while_encrypting_a_secret_is_only_ever_in_pipes(folder):
    """Seen by the kernel: no argument, no variable of a program, no file but the encrypted one is written."""
    arguments = ("provision", "--age", made.RECIPIENT, "--key-file", "key.txt", "-o", "out.enc.yaml", "spec.yaml")
    done, calls = calls_of(folder, *arguments, SECRET=SECRETS[4])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shown = [line for line in holding(calls) if not is_first_exec(line)]
    assert shown  # what programs print is seen, so the trace would show more
    assert all(re.match(r"\d+ +write\(1<pipe:\[\d+\]>", line) for line in shown), shown
    opened = {match[1] for line in calls if (match := re.search(r'open(?:at)?\(.*?"([^"]+)", O_(?:WRONLY|RDWR)', line))}
    ours = {path for path in opened if not path.startswith(("/dev/", "/proc/"))}
    assert len(ours) == 2, ours  # one to see whether it can be written
    assert all(re.fullmatch(r".*/\.krm-sops-[0-9a-f]{16}\.tmp", path) for path in ours)
    for secret in SECRETS:
        assert secret not in (folder / "out.enc.yaml").read_text()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["bin", "key.txt", "old.enc.yaml", "out.enc.yaml", "spec.yaml"]
    )
    opened_again = run(folder, "decrypt", "--key-file", "key.txt", "out.enc.yaml").stdout
    assert all(secret in opened_again for secret in SECRETS)


def is_first_exec(line: str) -> bool:
    """Our own start, whose environment the caller made."""
    return "execve(" in line and '"krm_sops", "provision"' in line


def test_renewing_writes_nothing_in_clear_either(folder):
    arguments = ("provision", "--age", made.RECIPIENT, "--key-file", "key.txt", "-o", "out.enc.yaml")
    run(folder, *arguments, "spec.yaml", SECRET="first")
    done, calls = calls_of(folder, *arguments, "--renew", "age", "--renew", "variable", "spec.yaml", SECRET=SECRETS[4])
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in holding(calls) if not is_first_exec(line)] == []


def test_a_program_sees_no_key_of_the_caller(folder):
    """S15: children get a scrubbed environment, and PATH without relative folders."""
    (folder / "spec.yaml").write_text("secrets: {a: {type: process, value: {command: env}}}")
    keys = {
        "SOPS_AGE_KEY": made.IDENTITY,
        "AWS_SECRET_ACCESS_KEY": "aws",
        "BASH_ENV": "/x",
        "LD_AUDIT": "",
        "OP_TOKEN": "t",
    }
    done = run(folder, "provision", "spec.yaml", **keys)
    assert done.returncode == 0, done.stderr
    assert not any(name in done.stdout for name in (*keys, "PYTHON"))
    assert f"HOME={folder}" in done.stdout


def test_nothing_of_the_working_folder_is_started(folder):
    """S15: a name is looked up in absolute folders of PATH only."""
    marker = folder / "started"
    (folder / "tool").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (folder / "tool").chmod(0o755)
    (folder / "spec.yaml").write_text("secrets: {a: {type: process, value: {command: tool}}}")
    done = run(folder, "provision", "spec.yaml", PATH=f".::{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "tool is not on PATH" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize("ending", ["exit 3", "kill -9 $$", "head -c 2000000 /dev/zero"])
def test_what_a_failing_program_said_is_never_shown(folder, ending):
    content = f"echo script-provisioned-secret-5521; echo script-provisioned-secret-5521 >&2; {ending}"
    good, bad = {"type": "process", "value": {"command": "process"}}, {"type": "script", "value": {"content": content}}
    (folder / "spec.yaml").write_text(json.dumps({"secrets": {"good": good, "x": bad}}))
    for flags in ((), ("--age", made.RECIPIENT, "-o", "out.enc.yaml")):
        done = run(folder, "provision", *flags, "spec.yaml")
        assert (done.returncode, done.stdout) == (1, "")
        assert "provisioned" not in done.stderr
        assert "x (script): " in done.stderr
        assert not (folder / "out.enc.yaml").exists()


def test_foreign_text_cannot_pass_for_a_command_or_move_the_cursor(folder):
    """S33: keys and commands of a specification are escaped wherever they are shown."""
    (folder / "spec.yaml").write_text(
        r'secrets: {"a\u001b[2J\n::add-mask::": {type: process, value: {command: "x\u001b]0;\u202e\n::stop"}}}'
    )
    for flag in ("--list", "--dry-run"):
        shown = run(folder, "provision", flag, "spec.yaml").stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert len(shown.splitlines()) == 2
    said = run(folder, "provision", "spec.yaml").stderr
    assert "\x1b" not in said
    assert all(line.startswith("krm-sops: ") for line in said.splitlines())


def test_listing_and_looking_start_nothing(folder):
    marker = folder / "started"
    (folder / "spec.yaml").write_text(
        f"secrets: {{a: {{type: process, value: {{command: touch, arguments: [{marker}]}}}}}}"
    )
    for arguments in (["--list"], ["--dry-run"], ["normalize"], ["snippet", "sops-nix"]):
        assert run(folder, "provision", *arguments, "spec.yaml").returncode == 0
    assert not marker.exists()
    run(folder, "provision", "spec.yaml")
    assert marker.exists()


def test_no_function_can_reach_a_source():
    """Programs start from the command line only: no function, once imported, has loaded anything of provision."""
    source = f"""
import sys
from krm_sops.functions import FUNCTIONS
for kind in {list(FUNCTIONS)!r}:
    FUNCTIONS[kind]
assert not [name for name in sys.modules if name.startswith("krm_sops.provision")]
"""
    done = subprocess.run([sys.executable, "-c", source], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_signal_while_a_source_runs_leaves_nothing(folder):
    slow = "{type: script, value: {content: 'touch at; sleep 30'}}"
    (folder / "spec.yaml").write_text(f"secrets: {{a: {{type: process, value: {{command: process}}}}, b: {slow}}}")
    argv = [sys.executable, "-m", "krm_sops", "provision", "--age", made.RECIPIENT, "-o", "out.enc.yaml", "spec.yaml"]
    env = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    child = subprocess.Popen(argv, cwd=folder, env=env, stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(600):
        if (folder / "at").exists():
            break
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGTERM)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGTERM
    assert b"nothing was written" in said
    assert not [path for path in folder.iterdir() if "out.enc" in path.name]
