"""A tree -> its leaves, each with what matters to the gate: its object, its sops block, and whether it is secret."""

from __future__ import annotations

from krm_sops.errors import MetadataError
from krm_sops.gate.privatekeys import decoded
from krm_sops.keys import KEY_TYPES
from krm_sops.krm.item import OPT_OUTS
from krm_sops.selection import compile_regex
from krm_sops.tree import CIPHERTEXT, Branch, Comment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.gate.texts import Tree
    from krm_sops.places import Place
    from krm_sops.tree import Leaf as Value
    from krm_sops.tree import Node

_KEYS = frozenset(("key_groups", *KEY_TYPES))
_SECRET_FIELDS = ("data", "stringData")
_SECRET_LISTS = ("SopsSecret", "GlobalSopsSecret", "SecretList")
"""Kinds that hold templates of Secrets, at any depth."""
SOURCE, MANIFEST, PATCH = "source", "manifest", "patch"
_KUSTOMIZATIONS = ("", "Kustomization", "Component")
_MANIFEST_LISTS = (
    *("resources", "generators", "transformers", "validators"),
    *("patches", "patchesStrategicMerge", "patchesJson6902"),
)


class Object:
    """A Kubernetes object, or a document that is none.  at: where it stands in the text."""

    __slots__ = ("annotations", "at", "branch", "kind")

    def __init__(self, branch: Branch, at: int) -> None:
        self.branch = branch
        self.at = at
        self.kind = _text(branch, "kind")
        metadata = field(branch, "metadata")
        annotations = field(metadata, "annotations") if isinstance(metadata, Branch) else None
        self.annotations = annotations if isinstance(annotations, Branch) else Branch()

    @property
    def is_secret(self) -> bool:
        """Whether it is a Secret, or may be one since its kind is ciphertext."""
        version = _text(self.branch, "apiVersion")
        is_core = version.startswith(CIPHERTEXT) or "/" not in version
        return is_core and (self.kind == "Secret" or self.kind.startswith(CIPHERTEXT))

    @property
    def holds_secrets(self) -> bool:
        return self.is_secret or self.kind in _SECRET_LISTS

    @property
    def is_disabled(self) -> bool:
        return any(_text(self.annotations, name).lower() == "disabled" for name in OPT_OUTS)


class Owner:
    """A mapping with a sops block.  leaves: those that the block is about, in walk order."""

    __slots__ = ("at", "branch", "leaves", "object")

    def __init__(self, branch: Branch, at: int, subject: Object) -> None:
        self.branch = branch
        self.at = at
        self.object = subject
        self.leaves: list[Leaf] = []


class Leaf:
    """path: as people write it.  start, end: of its entry in the text.  is_secret: nobody may read it.

    in_block: of a sops block.  chosen: whether the rule of its document wants it encrypted; None where that is unknown.
    in_patch: it is, or is in, a patch of a Secret.
    """

    __slots__ = (
        *("_decoded", "chosen", "end", "in_block", "in_patch", "is_secret", "object", "owner", "path", "start"),
        "value",
    )

    def __init__(self, value: Value, path: str, span: tuple[int, int], where: _Where) -> None:
        self.value = value
        self.path = path
        self.start, self.end = span
        self.object = where.object
        self.owner = where.owner
        self.is_secret = where.is_secret
        self.in_block = where.in_block
        self.in_patch = where.in_patch
        self.chosen: bool | None = None
        self._decoded: str | None = None

    @property
    def is_ciphertext(self) -> bool:
        return isinstance(self.value, str) and self.value.startswith(CIPHERTEXT)

    @property
    def decoded(self) -> str:
        """See privatekeys.decoded."""
        if self._decoded is None:
            self._decoded = decoded(self.value) if isinstance(self.value, str) else ""
        return self._decoded


class Reference:
    """A file that a kustomization reads: the SOURCE of a Secret, a MANIFEST, or a PATCH of a Secret.

    format_by: the name that Flux takes the format of a source from.
    """

    __slots__ = ("at", "format_by", "path", "use")

    def __init__(self, path: str, format_by: str, at: int, use: str = SOURCE) -> None:
        self.path = path
        self.format_by = format_by
        self.at = at
        self.use = use


class _Where:
    __slots__ = ("has_templates", "in_block", "in_generator", "in_patch", "is_secret", "object", "owner")

    def __init__(self, subject: Object) -> None:
        self.object = subject
        self.owner: Owner | None = None
        self.is_secret = self.in_block = self.has_templates = self.in_generator = self.in_patch = False

    def but(self, **changes: object) -> _Where:
        new = _Where(self.object)
        for name in self.__slots__:
            setattr(new, name, changes[name] if name in changes else getattr(self, name))
        return new


class Walked:
    """All of one tree.  keys: of mappings, with their paths and places."""

    def __init__(self, tree: Tree, *, is_secret: bool = False, in_patch: bool = False) -> None:
        """is_secret: all of it.  in_patch: it is a patch of a Secret, or several."""
        self.leaves: list[Leaf] = []
        self.objects: list[Object] = []
        self.owners: list[Owner] = []
        self.keys: list[Leaf] = []
        self.references: list[Reference] = []
        self._places = tree.places
        self._root = tree.root
        self._is_item = tree.is_item
        nobody = Object(Branch(), tree.start)
        if not isinstance(tree.root, Branch):
            self.objects.append(nobody)
        where = _Where(nobody).but(is_secret=is_secret, in_patch=in_patch)
        self._node(tree.root, "", (tree.start, tree.stop), where)

    def _node(self, node: Node, path: str, span: tuple[int, int], where: _Where) -> None:
        if isinstance(node, Branch):
            self._branch(node, path, span, where)
        elif isinstance(node, list):
            place = self._places.get(id(node))
            number = 0
            for at, element in enumerate(node):
                if isinstance(element, Comment):
                    continue
                self._node(element, f"{path}[{number}]", place.entries[at] if place else span, where)
                number += 1
        else:
            leaf = Leaf(node, path, span, where)
            self.leaves.append(leaf)
            if where.owner is not None and not where.in_block:
                where.owner.leaves.append(leaf)

    def _branch(self, branch: Branch, path: str, span: tuple[int, int], where: _Where) -> None:
        is_root = branch is self._root
        is_object = _is_object(branch)
        if is_object or is_root:
            subject = Object(branch, span[0])
            self.objects.append(subject)
            templates = where.has_templates or subject.kind in _SECRET_LISTS
            where = where.but(object=subject, has_templates=templates, in_generator=subject.kind == "SecretGenerator")
            if where.owner is None and _is_owner(branch, is_object=is_object or self._is_item):
                owner = Owner(branch, self._entry_at(branch, "sops", span[0]), subject)
                self.owners.append(owner)
                where = where.but(owner=owner)
        self._entries(branch, path, span, where, is_root=is_root)

    def _entries(self, branch: Branch, path: str, span: tuple[int, int], where: _Where, *, is_root: bool) -> None:
        place: Place | None = self._places.get(id(branch))
        is_fields = branch is where.object.branch
        is_kustomization = is_root and where.object.kind in _KUSTOMIZATIONS
        if _patches_secret(branch):
            where = where.but(in_patch=True)
            self.references.append(Reference(_text(branch, "path"), "", span[0], PATCH))
        for number, entry in enumerate(branch.entries):
            if isinstance(entry.key, Comment):
                continue
            at = place.entries[number] if place else span
            key = str(entry.key)
            below = f"{path}.{key}" if path else key
            self.keys.append(Leaf(key, below, at, where))
            inner = where
            if key == "<<":
                for merged in _sources(entry.value):  # as if its entries stood here
                    self._merged(merged, below, at, where, is_fields=is_fields)
                continue
            if where.owner is not None and branch is where.owner.branch and key == "sops":
                inner = where.but(in_block=True)
            elif self._makes_secret(key, where, is_fields=is_fields):
                inner = where.but(is_secret=True)
            elif key == "value" and _sets_secret(branch, where):
                inner = where.but(is_secret=True, in_patch=True)
            elif key == "$patch":  # kustomize's word for what to do with the mapping it is in
                inner = where.but(is_secret=False)
            elif is_root and key == "secretGenerator":
                inner = where.but(in_generator=True)
            elif where.in_generator and key in ("files", "envs", "env"):
                self._refer(entry.value, key, at[0])
            if is_kustomization and key in _MANIFEST_LISTS:
                self._refer_to_manifests(entry.value, at[0])
            self._node(entry.value, below, at, inner)

    def _merged(self, node: Node, path: str, span: tuple[int, int], where: _Where, *, is_fields: bool) -> None:
        if not isinstance(node, Branch):
            self._node(node, path, span, where)
            return
        for entry in node.entries:
            key = str(entry.key)
            makes = self._makes_secret(key, where, is_fields=is_fields)
            self._node(entry.value, f"{path}.{key}", span, where.but(is_secret=True) if makes else where)

    def _makes_secret(self, key: str, where: _Where, *, is_fields: bool) -> bool:
        if key in _SECRET_FIELDS:
            return (is_fields and (where.object.is_secret or where.in_patch)) or where.has_templates
        return key == "literals" and where.in_generator

    def _refer(self, node: Node, key: str, at: int) -> None:
        for element in node if isinstance(node, list) else [node]:
            if isinstance(element, str):
                name, equals, path = element.partition("=")
                if key == "files":
                    self.references.append(Reference(path if equals else name, name, at))
                else:
                    self.references.append(Reference(element, element, at))

    def _refer_to_manifests(self, node: Node, at: int) -> None:
        for element in node if isinstance(node, list) else ():
            path = _text(element, "path") if isinstance(element, Branch) else element
            if isinstance(path, str):
                self.references.append(Reference(path, "", at, MANIFEST))

    def _entry_at(self, branch: Branch, key: str, default: int) -> int:
        place, number = self._places.get(id(branch)), branch.number(key)
        return place.entries[number][0] if place is not None and number is not None else default


def field(branch: Branch, key: str) -> Node:
    """The value under a key, merge keys followed."""
    found = branch.get(key)
    if found is None and branch.number("<<") is not None:
        for source in _sources(branch.get("<<")):
            if isinstance(source, Branch) and (found := field(source, key)) is not None:
                break
    return found


def _text(branch: Branch, key: str) -> str:
    found = field(branch, key)
    return found if isinstance(found, str) else ""


def _sources(node: Node) -> Iterator[Node]:
    yield from node if isinstance(node, list) else [node]


def _patches_secret(branch: Branch) -> bool:
    """Whether it has a patch for a target whose kind, a regex, matches one with values of Secrets."""
    target = branch.get("target")
    if not isinstance(target, Branch) or not any(branch.number(key) is not None for key in ("patch", "path", "jsonOp")):
        return False
    kind = _text(target, "kind")
    try:
        matches = compile_regex(f"^({kind})$")
    except MetadataError:
        return True
    return any(matches(name) for name in ("Secret", *_SECRET_LISTS))


def _sets_secret(branch: Branch, where: _Where) -> bool:
    """Whether it is an operation of a JSON patch (RFC 6902) on values of a Secret; only Secrets have a stringData."""
    parts = _text(branch, "path").split("/")
    is_operation = len(parts) > 1 and parts[0] == "" and parts[1] != "metadata" and bool(_text(branch, "op"))
    return is_operation and ("stringData" in parts or (where.in_patch and "data" in parts))


def _is_object(branch: Branch) -> bool:
    return bool(_text(branch, "kind")) and (bool(_text(branch, "apiVersion")) or _text(branch, "kind") == "Secret")


def _is_owner(branch: Branch, *, is_object: bool) -> bool:
    """Whether its `sops` is, or was, a block of sops; other programs have settings of that name."""
    if branch.number("sops") is None:
        return False
    block = branch.get("sops")
    if is_object or block is None or block == Branch():
        return True
    fields = {str(entry.key).lower(): entry.value for entry in block.entries} if isinstance(block, Branch) else {}
    has_keys = any(isinstance(fields.get(name), list) for name in _KEYS)
    return has_keys or "mac" in fields or "lastmodified" in fields
