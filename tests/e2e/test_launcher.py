"""The launcher finds interpreter and packages wherever pip put them, and nothing in the working folder.

The packages here are stand-ins; tests/e2e/test_install.py installs the real ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import krm_sops

LAUNCHER = Path(krm_sops.__file__).parent / "bin" / "krm-sops"
INTERPRETER = Path(sys.executable).resolve()
SITE = Path("lib", "python{}.{}".format(*sys.version_info), "site-packages")
PROGRAM = """\
import json, sys
def console():
    import yaml
    print(json.dumps({"argv": sys.argv, "path": sys.path, "site": "site" in sys.modules, "yaml": yaml.__file__}))
    return 7
"""
OTHERS = ("cryptography", "_cffi_backend", "re2", "yaml")


def packages(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    if "krm_sops" in names:
        (folder / "krm_sops" / "cli.py").write_text(PROGRAM)


def launcher(prefix: Path) -> Path:
    (prefix / "bin").mkdir(parents=True)
    return Path(shutil.copy(LAUNCHER, prefix / "bin"))


def venv(prefix: Path, *names: str) -> Path:
    """A virtual environment with stand-ins for these packages; its launcher."""
    found = launcher(prefix)
    (prefix / "pyvenv.cfg").write_text(f"home = {INTERPRETER.parent}\n")
    (prefix / "bin" / "python").symlink_to(INTERPRETER)
    packages(prefix / SITE, *names)
    return found


def start(*argv: str | Path, **options: object) -> dict[str, object]:
    done = subprocess.run(argv, capture_output=True, text=True, **options)
    assert done.returncode == 7, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("folder", ["env", "with a space", "café"])
def test_in_a_virtual_environment_the_start_is_bare_and_the_status_the_programs_own(tmp_path, folder):
    said = start(venv(tmp_path / folder, "krm_sops", *OTHERS), "decrypt", "a b", "")
    assert said["argv"][1:] == ["decrypt", "a b", ""]
    assert said["path"][-1] == str(tmp_path / folder / SITE)
    assert not said["site"]


def test_the_name_it_was_started_under_arrives_through_links_of_links(tmp_path):
    venv(tmp_path / "env", "krm_sops", *OTHERS)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "ksops").symlink_to("../env/bin/krm-sops")
    (tmp_path / "sops").symlink_to(tmp_path / "far" / "ksops")
    assert start("./sops", cwd=tmp_path)["argv"][0] == "./sops"
    assert start("ksops", env={"PATH": f"{tmp_path}/far:{os.environ['PATH']}"})["argv"][0] == f"{tmp_path}/far/ksops"


def test_it_starts_from_its_own_folder_without_a_path(tmp_path):
    here = venv(tmp_path, "krm_sops", *OTHERS).parent
    assert start(sys.executable, "-c", "import os; os.execv('krm-sops', ['krm-sops'])", cwd=here)["argv"] == [
        "krm-sops"
    ]


def test_elsewhere_the_interpreter_is_the_console_scripts(tmp_path):
    found = launcher(tmp_path)
    (found.parent / "krm-sops-plain").write_text(f"#!{INTERPRETER}\nraise SystemExit('not this way')\n")
    packages(tmp_path / SITE, "krm_sops", *OTHERS)
    said = start(found, env={})
    assert said["path"][-1] == str(tmp_path / SITE)
    assert not said["site"]


def test_packages_of_a_target_folder_are_found(tmp_path):
    found = launcher(tmp_path)
    (found.parent / "krm-sops-plain").write_text(f"#!{INTERPRETER}\n")
    packages(tmp_path, "krm_sops", *OTHERS)
    assert start(found, env={})["path"][-1] == str(tmp_path)


def test_packages_of_a_target_folder_are_found_through_a_link(tmp_path):
    found = launcher(tmp_path / "target")
    (found.parent / "krm-sops-plain").write_text(f"#!{INTERPRETER}\n")
    packages(tmp_path / "target", "krm_sops", *OTHERS)
    (tmp_path / "ksops").symlink_to(found)
    assert start(tmp_path / "ksops", env={"PATH": "/usr/bin:/bin"})["path"][-1] == str(tmp_path / "target")


def test_a_link_among_the_folders_above_it_does_no_harm(tmp_path):
    venv(tmp_path / "env", "krm_sops", *OTHERS)
    (tmp_path / "tools").symlink_to("env/bin")
    assert start(tmp_path / "tools" / "krm-sops")["path"][-1] == str(tmp_path / "env" / SITE)


def test_a_console_script_whose_first_line_is_a_shell_is_started_itself(tmp_path):
    found = launcher(tmp_path)
    plain = found.parent / "krm-sops-plain"
    plain.write_text('#!/bin/sh\nprintf \'{"plain": "%s"}\' "$1"; exit 7\n')
    plain.chmod(0o755)
    assert start(found, "it is") == {"plain": "it is"}


def test_where_a_package_is_elsewhere_python_starts_as_it_normally_does(tmp_path):
    found = venv(tmp_path / "env", "krm_sops", "cryptography", "_cffi_backend", "re2")
    packages(tmp_path / "elsewhere", "yaml")
    (tmp_path / "env" / SITE / "more.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
    said = start(found)
    assert said["site"]
    assert said["yaml"] == str(tmp_path / "elsewhere" / "yaml" / "__init__.py")


@pytest.mark.parametrize("missing", [(), ("yaml",)])
def test_nothing_of_the_working_folder_or_the_environment_is_imported(tmp_path, missing):
    """S15, on the bare start and on the normal one."""
    found = venv(tmp_path / "env", "krm_sops", *(name for name in OTHERS if name not in missing))
    packages(tmp_path / "elsewhere", *missing)
    (tmp_path / "env" / SITE / "more.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in (
        "yaml",
        "json",
        "os",
        "site",
        "krm_sops",
        "cryptography",
        "sitecustomize",
        "usercustomize",
        "encodings",
    ):
        (hostile / f"{name}.py").write_text("open('marker', 'w')\nraise SystemExit('hostile')\n")
    variables = {"PYTHONPATH": f":.:{hostile}", "PYTHONHOME": str(hostile), "PYTHONSTARTUP": "yaml.py"}
    said = start(found, cwd=hostile, env=os.environ | variables)
    assert str(hostile) not in said["path"]
    assert "" not in said["path"]
    assert not (hostile / "marker").exists()


def test_alone_it_says_what_is_missing(tmp_path):
    found = launcher(tmp_path)
    done = subprocess.run([found], capture_output=True, text=True)
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr == (
        f"krm-sops: error: no interpreter beside {found}: mount the whole folder at /usr/local/lib/krm-sops\n"
    )
