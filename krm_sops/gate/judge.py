"""What a gate finds in files, streams and objects.

Every file is read in full, and every leaf, key and comment is looked at: in base64, and in documents inside of values,
too. What cannot be read is a finding, unless neither its name nor its text says that it is a document.
"""

from __future__ import annotations

import re
from _bisect import bisect_left, bisect_right

from krm_sops.errors import InputError, LimitError, StoreError, shown
from krm_sops.gate import DECRYPTED, Finding, privatekeys, texts
from krm_sops.gate.document import Judged
from krm_sops.gate.texts import Tree
from krm_sops.gate.walk import Walked
from krm_sops.tree import CIPHERTEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from krm_sops.gate.walk import Reference
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.selection import Selection


class Gate:
    """expect: one of EXPECTATIONS.  allow_disabled: objects with an opt-out annotation may hold ciphertext.

    findings: so far, in order.  files: how many were looked at.  documents: how many had more than comments.
    """

    def __init__(self, expect: str, limits: Limits, *, allow_disabled: bool = False) -> None:
        self.expects_plain = expect == DECRYPTED
        self.limits = limits
        self.allow_disabled = allow_disabled
        self.findings: list[Finding] = []
        self.files = self.documents = 0
        self.nodes_left = limits.run_nodes
        self.choosing: set[str] = set()
        """MACs of documents in which something is to be encrypted."""
        self.unchosen: list[tuple[_Text, str, Finding, int]] = []

    def file(
        self, raw: bytes, name: str, wanted: Selection | None = None, format_: str = "", *, in_patch: bool = False
    ) -> list[tuple[Reference, int]]:
        """Look at one file. The files that it refers to, and in which lines.

        wanted: what `.sops.yaml` wants encrypted in it; None where it says nothing about this file.  format_: where the
        name does not tell.  in_patch: it is a patch of a Secret.
        """
        self.files += 1
        text = texts.text_of(raw)
        format_ = format_ or texts.format_of(name)
        found = _Text(self, text)
        trees: list[Tree] = []
        try:
            trees = texts.read(text, format_, self.limits, self.nodes_left)
        except (InputError, LimitError) as error:
            found.unread(error)
        self.documents += sum(tree.root is not None for tree in trees)
        references: list[Reference] = []
        for index, tree in enumerate(trees):
            references += found.tree(tree, index, wanted if format_ != "binary" else None, in_patch=in_patch)
        found.rest(is_read=bool(trees))
        if not trees and texts.is_like_secret(text, name):
            found.add(Finding("InvalidDocument", "looks like a Secret, and cannot be read", severity="warning"), 0)
        if not trees and privatekeys.is_key_ring(raw[:16].decode("latin-1")):
            found.add(Finding("PrivateKey", "an OpenPGP private key in the file"), 0)
        if wanted is not None and raw.strip() and not found.has_owner and (format_ == "binary" or not trees):
            found.add(Finding("NotEncrypted", "not encrypted, as .sops.yaml wants it"), 0)
        self._tell_unchosen()
        findings = found.placed()
        for finding in findings:
            finding.file = name
        self.findings += findings
        return [(reference, found.line(reference.at)[0]) for reference in references]

    def marks(self, pieces: Iterable[bytes], name: str) -> None:
        """Look for keys in a file that is too large to be a document.  pieces: each with the end of the one before."""
        self.files += 1
        found = {key.what for piece in pieces for key in privatekeys.find(piece.decode("latin-1"))}
        for what in sorted(found):
            finding = Finding("PrivateKey", f"{what} in the file")
            finding.file = name
            self.findings.append(finding)

    def items(self, items: Iterable[Item]) -> list[tuple[Item, Finding]]:
        """Look at objects of a stream that was parsed; the findings, each with its object."""
        looked = []
        for item in items:
            found = _Text(self, item.source.text)
            if item.place.entries:
                found.tree(Tree.of_item(item), item.index, None)
                found.rest(is_read=True)
            looked.append((item, found))
        self._tell_unchosen()
        told = [(item, finding) for item, text in looked for finding, _ in text.found]
        self.findings += [finding for _, finding in told]
        return told

    def _tell_unchosen(self) -> None:
        """Documents of which nothing is encrypted, unless something is in another one of the same file."""
        for text, mac, finding, at in self.unchosen:
            if mac not in self.choosing:
                text.add(finding, at)
        self.unchosen.clear()


def is_encrypted(raw: bytes, name: str, limits: Limits) -> bool:
    """Whether a file is a document with a sops block. Raises InputError, LimitError."""
    text = texts.text_of(raw)
    trees = texts.read(text, texts.format_of(name), limits, limits.document_nodes)
    return any(Walked(tree).owners for tree in trees)


class _Text:
    """What was found in one text.  found: with their places."""

    def __init__(self, gate: Gate, text: str) -> None:
        self.gate = gate
        self.text = text
        self.found: list[tuple[Finding, int]] = []
        self.has_owner = False
        self._lines: list[int] = []
        self._range = (0, len(text))
        self._ciphertexts: list[tuple[int, int, int]] = []
        self._keys: list[tuple[int, int, int]] = []

    def add(self, finding: Finding, at: int) -> None:
        self.found.append((finding, at))

    def line(self, at: int) -> tuple[int, int]:
        """And column."""
        if not self._lines:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        number = bisect_right(self._lines, at)
        return number, at - self._lines[number - 1] + 1

    def placed(self) -> list[Finding]:
        for finding, at in self.found:
            if not finding.line:
                finding.line, finding.column = self.line(at)
        return [finding for finding, _ in self.found]

    def unread(self, error: InputError | LimitError) -> None:
        rule, why = "InvalidDocument", shown(error.message)
        if isinstance(error, LimitError):
            rule = "LimitExceeded"
            if "(the limit run_nodes)" in why:  # of which the files before have had their share
                why = f"more than {self.gate.limits.run_nodes} nodes in all (the limit run_nodes)"
        finding = Finding(rule, f"cannot be read: {why}")
        if isinstance(error, StoreError):
            finding.line, finding.column = error.line, error.column
        self.add(finding, 0)

    def tree(self, tree: Tree, index: int, wanted: Selection | None, *, in_patch: bool = False) -> list[Reference]:
        """wanted, in_patch: as for Gate.file."""
        self._range = (tree.start, tree.stop)
        judged = Judged(self.gate, tree, in_patch=in_patch)
        judged.run(wanted)
        for finding, _ in [*judged.found, *((finding, at) for _, finding, at in judged.unchosen)]:
            finding.index = index
        self.found += judged.found
        self._ciphertexts += judged.ciphertexts
        self._keys += judged.keys
        self.has_owner = self.has_owner or bool(judged.walked.owners)
        self.gate.unchosen += [(self, *unchosen) for unchosen in judged.unchosen]
        return judged.walked.references

    def rest(self, *, is_read: bool) -> None:
        """What stands outside of all values: in comments, or in a file that is no document."""
        start, stop = self._range
        where = "in a comment" if is_read else "in the file"
        keys = {start + key.start: key.what for key in privatekeys.find(self.text[start:stop])}
        for at in _others(sorted(keys), self._keys):
            self.add(Finding("PrivateKey", f"{keys[at]} {where}"), at)
        if any(finding.rule in ("StillEncrypted", "MissingMetadata") for finding, _ in self.found):
            return
        if self.gate.expects_plain:
            marks = [start + mark.start() for mark in re.finditer(re.escape(CIPHERTEXT), self.text[start:stop])]
            for at in _others(marks, self._ciphertexts)[:1]:
                self.add(Finding("StillEncrypted", f"ciphertext {where}"), at)
        elif is_read and not self.has_owner and (at := self.text.find("#" + CIPHERTEXT, start, stop)) >= 0:
            self.add(Finding("MissingMetadata", "an encrypted comment, but no sops block"), at)


def _others(places: list[int], values: list[tuple[int, int, int]]) -> list[int]:
    """Without those that stand in values.  places: sorted.  values: (start, end, how many stand in it)."""
    for start, end, count in values:
        first = bisect_left(places, start)
        del places[first : min(first + count, bisect_left(places, end))]
    return places
