"""Name -> implementation, imported on first use. Key types, formats and functions are tables of this one shape."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Generic, TypeVar

    T = TypeVar("T")

    class _Base(Generic[T]):
        pass
else:

    class _Base:
        def __class_getitem__(cls, _):
            return cls


class Registry(_Base["T"]):
    def __init__(self, **targets: str) -> None:
        """targets: ``name="package.module:Attribute"``."""
        self._targets = targets
        self._loaded: dict[str, T] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __getitem__(self, name: str) -> T:
        try:
            return self._loaded[name]
        except KeyError:
            module, _, attribute = self._targets[name].partition(":")
            found: T = getattr(__import__(module, fromlist=[attribute]), attribute)
            self._loaded[name] = found
            return found
