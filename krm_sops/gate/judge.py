"""What a gate finds in files, streams and objects.

Every file is read in full, and every leaf, key and comment is looked at: in base64, and in documents inside of values,
too. What cannot be read is a finding: nothing passes because it was not understood.
"""

from __future__ import annotations

import re
from _bisect import bisect_right

from krm_sops.document import Walk
from krm_sops.errors import InputError, LimitError, StoreError, shown
from krm_sops.gate import DECRYPTED, Finding, privatekeys, reference, texts
from krm_sops.gate.texts import CIPHERTEXT, Tree
from krm_sops.gate.walk import Walked
from krm_sops.krm.item import LOCAL_CONFIG, MASKED, is_injected, refuse_duplicates
from krm_sops.metadata import Metadata
from krm_sops.tree import Branch, Comment, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from krm_sops.gate.privatekeys import PrivateKey
    from krm_sops.gate.walk import Leaf, Object, Owner, Reference
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.selection import Selection
    from krm_sops.tree import Leaf as Value

_ENCRYPTED = re.compile(
    r"ENC\[AES256_GCM,data:[A-Za-z0-9+/]*={0,2},iv:[A-Za-z0-9+/]+={0,2},tag:[A-Za-z0-9+/]+={0,2},type:[a-z]+\]"
)
_DEPTH = 3
"""Documents inside of documents."""
_DEFAULT_RULE = ("unencrypted_suffix", "_unencrypted")


class Gate:
    """expect: one of EXPECTATIONS.  allow_disabled: objects with an opt-out annotation may hold ciphertext.

    findings: so far, in order.  files: how many were looked at.
    """

    def __init__(self, expect: str, limits: Limits, *, allow_disabled: bool = False) -> None:
        self.expects_plain = expect == DECRYPTED
        self.limits = limits
        self.allow_disabled = allow_disabled
        self.findings: list[Finding] = []
        self.files = 0
        self.nodes_left = limits.run_nodes
        self.choosing: set[str] = set()
        """MACs of documents in which something is to be encrypted."""
        self.unchosen: list[tuple[_Text, int, str, Finding, int]] = []

    def file(
        self, raw: bytes, name: str, wanted: Selection | None = None, format_: str = ""
    ) -> list[tuple[Reference, int]]:
        """Look at one file. What it makes Secrets of, and in which lines.

        wanted: what `.sops.yaml` wants encrypted in it; None where it says nothing about this file.  format_: where the
        name does not tell.
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
        references: list[Reference] = []
        for index, tree in enumerate(trees):
            references += found.tree(tree, index, wanted if format_ != "binary" else None)
        found.rest(is_read=bool(trees))
        if not trees and privatekeys.is_key_ring(raw[:16].decode("latin-1")):
            found.add(Finding("PrivateKey", "an OpenPGP private key in the file"), 0)
        if wanted is not None and raw.strip() and not found.has_owner and (format_ == "binary" or not trees):
            found.add(Finding("NotEncrypted", "not encrypted, as .sops.yaml wants it"), 0)
        self._tell_unchosen()
        for finding in found.findings:
            finding.file = name
        self.findings += found.findings
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
        told = [(item, finding) for item, found in looked for finding in found.findings]
        self.findings += [finding for _, finding in told]
        return told

    def _tell_unchosen(self) -> None:
        """Documents of which nothing is encrypted, unless something is in another one of the same file."""
        for text, index, mac, finding, at in self.unchosen:
            if mac not in self.choosing:
                text.add(finding, at, index)
        self.unchosen.clear()


def is_encrypted(raw: bytes, name: str, limits: Limits) -> bool:
    """Whether a file is a document with a sops block. Raises InputError, LimitError."""
    text = texts.text_of(raw)
    trees = texts.read(text, texts.format_of(name), limits, limits.document_nodes)
    return any(Walked(tree).owners for tree in trees)


class _Text:
    """What was found in one text."""

    def __init__(self, gate: Gate, text: str) -> None:
        self.gate = gate
        self.text = text
        self.findings: list[Finding] = []
        self._lines: list[int] = []
        self._explained: list[tuple[int, int, int]] = []
        self.has_owner = False
        self._range = (0, len(text))

    def add(self, finding: Finding, at: int, index: int = 0) -> None:
        finding.line, finding.column = self.line(at)
        finding.index = index
        self.findings.append(finding)

    def line(self, at: int) -> tuple[int, int]:
        if not self._lines:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        number = bisect_right(self._lines, at)
        return number, at - self._lines[number - 1] + 1

    def unread(self, error: InputError | LimitError) -> None:
        finding = Finding(
            "LimitExceeded" if isinstance(error, LimitError) else "InvalidDocument",
            f"cannot be read: {shown(error.message)}",
        )
        self.add(finding, 0)
        if isinstance(error, StoreError) and error.line:
            finding.line, finding.column = error.line, error.column

    def tree(self, tree: Tree, index: int, wanted: Selection | None) -> list[Reference]:
        self._range = (tree.start, tree.stop)
        judged = _Tree(self.gate, tree, 0)
        judged.run(wanted)
        for finding, at in judged.found:
            self.add(finding, at, index)
        self._explained += judged.explained
        self.has_owner = self.has_owner or bool(judged.walked.owners)
        self.gate.unchosen += [(self, index, *unchosen) for unchosen in judged.unchosen]
        return judged.walked.references

    def rest(self, *, is_read: bool) -> None:
        """What stands outside of all values: in comments, or in a file that is no document."""
        start, stop = self._range
        where = "in a comment" if is_read else "in the file"
        for what, places in _by_kind(privatekeys.find(self.text[start:stop])).items():
            for at in self._unexplained([start + place for place in places]):
                self.add(Finding("PrivateKey", f"{what} {where}"), at)
        at = self.text.find(CIPHERTEXT, start, stop)
        if at < 0 or any(finding.rule in ("StillEncrypted", "MissingMetadata") for finding in self.findings):
            return
        if self.gate.expects_plain:
            places = [match.start() for match in re.finditer(re.escape(CIPHERTEXT), self.text[start:stop])]
            if left := self._unexplained([start + place for place in places]):
                self.add(Finding("StillEncrypted", f"ciphertext {where}"), left[0])
        elif is_read and not self.has_owner and (at := self.text.find("#" + CIPHERTEXT, start, stop)) >= 0:
            self.add(Finding("MissingMetadata", "an encrypted comment, but no sops block"), at)

    def _unexplained(self, places: list[int]) -> list[int]:
        """Without those that were found as, or allowed in, values."""
        left = list(places)
        for start, end, count in self._explained:
            for at in [place for place in left if start <= place < end][:count]:
                left.remove(at)
        return left


def _by_kind(found: Iterable[PrivateKey]) -> dict[str, list[int]]:
    kinds: dict[str, list[int]] = {}
    for key in found:
        kinds.setdefault(key.what, []).append(key.start)
    return kinds


class _Tree:
    """One document.  found: with their places in its text.  explained: marks in the text that are values': (start, end,
    how many)."""

    def __init__(self, gate: Gate, tree: Tree, depth: int, *, is_secret: bool = False) -> None:
        self.gate = gate
        self.source = tree
        self.depth = depth
        self.found: list[tuple[Finding, int]] = []
        self.explained: list[tuple[int, int, int]] = []
        self.unchosen: list[tuple[str, Finding, int]] = []
        self.inner: dict[int, list[_Tree]] = {}
        gate.nodes_left -= tree.nodes
        self.walked = Walked(tree, is_secret=is_secret)

    def run(self, wanted: Selection | None) -> None:
        try:
            if not self.source.may_repeat:
                refuse_duplicates(self.source.root)
        except InputError as error:
            self._tell("InvalidDocument", error.message, self.source.start)
        for subject in self.walked.objects:
            if subject.annotations.number(MASKED) is not None:
                self._tell("Masked", "marked as masked", subject.at, subject, f"metadata.annotations.{MASKED}")
        for leaf in self.walked.leaves:
            self._look_inside(leaf)
        if self.gate.expects_plain:
            self._find_ciphertext()
        else:
            for owner in self.walked.owners:
                self._judge_block(owner)
            self._find_plaintext()
            if wanted is not None:
                self._compare(wanted)
        self._find_keys()
        self._add_inner()

    def _tell(
        self, rule: str, message: str, at: int, subject: Object | None = None, field: str = "", severity: str = "error"
    ) -> None:
        branch = subject.branch if subject else None
        self.found.append((Finding(rule, message, field=field, subject=branch, severity=severity), at))

    def _tell_leaf(self, rule: str, message: str, leaf: Leaf) -> None:
        self._tell(rule, message, leaf.start, leaf.object, leaf.path)

    # Documents inside of values

    def _look_inside(self, leaf: Leaf) -> None:
        value = leaf.value
        if not isinstance(value, str) or leaf.in_block or self.depth >= _DEPTH or value.startswith(CIPHERTEXT):
            return
        for text in (value, texts.text_of(leaf.decoded.encode("latin-1"))):
            try:
                trees = texts.embedded(text, self.gate.limits, self.gate.nodes_left)
            except LimitError as error:
                self._tell_leaf("LimitExceeded", f"a document inside of it: {error.message}", leaf)
                return
            for tree in trees:
                is_secret = leaf.is_secret and self.gate.expects_plain
                judged = _Tree(self.gate, tree, self.depth + 1, is_secret=is_secret)
                judged.run(None)
                self.inner.setdefault(id(leaf), []).append(judged)

    def _is_encrypted_inside(self, leaf: Leaf) -> bool:
        return any(judged.walked.owners for judged in self.inner.get(id(leaf), ()))

    def _add_inner(self) -> None:
        """What was found inside of values, unless the same was found in the value itself."""
        told = {(finding.rule, finding.field) for finding, _ in self.found}
        for leaf in self.walked.leaves:
            if self.gate.allow_disabled and leaf.object.is_disabled:
                continue
            for judged in self.inner.get(id(leaf), ()):
                for finding, _ in judged.found:
                    if (finding.rule, leaf.path) not in told:
                        finding.field = f"{leaf.path}: {finding.field}" if finding.field else leaf.path
                        self.found.append((finding, leaf.start))

    # Expected to be plain

    def _find_ciphertext(self) -> None:
        found: list[Leaf] = []
        for leaf in [*self.walked.leaves, *self.walked.keys]:
            if not isinstance(leaf.value, str):
                continue
            count = leaf.value.count(CIPHERTEXT)
            if count:
                self.explained.append((leaf.start, leaf.end, count))
            if not leaf.in_block and (count or CIPHERTEXT in leaf.decoded):
                found.append(leaf)
        values = {id(subject): some for subject, some in _by_object(found)}
        blocks = {id(owner.object): owner for owner in self.walked.owners}
        for subject in self.walked.objects:
            some, block = values.get(id(subject), []), blocks.get(id(subject))
            if not (some or block) or (self.gate.allow_disabled and subject.is_disabled):
                continue
            what = ["an encrypted value" if len(some) == 1 else f"{len(some)} encrypted values"] if some else []
            what += ["a sops block"] if block else []
            at = some[0].start if some else block.at if block else 0
            self._tell("StillEncrypted", " and ".join(what), at, subject, some[0].path if some else "sops")

    # Expected to be encrypted

    def _judge_block(self, owner: Owner) -> None:
        block = owner.branch.get("sops")
        if not isinstance(block, Branch) or not block.entries:
            self._tell("InvalidMetadata", "the sops block is empty or no mapping", owner.at, owner.object, "sops")
            return
        try:
            metadata = Metadata.from_branch(block, self.gate.limits.key_entries)
        except LimitError as error:
            self._tell("LimitExceeded", error.message, owner.at, owner.object, "sops")
            return
        except InputError as error:
            self._tell("InvalidMetadata", error.message, owner.at, owner.object, "sops")
            return
        if not _ENCRYPTED.fullmatch(metadata.mac):
            self._tell("MissingMac", "the sops block has no usable MAC", owner.at, owner.object, "sops.mac")
        try:
            _mark_chosen(self.source, owner.branch, owner.leaves, metadata.selection)
        except LimitError as error:
            self._tell("LimitExceeded", error.message, owner.at, owner.object)
        except InputError as error:
            self._tell("InvalidDocument", error.message, owner.at, owner.object, ".".join(error.path))
        else:
            self._judge_values(owner)
            self._judge_rule(owner, metadata)

    def _judge_values(self, owner: Owner) -> None:
        for leaf in owner.leaves:
            value = leaf.value
            if value is None or value == "":
                continue
            if not leaf.is_ciphertext:
                if leaf.chosen and not _is_injected(leaf.path):
                    self._tell_leaf("PlaintextValue", "plain text, where the sops block wants ciphertext", leaf)
            elif not leaf.chosen:
                self._tell_leaf("StrayCiphertext", "an encrypted value, where the sops block wants plain text", leaf)
            elif not _ENCRYPTED.match(str(value)):
                self._tell_leaf("InvalidDocument", "an encrypted value that is cut off or damaged", leaf)

    def _judge_rule(self, owner: Owner, metadata: Metadata) -> None:
        selection = metadata.selection
        rule = f"{selection.rule} {shown(selection.pattern, 80)!r}"
        given = [leaf for leaf in owner.leaves if leaf.value not in (None, "")]
        if any(leaf.chosen for leaf in given):
            self.gate.choosing.add(metadata.mac)
        elif given:
            finding = Finding("WeakSelection", f"{rule} chooses no value", field=f"sops.{selection.rule}")
            finding.object = reference(owner.branch)
            self.unchosen.append((metadata.mac, finding, owner.at))
        if (selection.rule, selection.pattern) == _DEFAULT_RULE:
            return  # the names of the values say themselves that they are plain
        left = [leaf for leaf in given if leaf.is_secret and not leaf.chosen and not leaf.is_ciphertext]
        for subject, some in _by_object(left):
            text = f"{rule} leaves {_counted(some)} in plain text"
            self._tell("WeakSelection", text, some[0].start, subject, some[0].path)

    def _find_plaintext(self) -> None:
        free = [leaf for leaf in self.walked.leaves if leaf.owner is None and leaf.value not in (None, "")]
        for subject, some in _by_object([leaf for leaf in free if leaf.is_ciphertext]):
            what = "an encrypted value" if len(some) == 1 else f"{len(some)} encrypted values"
            self._tell("MissingMetadata", f"{what}, but no sops block", some[0].start, subject, some[0].path)
        plain = [leaf for leaf in free if leaf.is_secret and not leaf.is_ciphertext]
        for subject, some in _by_object([leaf for leaf in plain if not self._is_encrypted_inside(leaf)]):
            text = (
                f"a {subject.kind if subject.holds_secrets else 'secretGenerator'} with {_counted(some)} in plain text"
            )
            self._tell("PlainSecret", text, some[0].start, subject, some[0].path)

    def _compare(self, wanted: Selection) -> None:
        """wanted: what `.sops.yaml` wants encrypted."""
        root = self.source.root
        if not isinstance(root, Branch) or any(owner.branch is root for owner in self.walked.owners):
            return
        subject = self.walked.objects[0]
        if any(finding.rule == "PlainSecret" for finding, _ in self.found) or (
            subject.kind == "ConfigMap" and wanted.positive
        ):
            return
        given = self.walked.leaves
        try:
            _mark_chosen(self.source, root, given, wanted)
        except (InputError, LimitError) as error:
            self._tell("NotEncrypted", f"not encrypted, and cannot be: {error.message}", self.source.start, subject)
            return
        chosen = [leaf for leaf in given if leaf.chosen and leaf.value not in (None, "")]
        if chosen:
            severity = "warning" if subject.kind else "error"
            text = f"not encrypted, as .sops.yaml wants {_counted(chosen)}"
            self._tell("NotEncrypted", text, chosen[0].start, subject, chosen[0].path, severity)

    # In any case

    def _find_keys(self) -> None:
        for leaf in [*self.walked.leaves, *self.walked.keys]:
            value = leaf.value
            if not isinstance(value, str) or len(value) < 24:
                continue
            spelled = list(privatekeys.find(value))
            self.explained += [(leaf.start, leaf.end, len(spelled))] if spelled else []
            found = spelled
            if not found and (raw := leaf.decoded):
                found = list(privatekeys.find(raw))
                if not found and privatekeys.is_key_ring(raw):
                    found = [privatekeys.PrivateKey(0, "an OpenPGP private key", True)]
            for what in dict.fromkeys(key.what for key in found if not self._may_stand(key, leaf)):
                self._tell_leaf("PrivateKey", what, leaf)

    def _may_stand(self, key: PrivateKey, leaf: Leaf) -> bool:
        """Where plain text is expected, a Secret may hold a TLS or SSH key, and a key Secret that stays here any."""
        if not self.gate.expects_plain or not leaf.is_secret:
            return False
        annotation = leaf.object.annotations.get(LOCAL_CONFIG)
        return not key.is_sops or annotation not in (None, "false")


def _is_injected(path: str) -> bool:
    """Whether kpt or kustomize put an annotation there: it was not in the document when that was encrypted."""
    _, annotations, name = path.rpartition("metadata.annotations.")
    return bool(annotations) and is_injected(name)


def _by_object(some: list[Leaf]) -> list[tuple[Object, list[Leaf]]]:
    found: dict[int, tuple[Object, list[Leaf]]] = {}
    for leaf in some:
        found.setdefault(id(leaf.object), (leaf.object, []))[1].append(leaf)
    return list(found.values())


def _counted(some: list[Leaf]) -> str:
    return "a value" if len(some) == 1 else f"{len(some)} values"


def _mark_chosen(tree: Tree, branch: Branch, given: list[Leaf], selection: Selection) -> None:
    """Tell of each leaf whether the rule chooses it. Raises InputError, LimitError.

    given: the leaves of `branch` in walk order, without those of a sops block.
    """
    if selection.by_comment:
        branch = tree.with_comments(branch)
    body = Branch([entry for entry in branch.entries if entry.key != "sops"])
    if sum(not isinstance(leaf, Comment) for leaf in leaves(body)) != len(given):
        raise InputError("it reads differently with its comments than without them")
    Walk(selection, _Chooser(given, selection.positive)).branch(body, b"", (), False, False)


class _Chooser:
    """See document.Visitor."""

    def __init__(self, given: list[Leaf], positive: bool) -> None:
        self._next = iter(given)
        self._positive = positive
        self._in_list = False

    def is_comment(self, element: str) -> bool:
        """A comment that sops keeps as an element of a list: `comment` is asked about it next."""
        self._in_list = element.startswith(CIPHERTEXT) and element.rstrip().endswith(",type:comment]")
        return self._in_list

    def comment(self, _comment: Comment, _aad: bytes, _path: tuple[str, ...], chosen: bool, _: bool) -> None:
        if self._in_list:
            next(self._next).chosen = chosen
        self._in_list = False

    def leaf(self, value: Value, _aad: bytes, _path: tuple[str, ...], matched: bool) -> Value:
        next(self._next).chosen = matched is self._positive
        return value
