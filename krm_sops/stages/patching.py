"""`patches` of a stage, by the real kustomize. No secret is among what it gets to see.

It works on copies of the items in which everything that was decrypted, and every value of a Secret, is a placeholder;
in what it makes of them the placeholders are exchanged back. An item that no patch changes stays as it is, byte for
byte.
"""

from __future__ import annotations

from krm_sops.errors import ConfigError, InputError, KrmSopsError, PolicyError, shown
from krm_sops.krm.item import is_injected
from krm_sops.stages.objects import plain_tree, with_annotations
from krm_sops.stages.substitution import is_opted_out, substitute_tree, substituted
from krm_sops.tree import Branch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from krm_sops.host import Host
    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.stages.spec import Stage
    from krm_sops.tree import Node

PROGRAM = "kustomize"
_NUMBER = "krm-sops.dev/number"
_SECONDS = 60.0
_TARGET = ("group", "version", "kind", "name", "namespace", "labelSelector", "annotationSelector")


def check_allowed(stage: Stage, host: Host) -> str:
    """The program. Raises PolicyError, ConfigError."""
    path = (*stage.where.split("."), "patches")
    if not host.may_start(PROGRAM):
        raise PolicyError(
            f"{stage.where}.patches: kustomize applies them, and a function starts no program that the operator does "
            "not allow",
            hint="list kustomize under executables in the policy, or render with krm-sops stages render",
            path=path,
        )
    program = host.program(PROGRAM)
    if program is None:
        raise ConfigError(
            f"{stage.where}.patches: kustomize, which applies them, is not on PATH", hint="install it", path=path
        )
    return program


class Patching:
    """One stage's patches on some of its items, and its variables in what was patched."""

    def __init__(
        self, stage: Stage, items: Sequence[Item], variables: Mapping[str, str], host: Host, limits: Limits
    ) -> None:
        import os

        self.stage = stage
        self.items = items
        self.variables = variables
        self.host = host
        self.limits = limits
        self.hidden: dict[str, Node] = {}
        self.clear: set[str] = set()
        self._mark = f"krm-sops-{os.urandom(16).hex()}-"

    def run(self) -> None:
        """Give the items that patches change a replacement. Raises KrmSopsError."""
        from krm_sops.yamlwrite import write

        program = check_allowed(self.stage, self.host)
        before = [self._copy(at, item) for at, item in enumerate(self.items)]
        output = self._built(program, write(before, 2), write([self._kustomization()], 2))
        after = self._read(output)
        for at, item in enumerate(self.items):
            patched = after.get(at)
            if patched is None:
                item.replacement = []
            elif _sorted(patched) != _sorted(before[at]):
                item.replacement = [self._back(patched, item)]

    def _copy(self, at: int, item: Item) -> Branch:
        plain = plain_tree(item, self.limits)
        is_secret = item.kind == "Secret"
        original = item.branch if item.edits else plain
        entries = [entry for entry in original.entries if plain.number(str(entry.key)) is not None]
        hidden = self._hide(Branch(entries), plain, (), is_secret=is_secret)
        assert isinstance(hidden, Branch)
        return with_annotations(hidden, {_NUMBER: str(at)}, drop=is_injected)

    def _hide(self, old: Node, new: Node, path: tuple[str, ...], *, is_secret: bool) -> Node:
        """`new` with a placeholder wherever it differs from `old`, or may be secret."""
        if isinstance(new, Branch) and isinstance(old, Branch) and old.keys() == new.keys():
            pairs = zip(old.entries, new.entries, strict=True)
            return Branch(
                [Entry(b.key, self._hide(a.value, b.value, (*path, str(b.key)), is_secret=is_secret)) for a, b in pairs]
            )
        if isinstance(new, list) and isinstance(old, list) and len(old) == len(new):
            return [self._hide(a, b, path, is_secret=is_secret) for a, b in zip(old, new, strict=True)]
        is_value = is_secret and path[:1] in (("data",), ("stringData",))
        if new == old and not (is_value and isinstance(new, str) and new):
            return new
        name = f"{self._mark}{len(self.hidden)}"
        self.hidden[name] = new
        if new == old:
            self.clear.add(name)
        return name

    def _back(self, patched: Branch, item: Item) -> Branch:
        variables = {} if is_opted_out(item) else self.variables
        found = self._shown(substitute_tree(patched, variables) if variables else patched, variables)
        assert isinstance(found, Branch)
        metadata = item.branch.get("metadata")
        notes = metadata.get("annotations") if isinstance(metadata, Branch) else None
        kept = {
            str(entry.key): str(entry.value)
            for entry in (notes.entries if isinstance(notes, Branch) else ())
            if is_injected(str(entry.key))
        }
        return with_annotations(found, kept, drop=lambda name: name == _NUMBER)

    def _shown(self, node: Node, variables: Mapping[str, str]) -> Node:
        if isinstance(node, Branch):
            return Branch([Entry(entry.key, self._shown(entry.value, variables)) for entry in node.entries])
        if isinstance(node, list):
            return [self._shown(element, variables) for element in node]
        if not (isinstance(node, str) and self._mark in node):
            return node
        if node not in self.hidden:
            raise InputError("a patch changes a part of a value that is secret")
        value = self.hidden[node]
        return substituted(value, variables) if variables and node in self.clear and isinstance(value, str) else value

    def _kustomization(self) -> Branch:
        patches: list[Node] = []
        for one in self.stage.patches:
            if not one.text("patch"):
                raise ConfigError(f"{one.where} needs a patch", path=tuple(one.where.split(".")))
            entries = [Entry("patch", one.text("patch"))]
            target = one.mapping("target", _TARGET)
            if one.has("target"):
                entries.append(
                    Entry("target", Branch([Entry(name, target.text(name)) for name in _TARGET if target.has(name)]))
                )
            patches.append(Branch(entries))
        order = Branch([Entry("order", "fifo")])
        return Branch(
            [
                Entry("apiVersion", "kustomize.config.k8s.io/v1beta1"),
                Entry("kind", "Kustomization"),
                Entry("resources", ["items.yaml"]),
                Entry("patches", patches),
                Entry("sortOptions", order),
            ]
        )

    def _built(self, program: str, items: str, kustomization: str) -> bytes:
        import os
        import subprocess
        import tempfile

        with tempfile.TemporaryDirectory(prefix="krm-sops-") as folder:
            for name, text in (("items.yaml", items), ("kustomization.yaml", kustomization)):
                with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                    file.write(text)
            env = {"HOME": folder, "XDG_CONFIG_HOME": folder, "TMPDIR": folder, "KUBECONFIG": os.devnull}
            try:
                done = subprocess.run(
                    [program, "build", folder], env=env, cwd=folder, capture_output=True, timeout=_SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise KrmSopsError(f"kustomize cannot be run: {type(error).__name__}") from None
        if done.returncode == 0:
            return done.stdout
        said = " ".join(done.stderr.decode("utf-8", "replace").replace(folder, "").split())
        raise ConfigError(
            f"{self.stage.where}.patches: kustomize failed: {shown(said, 1000)}",
            path=(*self.stage.where.split("."), "patches"),
        )

    def _read(self, output: bytes) -> dict[int, Branch]:
        """The objects that came back, by their numbers."""
        from krm_sops.yamlio import read_all

        found = {}
        for source in read_all(output.decode(), self.limits, self.limits.run_nodes):
            root = source.root
            assert isinstance(root, Branch)
            metadata = root.get("metadata")
            notes = metadata.get("annotations") if isinstance(metadata, Branch) else None
            number = notes.get(_NUMBER) if isinstance(notes, Branch) else None
            if not (isinstance(number, str) and number.isdecimal() and int(number) < len(self.items)):
                raise ConfigError(f"{self.stage.where}.patches must not change the annotation {_NUMBER}")
            found[int(number)] = root
        return found


def _sorted(node: Node) -> object:
    """The same for trees that differ in the order of keys only."""
    if isinstance(node, Branch):
        return {str(entry.key): _sorted(entry.value) for entry in node.entries}
    if isinstance(node, list):
        return [_sorted(element) for element in node]
    return (type(node).__name__, str(node))
