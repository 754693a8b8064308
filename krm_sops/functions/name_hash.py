"""spec.needsHash: kustomize appends a hash of the plain content to an object's name, and follows the references to it.

kustomize's annotation for that is its own and undocumented; it honours it in what a transformer gives back (5.5, 5.8).
The hash is a bare one: whoever sees the name can try out values until it fits, unless they are too many (S26).
"""

from __future__ import annotations

from math import log2

from krm_sops.errors import shown
from krm_sops.functions.embedded import content
from krm_sops.krm.results import Result
from krm_sops.tree import Branch, Comment, Entry, to_bytes
from krm_sops.values import to_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from krm_sops.functions import Answer
    from krm_sops.krm.item import Item
    from krm_sops.tree import Leaf

    Path = tuple[str, ...]

_ANNOTATION = "internal.config.kubernetes.io/needsHashSuffix"
_HASHED = ("Secret", "ConfigMap")
_ENOUGH_BITS = 64


def ask_for_hash(item: Item, values: Iterable[tuple[Path, Leaf]], answer: Answer, *, whole: bool = True) -> None:
    """values: those that were decrypted.  whole: they are what Kubernetes sees; else parts of it, and no base64."""
    if item.field("apiVersion") == "v1" and item.kind in _HASHED:
        item.annotate(_ANNOTATION, "enabled")
        in_base64 = ("data",) if whole and item.kind == "Secret" else ()
        _warn(item, values, in_base64, answer)


def ask_for_hashes(item: Item, secrets: Iterable[Branch], answer: Answer) -> None:
    """secrets: what takes the place of the item."""
    for secret in secrets:
        metadata = secret.get("metadata")
        assert isinstance(metadata, Branch)
        annotations = metadata.get("annotations")
        if not isinstance(annotations, Branch):
            annotations = Branch()
            metadata.entries.append(Entry("annotations", annotations))
        annotations.entries.append(Entry(_ANNOTATION, "enabled"))
        _warn(item, _values(secret), ("data",), answer)


def _values(secret: Branch) -> list[tuple[Path, Leaf]]:
    found: list[tuple[Path, Leaf]] = []
    for field in ("data", "stringData"):
        branch = secret.get(field)
        if isinstance(branch, Branch):
            found += [((field, str(e.key)), e.value) for e in branch.entries if not isinstance(e.value, (Branch, list))]
    return found


def _warn(item: Item, values: Iterable[tuple[Path, Leaf]], in_base64: tuple[str, ...], answer: Answer) -> None:
    bits: dict[str, float] = {}
    for path, leaf in values:
        if leaf is not None and not isinstance(leaf, Comment):
            place = ".".join(path[:2])
            raw = content(leaf, in_base64=True) if path[0] in in_base64 else None
            bits[place] = bits.get(place, 0.0) + _bits(to_bytes(to_text(leaf)) if raw is None else raw)
    weak = [shown(place, 80) for place, number in bits.items() if number < _ENOUGH_BITS]
    if weak:
        text = f"whoever sees the hash in its name can guess what is short or has little variety: {', '.join(weak[:5])}"
        hint = "do without needsHash, or keep such values in an object that spec.exclude names"
        answer.results.append(Result("warning", "HashRevealsLowEntropy", text, hint=hint, item=item))


def _bits(raw: bytes) -> float:
    """How many bits it takes to guess this, rather too few: Shannon's entropy of its bytes, times their number."""
    length = len(raw)
    return sum(count * log2(length / count) for count in map(raw.count, set(raw)))
