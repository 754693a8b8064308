"""YAML <-> tree: several documents, comments, and go-yaml's idea of types. The metadata stand in every document.

Only the first document's metadata count; those of the others are dropped unread.
Source: getsops/sops 3.13, stores/yaml/store.go, stores/metadata.go.
"""

from __future__ import annotations

from krm_sops.errors import StoreError
from krm_sops.limits import SOPS_VERBS
from krm_sops.stores.flatten import KEY, take_metadata, with_metadata
from krm_sops.tree import Branch, Comment, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.limits import Limits
    from krm_sops.stores.base import Store
    from krm_sops.tree import Node

_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


class YamlStore:
    def read(self, raw: bytes, limits: Limits = SOPS_VERBS) -> tuple[list[Branch], Branch | None]:
        branches = self.read_plain(raw, limits)
        if not branches:
            return [], None
        first, metadata = take_metadata(branches[0])
        others = [Branch(entry for entry in branch.entries if entry.key != KEY) for branch in branches[1:]]
        return [first, *others], metadata

    def read_plain(self, raw: bytes, limits: Limits = SOPS_VERBS) -> list[Branch]:
        from krm_sops.yamlcomments import read

        return read(_text(raw), depth=limits.depth, nodes=limits.document_nodes)

    def is_reserved(self, key: str) -> bool:
        return key == KEY

    def write_encrypted(self, branches: list[Branch], metadata: Branch, indent: int | None = None) -> bytes:
        return self.write_plain([with_metadata(branch, [Entry(KEY, metadata)], self) for branch in branches], indent)

    def write_plain(self, branches: list[Branch], indent: int | None = None) -> bytes:
        from krm_sops.yamlwrite import INDENT, write

        if indent is not None and indent < 0:
            raise StoreError("a negative YAML indent")
        return _bytes(write(branches, indent or INDENT))

    def write_value(self, value: Node) -> bytes:
        from krm_sops.yamlwrite import write_value

        if isinstance(value, Comment):
            raise StoreError("a comment is no value")
        return _bytes(write_value(value))


def _text(raw: bytes) -> str:
    """The text behind a byte order mark; UTF-8 where there is none."""
    mark, encoding = next((known for known in _ENCODINGS if raw.startswith(known[0])), (b"", "utf-8"))
    try:
        return raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        place = raw[: len(mark) + error.start]
    line_start = place.rfind(b"\n") + 1
    raise StoreError("no valid UTF-8 or UTF-16", line=place.count(b"\n") + 1, column=len(place) - line_start + 1)


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise StoreError("a comment is no valid UTF-8") from None


STORE: Store = YamlStore()
