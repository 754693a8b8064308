"""kpt, kubectl and kustomize as users start them, and the examples that they are tried on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
IMAGE = "localhost/krm-sops"  # what `make image` builds, and what examples and pages name
KEY = "AGE-SECRET-KEY-1EXW0XGT73YTJT9T6XF5QK83VDAPGHPFM59HV874YWKT3Y39VJJZSNQKA57"  # of the examples
WRONG_KEY = "AGE-SECRET-KEY-1C0FGEHGH24A3K85GHPTZL7H6SULTAX0JSA0XE03VVUYYH0N0LZFQ0J237N"
PASSWORD = "correct horse battery staple"  # in database.enc.yaml of every example that has one


class Clients:
    """Programs with this checkout's krm-sops first on PATH, podman for docker, and no keys of the caller."""

    def __init__(self, folder: Path) -> None:
        programs = folder / "bin"
        programs.mkdir()
        start = programs / "krm-sops"
        start.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m krm_sops "$@"\n')
        start.chmod(0o755)
        podman = shutil.which("podman")
        if podman:  # kubectl and kustomize know no other name
            (programs / "docker").symlink_to(podman)
        go = Path(os.environ.get("GOBIN") or Path.home() / "go" / "bin")
        self.path = os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath), str(go)))
        self.env = {name: value for name, value in os.environ.items() if "SOPS" not in name}
        self.env |= {"PATH": self.path, "KPT_CACHE_DIR": str(folder / "kpt")}
        self.env |= dict.fromkeys(("KPT_FN_RUNTIME", "KRM_FN_RUNTIME"), "podman")

    def need(self, *names: str) -> None:
        for name in names:
            if shutil.which(name, path=self.path) is None:
                pytest.skip(f"{name} is not installed")

    def run(self, *argv: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        self.need(str(argv[0]))
        return subprocess.run(argv, cwd=cwd, env=self.env | env, capture_output=True, text=True, timeout=300)


def copy(name: str, folder: Path, *changes: tuple[str, str]) -> Path:
    """An example below `folder`, ready for its client, with texts replaced in all of its files."""
    example = shutil.copytree(EXAMPLES / name, folder / name)
    for file in files(example):
        text = file.read_text()
        for old, new in changes:
            text = text.replace(old, new)
        file.write_text(text)
    return example


def kpt_package(name: str, folder: Path, *changes: tuple[str, str]) -> Path:
    package = copy(name, folder, *changes)
    (package / "Kptfile.example").rename(package / "Kptfile")
    return package


def files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in files(folder)}
