"""What SopsDecrypt leaves for SopsEncrypt: an item as it was encrypted, in an annotation, and bound to its place.

A function in a container sees no files, so nothing but the item itself can carry this through a pipeline. It is the
item's own text: ciphertexts and ``sops`` block (S18). A tag under its data key says which item it is of: without the
data key, nobody can give one item the state of another, and with it the other's recipients.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

from krm_sops.errors import InputError, LimitError, MacMismatch
from krm_sops.krm.item import ORIGINAL, PACKAGE_PATH, Item
from krm_sops.primitives import sha256
from krm_sops.tree import Branch, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.cipher import DataKey
    from krm_sops.limits import Limits
    from krm_sops.places import Source

_PURPOSE = b"krm-sops.dev/original"
_TAG_BYTES = 16


def keep(item: Item, data_key: DataKey) -> None:
    """Annotate an item with what it is. Raises InputError where it says to have been something before."""
    if item.annotation(ORIGINAL):
        raise InputError(
            f"the annotation {ORIGINAL} on an item that is encrypted",
            hint="only SopsDecrypt sets it, on what it decrypts: take it out",
            path=("metadata", "annotations", ORIGINAL),
        )
    raw = item.own_text().encode()
    tag = data_key.seal(_nonce(item, raw), b"", _PURPOSE)
    item.annotate(ORIGINAL, b2a_base64(tag + raw, newline=False).decode())


def original(item: Item, limits: Limits) -> tuple[Item, bytes]:
    """What an item was, and what `check` needs.

    Raises InputError for an annotation that nobody here made, LimitError.
    """
    text = item.annotation(ORIGINAL)
    if len(text) * 3 // 4 > limits.document_bytes + _TAG_BYTES + 2:
        raise LimitError(f"an original of more than {limits.document_bytes} bytes (the limit document_bytes)")
    try:
        raw = a2b_base64(text, strict_mode=True)
        source = read(raw[_TAG_BYTES:].decode(), limits)
    except (Error, ValueError, InputError):
        source = None
    if source is None or not isinstance(source.root, Branch) or not source.root.entries:
        raise InputError(
            f"the annotation {ORIGINAL} is broken",
            hint="only SopsDecrypt sets it; was it changed?",
            path=("metadata", "annotations", ORIGINAL),
        )
    found = Item(source, source.root)
    if item.file:
        found.at = item.file, item.index
    return found, raw


def check(item: Item, raw: bytes, data_key: DataKey) -> None:
    """Raises MacMismatch where the state is of another place, or of another document."""
    tag, text = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
    if data_key.open(_nonce(item, text), tag, _PURPOSE) is None:
        raise foreign("it is of another file or document, or was changed")


def check_name(item: Item, then: Item) -> None:
    """then: as it was decrypted. Raises MacMismatch for an object of another kind; where no file is known, or name."""
    same: list[tuple[str, ...]] = [("apiVersion",), ("kind",)]
    if not item.file:
        same += [("metadata", "namespace"), ("metadata", "name")]
    if any(item.field(*path) != then.field(*path) for path in same):
        raise foreign("it is of another object")


def foreign(why: str) -> MacMismatch:
    return MacMismatch(
        f"the annotation {ORIGINAL} is not of this item: {why}",
        hint="between SopsDecrypt and SopsEncrypt, kind and file of an encrypted item must stay the same",
        path=("metadata", "annotations", ORIGINAL),
    )


def place_of(item: Item) -> tuple[str, str, str]:
    """What stays the same while functions change an item: its package, file, and number in there, as far as known."""
    return item.annotation(PACKAGE_PATH), item.file, str(item.index)


def _nonce(item: Item, raw: bytes) -> bytes:
    """32 bytes that no other place and no other text have."""
    parts = [*map(to_bytes, place_of(item)), raw]
    digest: bytes = sha256(_PURPOSE + b"".join(b"%d:%s" % (len(part), part) for part in parts)).digest()
    return digest


def read(text: str, limits: Limits) -> Source:
    """An item as a document of its own. Raises InputError, LimitError."""
    if text.startswith("{"):
        from krm_sops.stores.json import read_source

        try:
            return read_source(text, limits, limits.document_nodes)
        except InputError:
            pass  # YAML in flow style, perhaps
    from krm_sops import yamlio

    return yamlio.read(text, limits, limits.document_nodes)
