"""A plan to look at: a table, JSON, a Mermaid diagram, an SVG. Everything in it is foreign text (S33)."""

from __future__ import annotations

from krm_sops.errors import KrmSopsError, shown
from krm_sops.stages.emit import last_stages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from krm_sops.krm.item import Item
    from krm_sops.stages.plan import Plan
    from krm_sops.stages.spec import Stage

_ENTRIES = 100
_LONGEST = 60


class Row:
    """What is known of one stage without opening anything.  waits_for: numbers of rows."""

    def __init__(self, stage: Stage, waits_for: Sequence[int]) -> None:
        stage_set = stage.stage_set
        self.stage_set = stage_set.label
        self.stage = stage.name
        self.number = stage.number
        self.source = (
            f"{shown(stage.source_fields.text('kind', 'ExternalArtifact'), _LONGEST)}/{shown(stage.source, 80)}"
        )
        self.folder = f"./{shown(stage.folder)}"
        self.items = [_name(item) for item in stage.items]
        self.encrypted = {_name(item): keys_of(item) for item in stage.items if item.branch.number("sops") is not None}
        self.key = ""
        if stage_set.secret_ref:
            self.key = "Secret " + "/".join(
                shown(one, 80) for one in (stage_set.namespace, stage_set.secret_ref) if one
            )
        elif stage_set.decrypts:
            self.key = "keys at hand"
        self.waits_for = waits_for

    def opened_with(self) -> str:
        """For a table."""
        if not self.encrypted:
            return "-"
        return f"{len(self.encrypted)} with {self.key}" if self.key else f"{len(self.encrypted)} stay encrypted"


def rows(plan: Plan) -> list[Row]:
    numbers = {stage: at for at, stage in enumerate(plan.stages)}
    before = last_stages(plan.stages)
    return [Row(stage, [numbers[one] for one in before[stage]]) for stage in plan.stages]


def keys_of(item: Item) -> list[str]:
    """The keys that an item is encrypted for, by type; none where its metadata cannot be read."""
    from krm_sops.metadata import Metadata
    from krm_sops.tree import Branch

    block = item.branch.get("sops")
    try:
        keys = Metadata.from_branch(block, _ENTRIES).keys() if isinstance(block, Branch) else []
    except KrmSopsError:
        return []
    return [f"{key.section} {shown(key.identity)}" for key in keys]


def _name(item: Item) -> str:
    return "/".join(shown(part, 80) for part in (item.kind, item.namespace, item.name) if part)


def table(plan: Plan) -> str:
    head = ("stage", "number", "items", "decrypted", "source", "waits for")
    found = rows(plan)
    lines = [head]
    for row in found:
        waits = ", ".join(f"{found[at].stage_set}: {found[at].stage}" for at in row.waits_for) or "-"
        lines.append(
            (
                f"{row.stage_set}: {row.stage}",
                str(row.number),
                str(len(row.items)) if row.items else "built",
                row.opened_with(),
                f"{row.source} {row.folder}",
                waits,
            )
        )
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    out = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    loose = [item for item in plan.loose if item in plan.told_loose]
    if loose:
        out += ["", f"in no stage: {len(loose)}", *(f"  {_name(item)}" for item in loose)]
    return "\n".join(out) + "\n"


def as_json(plan: Plan) -> str:
    import json

    found = rows(plan)
    stages = [
        {
            "stageSet": row.stage_set,
            "stage": row.stage,
            "number": row.number,
            "source": row.source,
            "folder": row.folder,
            "items": row.items,
            "encrypted": [{"item": name, "keys": keys} for name, keys in row.encrypted.items()],
            "decryptedWith": row.key,
            "waitsFor": [{"stageSet": found[at].stage_set, "stage": found[at].stage} for at in row.waits_for],
        }
        for row in found
    ]
    loose = [_name(item) for item in plan.loose if item in plan.told_loose]
    return json.dumps({"stages": stages, "inNoStage": loose}, indent=2, ensure_ascii=True) + "\n"


def mermaid(plan: Plan) -> str:
    out = ["flowchart LR"]
    for at, row in enumerate(rows(plan)):
        text = _mermaid_text(f"{row.stage_set}: {row.stage}")
        more = _mermaid_text(_summary(row))
        out.append(f'  s{at}["{text}<br/>{more}"]')
        out += [f"  s{before} --> s{at}" for before in row.waits_for]
    return "\n".join(out) + "\n"


def _summary(row: Row) -> str:
    if not row.items:
        return "built by kustomize"
    items = f"{len(row.items)} item{'' if len(row.items) == 1 else 's'}"
    return f"{items}, {len(row.encrypted)} encrypted" if row.encrypted else items


def _mermaid_text(text: str) -> str:
    """Entity codes for everything that is not plainly text to Mermaid or to HTML."""
    return "".join(c if c.isascii() and (c.isalnum() or c in " -_./:,") else f"#{ord(c)};" for c in text)


_WIDTH, _HEIGHT, _GAP, _MARGIN = 240, 64, 48, 16


def svg(plan: Plan) -> str:
    """Columns by number: what stands in a column may be deployed at the same time."""
    from html import escape

    found = rows(plan)
    rank: dict[int, int] = {}
    places = []
    for row in found:
        line = rank[row.number] = rank.get(row.number, -1) + 1
        places.append((_MARGIN + (row.number - 1) * (_WIDTH + _GAP), _MARGIN + line * (_HEIGHT + _GAP)))
    width = max((x for x, _ in places), default=0) + _WIDTH + _MARGIN
    height = max((y for _, y in places), default=0) + _HEIGHT + _MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="13">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">',
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
    ]
    for row, (x, y) in zip(found, places, strict=True):
        for before in row.waits_for:
            from_x, from_y = places[before]
            out.append(
                f'<path d="M{from_x + _WIDTH} {from_y + _HEIGHT // 2}L{x} {y + _HEIGHT // 2}" stroke="#555" '
                'marker-end="url(#a)"/>'
            )
        fill = "#fdf1d6" if row.encrypted else "#e8f0fa"
        out.append(
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="{fill}" stroke="#555"/>'
            f'<text x="{x + 12}" y="{y + 26}" font-weight="bold">{escape(_cut(f"{row.stage_set}: {row.stage}"))}</text>'
            f'<text x="{x + 12}" y="{y + 46}">{escape(_cut(_summary(row)))}</text>'
        )
    return "\n".join([*out, "</svg>"]) + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "…"
