"""Legacy exec plugins: no key stands in a config, as kustomize copies it about (S25); a config sets no flags (S1)."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.clients import Clients
from tests.generating import SECRET, put
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

HEAD = {"apiVersion": "krm-sops.dev/v1alpha1", "metadata": {"name": "c"}}
DECRYPT = {**HEAD, "kind": "SopsDecrypt", "spec": {}}
GENERATE = {**HEAD, "kind": "SopsGenerator", "spec": {"files": ["s.yaml"]}}


def with_value(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "spec": {**config["spec"], "keys": [{"value": made.IDENTITY}]}}


BEARING = {
    "a value, transformer": with_value(DECRYPT),
    "a value, generator": with_value(GENERATE),
    "a short value": {**DECRYPT, "spec": {"keys": [{"value": "x"}]}},
    "a key in the wrong place": {**DECRYPT, "spec": {"keys": [{"file": made.IDENTITY}]}},
    "a key in an annotation": {**DECRYPT, "metadata": {"name": "c", "annotations": {"k": made.IDENTITY}}},
    "a key Secret": made.KEY_SECRET,
    "a key Secret in base64": {
        **{name: value for name, value in made.KEY_SECRET.items() if name != "stringData"},
        "data": {"k.agekey": b64encode(made.IDENTITY.encode()).decode()},
    },
}


@pytest.fixture
def folder(tmp_path) -> Path:
    put(tmp_path / "repo" / "s.yaml", SECRET)
    return tmp_path / "repo"


@pytest.mark.parametrize("config", BEARING.values(), ids=BEARING)
def test_a_config_with_a_key_is_refused_and_not_shown(config, program, folder):
    """S25"""
    (folder / "c.yaml").write_text(made.yaml(config))
    done = program(folder / "c.yaml", stdin=(folder / "s.yaml").read_bytes(), cwd=folder)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"a plugin's config must hold no key" in done.stderr
    assert b"temporary folder and the environment" in done.stderr
    assert made.IDENTITY.encode() not in done.stderr
    assert (folder / "c.yaml").exists()  # a person's own file


@pytest.mark.parametrize("config", BEARING.values(), ids=BEARING)
def test_kustomizes_copy_of_a_config_with_a_key_is_removed(config, program, folder, tmp_path):
    """S25: kustomize leaves it behind where the build fails."""
    copy = tmp_path / "kust-plugin-config-1234"
    copy.write_text(made.yaml(config))
    done = program(copy, stdin=b"", cwd=folder, env={"KUSTOMIZE_PLUGIN_CONFIG_ROOT": str(folder)})
    assert done.returncode == 1
    assert not copy.exists()


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Clients:
    return Clients(tmp_path_factory.mktemp("clients"))


@pytest.mark.parametrize("client", [("kustomize", "build"), ("kubectl", "kustomize")], ids=["kustomize", "kubectl"])
@pytest.mark.parametrize("case", ["a value, transformer", "a value, generator"])
def test_a_build_with_a_key_in_a_config_fails_and_leaves_the_key_nowhere(
    client, case, clients, program, folder, tmp_path
):
    """S25"""
    config = BEARING[case]
    clients.need(client[0])
    (folder / "c.yaml").write_text(made.yaml(config))
    role = "generators" if config["kind"] == "SopsGenerator" else "transformers"
    (folder / "kustomization.yaml").write_text(f"resources: [s.yaml]\n{role}: [c.yaml]\n")
    home, temporary = plugin_home(tmp_path, config, program.path), tmp_path / "temporary"
    temporary.mkdir()
    build = [*client, "--enable-alpha-plugins", folder]
    done = clients.run(*build, XDG_CONFIG_HOME=str(home), TMPDIR=str(temporary))
    assert done.returncode != 0
    assert "a plugin's config must hold no key" in done.stderr
    assert made.IDENTITY not in done.stdout + done.stderr
    assert "plain-of-password" not in done.stdout + done.stderr
    assert not [file for file in temporary.rglob("*") if made.IDENTITY.encode() in file.read_bytes()]


def test_children_do_not_see_the_config(clients, program, folder, tmp_path):
    """S25: kustomize puts the config into the environment of its plugin; it goes no further."""
    seen = tmp_path / "seen"
    plugin = tmp_path / "bin" / "age-plugin-spy"
    plugin.parent.mkdir()
    plugin.write_text(f"#!/bin/sh\nenv >{seen}\nexit 1\n")
    plugin.chmod(0o755)
    (folder / "c.yaml").write_text(made.yaml(DECRYPT))
    env = {
        "KUSTOMIZE_PLUGIN_CONFIG_STRING": "the config",
        "KUSTOMIZE_PLUGIN_CONFIG_ROOT": str(folder),
        "PATH": f"{plugin.parent}:/usr/bin:/bin",
        "SOPS_AGE_KEY": "AGE-PLUGIN-SPY-1QQQSYQCYQ5RQWZQF97CC2",
        "SOPS_AGE_KEY_CMD": f"env >{seen}",
    }
    done = program(folder / "c.yaml", stdin=(folder / "s.yaml").read_bytes(), cwd=folder, env=env)
    assert done.returncode == 1
    assert not seen.exists() or "the config" not in seen.read_text()


def plugin_home(tmp_path: Path, config: dict[str, Any], target: Path) -> Path:
    kind = config["kind"]
    place = tmp_path / "xdg" / "kustomize" / "plugin" / config["apiVersion"] / kind.lower()
    place.mkdir(parents=True)
    (place / kind).symlink_to(target)
    return tmp_path / "xdg"


def test_an_annotation_of_a_plugins_config_does_not_say_where_to_read(program, folder, tmp_path):
    """S2"""
    put(tmp_path / "theirs" / "s.yaml", SECRET)
    put(tmp_path / "theirs" / "Kptfile", b"")
    (folder / ".git").mkdir()
    (folder / "s.yaml").unlink()
    forged = {
        "internal.config.kubernetes.io/package-path": str(tmp_path / "theirs"),
        "internal.config.kubernetes.io/path": "c.yaml",
    }
    (folder / "c.yaml").write_text(made.yaml({**GENERATE, "metadata": {"name": "c", "annotations": forged}}))
    done = program(folder / "c.yaml", cwd=folder, env={"SOPS_AGE_KEY": made.IDENTITY})
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"cannot read s.yaml: no such file or directory" in done.stderr


def test_an_encrypted_file_is_taken_for_what_it_is(program, folder):
    done = program("s.yaml", cwd=folder)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"s.yaml is encrypted, so it is no functionConfig" in done.stderr


@pytest.mark.parametrize("arguments", [["--ambient", "always"], ["--root", "/"], ["x"]])
def test_a_config_sets_no_flags(arguments, program, folder):
    """S1: what argsOneLiner adds comes from the repository, while flags are the operator's."""
    (folder / "c.yaml").write_text(made.yaml(GENERATE))
    done = program(folder / "c.yaml", *arguments, cwd=folder, env={"SOPS_AGE_KEY": made.IDENTITY})
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"a plugin takes no other argument" in done.stderr


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (lambda text: text.replace('"user": "ENC', '"usr": "ENC').replace("user: ", "usr: "), b"stringData.usr"),
        (lambda text: text.replace("sops:", "sops: []\nrest:"), b"sops field"),
        (lambda _: "{", b""),
        (lambda _: "", b"nothing on stdin"),
        (lambda _: "a: 1\n---\n- b\n", b""),
    ],
)
def test_a_failure_writes_nothing_to_stdout(fault, why, program, folder):
    """What kustomize parses is complete or not there; the exit status is 1 whatever went wrong."""
    (folder / "c.yaml").write_text(made.yaml({**DECRYPT, "spec": {"mac": "strict"}}))
    text = fault((folder / "s.yaml").read_text())
    done = program(folder / "c.yaml", stdin=text, cwd=folder, env={"SOPS_AGE_KEY": made.IDENTITY})
    assert (done.returncode, done.stdout) == (1, b"")
    assert why in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"plain-of-" not in done.stderr


def test_no_key_opens_is_exit_status_1(program, folder):
    (folder / "c.yaml").write_text(made.yaml(DECRYPT))
    done = program(folder / "c.yaml", stdin=(folder / "s.yaml").read_bytes(), cwd=folder)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no key could unwrap the data key" in done.stderr
