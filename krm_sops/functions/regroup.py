"""Which items were one SOPS document: sops gives all YAML documents of a file one ``sops`` block and one MAC.

Such a group is only a guess: its MAC has to bear it out (S6, S29). So annotations cannot do harm here, and where nobody
says which file an item is from, equal blocks in the order of the stream will do.
"""

from __future__ import annotations

from krm_sops.errors import MacMismatch
from krm_sops.krm.item import INDEX, ORIGIN, PACKAGE_PATH
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.krm.item import Item
    from krm_sops.tree import Node


class Group:
    """members: in the order of their file.  is_certain: an orchestrator named that file, and their places in it."""

    __slots__ = ("is_certain", "members")

    def __init__(self, members: list[Item], *, is_certain: bool = False) -> None:
        self.members = members
        self.is_certain = is_certain

    @property
    def is_guess(self) -> bool:
        """Whether its members may have nothing to do with each other."""
        return len(self.members) > 1 and not self.is_certain

    def alone(self) -> list[Group]:
        """Each member by itself."""
        return [Group([member]) for member in self.members]

    def check(self) -> None:
        """Raises MacMismatch where a member is missing between two others, or there twice."""
        if not self.is_certain:
            return
        indices = [item.index for item in self.members]
        if indices != list(range(indices[0], indices[0] + len(indices))):
            numbers = ", ".join(map(str, indices[:10]))
            raise MacMismatch(
                f"of a file whose documents share one MAC, one is missing, or there twice (their numbers: {numbers})",
                hint=SHARED,
            )


SHARED = "sops gives all documents of a file one MAC: restore the file, or encrypt each of them as a file of its own"


def groups(items: Sequence[Item]) -> list[Group]:
    """Every item in its group; most are alone in theirs. In the order of the groups' first items."""
    found: list[Group] = []
    by_mac: dict[object, list[Item]] = {}
    for item in items:
        by_mac.setdefault(_mac(item), []).append(item)
    for alike in by_mac.values():
        found += [Group(alike)] if len(alike) == 1 else _by_file(alike)
    return found


def group_of(item: Item, items: Sequence[Item]) -> Group:
    """items: all that are encrypted; `item` may be another's, such as the functionConfig."""
    return next((group for group in groups(items) if item in group.members), Group([item]))


def _mac(item: Item) -> object:
    """What no two encryptions have in common."""
    block = item.branch.get("sops")
    mac = block.get("mac") if isinstance(block, Branch) else None
    return mac if isinstance(mac, str) else None


def _by_file(items: list[Item]) -> list[Group]:
    files: dict[object, list[Item]] = {}
    for item in items:
        files.setdefault((*_file(item), _frozen(item.branch.get("sops"))), []).append(item)
    found: list[Group] = []
    for members in files.values():
        if _file(members[0])[1]:
            found.append(Group(sorted(members, key=lambda item: item.index), is_certain=True))
        else:
            found += _in_runs(members)
    return found


def _file(item: Item) -> tuple[str, bool]:
    """Whatever is the same for all items of a file; whether their indices count in there.

    kpt's paths are relative to the (sub)package that a file is in.
    """
    if item.file and (item.at or item.annotation(INDEX) or item.annotation("config.kubernetes.io/index")):
        return f"{item.annotation(PACKAGE_PATH)}/{item.file}", True
    return item.annotation(ORIGIN), False


def _frozen(node: Node) -> object:
    """Equal for equal nodes, and hashable."""
    if isinstance(node, Branch):
        return tuple((entry.key, _frozen(entry.value)) for entry in node.entries)
    return ("list", *map(_frozen, node)) if isinstance(node, list) else node


def _in_runs(items: list[Item]) -> list[Group]:
    """A file holds an object once; a build may hold the file several times, as where two overlays have one base."""
    found: list[Group] = []
    seen: set[tuple[object, ...]] = set()
    for item in items:
        name = (item.field("apiVersion"), item.kind, item.original_name, item.original_namespaces)
        if not found or name in seen:
            found.append(Group([]))
            seen.clear()
        seen.add(name)
        found[-1].members.append(item)
    return found
