"""Objects as trees, where an item's own text is no longer enough."""

from __future__ import annotations

from krm_sops.errors import InputError
from krm_sops.krm.item import dash_line, edited_part
from krm_sops.tree import Branch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits


def plain_tree(item: Item, limits: Limits) -> Branch:
    """The object with the edits of its item. Raises InputError, LimitError."""
    if not item.edits:
        return item.branch
    from krm_sops.yamlio import read

    text = item.source.text
    if item.place.indent < 0:
        start, stop = item.place.entries[0][0], item.place.entries[-1][1]
        own = "{" + edited_part(text, (start, stop), item.edits) + "}"
    else:
        first = dash_line(text, item.place.entries[0][0])
        stop = max(item.lines()[1], *(end for _, end, _ in item.edits))
        own = edited_part(text, (first, stop), item.edits)
        own = own.replace("-", " ", 1) if own.lstrip(" ").startswith("-") else own
    root = read(own + "\n", limits, limits.run_nodes).root
    if not isinstance(root, Branch):
        raise InputError("the item is no object any more")
    return root


def with_annotations(branch: Branch, notes: Mapping[str, str], drop: Callable[[str], bool] = lambda _: False) -> Branch:
    """A copy with these annotations, and without those that are to be dropped."""
    metadata = branch.get("metadata")
    old = metadata.get("annotations") if isinstance(metadata, Branch) else None
    kept = [entry for entry in (old.entries if isinstance(old, Branch) else ()) if not drop(str(entry.key))]
    kept = [entry for entry in kept if entry.key not in notes] + [Entry(*pair) for pair in notes.items()]
    inner = [
        entry for entry in (metadata.entries if isinstance(metadata, Branch) else ()) if entry.key != "annotations"
    ]
    if kept:
        inner.append(Entry("annotations", Branch(kept)))
    return Branch(
        [Entry(entry.key, Branch(inner) if entry.key == "metadata" else entry.value) for entry in branch.entries]
    )
