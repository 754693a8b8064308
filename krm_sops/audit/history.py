"""Every value that somebody could ever open, from all that a repository ever held.

Whoever could open one document has its data key. Where that was not replaced since (`rotate`), it opens later documents
as well, though they name other recipients: these hold ciphertexts, or a MAC, that the earlier document held.
"""

from __future__ import annotations

from krm_sops.audit import documents
from krm_sops.audit.names import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from krm_sops.audit.documents import Document, Recipient
    from krm_sops.audit.gitobjects import GitObjects, Revision
    from krm_sops.limits import Limits

    Found = tuple[Revision | None, Document]

RULES_FILE = ".sops.yaml"
_MANY = 500


class Value:
    """revision: where it stands first, None for files as they are now.  is_there: it still does.

    by_data_key: no document names the recipient, but the data key is that of one that did.
    groups: how many other key groups' keys it takes.
    """

    __slots__ = ("by_data_key", "file", "groups", "is_there", "path", "revision")

    def __init__(self, file: str, path: str, revision: Revision | None, groups: int) -> None:
        self.file = file
        self.path = path
        self.revision = revision
        self.groups = groups
        self.by_data_key = True
        self.is_there = False


class History:
    """documents: of all revisions, parents first.  names: of keys, in any `.sops.yaml` there ever was."""

    def __init__(self, objects: GitObjects, limits: Limits) -> None:
        """Raises KrmSopsError."""
        self.documents: list[Found] = []
        self.names: dict[str, str] = {}
        self.problems: list[str] = []
        where: dict[str, dict[str, Revision]] = {}
        for revision, path, digest in objects.added():
            where.setdefault(digest, {}).setdefault(path, revision)
        digests = list(where)
        for start in range(0, len(digests), _MANY):
            for digest, raw in objects.blobs(digests[start : start + _MANY], limits.input_bytes):
                for path, revision in where.pop(digest).items():
                    self._file(raw, path, revision, limits)
        for paths in where.values():
            self.problems += [
                f"{path}@{one.commit[:12]}: larger than the limit input_bytes" for path, one in paths.items()
            ]

    def _file(self, raw: bytes, path: str, revision: Revision, limits: Limits) -> None:
        if path.rpartition("/")[2] == RULES_FILE:
            self.names |= names(raw)
            return
        found, problems = documents.read(raw, path, limits)
        self.documents += [(revision, document) for document in found]
        self.problems += [f"{path}@{revision.commit[:12]}: {problem}" for problem in problems]


def ever_open(found: Sequence[Found], current: Iterable[Document], recipient: Recipient) -> list[Value]:
    """found: what to look through, parents first.  current: the files as they are."""
    opened = _opened([document for _, document in found], recipient)
    there = {(document.file, text) for document in current for text in document.marks()}
    values: dict[tuple[str, str, str], Value] = {}
    for number, (revision, document) in enumerate(found):
        if number not in opened:
            continue
        named = recipient.opens(document)
        for path, text in document.values:
            key = (document.file, path, text)
            value = values.get(key)
            if value is None:
                value = values[key] = Value(document.file, path, revision, document.needed - 1)
                value.is_there = (document.file, text) in there
            value.by_data_key = value.by_data_key and not named
            value.groups = min(value.groups, document.needed - 1)
    return list(values.values())


def _opened(found: Sequence[Document], recipient: Recipient) -> set[int]:
    """The numbers of documents that name the recipient, or have the data key of one that does."""
    marks = [document.marks() for document in found]
    holders: dict[str, list[int]] = {}
    for number, some in enumerate(marks):
        for mark in some:
            holders.setdefault(mark, []).append(number)
    waiting = [number for number, document in enumerate(found) if recipient.opens(document)]
    opened = set(waiting)
    while waiting:
        for mark in marks[waiting.pop()]:
            for number in holders.pop(mark, ()):
                if number not in opened:
                    opened.add(number)
                    waiting.append(number)
    return opened
