"""The real program, laid out as pip installs it, from the packages that are here already."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import krm_sops

SOURCE = Path(krm_sops.__file__).parent
NEEDED = ("cryptography", "_cffi_backend", "yaml", "re2", "_re2")


class Program:
    """Starts the installed program: bytes in, a finished process with bytes out."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path = path
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home)}

    def __call__(
        self, *arguments: str | Path, stdin: str | bytes = b"", env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.path, *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            env=self.env | (env or {}),
            capture_output=True,
            check=False,
            timeout=120,
            **options,
        )

    def start(
        self, *arguments: str | Path, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.path, *arguments], env=self.env | (env or {}), **options)


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Program:
    prefix = tmp_path_factory.mktemp("installed")
    packages = prefix / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    packages.mkdir(parents=True)
    (prefix / "bin").mkdir()
    interpreter = Path(sys.executable).resolve()
    (prefix / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
    (prefix / "bin" / "python").symlink_to(interpreter)
    shutil.copy(SOURCE / "bin" / "krm-sops", prefix / "bin")
    shutil.copytree(SOURCE, packages / "krm_sops", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in map(Path, sys.path):
        for found in folder.iterdir() if folder.is_dir() else ():
            if found.name.partition(".")[0] in NEEDED and not (packages / found.name).exists():
                (packages / found.name).symlink_to(found)
    subprocess.run([prefix / "bin" / "python", "-I", "-S", "-m", "compileall", "-q", packages / "krm_sops"], check=True)
    return Program(prefix / "bin" / "krm-sops", tmp_path_factory.mktemp("home"))
