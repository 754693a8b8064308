"""S18: under one data key an IV belongs to one plaintext at one path, however often a document is edited."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from krm_sops.cipher import DataKey, decrypt_value
from krm_sops.encryption import Carried, encrypt
from krm_sops.errors import KrmSopsError
from krm_sops.keys.age import AgeKey
from krm_sops.metadata import Metadata
from krm_sops.selection import Selection
from krm_sops.tree import Branch, Comment, Entry, to_bytes
from krm_sops.values import mac_bytes

if TYPE_CHECKING:
    from krm_sops.document import EncryptedDocument
    from krm_sops.tree import Node

KEY = DataKey(bytes(range(32)))
EDITS, EDITS_A_ROUND = 100_000, 4
VALUES = ("x", "y", "1", 1, 1.0, True, "True", "", None, "hunter2", "hunter3")
NAMES = ("a", "b", "c", "a:b", "note_unencrypted")
SELECTIONS = (("unencrypted_suffix", "_unencrypted"), ("encrypted_regex", "a|b"), ("encrypted_comment_regex", "enc"))


def metadata(rule: str, pattern: str) -> Metadata:
    return Metadata(
        lastmodified="",
        mac="",
        version="3.13.3",
        key_groups=[[AgeKey("age1x", "enc")]],
        threshold=0,
        mac_only_encrypted=False,
        selection=Selection(rule, pattern),
    )


class Editor:
    """Someone who changes, adds, removes, moves, doubles and wraps whatever they come by."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.document = Branch([Entry(name, [*VALUES[:4]]) for name in NAMES[:3]])

    def collections(self) -> list[Branch | list[Node]]:
        found: list[Branch | list[Node]] = []

        def walk(node: Node) -> None:
            if isinstance(node, Branch):
                found.append(node)
                for entry in node.entries:
                    walk(entry.value)
            elif isinstance(node, list):
                found.append(node)
                for element in node:
                    walk(element)

        walk(self.document)
        return found

    def item(self, place: Branch | list[Node]) -> Entry | Node:
        r = self.random
        if r.random() < 0.15:
            comment = Comment(r.choice((" enc", " words", "")))
            return Entry(comment, None) if isinstance(place, Branch) else comment
        value: Node = r.choice(VALUES)
        if r.random() < 0.1:
            value = [value, value] if r.random() < 0.5 else Branch([Entry("a", value)])
        return Entry(r.choice(NAMES), value) if isinstance(place, Branch) else value

    def edit(self) -> None:
        r = self.random
        collections = self.collections()
        place = r.choice(collections)
        items: list[Entry | Node] = place.entries if isinstance(place, Branch) else place  # type: ignore[assignment]
        at = r.randrange(len(items) + 1)
        if at == len(items) or (len(items) < 8 and r.random() < 0.3):
            if len(items) < 8:
                items.insert(at, self.item(place))
            return
        met = items[at].value if isinstance(items[at], Entry) else items[at]  # type: ignore[union-attr]
        if r.random() < 0.4:
            items.insert(r.randrange(len(items)), items.pop(at))
        elif len(collections) > 10 or not isinstance(met, (Branch, list)):
            items[at : at + 1] = [self.item(place)] if r.random() < 0.7 else []


class Ledger:
    """Each IV with the one thing that it may have encrypted."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[bytes, bytes]] = {}
        self.noted = 0

    def add(self, document: EncryptedDocument, plain: list[Branch]) -> None:
        for encrypted, decrypted in zip(document.branches, plain, strict=True):
            self.walk(encrypted, decrypted, b"")
        about = document.metadata
        stored = decrypt_value(about.mac, KEY, to_bytes(about.lastmodified), ())
        assert isinstance(stored, str)
        self.note(about.mac, to_bytes(about.lastmodified), stored.encode())

    def walk(self, encrypted: Node, decrypted: Node, aad: bytes) -> None:
        if isinstance(encrypted, Branch) and isinstance(decrypted, Branch):
            for one, other in zip(encrypted.entries, decrypted.entries, strict=True):
                if isinstance(one.key, Comment) and isinstance(other.key, Comment):
                    self.walk(one.key, other.key, aad)
                else:
                    self.walk(one.value, other.value, aad + to_bytes(str(one.key)) + b":")
        elif isinstance(encrypted, list) and isinstance(decrypted, list):
            for a, b in zip(encrypted, decrypted, strict=True):
                self.walk(a, b, aad)
        else:
            text = encrypted.text if isinstance(encrypted, Comment) else encrypted
            if isinstance(text, str) and text.startswith("ENC["):
                assert not isinstance(decrypted, (Branch, list))
                plain = to_bytes(decrypted.text) if isinstance(decrypted, Comment) else mac_bytes(decrypted)
                self.note(text, aad or b":", plain)

    def note(self, text: str, aad: bytes, plain: bytes) -> None:
        self.noted += 1
        iv = text.partition(",iv:")[2].partition(",")[0]
        assert self.seen.setdefault(iv, (aad, plain)) == (aad, plain)


@pytest.mark.parametrize(("rule", "pattern"), SELECTIONS)
def test_no_iv_meets_two_plaintexts_or_two_paths(rule, pattern):
    """S18: 100,000 edits in all, encrypted four at a time under the same key with what is carried over."""
    editor, ledger, about = Editor(18), Ledger(), metadata(rule, pattern)
    carried = None
    for round_ in range(EDITS // EDITS_A_ROUND // len(SELECTIONS) + 1):
        for _ in range(EDITS_A_ROUND):
            editor.edit()
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_800_000_000 + round_))
        document = encrypt([editor.document], about, KEY, now=now, carried=carried)
        plain, _ = document.decrypt(KEY)
        ledger.add(document, plain)
        carried = Carried(document, plain)
    # Neither an empty document all the time, nor one that is always encrypted as a whole.
    assert EDITS / 10 < len(ledger.seen) < ledger.noted / 2


def test_what_is_carried_from_another_path_is_not_taken():
    """S18: equal values elsewhere are encrypted anew, so that nothing shows that they are equal."""
    about = metadata(*SELECTIONS[0])
    before = encrypt([Branch([Entry("a", "x")])], about, KEY, now="2026-06-30T00:00:00Z")
    carried = Carried(before, before.decrypt(KEY)[0])
    moved = Branch([Entry("b", "x"), Entry("c", ["x", "x"]), Entry("a", ["x"])])
    after = encrypt([moved], about, KEY, now="2026-07-01T00:00:00Z", carried=carried)
    texts = [after.branches[0].get("b"), *after.branches[0].get("c"), *after.branches[0].get("a")]  # type: ignore[misc]
    assert len({before.branches[0].get("a"), *texts}) == 5


def test_state_of_another_document_opens_nothing():
    """S18: what is carried under a wrong data key would not verify; it never gets out."""
    from krm_sops.encryption import encrypted_file
    from krm_sops.stores import STORES

    about = metadata(*SELECTIONS[0])
    before = encrypt([Branch([Entry("a", "x")])], about, KEY, now="2026-06-30T00:00:00Z")
    carried = Carried(before, before.decrypt(KEY)[0])
    other = DataKey(bytes(32))
    document = [Branch([Entry("a", "x"), Entry("b", "y")])]
    with pytest.raises(KrmSopsError, match="could not be decrypted again"):
        encrypted_file(document, about, other, STORES["yaml"], now="2026-07-01T00:00:00Z", carried=carried)
