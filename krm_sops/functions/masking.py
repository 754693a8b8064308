"""What was decrypted becomes asterisks in the tree, before anything is made of it (S27).

Nothing of a secret is left to see: not its length, not its type, not whether it is fit for its place.
"""

from __future__ import annotations

from krm_sops.krm.item import MASK, MASKED, mask_at
from krm_sops.tree import CIPHERTEXT, Branch, Comment, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.tree import Leaf, Node


def masked(encrypted: Branch, plain: Branch) -> Branch:
    """`plain` with a mask wherever `encrypted`, which it is the plaintext of, holds ciphertext."""
    kind = plain.get("kind")
    found = _masked(encrypted, plain, (), kind if isinstance(kind, str) else "")
    assert isinstance(found, Branch)
    return found


def _masked(encrypted: Node, plain: Node, path: tuple[str, ...], kind: str) -> Node:
    if isinstance(plain, Branch):
        assert isinstance(encrypted, Branch)
        entries = []
        for old, new in zip(encrypted.entries, plain.entries, strict=True):
            if isinstance(new.key, Comment):
                entries.append(Entry(Comment(MASK) if _is_ciphertext(old.key) else new.key, None))
            else:
                entries.append(Entry(new.key, _masked(old.value, new.value, (*path, str(new.key)), kind)))
        return Branch(entries)
    if isinstance(plain, list):
        assert isinstance(encrypted, list)
        return [_masked(old, new, path, kind) for old, new in zip(encrypted, plain, strict=True)]
    assert not isinstance(encrypted, (Branch, list))
    if not _is_ciphertext(encrypted):
        return plain
    return Comment(MASK) if isinstance(plain, Comment) else mask_at(kind, path)


def _is_ciphertext(leaf: Leaf) -> bool:
    text = leaf.text if isinstance(leaf, Comment) else leaf
    return isinstance(text, str) and text.startswith(CIPHERTEXT)


def marked(resource: Branch) -> Branch:
    """The object with the annotation that says that it is masked."""
    return _with(resource, ("metadata", "annotations", MASKED), "true")


def _with(branch: Branch, path: tuple[str, ...], value: str) -> Branch:
    name, *rest = path
    inner = branch.get(name)
    new: Node = _with(inner if isinstance(inner, Branch) else Branch(), tuple(rest), value) if rest else value
    entries = [entry for entry in branch.entries if entry.key != name]
    at = branch.number(name)
    entries.insert(len(entries) if at is None else at, Entry(name, new))
    return Branch(entries)
