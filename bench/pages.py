"""The pages that the figures stand in: written by people, but for what is between two marks."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def fill(page: str, name: str, text: str) -> None:
    """Put text between ``<!-- bench NAME -->`` and ``<!-- end -->``."""
    path = DOCS / page
    before, mark, rest = path.read_text(encoding="utf-8").partition(f"<!-- bench {name} -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    if not end:
        sys.exit(f"{page} has no place for {name}")
    path.write_text(f"{before}{mark}{text}\n{end}{after}", encoding="utf-8")


def table(head: str, rows: list[list[str]]) -> str:
    """head: the names of columns; those that begin with ``>`` are aligned to the right."""
    names = [name.strip() for name in head.split("|")]
    lines = ["| " + " | ".join(name.lstrip(">") for name in names) + " |"]
    lines.append("| " + " | ".join("---:" if name.startswith(">") else "---" for name in names) + " |")
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.1f}"


def megabytes(memory: float) -> str:
    return f"{memory / 1e6:,.0f}"
