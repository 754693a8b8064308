"""One document: what must not be in it. Every leaf and key is looked at, in base64 and in documents inside, too."""

from __future__ import annotations

import re

from krm_sops.document import Walk
from krm_sops.errors import InputError, LimitError, shown
from krm_sops.gate import Finding, privatekeys, texts
from krm_sops.gate.walk import Walked
from krm_sops.krm.item import LOCAL_CONFIG, MASKED, is_injected, refuse_duplicates
from krm_sops.metadata import Metadata
from krm_sops.tree import CIPHERTEXT, Branch, Comment, leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from krm_sops.gate.judge import Gate
    from krm_sops.gate.privatekeys import PrivateKey
    from krm_sops.gate.texts import Tree
    from krm_sops.gate.walk import Leaf, Object, Owner
    from krm_sops.selection import Selection
    from krm_sops.tree import Leaf as Value

_ENCRYPTED = re.compile(
    r"ENC\[AES256_GCM,data:([A-Za-z0-9+/]+={0,2}),iv:([A-Za-z0-9+/]+={0,2}),tag:([A-Za-z0-9+/]+={0,2}),"
    r"type:(?:str|int|float|bool|bytes|time|comment)\]"
)
_IV_BYTES, _TAG_BYTES = range(12, 129), range(16, 17)
"""sops writes IVs of 32 bytes, other programs of 12; the longest is what OpenSSL takes."""
_DEPTH = 3
"""Documents inside of documents."""


class Judged:
    """found: with their places in the text.  unchosen: the same, each with the MAC of a document that has no value for
    which its rule asks.  ciphertexts, keys: marks in the text that stand in values: (start, end, how many).
    """

    def __init__(
        self, gate: Gate, tree: Tree, depth: int = 0, *, is_secret: bool = False, in_patch: bool = False
    ) -> None:
        self.gate = gate
        self.source = tree
        self.depth = depth
        self.found: list[tuple[Finding, int]] = []
        self.ciphertexts: list[tuple[int, int, int]] = []
        self.keys: list[tuple[int, int, int]] = []
        self.unchosen: list[tuple[str, Finding, int]] = []
        self.inner: dict[int, list[Judged]] = {}
        gate.nodes_left -= tree.nodes
        self.walked = Walked(tree, is_secret=is_secret, in_patch=in_patch)

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
        if not isinstance(value, str) or leaf.in_block or leaf.is_ciphertext:
            return
        if self.depth >= _DEPTH or self.gate.nodes_left <= 0:
            return
        for text in (value, texts.text_of(leaf.decoded.encode("latin-1"))):
            try:
                trees = texts.embedded(text, self.gate.limits, self.gate.nodes_left, is_patch=leaf.in_patch)
            except LimitError as error:
                self._tell_leaf("LimitExceeded", f"a document inside of it: {error.message}", leaf)
                self.gate.nodes_left = 0  # that was said once, and whatever comes may not fit any more
                return
            for tree in trees:
                is_secret = leaf.is_secret and self.gate.expects_plain
                judged = Judged(self.gate, tree, self.depth + 1, is_secret=is_secret, in_patch=leaf.in_patch)
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
                self.ciphertexts.append((leaf.start, leaf.end, count))
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
        if not _is_well_formed(metadata.mac):
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
            elif not _is_well_formed(str(value).rstrip()):
                self._tell_leaf("InvalidDocument", "an encrypted value that is cut off or damaged", leaf)

    def _judge_rule(self, owner: Owner, metadata: Metadata) -> None:
        selection = metadata.selection
        rule = f"{selection.rule} {shown(selection.pattern, 80)!r}"
        given = [leaf for leaf in owner.leaves if leaf.value not in (None, "")]
        if any(leaf.chosen for leaf in given):
            self.gate.choosing.add(metadata.mac)
        elif given:
            severity = "error" if owner.object.holds_secrets or not owner.object.kind else "warning"
            text, field = f"{rule} chooses no value", f"sops.{selection.rule}"
            finding = Finding("WeakSelection", text, field=field, subject=owner.branch, severity=severity)
            self.unchosen.append((metadata.mac, finding, owner.at))
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
            what = _called(subject, some[0])
            self._tell(
                "PlainSecret", f"a {what} with {_counted(some)} in plain text", some[0].start, subject, some[0].path
            )

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
            self.keys += [(leaf.start, leaf.end, len(spelled))] if spelled else []
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


def _is_well_formed(text: str) -> bool:
    """Whether it has all that a ciphertext has, each of its length; only a key tells more."""
    from binascii import Error, a2b_base64

    parts = _ENCRYPTED.fullmatch(text)
    try:
        _, iv, tag = (a2b_base64(part, strict_mode=True) for part in parts.groups()) if parts else (b"", b"", b"")
    except Error:
        return False
    return len(iv) in _IV_BYTES and len(tag) in _TAG_BYTES


def _is_injected(path: str) -> bool:
    """Whether kpt or kustomize put an annotation there: it was not in the document when that was encrypted."""
    _, annotations, name = path.rpartition("metadata.annotations.")
    return bool(annotations) and is_injected(name)


def _by_object(some: list[Leaf]) -> list[tuple[Object, list[Leaf]]]:
    found: dict[int, tuple[Object, list[Leaf]]] = {}
    for leaf in some:
        found.setdefault(id(leaf.object), (leaf.object, []))[1].append(leaf)
    return list(found.values())


def _called(subject: Object, leaf: Leaf) -> str:
    """What it is that holds a secret value."""
    if subject.is_secret:
        return "Secret"
    if leaf.in_patch:
        return "patch of a Secret"
    return subject.kind if subject.holds_secrets else "secretGenerator"


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
