"""A file -> its encrypted documents, those inside of values too, and what an audit asks of each."""

from __future__ import annotations

from datetime import UTC, datetime

from krm_sops.age.ssh_ed25519 import native_recipients
from krm_sops.cipher import looks_encrypted
from krm_sops.document import EncryptedDocument
from krm_sops.errors import InputError, LimitError, MetadataError
from krm_sops.gate import texts
from krm_sops.gate.walk import Walked
from krm_sops.metadata import Metadata
from krm_sops.tree import CIPHERTEXT, Branch, Comment, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.cipher import DataKey
    from krm_sops.gate.texts import Tree
    from krm_sops.gate.walk import Owner
    from krm_sops.keys.base import MasterKey
    from krm_sops.limits import Limits

_IN_BASE64 = ("c29wc", "NvcH", "zb3Bz")
"""What "sops" becomes, for each of the three places in base64's groups that it can begin at."""
_DEPTH = 3
"""Documents inside of documents."""


class Document:
    """format: that of its file.  field: where in the file it is the text of a value, or "".

    values: the path of each encrypted value, and its ciphertext.
    """

    __slots__ = ("_branches", "field", "file", "format", "index", "metadata", "values")

    def __init__(self, file: str, format_: str, index: int, field: str, metadata: Metadata) -> None:
        self.file = file
        self.format = format_
        self.index = index
        self.field = field
        self.metadata = metadata
        self.values: list[tuple[str, str]] = []
        self._branches: list[Branch] = []

    @property
    def needed(self) -> int:
        """How many key groups open it."""
        return 1 if len(self.metadata.key_groups) == 1 else max(self.metadata.threshold, 2)

    @property
    def key_since(self) -> datetime:
        """The data key is not younger: the first that a key was put around it, or else the last change."""
        stated = [moment(key.fields().get("created_at", "")) for key in self.metadata.keys()]  # noqa: SIM118
        return min(filter(None, [moment(self.metadata.lastmodified), *stated]))

    def marks(self) -> set[str]:
        """What only somebody with the data key could make, or copy from where it was made."""
        return {self.metadata.mac, *(text for _, text in self.values)} - {""}

    def add(self, tree: Tree, owner: Owner) -> None:
        """One more document of the same file, with the same sops block."""
        body = [entry for entry in tree.with_comments(owner.branch).entries if entry.key != "sops"]
        self._branches.append(Branch(body))
        prefix = f"{self.field}: " if self.field else ""
        self.values += [(prefix + leaf.path, str(leaf.value)) for leaf in owner.leaves if leaf.is_ciphertext]
        comments = [leaf.text.strip() for leaf in leaves(Branch(body)) if isinstance(leaf, Comment)]
        self.values += [(f"{prefix}(a comment)", text) for text in comments if looks_encrypted(text)]

    def verify(self, data_key: DataKey) -> None:
        """Raises EncryptedValueError, IntegrityError, StoreError."""
        EncryptedDocument(self._branches, self.metadata).decrypt(data_key)


def moment(text: str) -> datetime | None:
    """None for what is no time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def read(raw: bytes, name: str, limits: Limits) -> tuple[list[Document], list[str]]:
    """The documents of a file, and what is wrong with those that cannot be used."""
    text = texts.text_of(raw)
    if not _may_hold_documents(text):
        return [], []
    found: list[Document] = []
    problems: list[str] = []
    format_ = texts.format_of(name)
    try:
        trees = texts.read(text, format_, limits, limits.document_nodes)
        last: Branch | None = None
        for index, tree in enumerate(trees):
            for inner, owner, field in _owners(tree, limits):
                try:
                    block, metadata = _metadata(owner, limits)
                except InputError as error:
                    problems.append(f"a sops block that cannot be used: {error.message}")
                    continue
                # sops puts the block of one document into each that a file has.
                if not (found and block == last and index > found[-1].index and owner.branch is tree.root):
                    found.append(Document(name, format_, index, field, metadata))
                found[-1].add(inner, owner)
                last = block if owner.branch is tree.root else None
    except (InputError, LimitError) as error:
        if "sops" in text or CIPHERTEXT in text:
            problems.append(f"cannot be read: {error.message}")
    return found, problems


def _may_hold_documents(text: str) -> bool:
    """Whether a sops block can be in it: spelled out or with escapes, or in base64, there as sops spells it."""
    if "sops" in text or "\\" in text:
        return True
    together = "".join(text.split())
    return any(sign in together for sign in _IN_BASE64)


def _metadata(owner: Owner, limits: Limits) -> tuple[Branch, Metadata]:
    block = owner.branch.get("sops")
    if not isinstance(block, Branch):
        raise MetadataError("it is no mapping")
    return block, Metadata.from_branch(block, limits.key_entries)


def _owners(tree: Tree, limits: Limits, field: str = "", depth: int = 0) -> Iterator[tuple[Tree, Owner, str]]:
    """The mappings with a sops block, each with its tree, and the value that this is the text of."""
    walked = Walked(tree)
    for owner in walked.owners:
        yield tree, owner, field
    if depth >= _DEPTH:
        return
    for leaf in walked.leaves:
        if isinstance(leaf.value, str) and not leaf.in_block and not leaf.is_ciphertext:
            for text in (leaf.value, texts.text_of(leaf.decoded.encode("latin-1"))):
                for inner in texts.embedded(text, limits, limits.document_nodes) if "sops" in text else ():
                    yield from _owners(inner, limits, f"{field}: {leaf.path}" if field else leaf.path, depth + 1)


class Recipient:
    """Somebody who may be able to open documents: a key as a person names it."""

    def __init__(self, wanted: str, names: dict[str, str]) -> None:
        """wanted: a recipient, fingerprint or ARN, or a name.  names: see `audit.names`."""
        self._wanted = wanted.strip().casefold()
        self._names = names
        self._converted = native_recipients(wanted)

    def is_(self, key: MasterKey) -> bool:
        identity, wanted = key.identity.casefold(), self._wanted
        if identity == wanted or self._names.get(identity, "").casefold() == wanted:
            return True
        if wanted.startswith("ssh-"):
            return identity.split()[:2] == wanted.split()[:2] or identity in self._converted
        if key.section == "pgp":
            digits = wanted.removeprefix("0x").replace(" ", "")
            return len(digits) >= 16 and (identity.endswith(digits) or digits.endswith(identity))
        return identity.startswith((f"{wanted}+", f"{wanted}|", f"{wanted.rstrip('/')}/"))

    def opens(self, document: Document) -> bool:
        """Alone, or with others where several key groups are needed."""
        return any(map(self.is_, document.metadata.keys()))
