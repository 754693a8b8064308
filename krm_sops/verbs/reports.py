"""Findings for people, for programs (JSON), and for code scanning (SARIF 2.1.0).

What a repository calls its files and objects is foreign text: escaped in each form (S33).
"""

from __future__ import annotations

import json
import os
from urllib.parse import quote_from_bytes

from krm_sops import __version__
from krm_sops.errors import shown
from krm_sops.gate import RULES
from krm_sops.registry import Registry
from krm_sops.verbs.files import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.gate import Finding

    Report = Callable[[Sequence[Finding], int], str]

REPORTS: Registry[Report] = Registry(
    text="krm_sops.verbs.reports:text",
    json="krm_sops.verbs.reports:as_json",
    sarif="krm_sops.verbs.reports:sarif",
)
"""By the name of the format: (findings, how many files were looked at) -> text."""


def text(findings: Sequence[Finding], files: int) -> str:
    lines = []
    for finding in findings:
        place = named(finding.file) + (f":{finding.line}" if finding.line else "")
        warning = "warning: " if finding.severity != "error" else ""
        lines.append(f"{place}: {warning}{finding.rule}: {finding.line_text()}")
    hints = dict.fromkeys(f"hint: {finding.rule}: {finding.hint}" for finding in findings)
    summary = [] if findings else [f"{files} {'file' if files == 1 else 'files'} checked, nothing found"]
    return "".join(f"{line}\n" for line in [*lines, *hints, *summary])


def as_json(findings: Sequence[Finding], files: int) -> str:
    return _dumped({"files": files, "findings": [_fields(finding) for finding in findings]})


def _fields(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "message": finding.message,
        "hint": finding.hint,
        "file": _path(finding.file),
        "index": finding.index,
        "line": finding.line,
        "column": finding.column,
        "object": {name: shown(value, 253) for name, value in finding.object.items()},
        "field": shown(finding.field, 1000),
    }


def sarif(findings: Sequence[Finding], _files: int) -> str:
    ids = list(RULES)
    rules = [
        {
            "id": rule,
            "name": rule,
            "shortDescription": {"text": what},
            "help": {"text": f"{what}. {way_out[:1].upper()}{way_out[1:]}."},
            "defaultConfiguration": {"level": "error"},
            "properties": {"tags": ["security"]},
        }
        for rule, (what, way_out) in RULES.items()
    ]
    results = [
        {
            "ruleId": finding.rule,
            "ruleIndex": ids.index(finding.rule),
            "level": finding.severity,
            "message": {"text": finding.line_text().replace("](", "] (")},  # which a viewer would take for a link
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(finding.file)},
                        "region": {"startLine": max(finding.line, 1), "startColumn": max(finding.column, 1)},
                    }
                }
            ],
        }
        for finding in findings
    ]
    driver = {"name": "krm-sops", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
    return _dumped({"$schema": schema, "version": "2.1.0", "runs": [run]})


def _dumped(whole: object) -> str:
    """In ASCII, and harmless inside of a page too."""
    text = json.dumps(whole, indent=2)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"


def _path(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _uri(path: str) -> str:
    """Relative to the working folder for what is below it."""
    below = os.path.relpath(path)
    if below == ".." or below.startswith("../"):
        return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))
    return quote_from_bytes(os.fsencode(below))
