"""Who can open a document, compared with who should by the creation rules (S16: the `sops` block is not authenticated).

A key of a rule may leave a version open (Azure Key Vault); it stands for any version of that key.
Source for the form of the difference: getsops/sops 3.13, cmd/sops/common/common.go.
"""

from __future__ import annotations

from krm_sops.errors import KrmSopsError, printable
from krm_sops.selection import Selection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.keys.base import MasterKey
    from krm_sops.metadata import KeyGroup, Metadata
    from krm_sops.rules import Rule


class RecipientDrift(KrmSopsError):
    """Who can open a document, or what of it is encrypted, is not what its creation rule says."""

    reason = "RecipientDrift"


def is_same_key(one: MasterKey, other: MasterKey) -> bool:
    """Whether both name one key, where one may leave its version open."""
    if one.section != other.section:
        return False
    short, long = sorted((one.identity, other.identity), key=len)
    return short == long or (short.endswith("/") and long.startswith(short) and "/" not in long[len(short) :])


class GroupDifference:
    """One key group.  common, added: keys of the rule.  removed: those of the document that it does not have."""

    __slots__ = ("added", "common", "removed")

    def __init__(self, before: KeyGroup, after: KeyGroup) -> None:
        self.common = [key for key in after if any(is_same_key(key, known) for known in before)]
        self.added = [key for key in after if not any(is_same_key(key, known) for known in before)]
        self.removed = [key for key in before if not any(is_same_key(key, known) for known in after)]


def differences(before: Sequence[KeyGroup], after: Sequence[KeyGroup]) -> list[GroupDifference]:
    """Group by group, by their numbers."""
    count = max(len(before), len(after))
    padded = [[*groups, *[[]] * (count - len(groups))] for groups in (before, after)]
    return [GroupDifference(one, other) for one, other in zip(*padded, strict=True)]


def told(found: Sequence[GroupDifference], threshold: int, new_threshold: int) -> str:
    """What changes, as sops prints it."""
    lines = []
    if threshold == new_threshold:
        lines += [f"shamir_threshold: {threshold}"] if threshold else []
    else:
        lines += [f"+++ shamir_threshold: {new_threshold}"] if new_threshold else []
        lines += [f"--- shamir_threshold: {threshold}"] if threshold else []
    for number, difference in enumerate(found, 1):
        lines.append(f"Group {number}")
        for mark, keys in (("   ", difference.common), ("+++", difference.added), ("---", difference.removed)):
            lines += [f"{mark} {printable(key.identity)}" for key in keys]
    return "".join(f"{line}\n" for line in lines)


def drift(metadata: Metadata, rule: Rule, source: str, allowed: Sequence[MasterKey] = ()) -> list[str]:
    """What of a document its creation rule does not say.

    source: its format.  allowed: keys that somebody adds by hand.
    """
    found = []
    for number, difference in enumerate(differences(metadata.key_groups, rule.key_groups), 1):
        where = f" in key group {number}" if len(metadata.key_groups) > 1 or len(rule.key_groups) > 1 else ""
        unknown = [key for key in difference.removed if not any(is_same_key(key, known) for known in allowed)]
        found += [f"it is also for {printable(key.identity)[:120]}{where}" for key in unknown]
        found += [f"it is not for {printable(key.identity)[:120]}{where}" for key in difference.added]
    groups = len(rule.key_groups)
    wanted, stated = rule.threshold or groups, metadata.threshold or len(metadata.key_groups)
    if groups > 1 and wanted != stated:
        found.append(f"{stated} of its key groups open it, not {wanted}")
    return found + selection_drift(metadata, rule, source)


def selection_drift(metadata: Metadata, rule: Rule, source: str) -> list[str]:
    """source: the format. A binary file is one value, whatever a rule says."""
    if source == "binary":
        return []
    wanted, stated = Selection.from_fields(rule.selection), metadata.selection
    found = []
    if (wanted.rule, wanted.pattern) != (stated.rule, stated.pattern):
        names = [f"{one.rule} {printable(one.pattern)[:120]!r}" for one in (stated, wanted)]
        found.append(f"its values are encrypted by {names[0]}, not by {names[1]}")
    if rule.mac_only_encrypted is not metadata.mac_only_encrypted:
        covered = "encrypted values only" if metadata.mac_only_encrypted else "all values"
        found.append(f"its MAC covers {covered}")
    return found
