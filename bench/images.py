"""Containers: our image, and one with nothing in it but ksops, as nobody's registry can be asked here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

OURS = "localhost/krm-sops"
KSOPS = "localhost/bench-ksops"
_FILE = 'FROM scratch\nCOPY . /\nENTRYPOINT ["/ksops"]\n'


def sizes() -> dict[str, float]:
    """Image -> bytes, of those that are there."""
    found = {}
    if shutil.which("podman"):
        for image in (OURS, KSOPS):
            done = _podman("image", "inspect", "--format", "{{.Size}}", image)
            if done.returncode == 0:
                found[image] = float(done.stdout)
    return found


def make_ksops(program: str) -> None:
    """At its best: the binary and what it is linked with, where the published image has kustomize besides."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        shutil.copy(program, top / "ksops")
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout  # noqa: S607
        for library in (word for word in linked.split() if word.startswith("/")):
            target = top / library[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(library), target)
        (top / "Containerfile").write_text(_FILE)
        (top / ".containerignore").write_text("Containerfile\n")
        _podman("build", "--quiet", "--tag", KSOPS, folder)


def _podman(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
