"""What was decrypted becomes asterisks in the tree, before anything is made of it (S27).

Nothing of a secret is left to see: not its length, not its type, not whether it is fit for its place. Of manifests and
patches that are encrypted as a whole, what a build goes by stays: which object it is, and what a patch does where.
"""

from __future__ import annotations

from krm_sops.errors import InputError
from krm_sops.krm.item import MASK, MASKED, is_identity, mask_at
from krm_sops.tree import CIPHERTEXT, Branch, Comment, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.limits import Limits
    from krm_sops.tree import Leaf, Node

_OPERATION = ("op", "path", "from")
_DIRECTIVES = ("delete", "merge", "replace")


def masked(encrypted: Branch, plain: Branch) -> Branch:
    """`plain` with a mask wherever `encrypted`, which it is the plaintext of, holds ciphertext."""
    kind = plain.get("kind")
    found = _masked(encrypted, plain, (), kind if isinstance(kind, str) else "")
    assert isinstance(found, Branch)
    return found


def masked_manifest(encrypted: Branch, plain: Branch) -> Branch:
    """The same for an object, or a List of them, or a patch of one."""
    whole = masked(encrypted, plain)
    for entry, old, new in zip(whole.entries, encrypted.entries, plain.entries, strict=True):
        if entry.key == "metadata" and isinstance(new.value, Branch):
            assert isinstance(entry.value, Branch)
            for inner, clear in zip(entry.value.entries, new.value.entries, strict=True):
                if is_identity(("metadata", str(clear.key)), clear.value):
                    inner.value = clear.value
        elif is_identity((str(new.key),), new.value) or (new.key == "$patch" and new.value in _DIRECTIVES):
            entry.value = new.value
        elif new.key == "items" and str(plain.get("kind")).endswith("List") and isinstance(new.value, list):
            assert isinstance(entry.value, list)
            assert isinstance(old.value, list)
            pairs = zip(old.value, new.value, entry.value, strict=True)
            entry.value = [
                masked_manifest(a, b) if isinstance(a, Branch) and isinstance(b, Branch) else c for a, b, c in pairs
            ]
    return whole


def masked_content(text: str, limits: Limits) -> list[Node]:
    """The documents of manifests or patches whose text was encrypted as it is.

    Raises InputError where there is no telling what a build goes by.
    """
    from krm_sops.krm.item import refuse_duplicates
    from krm_sops.yamlio import read_all

    found: list[Node] = []
    is_known = True
    try:
        for source in read_all(text, limits, limits.document_nodes):
            root = source.root
            refuse_duplicates(root)
            if isinstance(root, Branch):
                found.append(masked_manifest(_as_encrypted(root), root))
            elif isinstance(root, list) and all(isinstance(element, Branch) for element in root):
                found.append([_masked_operation(element) for element in root if isinstance(element, Branch)])
            else:
                is_known = is_known and root is None
    except InputError:  # which may quote what is to be masked
        is_known = False
    if not is_known:
        raise InputError(
            "it cannot be masked: what is encrypted there is neither manifests nor a patch",
            hint="encrypt it as YAML, not as binary, or render without --mask",
        )
    return found


def _masked_operation(operation: Branch) -> Branch:
    """Of a JSON patch."""
    hidden = masked(_as_encrypted(operation), operation)
    return Branch(
        new if new.key in _OPERATION and isinstance(new.value, str) else old
        for old, new in zip(hidden.entries, operation.entries, strict=True)
    )


def _as_encrypted(branch: Branch) -> Branch:
    """The same, had each value been encrypted."""
    found = _sealed(branch)
    assert isinstance(found, Branch)
    return found


def _sealed(node: Node) -> Node:
    if isinstance(node, Branch):
        return Branch(Entry(entry.key, _sealed(entry.value)) for entry in node.entries)
    return list(map(_sealed, node)) if isinstance(node, list) else CIPHERTEXT


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
