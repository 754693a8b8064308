"""Encrypted items become plain where they stand in their texts, or an error says why not.

Those that share a MAC are opened together.

Apart from `decrypt`, which chooses items and keys: without an encrypted item none of this is imported.
"""

from __future__ import annotations

from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument, Opened
from krm_sops.errors import (
    EncryptedValueError,
    InputError,
    KrmSopsError,
    LimitError,
    MacMismatch,
    MacUnverifiable,
    MetadataError,
)
from krm_sops.functions.regroup import SHARED, Group
from krm_sops.krm.item import LOCAL_CONFIG, MASK, MASKED, is_identity, refuse_duplicates
from krm_sops.krm.results import Result
from krm_sops.metadata import Metadata
from krm_sops.tree import CIPHERTEXT, Branch, Comment, Entry, Timestamp, leaves, with_leaves
from krm_sops.values import to_text
from krm_sops.yamlwrite import scalar_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from krm_sops.credentials import Credentials
    from krm_sops.functions import Answer
    from krm_sops.functions.decrypt import Options
    from krm_sops.functions.proofs import Proofs
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.tree import Leaf, Node, Scalar

_VERIFIABLE = (
    "kustomize sorts and changes items before a transformer sees them; set buildMetadata: [originAnnotations] so that "
    "their files count, or encrypt with mac_only_encrypted and sorted keys"
)
_CHECK = (
    "compare it with the document as it was encrypted: unless its keys were not sorted, a value was added, removed or "
    "changed since"
)


class Opening:
    """What the items of a run are opened with.  answer: where doubts go.  item: the one in hand, for errors.

    proofs: gives what may stand in for a MAC where kustomize changed the items.
    """

    __slots__ = ("answer", "credentials", "item", "limits", "options", "proofs")

    def __init__(
        self,
        credentials: Credentials,
        options: Options,
        answer: Answer,
        limits: Limits,
        proofs: Callable[[], Proofs],
    ) -> None:
        self.credentials = credentials
        self.options = options
        self.answer = answer
        self.limits = limits
        self.proofs = proofs
        self.item: Item | None = None


def decrypt_group(group: Group, wanted: Collection[Item], opening: Opening) -> None:
    """Decrypt items that have one MAC in their texts. Raises KrmSopsError, for `opening.item`, and changes none.

    wanted: those of its members that change. The others are read for the MAC, which covers them too, and stay.
    """
    for document in verified(group, opening):
        opening.item = document.item
        if document.item in wanted:
            _make_plain(document, opening)


def _make_plain(document: Document, opening: Opening) -> None:
    item, opened = document.item, document.opened
    if opening.options.expands(item):
        _expand(document, opening)
        return
    if opening.options.keep_original:
        from krm_sops.functions.original import keep

        keep(item, document.data_key)
    document.replace()
    item.cut("sops")
    if opening.options.needs_hash:
        from krm_sops.functions.name_hash import ask_for_hash

        secrets = [] if item.mask else [(opened.paths[at], opened.leaves[at]) for at in opened.changed]
        ask_for_hash(item, secrets, opening.answer)
    if item.mask:
        item.annotate(MASKED, "true")
    if opened.unopened:
        text = f"{len(opened.unopened)} comments do not fit their tags and stay encrypted"
        opening.answer.results.append(Result("warning", "TagMismatch", text, item=item))
    remaining = [
        path for path, leaf in zip(opened.paths, opened.leaves, strict=True) if _is_encrypted(item, path, leaf)
    ]
    if remaining and not item.mask:
        from krm_sops.functions.leftovers import tell_remaining

        tell_remaining(item, remaining, opening.answer)


def _expand(document: Document, opening: Opening) -> None:
    """Put the Secrets of a SopsSecret in its place, unless its operator would not make them."""
    from krm_sops.functions.expand import is_suspended, secrets_of

    item = document.item
    resource = with_leaves(document.branch, iter(document.opened.leaves))
    assert isinstance(resource, Branch)
    if is_suspended(resource):
        opening.answer.results.append(Result("info", "StillEncrypted", "stays as it is: it is suspended", item=item))
        return
    if item.mask:
        from krm_sops.functions.masking import marked, masked

        item.replacement = [marked(secret) for secret in secrets_of(masked(document.branch, resource), MASK)]
    else:
        item.replacement = secrets_of(resource)
    if opening.options.needs_hash:
        from krm_sops.functions.name_hash import ask_for_hashes

        ask_for_hashes(item, item.replacement, opening.answer)


def _is_encrypted(item: Item, path: tuple[str, ...], leaf: Leaf) -> bool:
    """Whether there is ciphertext in a value after decryption: it was encrypted twice, or is an encrypted document."""
    if not isinstance(leaf, str) or len(leaf) < len(CIPHERTEXT):
        return False
    if CIPHERTEXT in leaf:
        return True
    if path[0] != "data" or item.kind != "Secret":
        return False
    from krm_sops.functions.embedded import content

    return CIPHERTEXT.encode() in (content(leaf, in_base64=True) or b"")


def opened_leaves(item: Item, group: Group, opening: Opening) -> list[tuple[tuple[str, ...], Leaf]]:
    """The leaves of an item that stays encrypted: a key Secret. Raises KrmSopsError.

    It was marked as local configuration in an earlier run, perhaps, which its MAC does not know of.
    """
    try:
        documents = verified(group, opening)
    except KrmSopsError as error:
        if group.is_guess:
            return opened_leaves(item, Group([item]), opening)
        if item.annotation(LOCAL_CONFIG) != "true" or not isinstance(error, (MacMismatch, EncryptedValueError)):
            raise
        documents = verified(group, opening, marked=item)
    opened = next(document.opened for document in documents if document.item is item)
    return list(zip(opened.paths, opened.leaves, strict=True))


def verified(group: Group, opening: Opening, marked: Item | None = None) -> list[Document]:
    """The members, opened. Where they may be no group at all, only the MAC itself says that they are one.

    marked: the one that was annotated as local configuration after encryption.
    """
    group.check()
    documents = []
    for item in group.members:
        opening.item = item
        documents.append(Document(item, opening, LOCAL_CONFIG if item is marked else ""))
    opening.item = group.members[0]
    _check_mac(documents, opening, strict=group.is_guess)
    return documents


def _metadata(item: Item, limits: Limits) -> Metadata:
    _check_size(item, limits)
    block = item.branch.get("sops")
    if not isinstance(block, Branch):
        raise MetadataError(
            "the top-level sops field is no mapping",
            hint="if it is not SOPS metadata, annotate the item with krm-sops.dev/decrypt: disabled",
        )
    refuse_duplicates(item.branch)
    return Metadata.from_branch(block, limits.key_entries)


def _check_size(item: Item, limits: Limits) -> None:
    entries = item.place.entries
    if entries[-1][1] - entries[0][0] > limits.document_bytes:
        raise LimitError(f"an encrypted item of more than {limits.document_bytes} bytes (the limit document_bytes)")
    if item.place.after - item.place.first_leaf > limits.document_nodes:
        raise LimitError(f"an encrypted item of more than {limits.document_nodes} nodes (the limit document_nodes)")


class Document:
    """An item without its ``sops`` block, opened, and which of its leaves is which in the item's text."""

    def __init__(self, item: Item, opening: Opening, added: str) -> None:
        """added: an annotation that was added after encryption, besides those of kpt and kustomize."""
        self.item = item
        self.metadata = _metadata(item, opening.limits)
        number = item.branch.number("sops") or 0
        entries = item.branch.entries
        block = item.source.places[id(entries[number].value)]
        start, end = item.place.entries[number]
        span = item.source.spans[block.first_leaf] if block.after > block.first_leaf else None
        if span is None or not start < span.start < end:
            raise MetadataError("the sops block is an alias, or empty")
        self.before = block.first_leaf - item.first
        self.block = block.after - block.first_leaf
        self.branch = Branch([entry for at, entry in enumerate(entries) if at != number])
        injected = {leaf if leaf < self.before else leaf - self.block for leaf in item.injected_leaves(added)}
        self.numbers: dict[int, int] | None = None
        text = "" if item.source.is_json else item.own_text()  # not all of the list
        if "#" in text and (self.metadata.selection.by_comment or "#ENC[" in text):
            self._with_comments()
        self.detached = (
            injected if self.numbers is None else {at for at, leaf in self.numbers.items() if leaf in injected}
        )
        self.data_key = recover(self.metadata, opening.credentials)
        self.opened = EncryptedDocument([self.branch], self.metadata).open(self.data_key, self.detached)

    def _with_comments(self) -> None:
        """The same tree with its comments; `numbers` maps its leaves, other than comments, to those without."""
        from krm_sops.yamlcomments import read

        item = self.item
        whole = read(item.own_text())[0]
        with_comments = Branch([entry for entry in whole.entries if entry.key != "sops"])
        if without_comments(with_comments) != self.branch:
            raise InputError("the item reads differently with its comments than without them")
        self.branch = with_comments
        self.numbers = {}
        count = 0
        for at, leaf in enumerate(leaves(self.branch)):
            if not isinstance(leaf, Comment):
                self.numbers[at] = count
                count += 1

    def number(self, at: int) -> int:
        """The number that a leaf of the document has in the item."""
        leaf = at if self.numbers is None else self.numbers[at]
        return leaf if leaf < self.before else leaf + self.block

    def replace(self) -> None:
        item, opened = self.item, self.opened
        changed = set(opened.changed)
        kind = item.plain_kind = self._kind()
        originals: list[Leaf] = []
        for at in sorted(changed):
            value, path = opened.leaves[at], opened.paths[at]
            if isinstance(value, Comment):
                originals = originals or list(leaves(self.branch))
                original = originals[at]
                if isinstance(original, Comment):
                    item.put_comment(original.text, value.text, path)
                else:
                    item.put_list_comment(self.number(at), value.text, path)
                continue
            top = path[0] if path else ""
            if isinstance(value, (bool, int, float, Timestamp)) and (
                _is_text_field(kind, top) or (kind == "Secret" and top == "data")
            ):
                value = to_text(value)
            item.put(
                self.number(at), value, quoted=_is_text_field(kind, top), path=path, clear=is_identity(path, value)
            )
        for at, value in enumerate(opened.leaves):
            path = opened.paths[at]
            if at in changed or isinstance(value, Comment):
                continue
            if len(path) == 2 and _is_text_field(kind, path[0]):
                self._quote(self.number(at), value, path)

    def _kind(self) -> str:
        """The item's, which may be encrypted like the rest."""
        opened = self.opened
        found = next((opened.leaves[at] for at in opened.changed if opened.paths[at] == ("kind",)), self.item.kind)
        return found if isinstance(found, str) else ""

    def _quote(self, leaf: int, value: Scalar, path: tuple[str, ...]) -> None:
        """Put a plain scalar into quotes where some reader would not take it for a string."""
        item = self.item
        spelled = item.text(leaf)
        if isinstance(value, (bool, int, float, Timestamp)):
            text = to_text(value) if spelled.startswith("!") else spelled
            item.put(leaf, text, quoted=True, path=path, clear=True)
        elif isinstance(value, str) and spelled == value and scalar_text(value, indent=0) != value:
            item.put(leaf, value, quoted=True, path=path, clear=True)


def without_comments(node: Node) -> Node:
    if isinstance(node, Branch):
        kept = [entry for entry in node.entries if not isinstance(entry.key, Comment)]
        return Branch([Entry(entry.key, without_comments(entry.value)) for entry in kept])
    if isinstance(node, list):
        return [without_comments(element) for element in node if not isinstance(element, Comment)]
    return node


def _is_text_field(kind: str, top: str) -> bool:
    """Whether Kubernetes wants strings there, whatever their text looks like."""
    return (kind == "Secret" and top == "stringData") or (kind == "ConfigMap" and top == "data")


def _check_mac(documents: list[Document], opening: Opening, *, strict: bool) -> None:
    """The MAC over all of them. Raises MacMismatch, or what `_check_unverified` does."""
    first, options = documents[0], opening.options
    opened = first.opened if len(documents) == 1 else _joined([document.opened for document in documents])
    whole = EncryptedDocument([document.branch for document in documents], first.metadata)
    try:
        whole.verify(opened, first.data_key)
    except MacMismatch as error:
        proven = _proven(documents, whole, opened, opening) if options.kustomize else None
        if proven is not None:
            opening.answer.results += proven
            return
        if len(documents) > 1:
            error = MacMismatch(f"{error} ({len(documents)} documents of the file share this MAC)", hint=SHARED)
        is_changed = options.kustomize and opening.proofs().may_be_changed(first.item, first.metadata, first.data_key)
        if strict or options.mac == "strict" or (options.mac == "auto" and not is_changed):
            if is_changed and not first.metadata.mac_only_encrypted:
                error.hint = _VERIFIABLE
            raise error from None
        if opened.mistyped is not None:
            raise opened.mistyped from None
        for document in documents:
            opening.item = document.item
            _check_unverified(document, error)
        _tell_unverified(documents, opening)


def _proven(
    documents: list[Document], whole: EncryptedDocument, opened: Opened, opening: Opening
) -> list[Result] | None:
    """What to tell where something else stands in for the MAC (S8, S9); None where nothing does."""
    if opened.mistyped is not None:
        return None
    proofs, data_key = opening.proofs(), documents[0].data_key
    items = [document.item for document in documents]
    found = proofs.by_origin(items, [document.opened for document in documents], whole, data_key)
    if found is None and opening.options.mac != "strict":
        found = proofs.by_order(items, opened, whole, data_key)
    return found


def _joined(parts: list[Opened]) -> Opened:
    """As far as a MAC needs it: one walk over several documents."""
    detached: set[int] = set()
    whole = Opened(detached)
    for part in parts:
        first = len(whole.parts)
        detached.update(first + at for at in part.detached)
        whole.detached_clear = whole.detached_clear and part.detached_clear
        whole.mistyped = whole.mistyped or part.mistyped
        whole.changed += [first + at for at in part.changed]
        whole.parts += part.parts
    return whole


def _tell_unverified(documents: list[Document], opening: Opening) -> None:
    severity = "warning" if opening.options.mac == "auto" else "info"
    for document in documents:
        result = Result(
            severity,
            "MacUnverifiable",
            "decrypted, but its MAC cannot be verified here: each value is intact, the rest of the item may not be",
            hint=_CHECK if document.metadata.mac_only_encrypted else _VERIFIABLE,
            item=document.item,
        )
        opening.answer.results.append(result)


def _check_unverified(document: Document, error: MacMismatch) -> None:
    """Without a MAC only a v1 Secret may leave, and only with values that their tags pin to their places (S7)."""
    item, opened = document.item, document.opened
    if (item.field("apiVersion"), item.kind) != ("v1", "Secret"):
        raise MacUnverifiable(f"{error} (or kustomize changed the item)", hint=_VERIFIABLE) from None
    if opened.empty:
        path = opened.paths[opened.empty[0]]
        raise EncryptedValueError("an empty value in an encrypted place, and no MAC that covers it", path=path)
    for at in opened.changed:
        if any(":" in key for key in opened.paths[at]):
            raise EncryptedValueError("a colon in a key above an encrypted value, and no MAC", path=opened.paths[at])
        if isinstance(opened.leaves[at], Comment):
            raise EncryptedValueError("an encrypted comment, and no MAC", path=opened.paths[at])
    for at, leaf in enumerate(opened.leaves):
        if isinstance(leaf, str) and leaf.startswith(CIPHERTEXT) and at not in opened.changed:
            raise EncryptedValueError("ciphertext where the document says that values are plain", path=opened.paths[at])
