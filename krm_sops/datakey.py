"""From key groups to the data key: in each group the first key that opens, then Shamir's shares put together.

And the way back: every key of a group around the share that is the group's.
"""

from __future__ import annotations

from krm_sops.cipher import DataKey
from krm_sops.errors import KeyUnavailable, KrmSopsError, NoUsableKey, WrongKey, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.credentials import Credentials
    from krm_sops.keys.base import MasterKey
    from krm_sops.metadata import KeyGroup, Metadata

ORDER = ("age", "pgp")
"""Which key types are tried first; the others follow in the document's order (sops' default)."""
LOCAL = ("age", "pgp")
"""Key types that no service is needed for."""


def recover(metadata: Metadata, credentials: Credentials, order: Sequence[str] = ORDER) -> DataKey:
    """The data key of a document.

    Raises NoUsableKey with a line for every key that was tried.
    """
    search = _Search(metadata, credentials, order)
    search.go(services=False)
    search.go(services=True)
    return search.data_key()


def open_ahead(documents: Sequence[Metadata], credentials: Credentials, order: Sequence[str] = ORDER) -> None:
    """Ask the services for what `recover` will want of them, many documents at a time (the limit remote_calls).

    What comes of it, failures too, is kept in the credential scope, so `recover` then tells it document by document, in
    their order. A document that keys at hand open costs no call.
    """
    waiting: list[Metadata] = []
    for metadata in reversed(documents):
        search = _Search(metadata, credentials, order)
        search.go(services=False)
        if not search.enough:
            waiting.append(metadata)
    if len(waiting) < 2:
        return
    from threading import Thread

    host = credentials.host
    http = host.http  # made here, so that all threads have the same

    def work() -> None:
        while True:
            try:
                recover(waiting.pop(), credentials, order)
            except IndexError:
                return
            except Exception:  # noqa: BLE001, S112 - it comes up again, where it can be told
                continue

    threads = [Thread(target=work, daemon=True) for _ in range(min(host.limits.remote_calls, len(waiting)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    http.close()


class _Search:
    """One document's key groups, tried in two rounds: what needs no service, then the rest.

    A key of the first round that stands behind a service's key in the decryption order waits for the second.
    """

    __slots__ = ("attempts", "credentials", "groups", "hints", "needed", "parts", "single")

    def __init__(self, metadata: Metadata, credentials: Credentials, order: Sequence[str]) -> None:
        def rank(key: MasterKey) -> int:
            return order.index(key.section) if key.section in order else len(order)

        self.credentials = credentials
        self.groups = [sorted(group, key=rank) for group in metadata.key_groups]
        self.single = len(self.groups) == 1
        self.needed = 1 if self.single else max(metadata.threshold, 2)
        self.parts: dict[int, bytes] = {}
        self.attempts: list[list[str]] = [[] for _ in self.groups]
        self.hints: list[str] = []

    @property
    def enough(self) -> bool:
        return len(self.parts) >= self.needed

    def go(self, *, services: bool) -> None:
        for number, group in enumerate(self.groups):
            if self.enough:
                return
            tried = self.attempts[number]
            while number not in self.parts and len(tried) < len(group):
                key = group[len(tried)]
                if key.section not in LOCAL and not services:
                    break
                self._try(key, number)

    def _try(self, key: MasterKey, number: int) -> None:
        try:
            self.parts[number] = open_key(key, self.credentials, 32 if self.single else 33)
        except (WrongKey, KeyUnavailable) as error:
            label = "" if self.single else f"group {number}: "
            self.attempts[number].append(f"{label}{key.section} {shown(key.identity)}: {error}")
            if error.hint:
                self.hints.append(error.hint)

    def data_key(self) -> DataKey:
        """Raises NoUsableKey."""
        attempts = [attempt for group in self.attempts for attempt in group]
        if self.enough:
            parts = [self.parts[number] for number in sorted(self.parts)]
            try:
                return DataKey(parts[0] if self.single else _combine(parts))
            except (ValueError, KrmSopsError) as error:
                attempts.append(f"the recovered shares do not fit together: {error}")
        tried = len(attempts)
        what = (
            "no key could unwrap the data key"
            if self.single
            else (f"{len(self.parts)} of {len(self.groups)} key groups could be opened, {self.needed} are needed")
        )
        raise NoUsableKey(
            f"{what} ({tried} tried: {'; '.join(attempts[:5])}{'; …' if tried > 5 else ''})",
            attempts=attempts,
            hint=self.hints[0] if self.hints else "hand in a private key of one of the recipients that are named here",
        )


def _combine(shares: list[bytes]) -> bytes:
    from krm_sops.shamir import combine

    return combine(shares)


def open_key(key: MasterKey, credentials: Credentials, length: int) -> bytes:
    """What one key wraps, which must have `length` bytes; opened once in a credential scope.

    Raises WrongKey, KeyUnavailable.
    """
    name = (key.section, key.identity, key.enc)
    part = credentials.opened.get(name)
    if part is None:
        part = key.unwrap(credentials) if key.section in LOCAL else _asked_once(key, credentials)
        if len(part) != length:
            raise KeyUnavailable(f"what it wraps has {len(part)} bytes instead of {length}")
        credentials.opened[name] = part
    return part


def _asked_once(key: MasterKey, credentials: Credentials) -> bytes:
    """What a service makes of a wrapped key: never asked twice, not even while the first answer is on its way."""

    def outcome() -> bytes | WrongKey | KeyUnavailable:
        try:
            return key.unwrap(credentials)
        except (WrongKey, KeyUnavailable) as error:
            return error

    found = credentials.once(f"{key.section} {key.identity} {key.enc}", outcome)
    if isinstance(found, bytes):
        return found
    assert isinstance(found, (WrongKey, KeyUnavailable))
    raise (WrongKey if isinstance(found, WrongKey) else KeyUnavailable)(found.message, hint=found.hint)


def wrapped(key_groups: Sequence[KeyGroup], parts: Sequence[bytes], credentials: Credentials) -> list[KeyGroup]:
    """The same key groups around another data key.  parts: the data key, or a share for each group.

    Raises KeyUnavailable (exit 1) with each key that failed: a document that some of its keys do not open is none.
    """
    found: list[KeyGroup] = []
    failed: list[str] = []
    hints: list[str] = []
    for group, part in zip(key_groups, parts, strict=True):
        if not group:
            failed.append("empty key group provided")
        done: KeyGroup = []
        for key in group:
            try:
                done.append(key.wrap(part, credentials))
            except KeyUnavailable as error:
                failed.append(f"failed to encrypt new data key with master key {shown(key.identity)!r}: {error}")
                hints.append(error.hint)
        found.append(done)
    if failed:
        failure = KeyUnavailable(
            f"could not generate data key: {'; '.join(failed)}", hint=next(filter(None, hints), "")
        )
        failure.exit_status = 1
        raise failure
    return found
