"""Inputs that fuzzing once broke something with: the law of fuzz/targets.py holds for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

FOLDER = Path(__file__).resolve().parents[1] / "vectors/fuzz"
INPUTS = sorted(path.relative_to(FOLDER) for path in FOLDER.glob("*/*"))


def keeps_to_the_law(name: str, data: bytes) -> None:
    if name == "key-service":
        pytest.importorskip("h2")
    TARGETS[name](data)


@pytest.mark.parametrize("path", INPUTS, ids=str)
def test_a_kept_input_keeps_to_the_law(path: Path) -> None:
    """A result or one KrmSopsError, whose words are one line without a secret; and what the target says besides."""
    keeps_to_the_law(path.parent.name, (FOLDER / path).read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xfe\x00", b"a: b\n", b"{}", b"\x01[1]"], ids=repr)
def test_a_small_input_keeps_to_the_law(name: str, data: bytes) -> None:
    keeps_to_the_law(name, data)
