"""What an audit found, for people and as JSON. Files, names and recipients are foreign text, escaped in both (S33)."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from krm_sops.errors import shown
from krm_sops.registry import Registry
from krm_sops.verbs.files import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from krm_sops.audit.documents import Document
    from krm_sops.audit.gitobjects import Revision
    from krm_sops.audit.history import Value
    from krm_sops.keys.base import MasterKey

REPORTS: Registry[Callable[[Report], str]] = Registry(
    text="krm_sops.verbs.audit_reports:text", json="krm_sops.verbs.audit_reports:as_json"
)


class Finding:
    """kind: one of audit.KINDS."""

    __slots__ = ("file", "kind", "message")

    def __init__(self, kind: str, file: str, message: str) -> None:
        self.kind = kind
        self.file = file
        self.message = message


class Audited:
    """rules: the path of its `.sops.yaml`, or "".  drift: what differs from its rule.  mac: "" where not looked at."""

    __slots__ = ("document", "drift", "is_covered", "mac", "rules")

    def __init__(self, document: Document, rules: str) -> None:
        self.document = document
        self.rules = rules
        self.is_covered = False
        self.drift: list[str] = []
        self.mac = ""


class Report:
    """names: of keys, by their case-folded identities.  history: documents of all revisions.

    values: by recipient as it was asked for, what that can open, or could.
    """

    def __init__(self) -> None:
        self.documents: list[Audited] = []
        self.findings: list[Finding] = []
        self.names: dict[str, str] = {}
        self.history: list[tuple[Revision | None, Document]] = []
        self.values: dict[str, list[Value]] = {}

    def find(self, kind: str, file: str, message: str) -> None:
        self.findings.append(Finding(kind, file, message))

    def name_of(self, key: MasterKey) -> str:
        return self.names.get(key.identity.casefold(), "")

    def with_names(self, message: str) -> str:
        """The name behind each key that a message names."""
        for identity, name in self.names.items():
            if identity in message.casefold():
                return f"{message} ({shown(name, 80)})"
        return message

    def recipients(self) -> list[tuple[MasterKey, list[Document]]]:
        """Each key, and what it opens; most first."""
        found: dict[tuple[str, str], tuple[MasterKey, list[Document]]] = {}
        for audited in self.documents:
            for key in audited.document.metadata.keys():  # noqa: SIM118
                documents = found.setdefault((key.section, key.identity), (key, []))[1]
                if audited.document not in documents:
                    documents.append(audited.document)
        return sorted(found.values(), key=lambda one: (-len(one[1]), one[0].section, one[0].identity))


# For people


def text(report: Report) -> str:
    lines = _values(report) if report.values else _overview(report)
    lines += [f"{named(found.file)}: {found.kind}: {found.message}" for found in report.findings]
    return "".join(f"{line}\n" for line in lines)


def _overview(report: Report) -> list[str]:
    if not report.documents:
        return ["no encrypted document found"]
    rows = [("FILE", "KEY SINCE", "OPENED BY")]
    for audited in report.documents:
        document = audited.document
        place = named(document.file) + (f"[{document.index}]" if document.index else "")
        place += f" ({shown(document.field, 80)})" if document.field else ""
        rows.append((place, document.key_since.date().isoformat(), _openers(document, report)))
    lines = _table(rows)
    rows = [("RECIPIENT", "NAME", "OPENS")]
    for key, documents in report.recipients():
        rows.append((f"{key.section} {_short(key)}", shown(report.name_of(key), 40), _counted(documents)))
    lines += ["", *_table(rows), ""]
    unknown = sum(audited.mac == "unknown" for audited in report.documents)
    if unknown:
        lines += [f"MACs that no key at hand could check: {unknown} of {len(report.documents)}"]
    return lines


def _openers(document: Document, report: Report) -> str:
    groups = [
        ", ".join(shown(report.name_of(key), 40) or _short(key) for key in group)
        for group in document.metadata.key_groups
    ]
    if len(groups) == 1:
        return groups[0]
    return f"{document.needed} of {len(groups)} groups: " + " + ".join(f"({group})" for group in groups)


def _short(key: MasterKey) -> str:
    """Enough of a key to know it by: of an age recipient or fingerprint not all of it."""
    identity = key.identity
    return shown(
        f"{identity[:16]}…{identity[-6:]}" if key.section in ("age", "pgp") and len(identity) > 40 else identity
    )


def _counted(documents: Sequence[Document]) -> str:
    return "1 document" if len(documents) == 1 else f"{len(documents)} documents"


def _values(report: Report) -> list[str]:
    lines = []
    for wanted, values in report.values.items():
        if values:
            rows = [("FILE", "VALUE", "FIRST IN", "NOW", "")]
            for value in values:
                there = "there" if value.is_there else "gone"
                rows.append((named(value.file), shown(value.path), _revision(value), there, _how(value)))
            lines += [*_table(rows), ""]
        count = len({(value.file, value.path) for value in values})
        files = len({value.file for value in values})
        now = sum(value.is_there for value in values)
        what = f"{count} values in {files} files, {len(values)} versions of them; {now} of these are there now"
        lines.append(f"{shown(wanted, 80)}: {what}")
    return lines


def _revision(value: Value) -> str:
    if value.revision is None:
        return "the files"
    return f"{value.revision.commit[:12]} {_time(value.revision)[:10]}"


def _how(value: Value) -> str:
    told = ["not a recipient, but the data key is an earlier one's"] if value.by_data_key else []
    told += [f"with keys of {value.groups} more groups"] if value.groups else []
    return ", ".join(told)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# For programs


def as_json(report: Report) -> str:
    whole: dict[str, object] = {
        "documents": [_document(audited, report) for audited in report.documents],
        "recipients": [
            {**_key(key, report), "documents": len(documents), "files": _paths(one.file for one in documents)}
            for key, documents in report.recipients()
        ],
        "findings": [
            {"kind": found.kind, "file": _path(found.file), "message": found.message} for found in report.findings
        ],
    }
    if report.values:
        whole["values"] = {shown(wanted, 1000): [_value(one) for one in some] for wanted, some in report.values.items()}
    return json.dumps(whole, indent=2) + "\n"


def _document(audited: Audited, report: Report) -> dict[str, object]:
    document = audited.document
    metadata = document.metadata
    return {
        "file": _path(document.file),
        "index": document.index,
        "field": shown(document.field, 1000),
        "lastModified": metadata.lastmodified,
        "keySince": document.key_since.isoformat(),
        "keyGroups": [[_key(key, report) for key in group] for group in metadata.key_groups],
        "groupsNeeded": document.needed,
        "selection": {metadata.selection.rule: shown(metadata.selection.pattern, 1000)},
        "macOnlyEncrypted": metadata.mac_only_encrypted,
        "rules": _path(audited.rules) if audited.is_covered else None,
        "drift": [report.with_names(what) for what in audited.drift],
        "mac": audited.mac or None,
    }


def _key(key: MasterKey, report: Report) -> dict[str, object]:
    created = key.fields().get("created_at", "")
    found: dict[str, object] = {"type": key.section, "recipient": shown(key.identity, 4000)}
    found |= {"name": shown(report.name_of(key))} if report.name_of(key) else {}
    return found | ({"createdAt": shown(created)} if created else {})


def _value(value: Value) -> dict[str, object]:
    return {
        "file": _path(value.file),
        "path": shown(value.path, 1000),
        "commit": value.revision.commit if value.revision else None,
        "time": _time(value.revision) if value.revision else None,
        "isThere": value.is_there,
        "byDataKey": value.by_data_key,
        "otherGroups": value.groups,
    }


def _time(revision: Revision) -> str:
    return datetime.fromtimestamp(revision.time, UTC).isoformat()


def _path(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _paths(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(_path, paths)))
