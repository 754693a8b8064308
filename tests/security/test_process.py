"""The process: no core, streams that are closed, one line when a signal ends it, files whole or not at all (S33)."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.security.conftest import Program

STREAM = made.resource_list(made.encrypted())
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to look at a process with")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_guarded(pid: int) -> bool:
    """Whether the process has taken its precautions: the last of them is to ignore SIGPIPE."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def waiting(program: Program, *arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
    """The program, which waits for the rest of its input."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = program.start(*arguments, **{**pipes, **options})
    until(lambda: is_guarded(child.pid))
    return child


@needs_proc
def test_a_core_is_never_written(program: Program, tmp_path: Path):
    """S33: not into a file, and where the kernel pipes cores to a program, none with memory in it."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    child = waiting(program, cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)))
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert int(Path(f"/proc/{child.pid}/coredump_filter").read_text(), 16) == 0
    assert child.stdin is not None
    child.stdin.write(STREAM.encode()[:700])
    child.stdin.flush()
    child.send_signal(signal.SIGABRT)
    child.communicate()
    assert child.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []


@needs_proc
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("sent", [0, 700])
def test_a_signal_ends_the_run_with_one_line(program: Program, number: int, sent: int):
    child = waiting(program, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))  # whoever runs the tests ignores
    assert child.stdin is not None
    child.stdin.write(STREAM.encode()[:sent])
    child.stdin.flush()
    child.send_signal(number)
    stdout, stderr = child.communicate()
    assert child.returncode == 128 + number
    assert stdout == b""
    assert stderr == f"krm-sops: error: ended by signal {int(number)}; nothing was written\n".encode()


@needs_proc
def test_a_signal_that_is_ignored_stays_ignored(program: Program):
    """nohup"""
    child = waiting(program, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    child.send_signal(signal.SIGHUP)
    stdout, stderr = child.communicate(STREAM.encode())
    assert child.returncode == 0, stderr
    assert b"plain-of-password" in stdout


@needs_proc
def test_a_signal_while_it_writes_does_not_claim_that_nothing_was_written(program: Program):
    large = made.resource_list({**made.KEY_SECRET, "x": "y" * 300_000}, made.encrypted())
    child = program.start(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(large.encode())
    child.stdin.close()
    first = os.read(child.stdout.fileno(), 1)  # so it has begun to write, and the pipe is full
    child.send_signal(signal.SIGTERM)
    assert child.stderr is not None
    said = child.stderr.read()
    rest = child.stdout.read()
    assert child.wait() == 128 + signal.SIGTERM
    assert said == b"krm-sops: error: ended by signal 15; the output is not complete\n"
    assert len(first + rest) < len(large)
    child.stdout.close()
    child.stderr.close()


def closing(*streams: int) -> Callable[[], None]:
    return lambda: [os.close(stream) for stream in streams] and None


def test_a_closed_stdin_is_an_error(program: Program):
    for arguments, status in (((), 1), (("decrypt",), 2)):
        done = subprocess.run(
            [program.path, *arguments], env=program.env, preexec_fn=closing(0), capture_output=True, check=False
        )
        assert done.returncode == status
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1
        assert b"stdin" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--version",)], ids=str)
def test_a_stdout_that_takes_nothing_is_an_error(program: Program, arguments: tuple[str, ...]):
    def run(**options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [program.path, *arguments],
            input=STREAM.encode(),
            env=program.env,
            stderr=subprocess.PIPE,
            check=False,
            **options,
        )

    read, write = os.pipe()
    os.close(read)
    full = os.open("/dev/full", os.O_WRONLY) if os.path.exists("/dev/full") else write
    for done, number in (
        (run(stdout=write), errno.EPIPE),
        (run(stdout=full), errno.ENOSPC if full != write else errno.EPIPE),
        (run(preexec_fn=closing(1)), errno.EBADF),
    ):
        assert done.returncode == 1
        assert done.stderr == f"krm-sops: error: cannot write to stdout: {os.strerror(number)}\n".encode()
    os.close(write)
    if full != write:
        os.close(full)


def test_without_stderr_the_work_is_done_all_the_same(program: Program, tmp_path: Path):
    """What would be said goes nowhere; above all, not into a file that got the number of a closed stream."""
    done = subprocess.run(
        [program.path],
        input=STREAM.encode(),
        env=program.env,
        stdout=subprocess.PIPE,
        preexec_fn=closing(2),
        check=False,
    )
    assert done.returncode == 0
    assert b"plain-of-password" in done.stdout
    path, keys = tmp_path / "x.yaml", tmp_path / "keys"
    keys.mkdir()
    (keys / "age.key").write_text(made.IDENTITY)  # a name that gives a warning
    path.write_text(made.yaml(made.encrypted()))
    env = program.env | {"SOPS_AGE_KEY": made.IDENTITY, "KRM_SOPS_KEY_DIR": str(keys)}
    for streams in ((2,), (1, 2), (0, 1, 2)):
        path.write_text(made.yaml(made.encrypted()))
        code = subprocess.run([program.path, "decrypt", "-i", path], env=env, preexec_fn=closing(*streams), check=False)
        assert code.returncode == 0
        assert "plain-of-password" in path.read_text()
        assert "krm-sops:" not in path.read_text()
        assert sorted(tmp_path.iterdir()) == [keys, path]


def garbage() -> list[bytes]:
    chance = random.Random(33)
    noise = [chance.randbytes(size) for size in (1, 2, 10, 100, 1000, 100_000)]
    head = b"apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
    return [
        *noise,
        b"",
        b"\n\n",
        b"\x00",
        b"\x00" * 1000,
        b"\xff\xfe",
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf{",
        STREAM.encode("utf-16")[:501],
        b"\x1f\x8b\x08\x00" + noise[4],
        b"%PDF-1.7\n" + noise[4],
        b"\x7fELF" + noise[4],
        b"null",
        b"[]",
        b"{}",
        b"'",
        b'"',
        b"---\n---\n",
        b"- - -",
        b"kind: List\nitems: x\n",
        b'{"kind": "ResourceList", "items": [1]}',
        head + b"items: {}\n",
        head + b"items:\n- 1\n- - x\n",
        head + b"items:\n- sops: x\n  a: b\n",
        head + b"items:\n- sops: {}\n  a: b\n",
        head + b"items:\n- sops: {mac: {}}\n  a: b\n",
        head + b"items:\n- sops: {age: [{enc: " + b"x" * 9999 + b"}]}\n  a: b\n",
        head + b"functionConfig: 1\nitems: []\n",
        head + b"functionConfig: {kind: [x], apiVersion: {}}\nitems: []\n",
        head + b"items: []\n" + noise[5],
        *(STREAM.encode()[:size] for size in range(60, len(STREAM), 397)),
    ]


def test_garbage_and_cut_streams_give_one_line(program: Program):
    for raw in garbage():
        done = program(stdin=raw)
        said = done.stderr.decode()
        passed = done.returncode == 0 and done.stdout == raw  # cut where a list without encrypted items is left
        assert done.returncode == 1 or passed, raw[:60]
        lines = [line for line in said.splitlines() if not line.startswith("krm-sops: hint: ")]
        assert len(lines) == (0 if passed else 1), raw[:60]
        assert "Traceback" not in said
        assert "internal error" not in said, raw[:60]
        assert b"plain-of" not in done.stdout


@pytest.mark.parametrize("verb", ["decrypt", "filestatus", "explain"])
@pytest.mark.parametrize("suffix", ["yaml", "json", "env", "ini", "bin"])
def test_garbage_in_files_gives_one_line(program: Program, tmp_path: Path, verb: str, suffix: str):
    path = tmp_path / f"x.{suffix}"
    for raw in garbage()[:16:2] if verb == "filestatus" else garbage()[:16:3]:
        path.write_bytes(raw)
        done = program(verb, path)
        assert b"Traceback" not in done.stderr
        assert b"internal error" not in done.stderr
        assert done.returncode or verb != "decrypt"
        assert all(line.startswith("krm-sops: ") for line in done.stderr.decode().splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "folder"
    where.mkdir()
    (where / "x.yaml").write_text(made.yaml(made.encrypted()))
    (tmp_path / "keys.txt").write_text(made.IDENTITY)
    return where


def in_place(program: Program, path: Path, **options: object) -> subprocess.CompletedProcess[bytes]:
    return program("decrypt", "-i", "--key-file", path.parent.parent / "keys.txt", path, **options)


def test_in_place_keeps_mode_and_owner_and_leaves_nothing_else(program: Program, folder: Path):
    path = folder / "x.yaml"
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    assert in_place(program, path).returncode == 0
    after = path.stat()
    assert "plain-of-password" in path.read_text()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino  # at every moment it was the old or the new file
    assert [found.name for found in folder.iterdir()] == ["x.yaml"]


def test_a_new_file_has_the_mode_that_the_umask_says(program: Program, folder: Path):
    for mask in (0o077, 0o027, 0o022):
        target = folder / f"{mask}.yaml"
        done = program(
            "decrypt", "--key-file", folder.parent / "keys.txt", "--output", target, folder / "x.yaml", umask=mask
        )
        assert done.returncode == 0, done.stderr
        assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_links_are_followed_within_their_folder_only(program: Program, folder: Path):
    """S33"""
    outside = folder.parent / "outside.yaml"
    outside.write_text((folder / "x.yaml").read_text())
    (folder / "sub").mkdir()
    (folder / "sub" / "y.yaml").write_text(outside.read_text())
    for name, target in (("in", "sub/y.yaml"), ("out", "../outside.yaml"), ("absolute", str(outside))):
        (folder / f"{name}.yaml").symlink_to(target)
    (folder / "chain.yaml").symlink_to("out.yaml")
    (folder / "through").symlink_to("..")
    assert in_place(program, folder / "in.yaml").returncode == 0
    assert (folder / "in.yaml").is_symlink()
    assert "plain-of-password" in (folder / "sub" / "y.yaml").read_text()
    for name in ("out.yaml", "absolute.yaml", "chain.yaml"):
        done = in_place(program, folder / name)
        assert done.returncode == 3
        assert b"link" in done.stderr
        assert "plain-of" not in outside.read_text()
        assert (folder / name).is_symlink()
    assert not [found for found in folder.iterdir() if found.name.startswith(".")]


def test_whatever_fails_leaves_the_file_as_it_was_and_no_other(program: Program, folder: Path):
    path = folder / "x.yaml"
    bad = made.yaml({**made.encrypted(), "type": "changed"})
    for text, options, status in (
        (bad, {}, 51),
        (made.yaml(made.encrypted(age=[{"recipient": "x", "enc": "x"}])), {}, 128),
        (made.yaml(made.PLAIN), {}, 1),
        (made.yaml(made.encrypted()), {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))}, 3),
    ):
        path.write_text(text)
        done = in_place(program, path, **options)
        assert done.returncode == status, done.stderr
        assert path.read_text() == text
        assert [found.name for found in folder.iterdir()] == ["x.yaml"]
        assert done.stdout == b""
    (folder / "blocked").mkdir()
    done = program("decrypt", "--key-file", folder.parent / "keys.txt", "--output", folder / "blocked", path)
    assert done.returncode == 3
    assert [found.name for found in folder.iterdir()] in (["x.yaml", "blocked"], ["blocked", "x.yaml"])


def test_a_signal_at_any_time_leaves_the_old_or_the_new_file_and_no_other(program: Program, folder: Path):
    path = folder / "x.yaml"
    old = made.yaml(made.encrypted())
    keys = folder.parent / "keys.txt"
    outcomes = set()
    for step in range(24):
        path.write_text(old)
        child = program.start("decrypt", "-i", "--key-file", keys, path, stderr=subprocess.PIPE)
        time.sleep(0.004 * step)
        child.send_signal(SIGNALS[step % 3])
        _, said = child.communicate()
        text = path.read_text()
        assert text == old or ("plain-of-password" in text and "sops" not in text)
        assert [found.name for found in folder.iterdir()] == ["x.yaml"]
        if b"nothing was written" in said:
            assert text == old
        outcomes.add(text == old)
    assert True in outcomes


def test_debugging_help_of_python_changes_nothing(program: Program):
    """A traceback, a dump of all threads or of allocations could quote a secret."""
    env = {"PYTHONFAULTHANDLER": "1", "PYTHONDEVMODE": "1", "PYTHONTRACEMALLOC": "9", "PYTHONVERBOSE": "1"}
    done = program(stdin=STREAM[:-80], env=env)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") <= 2


def test_an_internal_error_is_one_line_without_the_words_of_the_exception():
    """S10: what nobody thought of is told by its place only."""
    code = (
        "import krm_sops.functions as f, krm_sops.cli as c\n"
        "def run(*a): raise ValueError('plain-of-password')\n"
        "f.run = run\n"
        "c.main_and_exit(['krm-sops'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b"x", capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"krm-sops: error: internal error (ValueError in <string>:2 < cli.py:")
    assert done.stderr.count(b"\n") == 1
    assert b"plain-of" not in done.stderr
