"""What may stand in for an item's own MAC where kustomize sorted and changed the item: its file, then another order.

Asked only where kustomize runs the function, and only after the MAC did not verify as it stands.
"""

from __future__ import annotations

from krm_sops import reordering
from krm_sops.errors import KrmSopsError, MacMismatch, shown
from krm_sops.functions.origin import LARGEST, Originals, Origins
from krm_sops.krm.results import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from krm_sops.cipher import DataKey
    from krm_sops.document import EncryptedDocument, Opened
    from krm_sops.functions.origin import Origin
    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.metadata import Metadata
    from krm_sops.policy import Policy

_MOST_NAMED = 100


class Proofs:
    """For one run: its files are read once, and all of its documents share a bound."""

    def __init__(
        self, host: Host, policy: Policy, limits: Limits, originals: Mapping[str, bytes], *, has_files: bool = False
    ) -> None:
        """originals: the items' files, where they are at hand, by their paths from the root.  has_files: all are."""
        self.budget = reordering.Budget()
        self.has_files = has_files
        self.origins = Originals(originals, limits) if originals else _origins(host, policy, limits)

    def may_be_changed(self, item: Item, metadata: Metadata, data_key: DataKey) -> bool:
        """Whether a MAC may not verify because of kustomize; not where the item's file should be at hand and is wrong.

        Without this, a document that was altered would pass for one that a build has sorted (S6).
        """
        return not self.has_files or (self.origins is not None and self.origins.has_intact(item, metadata, data_key))

    def by_origin(
        self, items: Sequence[Item], opened: Sequence[Opened], document: EncryptedDocument, data_key: DataKey
    ) -> list[Result] | None:
        """What to tell of each item; None unless a file proves each of them.

        opened: of each item, in the order of the document's branches.
        """
        if self.origins is None:
            return None
        results = []
        for item, branch, parts in zip(items, document.branches, opened, strict=True):
            origin = self.origins.verify(item, branch, parts, document.metadata, data_key)
            if origin is None:
                return None
            results.append(Result("info", "MacVerifiedByOrigin", _told(origin), item=item))
        return results

    def by_order(
        self, items: Sequence[Item], opened: Opened, document: EncryptedDocument, data_key: DataKey
    ) -> list[Result] | None:
        """The same, by the MAC in another order. It says less, so `strict` does not ask for it."""
        try:
            stored = bytes.fromhex(document.stored_mac(data_key))
        except (MacMismatch, ValueError):
            return None
        parts = [b"" if at in opened.detached else part for at, part in enumerate(opened.parts)]
        encrypted = frozenset(opened.changed)
        if not reordering.verifies(document.branches, parts, encrypted, document.mac_seed, stored, self.budget):
            return None
        text = "its MAC verifies in an order that kustomize's sorting accounts for, though not as the item stands"
        return [Result("info", "MacVerifiedReordered", text, item=item) for item in items]


def _origins(host: Host, policy: Policy, limits: Limits) -> Origins | None:
    """None where no file may be read, or none is there: in a container."""
    from os.path import realpath

    from krm_sops.roots import read_below, source_root

    try:
        folder = realpath(".")
        root = source_root(host, policy)
    except (OSError, KrmSopsError):
        return None

    def read(path: str) -> bytes:
        policy.check_file(f"{root}/{path}", "the origin of an item", host)
        return read_below(root, path, LARGEST, follow=False)

    return Origins(root, folder, read, limits)


def _told(origin: Origin) -> str:
    text = f"its MAC verifies in its file, {shown(origin.path)}"
    if not origin.differences:
        return text
    names = [shown(".".join(map(str, path)), 100) for path in origin.differences]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{text}; not as in that file: {', '.join(names[:_MOST_NAMED])}{more}"
