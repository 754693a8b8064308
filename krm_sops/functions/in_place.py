"""Whether what is decrypted under ``kpt fn render`` is encrypted again before kpt writes it.

Before: what the Kptfile says. After: SopsDecrypt notes on its own file what it decrypted, and SopsEncrypt looks whether
all that is still there can be encrypted again. Both are guards against mistakes: who writes the Kptfile may also write
`allowPlaintext`.
Source: kptdev/kpt, internal/util/render/executor.go, pkg/api/kptfile/v1.
"""

from __future__ import annotations

from krm_sops.functions import GROUP_VERSION
from krm_sops.functions.original import place_of
from krm_sops.krm.item import ORIGINAL, PACKAGE_PATH
from krm_sops.krm.results import Result
from krm_sops.primitives import sha256
from krm_sops.tree import Branch, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from krm_sops.functions import Given
    from krm_sops.krm.item import Item

NOTE = "krm-sops.dev/originals"
SAVE_ON_FAILURE = "kpt.dev/save-on-render-failure"
_CONDITIONAL = ("selectors", "exclude", "condition")
"""Fields of a function in a pipeline with which it may not see every item, or not run."""


def is_encrypted_again(given: Given) -> bool:
    """Whether a later mutator of the same pipeline is a SopsEncrypt that sees everything, whatever fails in between."""
    config = given.config
    assert config is not None
    files = [item for item in given.of_kind("Kptfile") if item.field("apiVersion").startswith("kpt.dev/")]
    if any(item.annotation(SAVE_ON_FAILURE).lower() not in ("", "false") for item in files):
        return False
    package = config.annotation(PACKAGE_PATH)
    own = [item for item in files if item.annotation(PACKAGE_PATH) == package and item.file == "Kptfile"]
    pipeline = own[0].branch.get("pipeline") if len(own) == 1 else None
    mutators = pipeline.get("mutators") if isinstance(pipeline, Branch) else None
    functions = [one for one in mutators if isinstance(one, Branch)] if isinstance(mutators, list) else []
    paths = [_path(one) for one in functions]
    if not config.file or config.file not in paths:
        return False
    last = len(paths) - 1 - paths[::-1].index(config.file)
    later = [path for one, path in zip(functions[last + 1 :], paths[last + 1 :], strict=True) if not _is_partial(one)]
    encrypting = [item for item in given.of_kind("SopsEncrypt") if _is_for(item, package, config.namespace)]
    return any(item.file in later for item in encrypting)


def _path(function: Branch) -> str:
    path = function.get("configPath")
    return path.removeprefix("./") if isinstance(path, str) else ""


def _is_partial(function: Branch) -> bool:
    return any(function.get(name) for name in _CONDITIONAL)


def _is_for(item: Item, package: str, namespace: str) -> bool:
    """Whether it is a SopsEncrypt of this package that encrypts what a config in `namespace` decrypts."""
    return (
        item.field("apiVersion") == GROUP_VERSION
        and item.annotation(PACKAGE_PATH) == package
        and item.namespace in ("", namespace)
    )


def note(given: Given, items: Iterable[Item]) -> None:
    """Say on the SopsDecrypt's own item which items it decrypts, where kpt says which file each is from."""
    config = given.config
    assert config is not None
    places = sorted({_digest(item) for item in items if item.file})
    for item in given.named(config.name):
        if places and config.file and item.kind == config.kind and _digest(item) == _digest(config):
            item.annotate(NOTE, " ".join(places))


def lost(items: Iterable[Item]) -> list[Result]:
    """Take the notes off; an error for each item that was decrypted and does not say any more what it was."""
    noted: set[str] = set()
    left: dict[str, Item] = {}
    for item in items:
        if item.kind == "SopsDecrypt" and item.annotation(NOTE):
            noted.update(item.annotation(NOTE).split(" "))
            item.cut_annotation(NOTE)
        elif item.file and not item.annotation(ORIGINAL) and item.branch.number("sops") is None:
            left[_digest(item)] = item
    text = f"it was decrypted, but the annotation {ORIGINAL} is gone, so that it would stay plain"
    hint = "a function before took its annotations away, or put another object in its place"
    return [Result("error", "InvalidDocument", text, hint=hint, item=left[at]) for at in sorted(noted & left.keys())]


def _digest(item: Item) -> str:
    text: str = sha256(to_bytes("\0".join(place_of(item)))).hexdigest()
    return text[:16]
