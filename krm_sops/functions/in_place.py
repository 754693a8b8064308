"""Whether what is decrypted under ``kpt fn render`` is encrypted again before kpt writes it.

Before: what the Kptfile says. After: SopsDecrypt notes on its own file what it decrypted, and SopsEncrypt looks whether
all that is still there can be encrypted again. Both are guards against mistakes: who writes the Kptfile may also write
`allowPlaintext`.
Source: kptdev/kpt, internal/util/render/executor.go, pkg/api/kptfile/v1.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from krm_sops.errors import shown
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
_GONE = f"it was decrypted, but the annotation {ORIGINAL} is gone, so that it would stay plain"
_BECAME = f"this may be what became of it, without the annotation {ORIGINAL}, and would stay plain"
_FIELDS = 3
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
    """Say on the SopsDecrypt's own item which items it decrypts, and which were plain, where kpt names their files.

    Digests, as kinds and names may have been encrypted; of the places of what it decrypts the text, to be named.
    """
    config = given.config
    assert config is not None
    places = sorted(
        {f"{_text(item)}.{_digest(item.kind)}.{_digest(item.kind, item.name)}" for item in items if item.file}
    )
    plain = sorted({_whole(item) for item in given.items if item.file and _is_plain(item)})
    for item in given.named(config.name):
        if places and config.file and item.kind == config.kind and place_of(item) == place_of(config):
            item.annotate(NOTE, " ".join([*places, *plain]))


def lost(items: Iterable[Item], encrypting: Iterable[Item]) -> list[Result]:
    """Take the notes off; an error for each item that was decrypted and does not say any more what it was.

    encrypting: plain Secrets that are encrypted as new ones.  An item that is not where it was may have been deleted,
    but only if nothing plain came that it may have become: the same kind and name, or the same kind and not encrypted.
    """
    noted: list[list[str]] = []
    known: set[str] | None = None
    there: set[str] = set()
    plain: list[Item] = []
    for item in items:
        if item.kind == "SopsDecrypt" and item.annotation(NOTE):
            words = [word.split(".") for word in item.annotation(NOTE).split(" ")]
            noted += [word for word in words if len(word) == _FIELDS]
            before = {word[0] for word in words if len(word) == 1}
            known = before if known is None else known & before
            item.cut_annotation(NOTE)
        if _is_plain(item):
            plain.append(item)
        else:
            there.add(_text(item))
    gone = [word for word in noted if word[0] not in there]
    if not gone:
        return []
    stripped = {_text(item): item for item in plain if item.file}
    sealed = set(encrypting)
    came = [item for item in plain if _whole(item) not in (known or ())]
    found = {stripped[place]: _GONE for place, _, _ in sorted(gone) if place in stripped}
    moved = sorted(words for words in gone if words[0] not in stripped)
    for item in came:
        was = [place for place, _, name in moved if name == _digest(item.kind, item.name)]
        if not was and item not in sealed:
            was = [place for place, kind, _ in moved if kind == _digest(item.kind)]
        if was:
            found.setdefault(item, f"{_spelled(was[0])} was decrypted and is gone; {_BECAME}")
    hint = "a function before took its annotations away, or put another object in its place"
    return [Result("error", "InvalidDocument", text, hint=hint, item=item) for item, text in found.items()]


def _is_plain(item: Item) -> bool:
    return not item.annotation(ORIGINAL) and item.branch.number("sops") is None


def _text(item: Item) -> str:
    return b2a_base64(to_bytes("\0".join(place_of(item))), newline=False).decode()


def _spelled(place: str) -> str:
    try:
        _, file, index = a2b_base64(place).decode().split("\0")
    except ValueError:
        return "an item"
    return f"document {shown(index)} of {shown(file)}"


def _whole(item: Item) -> str:
    return _digest(*place_of(item), item.kind, item.name)


def _digest(*parts: str) -> str:
    text: str = sha256(to_bytes("\0".join(parts))).hexdigest()
    return text[:16]
