"""dotenv <-> tree: ``key=value`` lines as they stand. Nothing is trimmed, unquoted or expanded, as in sops.

In values LF is spelled as the two characters ``\\n``; a backslash has no other meaning.
Source: getsops/sops 3.13, stores/dotenv/store.go.
"""

from __future__ import annotations

from krm_sops.errors import StoreError, shown
from krm_sops.limits import SOPS_VERBS
from krm_sops.stores.flatten import KEY, flatten, one_document, unflatten, with_metadata
from krm_sops.tree import Branch, Comment, Entry, from_bytes, to_bytes
from krm_sops.values import to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.limits import Limits
    from krm_sops.stores.base import Store
    from krm_sops.tree import Node

_PREFIX = KEY + "_"


class DotenvStore:
    def read(self, raw: bytes, limits: Limits = SOPS_VERBS) -> tuple[list[Branch], Branch | None]:
        (branch,) = self.read_plain(raw, limits)
        values: list[Entry] = []
        metadata: list[Entry] = []
        for entry in branch.entries:
            if isinstance(entry.key, str) and self.is_reserved(entry.key):
                metadata.append(Entry(entry.key[len(_PREFIX) :], entry.value))
            else:
                values.append(entry)
        return [Branch(values)], unflatten(metadata) if metadata else None

    def read_plain(self, raw: bytes, limits: Limits = SOPS_VERBS) -> list[Branch]:  # noqa: ARG002 (flat, so its size is enough)
        entries: list[Entry] = []
        for number, line in enumerate(from_bytes(raw).split("\n"), 1):
            if not line:
                continue
            if line[0] == "#":
                entries.append(Entry(Comment(line[1:]), None))
                continue
            key, separator, value = line.partition("=")
            if not separator:
                raise StoreError("neither a comment nor key=value", line=number, column=1)
            entries.append(Entry(key, value.replace("\\n", "\n")))
        return [Branch(entries)]

    def is_reserved(self, key: str) -> bool:
        return key.startswith(_PREFIX)

    def write_encrypted(self, branches: list[Branch], metadata: Branch, indent: int | None = None) -> bytes:
        flat = [Entry(f"{_PREFIX}{entry.key}", entry.value) for entry in flatten(metadata)]
        return self.write_plain([with_metadata(one_document(branches, "dotenv"), flat, self)], indent)

    def write_plain(self, branches: list[Branch], indent: int | None = None) -> bytes:  # noqa: ARG002 (nothing to indent)
        """Only the first document: the format holds one, and sops drops the others too."""
        if not branches:
            raise StoreError("there is no document to write")
        lines = []
        for entry in branches[0].entries:
            key, value = entry.key, entry.value
            if isinstance(key, Comment):
                lines.append(f"#{key.text}\n")
            elif isinstance(value, (Branch, list, Comment)) or not isinstance(key, str):
                raise StoreError(f"a dotenv file cannot hold the mapping or list under {shown(key)}")
            else:
                lines.append(f"{key}={to_text(value).replace(chr(10), chr(92) + 'n')}\n")
        return to_bytes("".join(lines))

    def write_value(self, value: Node) -> bytes:
        if not isinstance(value, str):
            raise StoreError("a dotenv file holds strings only")
        return to_bytes(value)


STORE: Store = DotenvStore()
