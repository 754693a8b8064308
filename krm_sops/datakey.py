"""From key groups to the data key: in each group the first key that opens, then Shamir's shares put together."""

from __future__ import annotations

from krm_sops.cipher import DataKey
from krm_sops.errors import KeyUnavailable, KrmSopsError, NoUsableKey, WrongKey, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.credentials import Credentials
    from krm_sops.keys.base import MasterKey
    from krm_sops.metadata import Metadata

ORDER = ("age", "pgp")
"""Which key types are tried first; the others follow in the document's order (sops' default)."""


def recover(metadata: Metadata, credentials: Credentials, order: Sequence[str] = ORDER) -> DataKey:
    """The data key of a document.

    Raises NoUsableKey with a line for every key that was tried.
    """
    attempts: list[str] = []
    hints: list[str] = []
    parts: list[bytes] = []
    groups = metadata.key_groups
    single = len(groups) == 1
    for number, group in enumerate(groups):
        label = "" if single else f"group {number}: "
        for key in sorted(group, key=lambda key: order.index(key.section) if key.section in order else len(order)):
            part = _open(key, credentials, label, 32 if single else 33, attempts, hints)
            if part is not None:
                parts.append(part)
                break
        if parts and len(parts) == (1 if single else metadata.threshold):
            break
    needed = 1 if single else max(metadata.threshold, 2)
    if len(parts) >= needed:
        try:
            return DataKey(parts[0] if single else _combine(parts))
        except (ValueError, KrmSopsError) as error:
            attempts.append(f"the recovered shares do not fit together: {error}")
    tried = len(attempts)
    what = (
        "no key could unwrap the data key"
        if single
        else (f"{len(parts)} of {len(groups)} key groups could be opened, {needed} are needed")
    )
    raise NoUsableKey(
        f"{what} ({tried} tried: {'; '.join(attempts[:5])}{'; …' if tried > 5 else ''})",
        attempts=attempts,
        hint=hints[0] if hints else "",
    )


def _combine(shares: list[bytes]) -> bytes:
    from krm_sops.shamir import combine

    return combine(shares)


def _open(
    key: MasterKey, credentials: Credentials, label: str, length: int, attempts: list[str], hints: list[str]
) -> bytes | None:
    try:
        return open_key(key, credentials, length)
    except (WrongKey, KeyUnavailable) as error:
        attempts.append(f"{label}{key.section} {shown(key.identity)}: {error}")
        if error.hint:
            hints.append(error.hint)
        return None


def open_key(key: MasterKey, credentials: Credentials, length: int) -> bytes:
    """What one key wraps, which must have `length` bytes; opened once in a credential scope.

    Raises WrongKey, KeyUnavailable.
    """
    name = (key.section, key.identity, key.enc)
    part = credentials.opened.get(name)
    if part is None:
        part = key.unwrap(credentials)
        if len(part) != length:
            raise KeyUnavailable(f"what it wraps has {len(part)} bytes instead of {length}")
        credentials.opened[name] = part
    return part
