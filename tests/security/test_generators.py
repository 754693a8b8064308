"""What generators read: files of the repository, and nothing else (S2); how much of it (S23)."""

from __future__ import annotations

import json
import os
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import Flags
from tests.generating import KEYS, SECRET, generate, ksops, own, put, secret, sops_secret_generator
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

STOLEN = "plain-of-another-team"
THEIRS = {**SECRET, "metadata": {"name": "theirs"}, "stringData": {"password": STOLEN}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, inside a repository; beside that, what must not be read, although the key would open it."""
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    here = tmp_path / "repo" / "app"
    here.mkdir()
    put(tmp_path / "theirs" / "s.yaml", THEIRS)
    put(tmp_path / "theirs" / "key.agekey", made.IDENTITY.encode())
    monkeypatch.chdir(here)
    return here


def configs(path: str) -> list[dict]:
    """Every way to name a file."""
    return [
        own(files=[path]),
        own(secretFrom=[secret(files=[f"k={path}"])]),
        own(secretFrom=[secret(binaryFiles=[path])]),
        own(configMapFrom=[secret(envs=[path])]),
        ksops(files=[path]),
        ksops(secretFrom=[secret(envs=[path])]),
        sops_secret_generator(files=[path]),
        sops_secret_generator(envs=[path]),
    ]


def assert_nothing_read(config: dict, *whys: str) -> None:
    items, results, status = generate(config, config)
    said = "\n".join(f"{result.line()} {result.hint}" for result in results)
    assert status == 1, config
    assert any(why in said for why in whys), said
    assert STOLEN not in json.dumps(items) + said
    assert made.IDENTITY not in json.dumps(items) + said


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("name", ["s.yaml", "key.agekey"])
@pytest.mark.parametrize("way", ["absolute", "dots", "folder link", "file link", "wildcard"])
def test_nothing_outside_of_the_repository_is_read(number, name, way, folder):
    """S2"""
    theirs = folder.parent.parent / "theirs"
    (folder / "linked").symlink_to(theirs)
    (folder / "file").symlink_to(f"../../theirs/{name}")
    path = {
        "absolute": str(theirs / name),
        "dots": f"../../theirs/{name}",
        "folder link": f"linked/{name}",
        "file link": "file",
        "wildcard": f"linked/*{name[1:]}",
    }[way]
    config = configs(path)[number]
    if way == "wildcard" and config["kind"] != "SopsGenerator":
        assert_nothing_read(config, "no such file or directory", "leads out of")
    else:
        assert_nothing_read(config, "leads out of")


def test_process_and_device_files_are_not_read():
    """S2"""
    for path in ("/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "/etc/passwd"):
        assert_nothing_read(own(files=[path]), "leads out of")


def test_what_is_no_regular_file_is_not_read(folder):
    """S2: a FIFO would keep the run waiting for ever."""
    os.mkfifo(folder / "fifo")
    (folder / "dir.yaml").mkdir()
    for path in ("fifo", "f*", "dir.yaml"):
        assert_nothing_read(own(files=[path]), "not a regular file")


def test_a_key_inside_of_the_repository_is_not_shown(folder):
    """S2: a file that is not encrypted gives nothing of its content away."""
    put(folder / "key.agekey", made.IDENTITY.encode())
    put(folder / "key.yaml", f"k: {made.IDENTITY}\n".encode())
    put(folder / "key.env", f"{made.IDENTITY}\n".encode())
    for path in ("key.agekey", "key.yaml", "key.env"):
        for config in configs(path):
            assert_nothing_read(config, "no JSON value", "sops metadata not found", "key=value")


def test_a_link_that_is_swapped_while_it_is_read_never_leads_out(folder):
    """S2"""
    put(folder / "inside" / "s.yaml", SECRET)
    at, done = folder / "linked", Event()

    def swap() -> None:
        number = 0
        while not done.is_set():
            number += 1
            beside = folder / f"next{number}"
            beside.symlink_to("inside" if number % 2 else "../../theirs")
            beside.rename(at)

    at.symlink_to("inside")
    thread = Thread(target=swap)
    thread.start()
    try:
        for _ in range(60):
            items, _, _ = generate(own(files=["linked/s.yaml"]))
            assert STOLEN not in json.dumps(items)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("config", [own(files=["s.yaml"]), ksops(files=["s.yaml"])], ids=["own", "ksops"])
def test_an_annotation_does_not_say_where_the_repository_is(config, folder):
    """S2: kpt tells the package's folder in an annotation, which anybody can write into a config."""
    theirs = str(folder.parent.parent / "theirs")
    forged = {"internal.config.kubernetes.io/package-path": theirs, "internal.config.kubernetes.io/path": "g.yaml"}
    under_kustomize = config["metadata"]["annotations"] | forged
    config = {**config, "metadata": {"name": "g", "annotations": under_kustomize}}
    assert_nothing_read(config, "cannot read s.yaml: no such file or directory")
    if config["kind"] == "SopsGenerator":
        config["spec"]["allowPlaintext"] = True
        config["metadata"] = {"name": "g", "annotations": forged}
        assert_nothing_read(config, "is not here")


def test_the_operators_root_counts_for_packages_too(folder):
    """S1, S2"""
    package = folder.parent.parent / "theirs"
    (package / "Kptfile").touch()
    annotations = {
        "internal.config.kubernetes.io/package-path": str(package),
        "internal.config.kubernetes.io/path": "g.yaml",
    }
    config = own(files=["s.yaml"], allowPlaintext=True)
    config["metadata"] = {"name": "g", "annotations": annotations}
    flags = Flags()
    flags.root = str(folder.parent)
    output, results, status = run(made.resource_list(config=config).encode(), Host(env=KEYS), FUNCTION, flags)
    assert (status, results[0].reason) == (1, "PolicyDenied")
    assert STOLEN not in output.decode()


def test_keys_of_the_config_are_under_the_policy(folder):
    """S1: a generator's keys are asked for like any other's."""
    put(folder / "s.yaml", SECRET)
    put(folder / "key.agekey", made.IDENTITY.encode())
    config = own(files=["s.yaml"], keys=[{"file": "key.agekey"}], ambient="always")
    flags = Flags()
    flags.ambient = "never"
    _, results, status = run(made.resource_list(config=config).encode(), Host(env={}), FUNCTION, flags)
    assert (status, results[0].reason) == (1, "PolicyDenied")


def test_a_key_in_the_config_does_not_leave(folder):
    """S11"""
    put(folder / "s.yaml", SECRET)
    config = own(files=["s.yaml"], keys=[{"value": made.IDENTITY}])
    for files in (["s.yaml"], ["absent.yaml"]):
        config["spec"]["files"] = files
        text = made.resource_list(config, config=config)
        output, results, status = run(text.encode(), Host(env={}), FUNCTION)
        assert status == (files == ["absent.yaml"])
        assert made.IDENTITY not in output.decode() + "".join(result.line() for result in results)


def test_a_file_that_grows_while_it_is_read_is_limited(folder):
    """S23: aliases that repeat, size, and files that repeat."""
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    put(folder / "bomb.yaml", (bomb + "sops: {mac: x}\n").encode())
    put(folder / "large.yaml", b"#" * (FUNCTION.document_bytes + 1))
    put(folder / "deep.yaml", b"a: " + b"[" * 200 + b"]" * 200 + b"\nsops: {}\n")
    many = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": dict.fromkeys(map(str, range(99)))}
    for number in range(20):
        put(folder / f"many{number}.yaml", many)
    limits = FUNCTION.changed({"run_nodes": 1500})
    for path, why in (("bomb.yaml", "aliasing"), ("large.yaml", "document_bytes"), ("deep.yaml", "deep")):
        _, results, status = generate(own(files=[path]))
        assert (status, results[0].reason) == (1, "LimitExceeded")
        assert why in results[0].line()
    text = made.resource_list(config=own(files=["many*.yaml"]))
    _, results, status = run(text.encode(), Host(env=KEYS), limits)
    assert (status, results[-1].reason) == (1, "LimitExceeded")
