"""A plain document -> an encrypted one: one walk encrypts the values and gathers what the MAC covers.

A value that stands where it stood, with its type and bytes, keeps its ciphertext (`Carried`). Every other one gets an
IV of 32 fresh random bytes, so that no key and IV ever meet two plaintexts (S18).

Differs from sops:
- What was written is read again, decrypted, and its MAC checked, before anybody gets it. sops writes files that nobody
  can decrypt, where the format cannot hold a clear value as it is, or where a comment decides about another value after
  it was written than before.
- A comment for which the reader will find another place in the YAML that is written is encrypted for that place. sops
  encrypts it for the place where it was, and then cannot decrypt it.
- Under `encrypted_comment_regex` an encrypted comment in a list stays a comment. sops makes a text of it as elsewhere,
  which then hides the comments before it from the values behind it.
- An empty comment in a list stays a comment. sops makes an element of it, an empty text.
- A comment that is ciphertext already, since it could not be decrypted, stays as it is. sops encrypts it once more.
- Ciphertexts are carried over by place. sops takes any of the same path and value, so that equal elements of a list
  show that they are equal.
Source: getsops/sops 3.13, sops.go (Encrypt), aes/cipher.go, cmd/sops/encrypt.go.
"""

from __future__ import annotations

from binascii import b2a_base64
from posix import urandom

from krm_sops.cipher import PREFIX
from krm_sops.document import ONLY_ENCRYPTED_SEED, EncryptedDocument, Walk
from krm_sops.errors import AlreadyEncrypted, ConfigError, InputError, KrmSopsError, StoreError, shown
from krm_sops.limits import SOPS_VERBS
from krm_sops.metadata import Metadata
from krm_sops.primitives import sha512
from krm_sops.tree import Branch, Comment, Timestamp, leaves, to_bytes, with_leaves
from krm_sops.values import INT_MAX, INT_MIN, mac_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias

    from krm_sops.cipher import DataKey
    from krm_sops.stores.base import Store
    from krm_sops.tree import Leaf, Node, Scalar

    Place: TypeAlias = "tuple[object, ...]"

_IV_BYTES = 32
_SETTLING = 5
"""Rounds until comments stay where they are; three were the most that generated documents needed."""


def encrypt_value(value: Scalar | Comment, data_key: DataKey, aad: bytes) -> str:
    """One ``ENC[AES256_GCM,…]`` with a fresh IV; an empty text or comment stays empty.  aad: as for decrypt_value."""
    plain = to_bytes(value.text) if isinstance(value, Comment) else mac_bytes(value)
    if not plain:
        return ""
    iv = urandom(_IV_BYTES)
    sealed = data_key.seal(iv, plain, aad)
    data, vector, tag = (b2a_base64(raw, newline=False).decode() for raw in (sealed[:-16], iv, sealed[-16:]))
    return f"ENC[AES256_GCM,data:{data},iv:{vector},tag:{tag},type:{_type_word(value)}]"


def _type_word(value: Scalar | Comment) -> str:
    if isinstance(value, str):
        return "str"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "time" if isinstance(value, Timestamp) else "comment"


class Carried:
    """The ciphertexts of an opened document, by where they stand, for what is to be encrypted under the same data key.

    A place is the way from the root: keys (which of several equal ones, too), positions in lists. A comment's is its
    collection, and its text.
    """

    def __init__(self, document: EncryptedDocument, plain: list[Branch], *, verified: bool = True) -> None:
        """plain: what `document` decrypted to.  verified: its MAC held. Where it did not, it gets a new one anyway."""
        self.document = document
        self.verified = verified
        self.plain = plain
        self._known: dict[Place, tuple[Leaf, str]] = {}
        places = [place for at, branch in enumerate(plain) for place in places_of(branch, (at,))]
        decrypted = [leaf for branch in plain for leaf in leaves(branch)]
        encrypted = [leaf for branch in document.branches for leaf in leaves(branch)]
        for place, value, sealed in zip(places, decrypted, encrypted, strict=True):
            text = sealed.text if isinstance(sealed, Comment) else sealed
            if isinstance(text, str) and text.startswith(PREFIX) and not is_same(value, sealed):
                self._known[place] = value, text

    def texts(self, branches: list[Branch]) -> dict[int, str]:
        """The ciphertexts that fit leaves of these documents, by the leaves' positions in walk order."""
        places = [place for at, branch in enumerate(branches) for place in places_of(branch, (at,))]
        values = [leaf for branch in branches for leaf in leaves(branch)]
        found = {}
        for position, (place, value) in enumerate(zip(places, values, strict=True)):
            known = self._known.get(place)
            if known is not None and is_same(known[0], value):
                found[position] = known[1]
        return found

    def is_all_of(self, branches: list[Branch], metadata: Metadata) -> bool:
        """Whether nothing changed that is encrypted, covered by the MAC, or seen by a reader."""
        before = self.document.metadata
        return (
            self.verified
            and (before.selection.rule, before.selection.pattern)
            == (metadata.selection.rule, metadata.selection.pattern)
            and before.mac_only_encrypted is metadata.mac_only_encrypted
            and is_same(list(self.plain), list(branches))
        )


def places_of(node: Node, here: Place) -> Iterator[Place]:
    """The place of each leaf, in walk order: see Carried."""
    comments: dict[str, int] = {}
    if isinstance(node, Branch):
        keys: dict[object, int] = {}
        for entry in node.entries:
            if isinstance(entry.key, Comment):
                yield _comment_place(entry.key, here, comments)
            else:
                number = keys[entry.key] = keys.get(entry.key, -1) + 1
                yield from places_of(entry.value, (*here, (entry.key, number)))
    elif isinstance(node, list):
        position = 0
        for element in node:
            if isinstance(element, Comment):
                yield _comment_place(element, here, comments)
            else:
                yield from places_of(element, (*here, position))
                position += 1
    else:
        yield here


def _comment_place(comment: Comment, here: Place, seen: dict[str, int]) -> Place:
    number = seen[comment.text] = seen.get(comment.text, -1) + 1
    return (*here, Comment, comment.text, number)


def is_same(one: Node, other: Node) -> bool:
    """Equal with the same types: 1, 1.0 and true are three values."""
    if isinstance(one, Branch) and isinstance(other, Branch):
        return len(one.entries) == len(other.entries) and all(
            is_same(a.key, b.key) and is_same(a.value, b.value) for a, b in zip(one.entries, other.entries, strict=True)
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(is_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return mac_bytes(one) == mac_bytes(other)
    return type(one) is type(other) and one == other


class _Sealing:
    """Encrypts what a walk meets. See Visitor.

    leaves: the new ones in walk order.  parts: what the MAC covers.  carried: ciphertexts by positions in walk order.
    """

    def __init__(self, metadata: Metadata, data_key: DataKey, carried: Mapping[int, str]) -> None:
        self.selection = metadata.selection
        self.only_encrypted = metadata.mac_only_encrypted
        self.data_key = data_key
        self.carried = carried
        self.leaves: list[Leaf] = []
        self.parts: list[bytes] = [ONLY_ENCRYPTED_SEED if metadata.mac_only_encrypted else b""]

    def mac(self) -> str:
        digest: str = sha512(b"".join(self.parts)).hexdigest()
        return digest.upper()

    def is_comment(self, element: str) -> bool:  # noqa: ARG002 (a text is a text)
        return False

    def leaf(self, value: Leaf, aad: bytes, path: tuple[str, ...], matched: bool) -> Leaf:
        chosen = matched is self.selection.positive
        sealed = value
        if value is not None:
            if isinstance(value, Comment):
                raise InputError("a comment in the place of a value", path=path)
            if type(value) is int and not INT_MIN <= value <= INT_MAX:
                raise InputError("an integer of more than 64 bits cannot be encrypted, nor stand beside", path=path)
            if chosen:
                sealed = self._sealed(value, aad)
            if chosen or not self.only_encrypted:
                self.parts.append(mac_bytes(value))
        self.leaves.append(sealed)
        return sealed

    def comment(self, comment: Comment, aad: bytes, path: tuple[str, ...], chosen: bool, in_list: bool) -> None:
        if not chosen or not comment.text or comment.text.startswith(PREFIX):
            self.leaves.append(comment)
            return
        text = self._sealed(comment, aad)
        rule = self.selection.rule
        if rule == "unencrypted_comment_regex" and self.selection.matches(text):
            raise InputError(
                "an encrypted comment would match unencrypted_comment_regex", path=path, hint="make the regex narrower"
            )
        as_text = in_list and rule != "encrypted_comment_regex"
        self.leaves.append(text if as_text else Comment(text, comment.inline))

    def _sealed(self, value: Scalar | Comment, aad: bytes) -> str:
        return self.carried.get(len(self.leaves)) or encrypt_value(value, self.data_key, aad)


def encrypt(
    branches: list[Branch], metadata: Metadata, data_key: DataKey, *, now: str, carried: Carried | None = None
) -> EncryptedDocument:
    """Encrypt what the selection of `metadata` chooses; lastmodified and mac are new, unless nothing changed.

    now: RFC 3339, in UTC, without a fraction.  carried: of a document under the same data key.
    Raises InputError (exit 23): a key that is no string, an integer beyond 64 bits, a regex that catches ciphertext.
    """
    if carried is not None and carried.is_all_of(branches, metadata):
        before = carried.document
        return EncryptedDocument(before.branches, metadata.with_mac(before.metadata.mac, before.metadata.lastmodified))
    sealing = _Sealing(metadata, data_key, carried.texts(branches) if carried is not None else {})
    walk = Walk(metadata.selection, sealing)
    try:
        for branch in branches:
            walk.branch(branch, b"", (), False, False)
    except InputError as error:
        error.exit_status = 23
        raise
    mac = encrypt_value(sealing.mac(), data_key, to_bytes(now))
    return EncryptedDocument(_rebuilt(branches, sealing.leaves), metadata.with_mac(mac, now))


def _rebuilt(branches: list[Branch], new: list[Leaf]) -> list[Branch]:
    source = iter(new)
    rebuilt = [with_leaves(branch, source) for branch in branches]
    return [branch for branch in rebuilt if isinstance(branch, Branch)]


def encrypted_file(
    branches: list[Branch],
    metadata: Metadata,
    data_key: DataKey,
    store: Store,
    *,
    now: str,
    indent: int | None = None,
    carried: Carried | None = None,
) -> bytes:
    """An encrypted file, which was decrypted once to see that it can be. The other arguments: see `encrypt`.

    Raises AlreadyEncrypted (exit 203), InputError (exit 23), StoreError (exit 4: the format cannot hold this).
    """
    refuse_encrypted(branches, store)
    try:
        return _settled(branches, metadata, data_key, store, now, indent, carried)
    except StoreError as error:
        error.exit_status = 4
        raise


def refuse_encrypted(branches: list[Branch], store: Store) -> None:
    """Raises AlreadyEncrypted for what has metadata, or something in their place."""
    if any(store.is_reserved(key) for key in branches[0].keys()):  # noqa: SIM118 (comments are no keys)
        raise AlreadyEncrypted(
            "the file is encrypted already: it has metadata of sops at its top",
            hint="edit it with `edit`, or rename that key if it is none of sops",
        )


def _settled(
    branches: list[Branch],
    metadata: Metadata,
    data_key: DataKey,
    store: Store,
    now: str,
    indent: int | None,
    carried: Carried | None,
) -> bytes:
    """The file in which every comment can be decrypted; where there is none, the first one, which loses some.

    None of them may become clear on the way, which would happen where a comment leaves what the rule chooses.
    """
    first, count = b"", 0
    for _ in range(_SETTLING):
        document = encrypt(branches, metadata, data_key, now=now, carried=carried)
        raw = store.write_encrypted(document.branches, document.metadata.to_branch(), indent)
        try:
            read, opened = _opened(raw, store, data_key, len(branches))
        except StoreError:
            if not first:
                raise
            return first
        sealed = _sealed_comments(branches, document.branches)
        if first and len(sealed) < count:
            return first
        if not any(isinstance(leaf, Comment) and leaf.text in sealed for leaf in opened):
            return raw
        if not first:
            first, count = raw, len(sealed)
        branches = _as_read(branches, document.branches, read, sealed)
    return first


def _opened(raw: bytes, store: Store, data_key: DataKey, documents: int) -> tuple[list[Branch], list[Leaf]]:
    """The documents as they stand in an encrypted file, and their leaves in plain.

    Raises StoreError where the file cannot be decrypted.
    """
    try:
        branches, block = store.read(raw)
        document = EncryptedDocument(branches, Metadata.from_branch(block or Branch(), SOPS_VERBS.key_entries))
        _, opened = document.decrypt(data_key)
    except KrmSopsError as error:
        reason = f"{'.'.join(error.path)}: {error.message}" if error.path else error.message
        raise StoreError(
            f"what was encrypted could not be decrypted again ({shown(reason)})",
            hint="this format cannot hold the document as it is; under a comment rule, a comment may have moved",
        ) from None
    if len(branches) != documents:
        raise StoreError(f"of {documents} documents {len(branches)} were left in the encrypted file")
    return branches, opened.leaves


def _sealed_comments(plain: list[Branch], encrypted: list[Branch]) -> dict[str, Comment]:
    """The comments that were encrypted, by their ciphertexts."""
    found = {}
    for value, sealed in _pairs(plain, encrypted):
        text = sealed.text if isinstance(sealed, Comment) else sealed
        if isinstance(value, Comment) and isinstance(text, str) and text != value.text:
            found[text] = value
    return found


def _pairs(plain: list[Branch], encrypted: list[Branch]) -> Iterator[tuple[Leaf, Leaf]]:
    for one, other in zip(plain, encrypted, strict=True):
        yield from zip(leaves(one), leaves(other), strict=True)


def _as_read(
    plain: list[Branch], encrypted: list[Branch], read: list[Branch], sealed: Mapping[str, Comment]
) -> list[Branch]:
    """The plain documents with their comments where the reader found them. Only comments move."""
    values = iter([value for value, text in _pairs(plain, encrypted) if not isinstance(text, Comment)])
    found: list[Leaf] = []
    for leaf in (leaf for branch in read for leaf in leaves(branch)):
        if isinstance(leaf, Comment):
            known = sealed.get(leaf.text)
            found.append(Comment(known.text, leaf.inline) if known is not None else leaf)
        else:
            found.append(next(values))
    return _rebuilt(read, found)


def shares(data_key: bytes, metadata: Metadata) -> list[bytes]:
    """What the keys of each key group wrap: of one group the data key itself, of several a share each.

    Without a threshold all groups are needed, which is then stated.
    Raises ConfigError for a threshold that the number of groups does not allow.
    """
    groups = len(metadata.key_groups)
    if groups == 1:
        return [data_key]
    metadata.threshold = metadata.threshold or groups
    from krm_sops.shamir import split

    try:
        return split(data_key, groups, metadata.threshold)
    except ValueError as error:
        raise ConfigError(f"the data key cannot be shared among {groups} key groups: {error}") from None
