"""What a run leaves encrypted, and says so (S28).

Apart from `decrypt`: where nothing is left, this is not imported.
"""

from __future__ import annotations

from krm_sops.errors import shown
from krm_sops.krm.results import Result
from krm_sops.tree import CIPHERTEXT, Branch, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from krm_sops.functions import Answer
    from krm_sops.krm.item import Item
    from krm_sops.tree import Node


def tell_other_namespace(left: list[Item], namespace: str, answer: Answer) -> None:
    """namespace: the config's."""
    hint = (
        "name that namespace in one of spec.selectors, or leave the config's own namespace out; "
        "if it is to stay encrypted, a selector with the config's own namespace says so"
    )
    text = (
        f"stays encrypted: it is not in the config's namespace {shown(namespace, 80)!r}, and no selector names its own"
    )
    answer.results += [Result("warning", "OtherNamespace", text, hint=hint, item=item) for item in left]


def tell_lost(items: Iterable[Item], answer: Answer) -> None:
    """Say which items hold ciphertext but no ``sops`` block, as a file does that was cut off before its end."""
    for item in items:
        if not _has_block(item.branch) and any(_is_ciphertext(leaf) for leaf in leaves(item.branch)):
            text = "holds encrypted values but no sops block, so nothing can decrypt it"
            hint = "was the file cut off, or the block taken out? restore the document as it was encrypted"
            answer.results.append(Result("warning", "InvalidDocument", text, hint=hint, item=item))


def _has_block(node: Node) -> bool:
    """Whether there is a ``sops`` block, at the top or of a document inside of a field."""
    if isinstance(node, Branch):
        return any(entry.key == "sops" or _has_block(entry.value) for entry in node.entries)
    return isinstance(node, list) and any(map(_has_block, node))


def _is_ciphertext(leaf: object) -> bool:
    return isinstance(leaf, str) and leaf.startswith(CIPHERTEXT)


def tell_unreadable(values: Iterable[tuple[Item, tuple[str, str]]], answer: Answer) -> None:
    """values: those that hold ciphertext inside of their text, where it is no document."""
    for item, path in values:
        text = "holds encrypted values, but does not read as a SOPS document, so nothing can decrypt it"
        hint = "was it cut off, or changed? put in the whole file as it was encrypted"
        answer.results.append(Result("warning", "InvalidDocument", text, hint=hint, item=item, field=".".join(path)))


def tell_not_included(item: Item, what: str, name: str, answer: Answer) -> None:
    """name: what `spec.include` would need."""
    text = f"{what}; spec.include does not name {name}"
    answer.results.append(Result("info", "StillEncrypted", text, item=item))


def tell_kept_inside(items: Iterable[Item], answer: Answer) -> None:
    """items: whose values hold documents."""
    text = "values that are encrypted documents stay encrypted: spec.keepOriginal is for whole items"
    answer.results += [Result("info", "StillEncrypted", text, item=item) for item in items]


def tell_remaining(item: Item, paths: Iterable[tuple[str, ...]], answer: Answer) -> None:
    """paths: of the values of a decrypted item that hold ciphertext all the same."""
    text = "still holds encrypted values after decryption"
    hint = "of documents inside of encrypted ones, and of values encrypted twice, only the outer one is decrypted"
    for path in paths:
        answer.results.append(Result("warning", "StillEncrypted", text, hint=hint, item=item, field=".".join(path)))
