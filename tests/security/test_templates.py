"""S26, S30, S32: secrets in templates and in files of their own, and nowhere else."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from tests.generating import FUNCTION_ANNOTATION
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.security.conftest import Program

KEYS = {"SOPS_AGE_KEY": made.IDENTITY}
VALUES = {"user": "plain-of-user", "deep": {"password": "plain-of-password"}}
NASTY = [
    "<SOPS:user>",
    f"<SOPS:{hashlib.sha256(b'user').hexdigest()}:PLACEHOLDER>",
    "${x} $x {{ .x }} $(id)",
    'x"\nstringData:\n  evil: "yes',
    "x\n---\napiVersion: v1\nkind: Secret\n",
    "': &a *a !!x [#",
    "\t\u2028\x85\x01",
]
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def config(namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "krm-sops.dev/v1alpha1",
        "kind": "SopsTemplate",
        "metadata": {"name": "t", "namespace": namespace, "annotations": FUNCTION_ANNOTATION},
        "spec": spec,
    }


def secret(name: str, namespace: str, **values: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def function(given: dict[str, Any], *items: dict[str, Any]) -> tuple[str, int]:
    output, _, status = run(made.resource_list(*items, config=given).encode(), Host(env=KEYS), FUNCTION)
    return output.decode(), status


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "s.yaml").write_text(made.yaml(made.document(VALUES)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# S32


@pytest.mark.parametrize("value", NASTY)
def test_a_value_stays_literal_in_a_function(value, repository):
    """S32: a placeholder, a variable or YAML inside of a value is text."""
    source = secret("db", "shop", user="u", nasty=value)
    item = secret("item", "shop", k="[<SOPS:db/nasty>]", l="<SOPS:db/nasty>", other="<SOPS:db/user>")
    templates = [{"metadata": {"name": "made"}, "stringData": {"k": "[<SOPS:db/nasty>]", "l": "<SOPS:db/nasty>"}}]
    output, status = function(
        config(secrets=[{"secret": "db"}], templates=templates, items=[{"name": "item"}]), source, item
    )
    assert status == 0
    _, filled, new = yaml.safe_load(output)["items"]
    wanted = {"k": f"[{value}]", "l": value}
    assert filled == secret("item", "shop", **wanted, other="u")
    assert new == secret("made", "shop", **wanted)


@pytest.mark.parametrize("value", NASTY)
def test_a_value_stays_literal_in_files(value, repository, program: Program):
    """S32"""
    Path("s.yaml").write_text(made.yaml(made.document({"user": "u", "nasty": value})))
    Path("t.yaml").write_text("a: <SOPS:nasty>\nb: [x <SOPS:nasty>]\nu: <SOPS:user>\n")
    Path("t.json").write_text('{"a": "<SOPS:nasty>", "b": ["x <SOPS:nasty>"], "u": "<SOPS:user>"}')
    for name, read in (("t.yaml", yaml.safe_load_all), ("t.json", lambda text: [json.loads(text)])):
        done = program("template", name, "--secrets", "s.yaml", env=KEYS)
        assert (done.returncode, done.stderr) == (0, b"")
        assert list(read(done.stdout)) == [{"a": value, "b": ["x " + value], "u": "u"}]


def test_a_decrypted_secret_is_never_read_as_a_template(repository):
    """S32: neither one that values are taken of, nor one that nobody named."""
    source, other = secret("db", "shop", user="u", k="<SOPS:db/user>"), secret("o", "shop", k="<SOPS:db/user>")
    templates = [{"metadata": {"name": "made"}, "stringData": {"k": "<SOPS:db/user>"}}]
    output, status = function(config(secrets=[{"secret": "db"}], templates=templates), source, other)
    assert status == 0
    assert yaml.safe_load(output)["items"][:2] == [source, other]


@pytest.mark.parametrize(("own", "others"), [("shop", "other"), ("shop", ""), ("", "default"), ("", "shop")])
def test_no_secret_of_another_namespace_is_read_or_filled(own, others, repository):
    """S32: nor with annotations that claim one, where kustomize would say that it may have had none."""
    foreign = secret("db", others, user="plain-of-user")
    templates = [{"metadata": {"name": "made"}, "stringData": {"k": "<SOPS:db/user>"}}]
    for given in (
        config(own, secrets=[{"secret": "db"}], templates=templates),
        config(own, secrets=[{"secret": "x"}], items=[{"name": "db"}]),
    ):
        output, status = function(given, secret("x", own, user="u"), foreign)
        assert status == 1
        assert yaml.safe_load(output)["items"] == [secret("x", own, user="u"), foreign]


def test_two_of_one_name_are_refused_in_both_orders(repository):
    """S32"""
    templates = [{"metadata": {"name": "made"}, "stringData": {"k": "<SOPS:db/user>"}}]
    given = config(secrets=[{"secret": "db"}], templates=templates)
    pair = [secret("db", "shop", user="a"), secret("db", "shop", user="b")]
    assert [function(given, *pair)[1], function(given, *pair[::-1])[1]] == [1, 1]


def test_what_is_put_in_has_a_limit(repository):
    """S23: placeholders are shorter than values, and may be many."""
    source = secret("db", "shop", user="x" * 100_000)
    templates = [{"metadata": {"name": "made"}, "stringData": {"k": "<SOPS:db/user>" * 100}}]
    _, status = function(config(secrets=[{"secret": "db"}], templates=templates), source)
    assert status == 1


# S26


def test_a_short_pin_cannot_be_found_by_its_checksum(repository):
    """S26: the checksum is keyed: nobody without the data key can try out a million PINs."""
    Path("s.yaml").write_text(made.yaml(made.document({"pin": "493021"})))
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "made"}}]}]}}},
    }
    templates = [{"metadata": {"name": "made"}, "stringData": {"pin": "<SOPS:pin>"}}]
    output, status = function(config(secrets=[{"file": "s.yaml"}], templates=templates), deployment)
    web, _ = yaml.safe_load(output)["items"]
    (found,) = web["spec"]["template"]["metadata"]["annotations"].values()
    assert status == 0
    assert re.fullmatch("[0-9a-f]{32}", found)
    texts = ["493021", "pin493021", "pin=493021", '{"pin":"493021"}', '{"pin": "493021"}']
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in (b"pin", b"493021"))
    for raw in [*(text.encode() for text in texts), framed]:
        for name in ("md5", "sha1", "sha256", "sha512"):
            assert found not in hashlib.new(name, raw).hexdigest()
            assert found not in hmac.new(b"", raw, name).hexdigest()
            assert found not in hmac.new(b"krm-sops.dev/v1alpha1 SopsTemplate checksum", raw, name).hexdigest()


def test_values_without_a_key_of_their_own_get_no_checksum(repository):
    """S26: not even beside others that have one, which somebody else may have chosen."""
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "made"}}]}]}}},
    }
    templates = [{"metadata": {"name": "made"}, "stringData": {"a": "<SOPS:user>", "b": "<SOPS:db/pin>"}}]
    given = config(secrets=[{"file": "s.yaml"}, {"secret": "db"}], templates=templates)
    output, status = function(given, secret("db", "shop", pin="493021"), deployment)
    assert status == 0
    assert yaml.safe_load(output)["items"][1] == deployment


# S30


@pytest.mark.parametrize("key", ["../x", "a/b", "..", ".", "", "a\0b", "x" * 256, "a b"])
def test_a_key_that_is_no_file_name_is_refused(key, repository, program: Program):
    """S30"""
    for plain in ({key: "v"}, {"a": {key: "v"}}):
        Path("s.json").write_text(json.dumps(made.document(plain)))
        done = program("materialize", "s.json", "--dir", "d", env=KEYS)
        assert done.returncode == 1
        assert b"cannot be the name of a file" in done.stderr
        assert sorted(os.listdir()) == [".git", "s.json", "s.yaml"]


def test_names_of_files_and_templates_are_checked_too(repository, program: Program):
    """S30"""
    Path("t").write_text("<SOPS:user>")
    for arguments in (("../x=s.yaml",), ("s.yaml", "--template", "../../x=t"), ("s.yaml", "--template", "/x=t")):
        done = program("materialize", *arguments, "--dir", "d", env=KEYS)
        assert (done.returncode, b"cannot be the name of a file" in done.stderr) == (1, True)
    assert sorted(os.listdir()) == [".git", "s.yaml", "t"]


def test_keys_that_differ_in_case_only_are_refused(repository, program: Program):
    """S30"""
    Path("s.json").write_text(json.dumps(made.document({"A": "1", "a": "2"})))
    done = program("materialize", "s.json", "--dir", "d", env=KEYS)
    assert (done.returncode, b"in another case" in done.stderr) == (1, True)


CALLS = (
    "mkdirat",
    "openat",
    "fchmod",
    "write",
    "fsync",
    "renameat",
    "unlinkat",
    "symlinkat",
    "flock",
    "mkdir",
    "rename",
)


def lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


@needs_strace
def test_a_crash_at_any_system_call_leaves_the_old_values_or_the_new_ones(repository, program: Program):
    """S30: killed where each call begins that changes something; and the next run clears what was left."""
    before, after = {"a": "old", "d": {"b": "old"}}, {"a": "new", "d": {"b": "new"}}
    Path("old.yaml").write_text(made.yaml(made.document(before)))
    Path("new.yaml").write_text(made.yaml(made.document(after)))

    def materialize(name: str, *strace: str) -> int:
        command = [*strace, program.path, "materialize", name, "--dir", "out"]
        return subprocess.run(command, env=program.env | KEYS, capture_output=True, check=False, timeout=60).returncode

    def shown() -> dict[str, Any]:
        return {"a": Path("out/a").read_text(), "d": {"b": Path("out/d/b").read_text()}}

    assert materialize("old.yaml") == 0
    log = repository / "log"
    assert materialize("new.yaml", "strace", "-f", "-o", str(log), "-e", f"trace={','.join(CALLS)}") == 0
    called = [re.sub(r"^\d+\s+", "", line).partition("(")[0] for line in lines(log)]
    first = next(at for at, line in enumerate(lines(log)) if "out.d" in line)
    points = [(name, called[: at + 1].count(name)) for at, name in enumerate(called) if at >= first and name in CALLS]
    assert len(points) > 15
    seen = []
    for name, number in points:
        assert materialize("old.yaml") == 0
        assert shown() == before
        kill = ("strace", "-f", "-o", "/dev/null", "-e", f"inject={name}:signal=KILL:when={number}")
        status = materialize("new.yaml", *kill)
        assert status in (-signal.SIGKILL, 128 + signal.SIGKILL, 0), (name, number)
        assert shown() in (before, after), (name, number)
        seen.append(shown())
        assert re.fullmatch(r"out\.d/[0-9]+", os.readlink("out"))
        assert materialize("new.yaml") == 0
        assert shown() == after
        assert len(os.listdir("out.d")) == 1
    assert before in seen
    assert after in seen


# Where plaintext goes


def traced(program: Program, log: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """With every call that writes, sends, makes or starts something in `log`, files by their names."""
    calls = "execve,open,openat,creat,write,writev,pwrite64,pwritev,sendto,sendmsg,memfd_create,symlinkat,renameat"
    command = ["strace", "-f", "-y", "-s", "65536", "-v", "-o", log, "-e", f"trace={calls}", program.path, *arguments]
    return subprocess.run(command, input=stdin, env=program.env | KEYS, capture_output=True, check=False, timeout=60)


def written_files(log: Path) -> set[str]:
    """What was opened for writing, other than what every run does."""
    opened = [
        line
        for line in lines(log)
        if re.search(r" (openat|open|creat)\(.*(O_WRONLY|O_RDWR|O_CREAT)", line) and " = -1 " not in line
    ]
    found = {re.search(r" = \d+<(.*)>$", line)[1] for line in opened}  # type: ignore[index]
    return {name for name in found if not name.startswith(("/proc/", "/dev/null"))}


@needs_strace
def test_template_shows_a_secret_on_stdout_only(repository, program: Program, tmp_path):
    """S26, S30: no file is written, no program started, nothing in an argument."""
    Path("t.conf").write_text("u=<SOPS:user> p=<SOPS:deep/password:base64> q=<SOPS:deep/password>")
    done = traced(program, tmp_path / "log", "template", "t.conf", "--secrets", "s.yaml")
    assert done.stdout.startswith(b"u=plain-of-user p=cGxhaW4tb2YtcGFzc3dvcmQ= q=plain-of-password")
    telling = [line for line in lines(tmp_path / "log") if "plain-of-" in line]
    assert [re.sub(r"^\d+ +", "", line)[:8] for line in telling] == ["write(1<"]
    assert written_files(tmp_path / "log") == set()
    read = next(at for at, line in enumerate(lines(tmp_path / "log")) if '"s.yaml"' in line and "openat(" in line)
    assert not any("execve(" in line for line in lines(tmp_path / "log")[read:])


@pytest.fixture
def in_memory() -> Iterator[Path]:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@needs_strace
def test_materialize_writes_below_its_folder_only(repository, program: Program, tmp_path, in_memory):
    """S30: created exclusively, owner and mode before content, each secret written once, in memory."""
    Path("t.conf").write_text("p=<SOPS:deep/password>")
    arguments = ("materialize", "s.yaml", "--dir", f"{in_memory}/d", "--tmpfs-only", "--template", "t.conf=t.conf")
    log = tmp_path / "log"
    done = traced(program, log, *arguments, "--owner", str(os.geteuid()))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    new = f"{in_memory}/d.d/incoming"
    files = {f"{new}/{name}" for name in ("user", "deep/password", "rendered/t.conf")}
    assert written_files(log) == files
    telling = [line for line in lines(log) if "plain-of-" in line]
    assert {re.search(r"write\(\d+<(.*?)>", line)[1] for line in telling} == files  # type: ignore[index]
    assert len(telling) == 3
    for line in lines(log):
        if "O_CREAT" in line and new in line:
            assert "O_EXCL" in line
            assert "O_NOFOLLOW" in line
            assert re.search(r", 000?\) = ", line)
    assert {path.name for path in in_memory.iterdir()} == {"d", "d.d"}
    assert (in_memory / "d" / "rendered" / "t.conf").read_text() == "p=plain-of-password"


@needs_strace
def test_the_function_shows_a_secret_on_stdout_only(repository, program: Program, tmp_path):
    """S26"""
    templates = [{"metadata": {"name": "made"}, "stringData": {"k": "<SOPS:deep/password>"}}]
    text = made.resource_list(config=config(secrets=[{"file": "s.yaml"}], templates=templates))
    done = traced(program, tmp_path / "log", stdin=text.encode())
    assert (done.returncode, b"plain-of-password" in done.stdout) == (0, True)
    telling = [line for line in lines(tmp_path / "log") if "plain-of-" in line]
    assert [re.sub(r"^\d+ +", "", line)[:8] for line in telling] == ["write(1<"]
    assert written_files(tmp_path / "log") == set()


def test_a_file_for_the_result_is_its_owners_only(repository, program: Program):
    """S30"""
    Path("t.conf").write_text("u=<SOPS:user>")
    command = f"umask 0; {shlex.quote(str(program.path))} template t.conf --secrets s.yaml --output out"
    subprocess.run(["sh", "-c", command], env=program.env | KEYS, check=True, timeout=60)
    assert (os.stat("out").st_mode & 0o777, Path("out").read_text()) == (0o600, "u=plain-of-user")
