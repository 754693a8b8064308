"""S33: whenever a verb that writes in place is killed, the file is the old or the new one, and opens.

KRM_SOPS_KILLS says at how many points, spread over the time of a run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.security import made
from tests.unit.test_change_verbs import argv, environment, run

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("KRM_SOPS_KILLS", "25"))
PLAIN = {f"key{number}": f"plain-of-{number}" for number in range(50)}
TEXT = "".join(f"{key}: {value}\n" for key, value in PLAIN.items())
COMMAND = ("rotate", "-i", "a.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text(made.yaml(made.document(PLAIN)))
    (tmp_path / "a.yaml").chmod(0o640)
    return tmp_path


def check(folder: Path, before: bytes) -> bytes:
    """The file as it is now. Of a new one, nothing is that of the old one."""
    now = (folder / "a.yaml").read_bytes()
    assert (folder / "a.yaml").stat().st_mode & 0o777 == 0o640
    if now != before:
        done = run(folder, "decrypt", "a.yaml")
        assert (done.returncode, done.stdout) == (0, TEXT)
        assert not set(re.findall(rb"ENC\[[^]]*", now)) & set(re.findall(rb"ENC\[[^]]*", before))
    for path in folder.iterdir():
        assert b"plain-of-" not in path.read_bytes()
    return now


def test_killed_at_any_time(folder: Path) -> None:
    start = time.monotonic()
    assert run(folder, *COMMAND).returncode == 0
    whole = time.monotonic() - start
    now = (folder / "a.yaml").read_bytes()
    for number in range(KILLS):
        with subprocess.Popen(argv(*COMMAND), cwd=folder, env=environment(folder)) as process:
            try:
                process.wait(whole * 1.2 * number / KILLS)
            except subprocess.TimeoutExpired:
                process.kill()
        now = check(folder, now)
    assert run(folder, *COMMAND).returncode == 0
    assert check(folder, now) != now


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["fstat", "openat", "write", "fchmod", "fsync", "rename", "close", "exit_group"])
def test_killed_at_each_system_call_of_the_write(folder: Path, call: str) -> None:
    """The last calls of each kind, of which those that write are some."""
    log = folder.parent / "trace"
    strace = ["strace", "-f", "-o", str(log), "-e", f"trace={call}"]
    done = subprocess.run([*strace, *argv(*COMMAND)], cwd=folder, env=environment(folder), check=False)
    if done.returncode:
        pytest.skip("strace may not trace here")
    count = len(re.findall(rf"\b{call}\(", log.read_text()))
    now = (folder / "a.yaml").read_bytes()
    killed = 0
    for when in range(max(1, count - 3), count + 1):
        kill = ["-e", f"inject={call}:signal=SIGKILL:when={when}"]
        done = subprocess.run([*strace, *kill, *argv(*COMMAND)], cwd=folder, env=environment(folder), check=False)
        killed += done.returncode != 0
        now = check(folder, now)
    assert killed or not count
