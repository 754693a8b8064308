"""The order of stages, for what kustomize makes: it takes a function's objects, but not their order.

An object is known by its kind and name, with or without the hash that kustomize adds to a name at the very end; one
that was renamed otherwise, by its stage.
"""

from __future__ import annotations

from krm_sops.krm.resourcelist import ResourceList
from krm_sops.krm.stream import Stream
from krm_sops.stages import KIND, STAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits

_HASH = 11
"""A dash, and ten characters."""


class Order:
    """Where objects stand in what a StageSet answered. items: all of the answer."""

    def __init__(self, items: list[Item]) -> None:
        self._places: dict[tuple[str, ...], int] = {}
        for place, item in enumerate(items):
            self._places[_identity(item, item.name)] = place
            if item.annotation(STAGE):
                self._places.setdefault((item.annotation(STAGE),), place)

    def of(self, output: bytes, limits: Limits) -> bytes:
        """The objects of a build in this order; those that are new, and in no stage, come first.

        Raises InputError, ResourceListError, LimitError.
        """
        stream = Stream(limits)
        documents = stream.add(output)
        documents.sort(key=lambda document: min(map(self._place, document.items), default=-1))
        return stream.write(documents).encode()

    def _place(self, item: Item) -> int:
        places = self._places
        for key in (_identity(item, item.name), _identity(item, item.name[:-_HASH]), (item.annotation(STAGE),)):
            if key in places:
                return places[key]
        return -1


def order_of(answer: bytes, limits: Limits) -> Order | None:
    """Of a function's answer; None where it was no StageSet's. Raises ResourceListError, LimitError."""
    if KIND.encode() not in answer:
        return None
    given = ResourceList(answer, limits, exact=True)
    return Order(given.items) if given.config is not None and given.config.kind == KIND else None


def _identity(item: Item, name: str) -> tuple[str, ...]:
    return item.field("apiVersion"), item.kind, item.namespace, name
