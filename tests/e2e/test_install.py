"""The program as pip installs it, and as a standalone folder: each decrypts a stream that it has not seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import PLAINTEXT, VALUES
from bench.generate import for_age

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*argv: str | Path, **options: object) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def decrypts(*argv: str | Path, **options: object) -> bool:
    output = run(*argv, input=for_age(4, 2), **options)
    return output.count(PLAINTEXT) == 2 * VALUES and "ENC[" not in output and "sops:" not in output


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout, because pip builds in place."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "krm_sops", copy / "krm_sops", ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory) -> Path:
    """The bin folder of a virtual environment that holds the program and what it needs."""
    env = tmp_path_factory.mktemp("env")
    run(sys.executable, "-m", "venv", env)
    run(env / "bin" / "pip", "install", "--quiet", source)
    return env / "bin"


@pytest.fixture(scope="module")
def standalone(installed, tmp_path_factory) -> Path:
    """A standalone folder, away from where it was built."""
    if not sys.platform.startswith("linux"):
        pytest.skip("standalone folders are for Linux")
    built = tmp_path_factory.mktemp("build") / "built"
    run(installed / "python", "-m", "krm_sops.standalone", built)
    return built.rename(tmp_path_factory.mktemp("moved") / "krm-sops")


@pytest.mark.parametrize("start", ["krm-sops", "krm-sops-plain"])
def test_installed_by_pip_it_decrypts_without_any_variable(installed, start):
    assert decrypts(installed / start, env={})


def test_installed_for_development_it_decrypts(source, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path)
    run(tmp_path / "bin" / "pip", "install", "--quiet", "--editable", source)
    assert decrypts(tmp_path / "bin" / "krm-sops", env={})


def test_installed_into_a_target_folder_it_decrypts(installed, source, tmp_path):
    run(installed / "pip", "install", "--quiet", "--target", tmp_path / "target", source)
    assert decrypts(tmp_path / "target" / "bin" / "krm-sops", env={})


def test_a_hostile_working_folder_is_not_imported(installed, tmp_path):
    """S15"""
    for name in ("yaml", "re2", "cryptography", "json", "re", "krm_sops", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("open('marker', 'w')\n")
    assert decrypts(installed / "krm-sops", cwd=tmp_path, env={"PYTHONPATH": f":{tmp_path}"})
    assert not (tmp_path / "marker").exists()


def test_a_standalone_folder_decrypts_wherever_it_stands(standalone):
    assert decrypts(standalone / "bin" / "krm-sops", env={})


def test_a_standalone_folder_is_for_everyone_and_holds_no_sources(standalone):
    for path in standalone.rglob("*"):
        assert path.suffix != ".py"
        assert path.stat().st_mode & 0o755 == 0o755 or (path.is_file() and path.stat().st_mode & 0o777 == 0o644), path


def test_a_standalone_folder_runs_no_code_of_the_machine(standalone, tmp_path):
    """Its loader opens no library and its interpreter no module but its own."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-o", trace, "-e", "trace=open,openat,openat2,execve"]
    loader = [standalone / "lib" / "krm-sops", "--inhibit-cache", "--library-path", standalone / "lib"]
    python = [standalone / "bin" / "python", "-I", "-S", "-X", "utf8", standalone / "bin" / "krm-sops"]
    assert decrypts(*strace, *loader, *python, env={})
    opened = [line.split('"')[1] for line in trace.read_text().splitlines() if '"' in line and "ENOENT" not in line]
    code = [path for path in opened if ".so" in path or ".py" in path or "python" in path]
    assert len(code) > 30
    assert [path for path in code if not path.startswith(str(standalone))] == []


def test_every_module_of_the_program_can_be_imported_in_a_standalone_folder(standalone):
    """What the standard library was cut down to is enough."""
    site = next((standalone / "lib").glob("python3.*")) / "site-packages"
    program = (
        "import pkgutil, sys\n"
        f"sys.path.append({str(site)!r})\n"
        "import krm_sops\n"
        "for module in pkgutil.walk_packages(krm_sops.__path__, 'krm_sops.'):\n"
        "    if module.name not in ('krm_sops.__main__', 'krm_sops.standalone'):\n"
        "        __import__(module.name)\n"
        "import bz2, email, hashlib, http.client, ssl, subprocess, tarfile, threading, urllib.request, zlib\n"
        "import cryptography.x509, re2, yaml\n"
    )
    loader = [standalone / "lib" / "krm-sops", "--library-path", standalone / "lib"]
    run(*loader, standalone / "bin" / "python", "-I", "-S", "-W", "error", "-c", program, env={})


def test_a_standalone_folder_is_never_built_over_something_else(installed, tmp_path):
    done = subprocess.run(
        [installed / "python", "-m", "krm_sops.standalone", tmp_path], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 1
    assert done.stderr == f"krm-sops: error: {tmp_path} exists already\n"
