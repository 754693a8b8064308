"""SOPS documents inside of values become plain ones: each verified by its MAC as it stands, whatever the options say.

Nobody but sops had a hand in the text of a value. The format of the result follows from the key, as in Flux. Unlike
Flux: where the key says nothing, the format stays; what was encrypted as a binary file gives its bytes under any key,
not an object around them; several YAML documents under a key of another format are an error, not the first of them.
Source: fluxcd/kustomize-controller 1.9, internal/decryptor/decryptor.go, DecryptResource.
"""

from __future__ import annotations

from binascii import b2a_base64

from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import KrmSopsError, StoreError
from krm_sops.krm.item import MASKED, refuse_duplicates
from krm_sops.krm.results import Result
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import CIPHERTEXT, Branch, from_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.document import Opened
    from krm_sops.functions.decrypt_item import Opening
    from krm_sops.functions.embedded import Embedded
    from krm_sops.krm.item import Item
    from krm_sops.tree import Leaf


def decrypt_values(item: Item, documents: Sequence[Embedded], opening: Opening) -> None:
    """Put the plain documents into the values of an item.

    Raises KrmSopsError, with the path of the value and the one inside of it.
    """
    opening.item = item
    refuse_duplicates(item.branch)
    values: list[tuple[tuple[str, ...], Leaf]] = []
    for document in documents:
        path = document.path
        try:
            metadata = Metadata.from_branch(document.block, opening.limits.key_entries)
            data_key = recover(metadata, opening.credentials)
            plain, opened = EncryptedDocument(document.branches, metadata).decrypt(data_key)
            raw = b"" if item.mask else _written(document, plain)
        except KrmSopsError as error:
            error.path = (*path, *error.path)
            raise
        text = b2a_base64(raw, newline=False).decode() if document.in_base64 else from_bytes(raw)
        item.put(document.leaf, text, quoted=not document.in_base64, path=path)
        _tell(document, opened, opening)
        values += [] if item.mask else [(path, opened.leaves[at]) for at in opened.changed]
    if item.mask:
        item.annotate(MASKED, "true")
    if opening.options.needs_hash:
        from krm_sops.functions.name_hash import ask_for_hash

        ask_for_hash(item, values, opening.answer, whole=False)


def _tell(document: Embedded, opened: Opened, opening: Opening) -> None:
    assert opening.item is not None
    if opened.unopened:
        text = f"{len(opened.unopened)} comments do not fit their tags and stay encrypted"
        field = ".".join(document.path)
        opening.answer.results.append(Result("warning", "TagMismatch", text, item=opening.item, field=field))
    pairs = zip(opened.paths, opened.leaves, strict=True)
    remaining = [(*document.path, *path) for path, leaf in pairs if isinstance(leaf, str) and CIPHERTEXT in leaf]
    if remaining and not opening.item.mask:
        from krm_sops.functions.leftovers import tell_remaining

        tell_remaining(opening.item, remaining, opening.answer)


def _written(document: Embedded, plain: list[Branch]) -> bytes:
    name = _output_format(document, plain)
    if len(plain) > 1 and name != "yaml":
        raise StoreError(f"{len(plain)} YAML documents under a key of the format {name}, which holds one")
    try:
        return STORES[name].write_plain(plain)
    except UnicodeEncodeError:
        pass  # an exception that is raised above would carry the plaintext along
    raise StoreError(f"bytes that a document of the format {name} cannot hold")


def _output_format(document: Embedded, plain: list[Branch]) -> str:
    if document.format == "json" and len(plain[0].entries) == 1 and isinstance(plain[0].get("data"), str):
        return "binary"
    key = document.path[1]
    named = "json" if key.endswith(".dockerconfigjson") else format_for_path(key)
    return document.format if named == "binary" else named
