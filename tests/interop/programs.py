"""This checkout's program under the name of another, for tests that put it in the other's place."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def link(folder: Path, name: str) -> Path:
    """A program `name` in `folder`, which is krm-sops started under that name."""
    start = f"import sys; sys.argv[0] = {name!r}; from krm_sops.cli import console; console()"
    program = folder / name
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -c "{start}" "$@"\n')
    program.chmod(0o755)
    return program
