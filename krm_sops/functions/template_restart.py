"""A checksum on the pods of workloads that read a rendered object, so that they start anew when it changes.

It is an HMAC under a key derived from the data keys of the files whose values went in: whoever sees it cannot try out
values, not even of a short PIN (S26). A value that was decrypted by another function has no such key, and no
ciphertext left: then there is none.
"""

from __future__ import annotations

from krm_sops.errors import InputError
from krm_sops.primitives import hkdf_sha256, hmac_sha256, sha256
from krm_sops.tree import Branch, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from krm_sops.krm.item import Item
    from krm_sops.templates import Source
    from krm_sops.tree import Node

_LABEL = b"krm-sops.dev/v1alpha1 SopsTemplate checksum"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_NOT_RESTARTED = ("Job",)
"""Kinds whose pod template cannot change."""


def checksum(sources: Sequence[Source], values: Mapping[str, str]) -> str:
    """32 hexadecimal digits; "" where a source has no key of its own.  values: what the object holds, by its keys."""
    if not all(source.sealing for source in sources):
        return ""
    key = hkdf_sha256(b"".join(sorted(source.sealing for source in sources)), b"", _LABEL)
    parts = [to_bytes(text) for pair in sorted(values.items()) for text in pair]
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac_sha256(key, message).hex()[:32]


def annotation_of(config: Item) -> str:
    """One for each config, so that none overwrites another's."""
    name = config.name
    if not _NAME.issuperset(name) or len(name) > 50:
        name = sha256(to_bytes(name)).digest().hex()[:16]
    return f"krm-sops.dev/checksum-{name}".removesuffix("-")


def pods_of(item: Item) -> Branch | None:
    """The template of the pods that a workload starts anew when it changes."""
    if item.kind in _NOT_RESTARTED:
        return None
    spec = item.branch.get("spec")
    template = spec.get("template") if isinstance(spec, Branch) else None
    inner = template.get("spec") if isinstance(template, Branch) else None
    is_pod = isinstance(inner, Branch) and isinstance(inner.get("containers"), list)
    return template if isinstance(template, Branch) and is_pod else None


_REFERENCES = {
    ("secret", "secretName"): "Secret",
    ("secret", "name"): "Secret",
    ("secretRef", "name"): "Secret",
    ("secretKeyRef", "name"): "Secret",
    ("configMap", "name"): "ConfigMap",
    ("configMapRef", "name"): "ConfigMap",
    ("configMapKeyRef", "name"): "ConfigMap",
}
"""Fields of a pod's volumes (projected ones too), envFrom and env."""


def read_by(pods: Branch) -> set[tuple[str, str]]:
    """Kind and name of the Secrets and ConfigMaps that pods read."""
    spec = pods.get("spec")
    assert isinstance(spec, Branch)
    return {
        found
        for field in ("volumes", "containers", "initContainers", "ephemeralContainers")
        for found in _references(spec.get(field), "")
    }


def _references(node: Node, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, list):
        for element in node:
            yield from _references(element, key)
    elif isinstance(node, Branch):
        for entry in node.entries:
            kind = _REFERENCES.get((key, str(entry.key)))
            if kind and isinstance(entry.value, str):
                yield kind, entry.value
            else:
                yield from _references(entry.value, str(entry.key))


def annotate(item: Item, pods: Branch, name: str, value: str) -> None:
    """Set an annotation of a workload's pods, moving nothing else.  value: simple text.

    Raises InputError where an alias is in the way: it would change elsewhere too.
    """
    at, path = pods, ("metadata", "annotations", name)
    if item.is_alias:
        raise _alias()
    for depth, key in enumerate(path):
        place = item.source.places[id(at)]
        entry = f'"{key}": {_nested(path[depth + 1 :], value)}'
        number, inner = at.number(key), at.get(key)
        if number is None:
            start = place.entries[0][0]
            item.edits.append((start, start, entry + (", " if place.indent < 0 else "\n" + " " * place.indent)))
            return
        span = place.entries[number]
        if depth == len(path) - 1 or inner is None or inner == Branch():
            item.edits.append((*span, entry))
            return
        if not isinstance(inner, Branch) or not span[0] < item.source.places[id(inner)].entries[0][0] < span[1]:
            raise _alias()
        at = inner


def _nested(path: tuple[str, ...], value: str) -> str:
    return f'{{"{path[0]}": {_nested(path[1:], value)}}}' if path else f'"{value}"'


def _alias() -> InputError:
    return InputError("pod annotations that are no mapping, or an alias", path=("spec", "template", "metadata"))
