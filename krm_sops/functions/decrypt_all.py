"""The items that were chosen become plain, group by group; the errors of all of them are told.

Apart from `decrypt`, which chooses items and keys: without an encrypted item none of this is imported.
"""

from __future__ import annotations

from krm_sops.datakey import LOCAL, open_ahead
from krm_sops.errors import KrmSopsError
from krm_sops.functions.decrypt import InPlaceError
from krm_sops.functions.decrypt_item import Opening, decrypt_group
from krm_sops.functions.regroup import groups
from krm_sops.keys import KEY_TYPES
from krm_sops.krm.item import PACKAGE_PATH
from krm_sops.krm.results import Result
from krm_sops.metadata import Metadata
from krm_sops.tree import Branch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.credentials import Credentials
    from krm_sops.functions import Answer
    from krm_sops.functions.decrypt import Options
    from krm_sops.functions.decrypt_keys import Keys
    from krm_sops.functions.embedded import Embedded
    from krm_sops.krm.item import Item
    from krm_sops.tree import Node


def decrypt_all(
    todo: list[Item], values: dict[Item, list[Embedded]], keys: Keys, options: Options, answer: Answer
) -> None:
    """Raises nothing: what is wrong is in the answer.

    values: for those of the items that are not encrypted themselves, the documents inside of them.
    """
    try:
        credentials = keys.credentials()
    except KrmSopsError as error:
        answer.results.append(Result.of(error, keys.reading))
        return
    if not options.allow_plaintext and not options.kustomize:
        in_place = [item for item in todo if item.annotation(PACKAGE_PATH)]
        if in_place and not (options.keep_original and _is_encrypted_again(keys)):
            answer.results.append(Result.of(_in_place(), in_place[0]))
            return
    open_ahead_of([block for item in todo for block in _blocks(item, values)], credentials, keys.limits.key_entries)
    opening = Opening(credentials, options, answer, keys.limits, keys.proofs)
    wanted = set(todo)
    for item in todo:
        item.mask = options.mask
    left = [group for group in reversed(groups(keys.given.encrypted())) if not wanted.isdisjoint(group.members)]
    while left:
        group = left.pop()
        try:
            decrypt_group(group, wanted, opening)
        except KrmSopsError as error:
            if group.is_guess:
                left += reversed([alone for alone in group.alone() if not wanted.isdisjoint(alone.members)])
            else:
                answer.results.append(Result.of(error, opening.item))
    if options.keep_original:
        from krm_sops.functions.in_place import note

        note(keys.given, todo)
    if values:
        from krm_sops.functions.decrypt_embedded import decrypt_values

        for item in [item for item in todo if item in values]:
            try:
                decrypt_values(item, values[item], opening)
            except KrmSopsError as error:
                answer.results.append(Result.of(error, item))


def _blocks(item: Item, values: dict[Item, list[Embedded]]) -> list[Node]:
    return [document.block for document in values[item]] if item in values else [item.branch.get("sops")]


def open_ahead_of(blocks: list[Node], credentials: Credentials, key_entries: int) -> None:
    """Ask the services that keep keys for all documents together; what is wrong with one is told in its turn."""
    telling = {"key_groups", *KEY_TYPES}.difference(LOCAL)
    documents: list[Metadata] = []
    for block in blocks:
        if isinstance(block, Branch) and any(entry.value and entry.key in telling for entry in block.entries):
            try:
                documents.append(Metadata.from_branch(block, key_entries))
            except KrmSopsError:
                continue
    open_ahead(documents, credentials)


def _is_encrypted_again(keys: Keys) -> bool:
    from krm_sops.functions.in_place import is_encrypted_again

    return is_encrypted_again(keys.given)


def _in_place() -> KrmSopsError:
    return InPlaceError(
        "kpt fn render would write this item's plaintext into the package",
        hint="set allowPlaintext: true and render with -o to a place outside the package; "
        "or set keepOriginal: true, and list a SopsEncrypt as a later mutator of the Kptfile; "
        "or keep the item encrypted in git with the krm-sops.dev/decrypt: disabled annotation or a selector; "
        "or decrypt where it is deployed",
    )
