"""The recorded documents of tests/vectors/stores/plain.json, and trees in their notation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from krm_sops.tree import Branch, Comment, to_bytes

FOLDER = Path(__file__).parent.parent / "vectors/stores"


def rows(format_: str) -> list[Any]:
    found = [row for row in json.loads((FOLDER / "plain.json").read_text()) if row["format"] == format_]
    assert len(found) > 10
    return found


def latin(text: str) -> str:
    return to_bytes(text).decode("latin-1")


def notation(node: object) -> Any:
    if isinstance(node, Branch):
        entries: list[Any] = []
        for entry in node.entries:
            if isinstance(entry.key, Comment):
                entries.append(["#", latin(entry.key.text)])
            else:
                assert isinstance(entry.key, str)
                entries.append([latin(entry.key), notation(entry.value)])
        return {"branch": entries}
    if isinstance(node, list):
        return {"list": [notation(element) for element in node]}
    if isinstance(node, bool):
        return {"bool": node}
    if isinstance(node, int):
        return {"int": str(node)}
    if isinstance(node, float):
        return {"float": node.hex()}
    if isinstance(node, str):
        return {"str": latin(node)}
    assert node is None
    return None
