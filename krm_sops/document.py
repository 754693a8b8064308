"""An encrypted document: one walk over its leaves decrypts the values and gathers what the MAC covers.

The MAC is SHA-512 over the bytes of all leaves in walk order (comments and null contribute nothing), or only over
those that are encrypted (`mac_only_encrypted`), then encrypted itself with `lastmodified` as additional data.

A comment whose ciphertext does not fit its tag stays as it is, and is told: sops itself writes files in which a comment
is read back from another place than it was encrypted for (about one in twenty-five with comments everywhere).
Source: getsops/sops 3.13, sops.go, Decrypt.
"""

from __future__ import annotations

from krm_sops.cipher import PREFIX, MistypedError, decrypt_value, looks_encrypted
from krm_sops.errors import EncryptedValueError, InputError, IntegrityError, MacMismatch, shown
from krm_sops.primitives import sha512
from krm_sops.tree import Branch, Comment, to_bytes, with_leaves
from krm_sops.values import mac_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Protocol

    from krm_sops.cipher import DataKey
    from krm_sops.metadata import Metadata
    from krm_sops.selection import Selection
    from krm_sops.tree import Leaf, Node

    class Visitor(Protocol):
        """What a walk does with the leaves, which it passes on in their order."""

        def leaf(self, value: Leaf, aad: bytes, path: tuple[str, ...], matched: bool) -> Leaf:
            """What stands there now. It is chosen for encryption where `matched` is what the rule asks for."""

        def comment(self, comment: Comment, aad: bytes, path: tuple[str, ...], chosen: bool, in_list: bool) -> None: ...

        def is_comment(self, element: str) -> bool:
            """Whether this text in a list is a comment in disguise. Asked under comment rules only."""


ONLY_ENCRYPTED_SEED = bytes.fromhex("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69")
_PLAIN_HINT = (
    "was it patched or edited without sops? let the patch meet what is decrypted already (decrypt in the base that it "
    "is for, or by a generator), or set the value in the file instead (krm-sops set, krm-sops edit)"
)


class Opened:
    """What a walk over an encrypted document gave.

    leaves: plain leaves in walk order.  parts: what each leaf contributes to the MAC, b"" for nothing.
    changed: positions of the leaves that were encrypted.  paths: for each leaf, the mapping keys from the root.
    detached: positions that the walk was told to leave alone.  detached_clear: none of them is in an encrypted place.
    empty: positions of empty strings in encrypted places, which nothing but the MAC protects.
    unopened: positions of comments that are ciphertext and stay so.
    mistyped: the first value that is not of its stated type. Where the MAC is checked, this looks like any other
    mismatch, or whoever may change the type word could ask what a value looks like (S10).
    """

    __slots__ = ("changed", "detached", "detached_clear", "empty", "leaves", "mistyped", "parts", "paths", "unopened")

    def __init__(self, detached: Collection[int]) -> None:
        self.leaves: list[Leaf] = []
        self.parts: list[bytes] = []
        self.paths: list[tuple[str, ...]] = []
        self.changed: list[int] = []
        self.empty: list[int] = []
        self.unopened: list[int] = []
        self.mistyped: MistypedError | None = None
        self.detached = detached
        self.detached_clear = True

    def mac(self, seed: bytes, *, with_detached: bool) -> str:
        """128 upper-case hexadecimal digits."""
        if with_detached or not self.detached:
            body = b"".join(self.parts)
        else:
            body = b"".join(part for at, part in enumerate(self.parts) if at not in self.detached)
        digest: str = sha512(seed + body).hexdigest()
        return digest.upper()


class EncryptedDocument:
    __slots__ = ("branches", "metadata")

    def __init__(self, branches: list[Branch], metadata: Metadata) -> None:
        self.branches = branches
        self.metadata = metadata

    def open(self, data_key: DataKey, detached: Collection[int] = ()) -> Opened:
        """Decrypt every value; the MAC is the caller's next step.

        detached: positions of leaves that somebody added after encryption; neither decrypted nor required to be.
        Raises EncryptedValueError, TagMismatch, each with the path of the value.
        """
        opened = Opened(detached)
        walk = Walk(self.metadata.selection, _Opening(self.metadata, data_key, opened))
        for branch in self.branches:
            walk.branch(branch, b"", (), False, False)
        return opened

    @property
    def mac_seed(self) -> bytes:
        return ONLY_ENCRYPTED_SEED if self.metadata.mac_only_encrypted else b""

    def stored_mac(self, data_key: DataKey) -> str:
        """As `Opened.mac` gives it. Raises MacMismatch where there is none, or none of this data key."""
        metadata = self.metadata
        if not metadata.mac:
            raise MacMismatch(
                "the document carries no MAC", hint="nothing proves that it is complete; encrypt it again"
            )
        try:
            stored = decrypt_value(metadata.mac, data_key, to_bytes(metadata.lastmodified), ("sops", "mac"))
        except (IntegrityError, InputError):
            raise MacMismatch("the MAC cannot be decrypted: sops.mac or sops.lastmodified was altered") from None
        return stored if isinstance(stored, str) else ""

    def verify(self, opened: Opened, data_key: DataKey) -> None:
        """Raises MacMismatch. A missing or empty MAC is a mismatch."""
        stored = self.stored_mac(data_key)
        seed = self.mac_seed
        if opened.mistyped is None:
            if opened.mac(seed, with_detached=False) == stored:
                return
            if opened.detached and opened.detached_clear and opened.mac(seed, with_detached=True) == stored:
                return
        raise MacMismatch(
            "MAC mismatch: a value was added, removed, changed or reordered after encryption",
            hint="restore the document as it was encrypted, or check the change and encrypt it again with sops",
        )

    def decrypt(self, data_key: DataKey, *, ignore_mac: bool = False) -> tuple[list[Branch], Opened]:
        """The plain documents. No MAC, no plain tree."""
        opened = self.open(data_key)
        if not ignore_mac:
            self.verify(opened, data_key)
        elif opened.mistyped is not None:
            raise opened.mistyped
        source = iter(opened.leaves)
        plain = [with_leaves(branch, source) for branch in self.branches]
        return [branch for branch in plain if isinstance(branch, Branch)], opened


class Walk:
    """Depth first over one document, for decryption and encryption: which leaves are chosen, and with what path.

    `hit` and `outer` follow the comment rules, `matched` the path rules. matched: some mapping key on the way matches
    the rule.  outer: some comment of an enclosing level matches.
    """

    def __init__(self, selection: Selection, visitor: Visitor) -> None:
        self.selection = selection
        self.leaf = visitor.leaf
        self.comment = visitor.comment
        self.is_comment = visitor.is_comment

    def branch(self, branch: Branch, aad: bytes, path: tuple[str, ...], matched: bool, outer: bool) -> None:
        selection = self.selection
        by_comment = selection.by_comment
        hit = False
        for entry in branch.entries:
            key = entry.key
            if isinstance(key, Comment):
                hit = self.judge(key, aad, path, matched, outer, hit, in_list=False)
                continue
            if not isinstance(key, str):
                raise InputError(f"the key {shown(key)} is no string; sops encrypts string keys only", path=path)
            below = aad + to_bytes(key) + b":"
            inside = matched or (not by_comment and selection.matches(key))
            value = entry.value
            if isinstance(value, Branch):
                self.branch(value, below, (*path, key), inside, outer or hit)
            elif isinstance(value, list):
                self.sequence(value, below, (*path, key), inside, outer or hit)
            elif isinstance(
                self.leaf(value, below, (*path, key), (outer or hit) if by_comment else inside),
                Comment,
            ):
                raise EncryptedValueError("a comment in the place of a value: its type was altered", path=(*path, key))
            hit = False

    def sequence(self, elements: list[Node], aad: bytes, path: tuple[str, ...], matched: bool, outer: bool) -> None:
        by_comment = self.selection.by_comment
        hit = False
        for element in elements:
            if isinstance(element, Comment):
                hit = self.judge(element, aad, path, matched, outer, hit, in_list=True)
                continue
            if isinstance(element, Branch):
                self.branch(element, aad, path, matched, outer or hit)
            elif isinstance(element, list):
                self.sequence(element, aad, path, matched, outer or hit)
            elif by_comment and isinstance(element, str) and self.is_comment(element):
                hit = self.judge(Comment(element), aad, path, matched, outer, hit, in_list=True)
                continue
            else:
                self.leaf(element, aad, path, (outer or hit) if by_comment else matched)
            hit = False

    def judge(
        self,
        comment: Comment,
        aad: bytes,
        path: tuple[str, ...],
        matched: bool,
        outer: bool,
        hit: bool,
        *,
        in_list: bool,
    ) -> bool:
        """Pass on one comment; whether a comment of this level matches so far."""
        selection = self.selection
        before = hit
        if selection.by_comment:
            hit = hit or selection.matches(comment.text)
            chosen = (outer or before) if selection.positive else not (outer or hit)
        else:
            chosen = matched is selection.positive
        self.comment(comment, aad or b":", path, chosen, in_list)
        return hit


class _Opening:
    """Decrypts what a walk meets. See Visitor."""

    def __init__(self, metadata: Metadata, data_key: DataKey, opened: Opened) -> None:
        self.positive = metadata.selection.positive
        self.only_encrypted = metadata.mac_only_encrypted
        self.data_key = data_key
        self.opened = opened

    def is_comment(self, element: str) -> bool:
        return element.startswith(PREFIX) and element.rstrip().endswith(",type:comment]")

    def comment(
        self,
        comment: Comment,
        aad: bytes,
        path: tuple[str, ...],
        chosen: bool,
        in_list: bool,  # noqa: ARG002 (it is read from either place alike)
    ) -> None:
        opened = self.opened
        plain: Leaf = comment
        if chosen and comment.text.startswith(PREFIX):
            try:
                found = decrypt_value(comment.text, self.data_key, aad, path)
            except (IntegrityError, InputError):
                found = None
            if isinstance(found, (Comment, str)):
                plain = found if isinstance(found, Comment) else Comment(found)
                opened.changed.append(len(opened.leaves))
            else:
                opened.unopened.append(len(opened.leaves))
        opened.leaves.append(plain)
        opened.parts.append(b"")
        opened.paths.append(path)

    def leaf(self, value: Leaf, aad: bytes, path: tuple[str, ...], matched: bool) -> Leaf:
        opened = self.opened
        at = len(opened.leaves)
        chosen = matched is self.positive
        plain = value
        if at in opened.detached:
            opened.detached_clear = opened.detached_clear and not chosen
            chosen = False
        elif chosen and value is not None:
            if not isinstance(value, str) or (value and not looks_encrypted(value)):
                raise EncryptedValueError(
                    "plain text where the document says that values are encrypted", path=path, hint=_PLAIN_HINT
                )
            try:
                plain = decrypt_value(value, self.data_key, aad, path)
            except MistypedError as error:
                plain = ""
                opened.mistyped = opened.mistyped or error
            (opened.changed if value else opened.empty).append(at)
        if plain is None or isinstance(plain, Comment) or (self.only_encrypted and not chosen):
            part = b""
        else:
            part = mac_bytes(plain)
        opened.leaves.append(plain)
        opened.parts.append(part)
        opened.paths.append(path)
        return plain
