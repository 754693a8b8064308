"""Lines over two logarithmic axes, as SVG."""

from __future__ import annotations

from math import ceil, floor, log10

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Lines = dict[str, list[tuple[int, float]]]

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 36, 44
COLOURS = ("#1668dc", "#d4380d", "#389e0d", "#b8860b", "#722ed1", "#13a8a8")
STYLE = """\
<style>
  text { font: 12px sans-serif; fill: #333 }
  .title { font-weight: bold }
  .grid { stroke: #bbb; stroke-width: .5 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #555 } }
</style>"""


class Axis:
    """Whole powers of ten from the least to the largest value, over a stretch of the picture."""

    def __init__(self, values: Iterable[float], begin: float, end: float) -> None:
        found = list(values)
        self.low, self.high = floor(log10(min(found))), ceil(log10(max(found)))
        self.high = max(self.high, self.low + 1)
        self.begin, self.end = begin, end

    def at(self, value: float) -> float:
        return self.begin + (log10(value) - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def svg(plots: dict[str, Lines], across: str, up: str) -> str:
    """plots: title -> name of a line -> its points.  across, up: what the axes show."""
    parts = [_plot(title, lines, across, up, number * HEIGHT) for number, (title, lines) in enumerate(plots.items())]
    size = f'width="{WIDTH}" height="{HEIGHT * len(plots)}" viewBox="0 0 {WIDTH} {HEIGHT * len(plots)}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', STYLE, *parts, "</svg>", ""])


def _plot(title: str, lines: Lines, across: str, up: str, top: int) -> str:
    points = [point for line in lines.values() for point in line]
    x = Axis((count for count, _ in points), LEFT, WIDTH - RIGHT)
    y = Axis((value for _, value in points), HEIGHT - BOTTOM, TOP)
    parts = [f'<g transform="translate(0 {top})">', _text(LEFT, 16, title, "title")]
    for tick in x.ticks():
        parts.append(_line(x.at(tick), y.begin, x.at(tick), y.end))
        parts.append(_text(x.at(tick), y.begin + 16, f"{tick:,.0f}", anchor="middle"))
    for tick in y.ticks():
        parts.append(_line(x.begin, y.at(tick), x.end, y.at(tick)))
        parts.append(_text(x.begin - 6, y.at(tick) + 4, f"{tick:,g}", anchor="end"))
    parts.append(_text((x.begin + x.end) / 2, HEIGHT - 8, across, anchor="middle"))
    parts.append(_text(6, TOP - 6, up))
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x.at(count):.1f},{y.at(value):.1f}" for count, value in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x.at(c):.1f}" cy="{y.at(v):.1f}" r="3" fill="{colour}"/>' for c, v in line]
        height = TOP + 10 + number * 18
        parts.append(f'<circle cx="{WIDTH - RIGHT + 14}" cy="{height - 4}" r="4" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 24, height, name.removesuffix(", in kustomize")))
    return "\n".join([*parts, "</g>"])


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    shown = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>'
