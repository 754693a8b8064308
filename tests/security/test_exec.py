"""exec-env and exec-file: plaintext stands only where the verb says, and is gone on every exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from krm_sops.cipher import DataKey
from krm_sops.encryption import encrypted_file
from krm_sops.keys.age import AgeKey
from krm_sops.metadata import VERSION, Metadata
from krm_sops.selection import Selection
from krm_sops.stores import STORES
from tests import agefile
from tests.security import made

ROOT = Path(__file__).resolve().parents[2]
PLAIN = b"a: 1\nb: the secret\n"
PLACES = ("/dev/shm", "/tmp")


def encrypted(plain: bytes = PLAIN) -> bytes:
    raw = bytes(range(32))
    recipient = agefile.recipient_of(made.IDENTITY)
    enc = agefile.armor(agefile.make([agefile.for_recipient(recipient)], raw)).decode()
    metadata = Metadata(
        lastmodified="",
        mac="",
        version=VERSION,
        key_groups=[[AgeKey(recipient, enc)]],
        threshold=0,
        mac_only_encrypted=False,
        selection=Selection.from_fields({}),
    )
    store = STORES["yaml"]
    return encrypted_file(store.read_plain(plain), metadata, DataKey(raw), store, now="2026-01-01T00:00:00Z")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "f.yaml").write_bytes(encrypted())
    return tmp_path


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "krm_sops", *arguments]


def env(folder: Path, **more: str) -> dict[str, str]:
    own = {"PATH": os.environ["PATH"], "HOME": str(folder), "SOPS_AGE_KEY": made.IDENTITY}
    return own | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | more


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv(*arguments), cwd=folder, env=env(folder, **more), capture_output=True, timeout=60)


def test_the_file_is_private_and_gone_after(folder: Path) -> None:
    """S24, for exec-file: a folder of mode 0700, a file of mode 0600, nothing left."""
    command = "stat -c '%a %F' {} $(dirname {}); echo {}; cat {} {}"
    done = run(folder, "exec-file", "--no-fifo", "f.yaml", command)
    modes, kind, path, *rest = done.stdout.decode().split("\n", 3)
    assert (modes, kind) == ("600 regular file", "700 directory")
    assert "".join(rest) == PLAIN.decode() * 2
    assert not Path(path).exists()
    assert not Path(path).parent.exists()


def test_the_pipe_is_private_and_gone_after(folder: Path) -> None:
    done = run(folder, "exec-file", "f.yaml", "stat -c '%a %F' {}; echo {}; cat {}")
    mode, path, rest = done.stdout.decode().split("\n", 2)
    assert (mode, rest) == ("600 fifo", PLAIN.decode())
    assert not Path(path).parent.exists()


@pytest.mark.parametrize("flags", [[], ["--no-fifo"]])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_leaves_nothing(folder: Path, flags: list[str], number: int) -> None:
    """S24, for exec-file."""
    script = "echo {} > place; exec sleep 600"
    child = subprocess.Popen(argv("exec-file", *flags, "f.yaml", script), cwd=folder, env=env(folder))
    while not (folder / "place").exists() or not (folder / "place").read_text():
        assert child.poll() is None
        time.sleep(0.02)
    place = Path((folder / "place").read_text().strip())
    child.send_signal(number)
    assert child.wait(60) == 128 + number
    assert not place.parent.exists()


def test_a_command_that_never_reads_its_pipe_does_not_hang_us(folder: Path) -> None:
    assert run(folder, "exec-file", "f.yaml", "exit 5").returncode == 5


def test_exec_env_writes_no_file(folder: Path) -> None:
    """While the command runs, no file of ours stands anywhere that we could write: not even a temporary folder."""
    script = 'find . -newer f.yaml -type f; echo "$b"'
    done = run(folder, "exec-env", "f.yaml", script, TMPDIR=str(folder), XDG_RUNTIME_DIR=str(folder))
    assert done.stdout == b"the secret\n"


def test_a_detached_command_holds_no_stream_of_ours(folder: Path) -> None:
    """With --background: our output ends at once, and the file is there as long as the command runs."""
    command = "cat {} > 1; mv 1 got; while [ ! -e go ]; do sleep 0.02; done; cat {} > 2; mv 2 again"
    done = run(folder, "exec-file", "--background", "--no-fifo", "f.yaml", f"cd {folder}; {command}")
    assert (done.returncode, done.stdout) == (0, b"")
    (folder / "go").touch()
    while not (folder / "again").exists():
        time.sleep(0.02)
    assert (folder / "got").read_bytes() == (folder / "again").read_bytes() == PLAIN


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "x/", ".."])
def test_the_file_stays_in_its_folder(folder: Path, name: str) -> None:
    done = run(folder, "exec-file", "--no-fifo", "--filename", name, "f.yaml", "touch ran")
    assert done.returncode == 1
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("plain", [b"a: [1]\n", b"a: {b: 1}\n", b'"a=b": 1\n', b'a: "x\\0y"\n'])
def test_what_no_environment_can_hold_is_refused_without_its_value(folder: Path, plain: bytes) -> None:
    (folder / "g.yaml").write_bytes(encrypted(plain))
    done = run(folder, "exec-env", "g.yaml", "touch ran")
    assert done.returncode == 1
    assert b"x\\0y" not in done.stderr
    assert not (folder / "ran").exists()


def test_a_document_whose_mac_does_not_hold_starts_nothing(folder: Path) -> None:
    """S6"""
    text = (folder / "f.yaml").read_text()
    (folder / "f.yaml").write_text("".join(line for line in text.splitlines(True) if not line.startswith("a: ")))
    for verb in ("exec-env", "exec-file"):
        assert run(folder, verb, "f.yaml", "touch ran").returncode == 51
    assert not (folder / "ran").exists()
