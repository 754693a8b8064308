"""dotenv <-> tree: ``key=value`` lines as they stand. Nothing is trimmed, unquoted or expanded, as in sops.

In values LF is spelled as the two characters ``\\n``; a backslash has no other meaning.
Source: getsops/sops 3.13, stores/dotenv/store.go.
"""

from __future__ import annotations

from krm_sops.errors import StoreError, shown
from krm_sops.stores.flatten import KEY, unflatten
from krm_sops.tree import Branch, Comment, Entry, from_bytes, to_bytes
from krm_sops.values import to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.stores.base import Store
    from krm_sops.tree import Node

_PREFIX = KEY + "_"


class DotenvStore:
    def read(self, raw: bytes) -> tuple[list[Branch], Branch | None]:
        values: list[Entry] = []
        metadata: list[Entry] = []
        for number, line in enumerate(from_bytes(raw).split("\n"), 1):
            if not line:
                continue
            if line[0] == "#":
                values.append(Entry(Comment(line[1:]), None))
                continue
            key, separator, value = line.partition("=")
            if not separator:
                raise StoreError("neither a comment nor key=value", line=number, column=1)
            value = value.replace("\\n", "\n")
            if key.startswith(_PREFIX):
                metadata.append(Entry(key[len(_PREFIX) :], value))
            else:
                values.append(Entry(key, value))
        return [Branch(values)], unflatten(metadata) if metadata else None

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
