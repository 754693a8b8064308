"""Plain items become encrypted ones: those that SopsDecrypt left a trace on, and new Secrets.

What was made is read again, decrypted, its MAC checked, and shown to the gate, before it leaves.
"""

from __future__ import annotations

from os import urandom
from time import gmtime, strftime

from krm_sops.cipher import DataKey
from krm_sops.credentials import Credentials
from krm_sops.datakey import wrapped
from krm_sops.document import EncryptedDocument
from krm_sops.encryption import Carried, encrypt, shares
from krm_sops.errors import ConfigError, InputError, shown
from krm_sops.functions import original
from krm_sops.functions.decrypt_item import Document, Opening, verified
from krm_sops.functions.regroup import Group
from krm_sops.functions.splice import Kept, Plain, block_of, item_of, splice
from krm_sops.gate import ENCRYPTED
from krm_sops.gate.judge import Gate
from krm_sops.krm.item import MASKED, ORIGINAL, refuse_duplicates
from krm_sops.metadata import VERSION, Metadata
from krm_sops.recipients import RecipientDrift, drift
from krm_sops.rules import NoMatchingRule
from krm_sops.selection import Selection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.rules import Rule, Rules


class Sealing:
    """What the items of a run are encrypted with.  item: the one in hand, for errors.

    rules: None where the config has none.  fresh: whatever changed gets a new data key.
    """

    __slots__ = ("fresh", "item", "now", "opening", "rules")

    def __init__(self, opening: Opening, rules: Rules | None, *, fresh: bool) -> None:
        self.opening = opening
        self.rules = rules
        self.fresh = fresh
        self.now = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
        self.item: Item | None = None

    def rule_for(self, item: Item) -> Rule | None:
        """The first rule for the item's file; None where none matches. Raises ConfigError."""
        if self.rules is None:
            return None
        try:
            return self.rules.rule_for(f"/{item.file}")
        except NoMatchingRule:
            return None
        except ConfigError as error:
            error.path = ("spec", "creationRules")
            raise


def original_of(item: Item, limits: Limits) -> tuple[Item, bytes]:
    """What an item was, and what shows that it was that. Raises InputError, LimitError."""
    _refuse_masked(item)
    refuse_duplicates(item.branch)
    if item.branch.number("sops") is not None:
        raise InputError(f"a sops block beside the annotation {ORIGINAL}", hint="was it encrypted in between?")
    return original.original(item, limits)


def seal_again(group: Group, now: Mapping[Item, tuple[Item, bytes]], sealing: Sealing) -> None:
    """Encrypt items again that were one document.

    group: what they were, and those that still are.  now: for each of the former, the item as it is, and what shows
    that it was that.
    Raises KrmSopsError, for `sealing.item`, and changes none.
    """
    opening = sealing.opening
    sealing.item = next(now[was][0] for was in group.members if was in now)
    kept = []
    for document in verified(group, opening):
        if document.item in now:
            item, raw = now[document.item]
            sealing.item = item
            original.check(item, raw, document.data_key)
            kept.append(Kept(item, document, opening.limits))
            original.check_name(item, kept[-1].then.item)
    if all(one.is_unchanged for one in kept) and all(one.restore() for one in kept):
        return
    for one in kept:
        one.item.edits.clear()
        one.was.edits.clear()
        sealing.item = one.item
        _refuse_drift(one, sealing)
    if len(kept) < len(group.members):
        raise InputError(
            "it changed, and shares its MAC with documents of its file that were not decrypted",
            hint="let SopsDecrypt decrypt all documents of the file, or encrypt each as a file of its own",
        )
    _seal_changed(kept, sealing)


def _refuse_drift(kept: Kept, sealing: Sealing) -> None:
    """Raises RecipientDrift: the `sops` block is not authenticated (S16)."""
    rule = sealing.rule_for(kept.item)
    if rule is None:
        if sealing.fresh:
            raise no_rule(kept.item, sealing, "freshDataKey")
        return
    found = drift(kept.document.metadata, rule, "yaml")
    if found:
        raise RecipientDrift(
            f"it differs from its creation rule: {'; '.join(found)}",
            hint="bring the file up to date with `krm-sops updatekeys`, or correct spec.creationRules",
        )


def _seal_changed(kept: list[Kept], sealing: Sealing) -> None:
    metadata, data_key = kept[0].document.metadata, kept[0].document.data_key
    credentials = sealing.opening.credentials
    before = EncryptedDocument([one.encrypted for one in kept], metadata)
    carried: Carried | None = Carried(before, [one.plain for one in kept])
    trees = [one.typed() for one in kept]
    is_fresh = sealing.fresh and carried is not None and not carried.is_all_of(trees, metadata)
    if is_fresh:
        metadata, data_key, credentials = _wrapped(metadata, sealing)
        carried = None
    sealed = encrypt(trees, metadata, data_key, now=sealing.now, carried=carried)
    for one, branch in zip(kept, sealed.branches, strict=True):
        sealing.item = one.item
        block = block_of(sealed.metadata) if is_fresh else one.block(sealed.metadata)
        splice(one.now, branch, block, sealed.metadata, one)
    _check([one.item for one in kept], credentials, sealing, [one.document for one in kept])


def seal_new(items: Sequence[Item], sealing: Sealing) -> None:
    """Encrypt the Secrets of one file, as the documents of a new one, by its creation rule.

    Raises ConfigError where there is no rule, InputError, KeyUnavailable.
    """
    plain = []
    for item in items:
        sealing.item = item
        _refuse_masked(item)
        refuse_duplicates(item.branch)
        plain.append(Plain(item))
    rule = sealing.rule_for(items[0])
    if rule is None:
        raise no_rule(items[0], sealing, "")
    metadata, data_key, credentials = _wrapped(
        Metadata(
            lastmodified="",
            mac="",
            version=VERSION,
            key_groups=rule.key_groups,
            threshold=rule.threshold,
            mac_only_encrypted=rule.mac_only_encrypted,
            selection=Selection.from_fields(rule.selection),
        ),
        sealing,
    )
    sealed = encrypt([one.tree for one in plain], metadata, data_key, now=sealing.now)
    for one, branch in zip(plain, sealed.branches, strict=True):
        if any(branch.get(name) != one.tree.get(name) for name in ("apiVersion", "kind", "metadata")):
            raise ConfigError(
                "its creation rule would encrypt what makes it a Kubernetes object",
                hint="give the rule encrypted_regex: ^(data|stringData)$",
                path=("spec", "creationRules"),
            )
        sealing.item = one.item
        splice(one, branch, block_of(sealed.metadata), sealed.metadata)
    _check([one.item for one in plain], credentials, sealing)


def no_rule(item: Item, sealing: Sealing, option: str) -> ConfigError:
    """option: what asks for one; "" for a new Secret."""
    if sealing.rules is None:
        why = "spec.creationRules is not there"
    else:
        why = f"no creation rule matches {shown(item.file)!r}" if item.file else "no creation rule is for all files"
    what = f"spec.{option} needs a creation rule" if option else "a Secret that is not encrypted"
    return ConfigError(
        f"{what}, and {why}",
        hint="give spec.creationRules one, as in .sops.yaml; or name the Secret in spec.exclude if it may stay plain",
        path=("spec", "creationRules"),
    )


def _wrapped(metadata: Metadata, sealing: Sealing) -> tuple[Metadata, DataKey, Credentials]:
    """The same around a new data key; and credentials that open nothing else. Raises KeyUnavailable, ConfigError."""
    raw = urandom(32)
    new = metadata.with_mac("", "")
    parts = shares(raw, new)
    new.key_groups = wrapped(metadata.key_groups, parts, sealing.opening.credentials)
    credentials = Credentials(sealing.opening.credentials.host, (), "never")
    for group, part in zip(new.key_groups, parts, strict=True):
        credentials.opened |= {(key.section, key.identity, key.enc): part for key in group}
    return new, DataKey(raw), credentials


def _check(items: list[Item], credentials: Credentials, sealing: Sealing, before: Sequence[Document] = ()) -> None:
    """Read again what was made. Raises InputError, MacMismatch, and for what the gate finds ConfigError.

    before: what the items were. What was amiss in them is not held against what they are.
    """
    opening = sealing.opening
    made = [item_of(item.own_text(changed=True), opening.limits) for item in items]
    reopening = Opening(credentials, opening.options, opening.answer, opening.limits, opening.proofs)
    documents = verified(Group(made), reopening)
    if sum(map(_unopened, documents)) > sum(map(_unopened, before)):
        raise InputError("a comment that could not be decrypted again where it stands", hint="move it, or take it out")
    gate = Gate(ENCRYPTED, opening.limits)
    known = {(finding.rule, finding.field) for _, finding in gate.items([document.item for document in before])}
    for item, again in zip(items, made, strict=True):
        sealing.item = item
        for _, finding in gate.items([again]):
            if finding.severity == "error" and (finding.rule, finding.field) not in known:
                raise ConfigError(
                    f"what it is encrypted by would leave something plain: {finding.message}",
                    hint="widen the selection of its sops block or creation rule, as with ^(data|stringData)$",
                    path=finding.field.split(".") if finding.field else (),
                )


def _unopened(document: Document) -> int:
    """How many of its comments stay ciphertext."""
    return len(document.opened.unopened)


def _refuse_masked(item: Item) -> None:
    if item.annotation(MASKED):
        raise InputError(f"the annotation {MASKED} says that values were masked", hint="encrypt the values themselves")
