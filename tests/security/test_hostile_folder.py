"""Nothing of the working tree is executed or imported, and function mode starts no program (S15)."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from krm_sops.age import bech32
from tests.pgp_encoder import RsaKey, message
from tests.security import made

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.conftest import Program

MODULES = (
    *("yaml", "json", "re", "re2", "_re2", "os", "sys", "io", "abc", "site", "encodings", "codecs", "typing", "enum"),
    *("krm_sops", "cryptography", "_cffi_backend", "cffi", "sitecustomize", "usercustomize", "binascii", "base64"),
    *("signal", "_signal", "resource", "hashlib", "_sha2", "_sha512", "tempfile", "subprocess", "shlex", "stat"),
    *("getpass", "bcrypt", "functools", "collections", "struct", "math", "random", "__main__", "boto3"),
)
PROGRAMS = (
    "gpg",
    "gpg2",
    "age",
    "sops",
    "python",
    "python3",
    "pinentry",
    "git",
    "kustomize",
    "kubectl",
    "krm-sops-plain",
)
PLUGIN = "age-plugin-mark"


def executable(path: Path, marker: Path) -> None:
    path.write_text(f"#!/bin/sh\n: >{marker}\nexit 1\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder full of what somebody might import, start or read as settings. Whatever runs leaves a file `marker`."""
    folder, marker = tmp_path / "tree", tmp_path / "marker"
    folder.mkdir()
    code = f"import posix\nposix.close(posix.open({str(marker)!r}, posix.O_CREAT))\nraise SystemExit('hostile')\n"
    for name in MODULES:
        (folder / f"{name}.py").write_text(code)
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    for name in (*PROGRAMS, PLUGIN, "command"):
        executable(folder / name, marker)
    for name in ("pyvenv.cfg", "python311._pth", "setup.cfg", "x.pth"):
        (folder / name).write_text(f"home = {folder}\nimport os; os.system('touch {marker}')\n")
    (folder / ".gnupg").mkdir(mode=0o700)
    for name in ("gpg.conf", "gpg-agent.conf", "common.conf"):
        (folder / ".gnupg" / name).write_text(f"photo-viewer 'touch {marker}'\nagent-program {folder}/command\n")
        shutil.copy(folder / ".gnupg" / name, folder)
    (folder / ".sops.yaml").write_text("creation_rules: [{age: '" + made.RECIPIENT + "'}]\n")
    (folder / ".env").write_text("SOPS_AGE_KEY=" + made.OTHER_IDENTITY + "\n")
    (folder / "libffi.so").write_text("x")
    (folder / "secret.yaml").write_text(made.yaml(made.encrypted()))
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Of Python's and the shell's own variables, those that would load code from `folder`."""
    return {
        "PYTHONPATH": f":.:{folder}",
        "PYTHONHOME": str(folder),
        "PYTHONSTARTUP": str(folder / "yaml.py"),
        "PYTHONUSERBASE": str(folder),
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "json.x",
        "PYTHONWARNINGS": "error::krm_sops.Hostile",
        "PYTHONPLATLIBDIR": str(folder),
        "PYTHONEXECUTABLE": str(folder / "python"),
        "PYTHONPYCACHEPREFIX": str(folder),
        "ENV": str(folder / "command"),
        "BASH_ENV": str(folder / "command"),
        "CDPATH": str(folder),
    }


def test_the_trap_snaps(hostile: Path):
    """An interpreter that takes what the folder offers leaves the marker, and so does a command that is started."""
    marker = hostile.parent / "marker"
    for argv, env in (
        ([sys.executable, "-c", "import yaml"], {}),
        ([sys.executable, "-c", "import re"], {"PYTHONPATH": str(hostile)}),
        (["gpg"], {"PATH": str(hostile)}),
    ):
        subprocess.run(argv, cwd=hostile, env=os.environ | env, capture_output=True, check=False)
        assert marker.exists()
        marker.unlink()


def test_no_module_of_the_working_folder_is_imported(program: Program, hostile: Path):
    """S15: function and verbs, with and without a way that fails."""
    stream = made.resource_list(made.encrypted())
    for env in ({}, environment(hostile)):
        done = program(stdin=stream, cwd=hostile, env=env)
        assert done.returncode == 0, done.stderr
        assert b"plain-of-password" in done.stdout
        assert program(stdin=stream[:-90], cwd=hostile, env=env).returncode == 1
        assert program("--version", cwd=hostile, env=env).returncode == 0
        verb = program("decrypt", "secret.yaml", cwd=hostile, env={**env, "SOPS_AGE_KEY": made.IDENTITY})
        assert verb.returncode == 0, verb.stderr
        assert program("explain", "secret.yaml", cwd=hostile, env=env).returncode == 0
        assert program("filestatus", "secret.yaml", cwd=hostile, env=env).returncode == 0
        pattern = made.encrypted(encrypted_regex="^(stringData|d.ta|spec)$")
        assert program(stdin=made.resource_list(pattern), cwd=hostile, env=env).returncode == 0
    assert not (hostile.parent / "marker").exists()


def test_it_starts_with_the_working_folder_first_on_path(program: Program, hostile: Path):
    """S15: of the programs that the launcher needs, none is looked for where an empty part of PATH says."""
    done = program(
        stdin=made.resource_list(made.encrypted()), cwd=hostile, env={"PATH": f":.:{hostile}:{os.environ['PATH']}"}
    )
    assert done.returncode == 0, done.stderr
    assert not (hostile.parent / "marker").exists()


def foreign_keys() -> list[dict[str, object]]:
    """Documents that nothing at hand opens: an age plugin's, and an OpenPGP key's."""
    key = RsaKey()
    plugin = made.encrypted(age=[{"recipient": bech32.encode("age1mark", bytes(32)), "enc": made.WRAPPED}])
    fields = {"fp": key.fingerprint.hex().upper(), "created_at": made.MODIFIED, "enc": message(key).decode()}
    return [plugin, made.encrypted(age=None, pgp=[fields]), made.encrypted(pgp=[fields])]


def test_function_mode_starts_no_command_gpg_or_plugin(program: Program, hostile: Path):
    """S15: whatever the environment and the functionConfig ask for."""
    identity = bech32.encode("age-plugin-mark-", bytes(32)).upper()
    command = str(hostile / "command")
    env = {
        "PATH": f"{hostile}:{os.environ['PATH']}",
        "HOME": str(hostile),
        "GNUPGHOME": str(hostile / ".gnupg"),
        "SOPS_GPG_EXEC": str(hostile / "gpg"),
        "SOPS_AGE_KEY_CMD": command,
        "SOPS_AGE_SSH_PRIVATE_KEY_CMD": command,
        "SOPS_AGE_KEY": identity,
        "SOPS_KEYSERVICE": f"unix://{command}",
        "SOPS_EDITOR": command,
        "EDITOR": command,
    }
    configs: list[dict[str, object] | None] = [
        None,
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "k"}, "stringData": {"a.agekey": identity}},
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"ambient": "always"}},
        {
            "apiVersion": "krm-sops.dev/v1alpha1",
            "kind": "SopsDecrypt",
            "spec": {"ambient": "always", "keys": [{"value": identity}]},
        },
    ]
    for document in foreign_keys():
        for config in configs:
            done = program(stdin=made.resource_list(document, config=config), cwd=hostile, env=env)
            if b"plain-of" not in done.stdout:
                assert done.returncode == 1
                assert b"NoUsableKey" in done.stdout
    assert not (hostile.parent / "marker").exists()


@pytest.mark.parametrize("name", ["../../mark", "..", "a/b", "x;touch marker", "$(touch marker)", "a b", "", "mark\n"])
def test_plugin_names_are_words(program: Program, hostile: Path, name: str):
    """S15: an identity cannot choose any other program than age-plugin-NAME, not even in the verbs."""
    try:
        identity = bech32.encode(f"age-plugin-{name}-", bytes(32)).upper()
    except ValueError:
        identity = f"AGE-PLUGIN-{name.upper()}-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V"
    (hostile.parent / "mark").write_text("")
    for file in ("keys.txt", "a.agekey"):
        (hostile / file).write_text(identity + "\n")
        done = program(
            "decrypt", "--key-file", file, "secret.yaml", cwd=hostile, env={"PATH": f"{hostile}:/usr/bin:/bin"}
        )
        assert done.returncode == 128
        assert not done.stdout
    assert not (hostile.parent / "marker").exists()
    assert not (hostile / "marker").exists()


def test_the_verbs_start_what_they_may_from_absolute_folders_of_path_only(program: Program, hostile: Path):
    """S15: the working folder, an empty or a relative part of PATH is no place for a program."""
    key = RsaKey()
    fields = {"fp": key.fingerprint.hex().upper(), "created_at": made.MODIFIED, "enc": message(key).decode()}
    (hostile / "pgp.yaml").write_text(made.yaml(made.encrypted(age=None, pgp=[fields])))
    (hostile / "keys.txt").write_text(bech32.encode("age-plugin-mark-", bytes(32)).upper() + "\n")
    for path in (".", "", ".:", "tree", "../tree"):
        env = {"PATH": f"{path}:/nowhere", "SOPS_AGE_KEY_CMD": "command", "GNUPGHOME": str(hostile / ".gnupg")}
        for arguments in (("pgp.yaml",), ("secret.yaml",), ("--key-file", "keys.txt", "secret.yaml")):
            done = program("decrypt", *arguments, cwd=hostile, env=env)
            assert done.returncode == 128, done.stderr
    assert not (hostile.parent / "marker").exists()


def test_a_command_of_the_operator_gets_none_of_our_keys(program: Program, tmp_path: Path):
    """S15: children get a scrubbed environment, and no shell."""
    tell = tmp_path / "tell"
    tell.write_text(f"#!/bin/sh\nenv >{tmp_path}/environment\necho $0 $@ >{tmp_path}/argv\nexit 1\n")
    tell.chmod(0o755)
    secret = tmp_path / "secret.yaml"
    secret.write_text(made.yaml(made.encrypted()))
    env = {
        "SOPS_AGE_KEY_CMD": f"{tell} 'a b' ; touch {tmp_path}/marker $(touch {tmp_path}/marker)",
        "SOPS_AGE_KEY": made.OTHER_IDENTITY,
        "LD_PRELOAD_X": "x",
        "PYTHONPATH": str(tmp_path),
        "BASH_ENV": str(tell),
    }
    assert program("decrypt", secret, env=env).returncode == 128
    said = (tmp_path / "environment").read_text()
    assert made.OTHER_IDENTITY not in said
    assert not any(name in said for name in ("PYTHONPATH", "BASH_ENV", "LD_PRELOAD_X"))
    assert "a b ; touch" in (tmp_path / "argv").read_text()
    assert not (tmp_path / "marker").exists()
