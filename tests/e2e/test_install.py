"""The program as pip installs it, and as a standalone folder: each decrypts a stream that it has not seen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cases import PLAINTEXT, VALUES
from bench.generate import for_age
from tests.e2e.clients import KEY, PASSWORD, copy

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


# krm-sops install


@pytest.fixture(scope="module")
def tools(installed, tmp_path_factory) -> Path:
    """What `krm-sops install` made, away from where it was made."""
    if not sys.platform.startswith("linux"):
        pytest.skip("standalone folders are for Linux")
    made = tmp_path_factory.mktemp("made") / "tools"
    said = run(installed / "krm-sops", "install", made, "--as", "ksops", umask=0o077, env={})
    assert said.endswith(f"; put {made}/bin on PATH\n")
    return made.rename(tmp_path_factory.mktemp("moved") / "tools")


def trees(tools: Path) -> list[str]:
    return sorted(path.name for path in (tools / "lib").iterdir())


@pytest.mark.parametrize("name", ["krm-sops", "ksops"])
def test_an_installed_folder_has_its_programs_in_bin(tools, name):
    assert run(tools / "bin" / name, "--version", env={}).startswith("krm-sops ")
    assert sorted(path.name for path in (tools / "bin").iterdir()) == ["krm-sops", "ksops"]


def test_an_installed_folder_decrypts_wherever_it_stands(tools):
    assert decrypts(tools / "bin" / "krm-sops", env={})


def test_an_installed_folder_is_for_everyone_whatever_the_umask(tools):
    for path in (tools, *tools.rglob("*")):
        mode = path.stat().st_mode & 0o777
        assert mode == 0o755 or (path.is_file() and mode == 0o644), path


def test_an_installed_folder_copies_itself_and_a_second_time_replaces_the_first(tools, tmp_path):
    dest = tmp_path / "dest"
    run(tools / "bin" / "krm-sops", "install", dest, env={})
    first = trees(dest)
    run(dest / "bin" / "krm-sops", "install", dest, env={})
    second = trees(dest)
    assert len(second) == len(first) == 2
    assert second != first
    assert sorted(path.name for path in (dest / "bin").iterdir()) == ["krm-sops"]
    assert decrypts(dest / "bin" / "krm-sops", env={})
    (own,), (copied,) = ((folder / "lib").glob("krm-sops-*") for folder in (tools, dest))
    assert {path.relative_to(own): path.read_bytes() for path in own.rglob("*") if path.is_file()} == {
        path.relative_to(copied): path.read_bytes() for path in copied.rglob("*") if path.is_file()
    }


def test_a_launcher_that_is_mounted_alone_says_what_is_missing(tools, tmp_path):
    """What a `subPath` mount of the launcher comes to, without the folder."""
    if Path("/usr/local/lib/krm-sops").exists():
        pytest.skip("there is a folder to find")
    alone = tmp_path / "bin" / "krm-sops"
    alone.parent.mkdir()
    shutil.copy(tools / "bin" / "krm-sops", alone)
    done = subprocess.run([alone, "--version"], capture_output=True, text=True, env={"PATH": os.defpath})
    assert done.returncode == 1
    assert "mount the whole folder at /usr/local/lib/krm-sops" in done.stderr


@pytest.mark.parametrize("there", ["bin/krm-sops-plain", "lib/krm-sops/file"])
def test_what_another_installer_made_is_left_alone(tools, tmp_path, there):
    other = tmp_path / there
    other.parent.mkdir(parents=True)
    other.write_text("theirs")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run([tools / "bin" / "krm-sops", "install", tmp_path], capture_output=True, text=True, env={})
    assert done.returncode == 1
    assert done.stderr.startswith("krm-sops: error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_install_that_fails_leaves_the_earlier_one_and_nothing_else(tools, tmp_path):
    """No file may grow beyond a megabyte here, as on a full disk."""
    run(tools / "bin" / "krm-sops", "install", tmp_path, env={})
    before = trees(tmp_path)
    limited = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    argv = [sys.executable, "-c", limited, tools / "bin" / "krm-sops", "install", tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": os.defpath})
    assert done.returncode == 1
    assert done.stderr == f"krm-sops: error: cannot install into {tmp_path}: File too large\n"
    assert trees(tmp_path) == before
    assert decrypts(tmp_path / "bin" / "krm-sops", env={})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "install needs one folder"),
        (["a", "b"], "install needs one folder"),
        (["a", "--as", "ls"], "--as ls is unknown; allowed: ksops, SopsSecretGenerator, sops"),
    ],
)
def test_wrong_arguments_are_told(tools, tmp_path, arguments, message):
    done = subprocess.run(
        [tools / "bin" / "krm-sops", "install", *arguments], capture_output=True, text=True, env={}, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


class Root:
    """A root folder without Python: what is installed at /tools, and a shell where asked for.

    Programs in it run as uid 999, which nobody knows, with a read-only root, a /tmp that nothing can be executed from,
    no /proc, no home, no variables and no network.
    """

    def __init__(self, folder: Path, tools: Path, *, shell: bool) -> None:
        if os.geteuid() or not all(map(shutil.which, ("unshare", "chroot", "mount"))):
            pytest.skip("another root needs unshare, chroot, mount and root's power")
        self.folder = folder
        (folder / "tmp").mkdir(parents=True)
        shutil.copytree(tools, folder / "tools", symlinks=True)
        if shell:
            self.add("/bin/sh")

    def add(self, program: str) -> None:
        """A program and the libraries that the loader finds for it, at their own places."""
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for path in (program, *(word for word in listed.split() if word.startswith("/"))):
            place = self.folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)

    def decrypts(self, *argv: str) -> bool:
        strict = (
            'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && mount -t tmpfs -o noexec none "$0/tmp" && '
            'exec env -i "$CHROOT" --userspec=999:999 "$0" "$@"'
        )
        chroot = str(shutil.which("chroot"))
        unshare = ["unshare", "--mount", "--net", "sh", "-c", strict, self.folder]
        return decrypts(*unshare, *argv, env={"PATH": os.environ["PATH"], "CHROOT": chroot})


def test_in_a_root_with_a_shell_and_no_python_it_decrypts(tools, tmp_path):
    root = Root(tmp_path / "root", tools, shell=True)
    assert root.decrypts("/tools/bin/krm-sops")
    assert root.decrypts("/tools/bin/ksops", "--strict")


def test_in_an_empty_root_it_decrypts_where_the_loader_is_named(tools, tmp_path):
    root = Root(tmp_path / "root", tools, shell=False)
    at = "/tools/lib/krm-sops"
    loader = [f"{at}/lib/krm-sops", "--inhibit-cache", "--library-path", f"{at}/lib"]
    assert root.decrypts(*loader, f"{at}/bin/python", "-I", "-S", "-X", "utf8", f"{at}/bin/krm-sops")


def test_a_launcher_mounted_alone_finds_the_folder_at_its_usual_place(tools, tmp_path):
    root = Root(tmp_path / "root", tools, shell=True)
    (root.folder / "usr" / "local" / "lib").mkdir(parents=True)
    (root.folder / "usr" / "local" / "bin").mkdir()
    (tree,) = (root.folder / "tools" / "lib").glob("krm-sops-*")
    tree.rename(root.folder / "usr" / "local" / "lib" / "krm-sops")
    (root.folder / "tools" / "bin" / "ksops").rename(root.folder / "usr" / "local" / "bin" / "ksops")
    assert root.decrypts("/usr/local/bin/ksops", "--strict")


def test_plugins_are_linked_where_kustomize_looks_for_them(tools, tmp_path):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": os.environ["PATH"], "SOPS_AGE_KEY": KEY}
    links = run(tools / "bin" / "krm-sops", "install", "--legacy-plugins", env=env).splitlines()
    assert f"{tmp_path}/config/kustomize/plugin/viaduct.ai/v1/ksops/ksops" in links
    package = copy("kustomize-exec", tmp_path)
    config = package / "decrypt.yaml"
    config.write_text(re.sub(r"^  annotations:\n(    .*\n)+", "", config.read_text(), flags=re.MULTILINE))
    output = run("kubectl", "kustomize", "--enable-alpha-plugins", package, env=env)
    assert PASSWORD in output
    assert "ENC[" not in output
    run(tools / "bin" / "krm-sops", "install", "--legacy-plugins", tmp_path / "other", env=env)
    assert (tmp_path / "other" / "viaduct.ai" / "v1" / "ksops" / "ksops").is_symlink()
