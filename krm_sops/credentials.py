"""The keys that were handed in for one config, and whether ambient ones count: a credential scope.

Nothing opened under one scope is reused under another (S5), so the cache of opened data keys lives here.
"""

from __future__ import annotations

from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from krm_sops.host import Host


class KeyEntry:
    """One key as it was handed in.

    section: the key type it serves, by its name in metadata ("age", "pgp").  name: entry or file name.
    origin: where it came from, for people ("functionConfig Secret/sops-keys", "--key-file key.txt").
    """

    __slots__ = ("data", "name", "origin", "section")

    def __init__(self, section: str, name: str, data: bytes, origin: str) -> None:
        self.section = section
        self.name = name
        self.data = data
        self.origin = origin

    def __repr__(self) -> str:
        return f"KeyEntry({self.section!r}, {self.name!r}, …)"


class Credentials:
    def __init__(self, host: Host, entries: Sequence[KeyEntry] = (), ambient: str = "auto") -> None:
        """ambient: "auto" (ambient keys of a type only where `entries` has none of it), "always" or "never"."""
        self.host = host
        self.entries = tuple(entries)
        self.ambient = ambient
        self.opened: dict[tuple[str, str, str], bytes] = {}
        self._loaded: dict[str, Any] = {}
        self._loading: dict[str, RLock] = {}

    def entries_for(self, section: str) -> list[KeyEntry]:
        return [entry for entry in self.entries if entry.section == section]

    def ambient_for(self, section: str) -> bool:
        """Whether ambient keys of this type may be tried."""
        if self.ambient == "auto":
            return not self.entries_for(section)
        return self.ambient == "always"

    def once(self, name: str, load: Callable[[], Any]) -> Any:
        """What `load` gives, computed on the first call under this name, while others wait. Failures are not kept."""
        if name not in self._loaded:
            with self._loading.setdefault(name, RLock()):
                if name not in self._loaded:
                    self._loaded[name] = load()
        return self._loaded[name]
