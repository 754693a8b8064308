"""Peers' own fixtures, found through KRM_SOPS_CORPUS; tests over them skip by name where they are absent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("KRM_SOPS_CORPUS") or ROOT.parent / "shared" / "corpus")
PRESENT = (CORPUS / "index.json").is_file()
needs_corpus = pytest.mark.skipif(not PRESENT, reason="no corpus of peer fixtures (KRM_SOPS_CORPUS)")


def cases(*kinds: str) -> list[dict[str, Any]]:
    """The cases of these kinds; one empty stand-in where there is no corpus, so that the skip is counted."""
    if not PRESENT:
        return [{"id": "absent"}]
    index: list[dict[str, Any]] = json.loads((CORPUS / "index.json").read_text())
    found = [case for case in index if case["kind"] in kinds]
    assert found, f"the corpus has no case of kind {kinds}"
    return found


def path(relative: str) -> Path:
    return CORPUS / relative
