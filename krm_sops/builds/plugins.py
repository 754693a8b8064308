"""Functions that a kustomization lists: ours run inside of this program, others only where the operator says so.

kustomize starts a function by what an annotation of its config says. For ours the annotation is replaced, so that a
small relay hands the items over to this process and brings the answer back: the keys stay here, and neither a
container engine nor an installed krm-sops is needed.
"""

from __future__ import annotations

from krm_sops.builds.kustomization import HELM
from krm_sops.builds.merging import MERGE, merged
from krm_sops.errors import ConfigError, InputError, PolicyError, ResourceListError, shown
from krm_sops.functions import function_for
from krm_sops.krm.item import refuse_duplicates
from krm_sops.krm.stream import Stream
from krm_sops.limits import FUNCTION
from krm_sops.stores.json import in_one_line
from krm_sops.tree import Branch, Entry
from krm_sops.yamlio import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from krm_sops.krm.item import Item
    from krm_sops.limits import Limits
    from krm_sops.tree import Node

_FUNCTION = "config.kubernetes.io/function"
_STARTERS = (_FUNCTION, "config.k8s.io/function", "config.kubernetes.io/container")
_PROGRAMS = ("krm-sops", "ksops", "SopsSecretGenerator")
_GROUP = "krm-sops.dev/"
_HELM_KINDS = ("HelmChartInflationGenerator",)


class Plugins:
    """relay: the command that hands over to this process.  allow_others: --enable-alpha-plugins --enable-exec.

    used: whether one of ours is listed.
    """

    def __init__(self, limits: Limits, relay: Sequence[str], *, allow_others: bool) -> None:
        self.limits = limits
        self.relay = relay
        self.allow_others = allow_others
        self.used = False

    def rewritten(self, raw: bytes, where: str, sources: Callable[[Branch], Node]) -> list[Branch]:
        """The configs of one file. sources: rewrites the references of a built-in one.

        Raises PolicyError, ResourceListError, InputError, LimitError.
        """
        if MERGE.encode() in raw:
            raw = self._without_merges(raw, where)
        stream = Stream(self.limits)
        stream.add(raw, where)
        return [self._config(item, where, sources) for item in stream.items]

    def _without_merges(self, raw: bytes, where: str) -> bytes:
        stream = Stream(self.limits)
        texts = []
        for document in stream.parse(raw, where):
            document.items  # noqa: B018 (reads it)
            source = document.source
            try:
                if source is not None:
                    refuse_duplicates(source.root)
                    texts.append(in_one_line(merged(source, is_old=False)) + "\n")
            except InputError as error:
                raise ConfigError(f"{document}: {error.message}", hint=error.hint) from None
        return "---\n".join(texts).encode()

    def _config(self, item: Item, where: str, sources: Callable[[Branch], Node]) -> Branch:
        kind = item.kind
        if item.field("apiVersion") == "builtin":
            if kind in _HELM_KINDS:
                raise PolicyError(f"{shown(where)}: {HELM[0]}: helm is not started")
            found = sources(item.branch)
            assert isinstance(found, Branch)
            return found
        if _is_ours(item):
            self.used = True
            return self._relayed(item, where)
        if not self.allow_others:
            raise PolicyError(
                f"{shown(where)}: {item.kind or 'the config'} {shown(item.name, 80)} is for another program, which is "
                "not started",
                hint="--enable-alpha-plugins --enable-exec let the repository start programs of its choice",
            )
        return item.branch

    def _relayed(self, item: Item, where: str) -> Branch:
        metadata = item.branch.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, Branch) else None
        if not isinstance(metadata, Branch) or not isinstance(annotations, (Branch, type(None))):
            raise ResourceListError(f"{shown(where)}: metadata or its annotations are no mapping")
        starts = in_one_line(
            Branch([Entry("exec", Branch([Entry("path", self.relay[0]), Entry("args", list(self.relay[1:]))]))])
        )
        kept = [entry for entry in (annotations.entries if annotations else ()) if entry.key not in _STARTERS]
        inner = [entry for entry in metadata.entries if entry.key not in ("annotations", "configFn")]
        inner.append(Entry("annotations", Branch([*kept, Entry(_FUNCTION, starts)])))
        outer = [Entry(e.key, Branch(inner) if e.key == "metadata" else e.value) for e in item.branch.entries]
        return Branch(outer)


def _is_ours(config: Item) -> bool:
    if config.field("apiVersion").startswith(_GROUP):
        return True
    try:
        function_for(config)
    except ConfigError:
        return False
    return config.field("apiVersion") != "v1" or _starts_us(config)


def _starts_us(item: Item) -> bool:
    """Whether a config asks for this program, as an executable or in a container."""
    text = next((found for found in map(item.annotation, _STARTERS) if found), "")
    try:
        starts = read(text, FUNCTION, 1000).root if text else None
    except InputError:
        return False
    if not isinstance(starts, Branch):
        return False
    for way, field in (("exec", "path"), ("container", "image")):
        spec = starts.get(way)
        named = spec.get(field) if isinstance(spec, Branch) else None
        if isinstance(named, str):
            return named.rpartition("/")[2].partition("@")[0].partition(":")[0] in _PROGRAMS
    return False
