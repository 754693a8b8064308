"""How it grows: one list of up to 100,000 items, and many applications in a sidecar of Argo CD."""

from __future__ import annotations

from math import ceil

from bench import pages, start
from bench.measure import in_rounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.peers import Bench

SIZES = (1000, 5000, 10_000, 20_000, 50_000, 100_000)
LIST = ">items | >encrypted | >input MB | >s | >µs an item | >MB | >MB of memory for 1 MB of input"
SIDECAR = "application | >`explain --list .` ms | >`render .` ms | >CPU ms of both | >applications a second and core"
APPLICATIONS = 1000
WITHIN = 180
"""Seconds until every application is to be rendered again: how often Argo CD looks."""


def one_list(bench: Bench) -> None:
    stream = bench.folder / "list.yaml"
    rows = []
    for items in SIZES:
        secrets = items // 100
        start.generated(items, secrets, str(stream))
        size = stream.stat().st_size
        program = bench.program("krm-sops", "--limit", f"input_bytes={size}", reads=stream)
        assert program
        took = in_rounds({"": program}, 10, most=5)[""]
        rows.append([f"{items:,}", f"{secrets:,}", pages.megabytes(size), f"{took.seconds:.2f}"])
        rows[-1] += [f"{took.seconds / items * 1e6:.1f}", pages.megabytes(took.memory), f"{took.memory / size:.1f}"]
    stream.unlink()
    pages.fill("scale.md", "list", pages.table(LIST, rows))


def sidecar(bench: Bench) -> None:
    rows = []
    slowest = 0.0
    for case, folder in (
        ("10 files, 1 encrypted", "age-10-1/package"),
        ("a kustomization of 10 resources, 1 encrypted", "age-10-1/resources"),
        ("a kustomization of 100 resources, 10 encrypted", "age-100-10/resources"),
    ):
        discover = bench.program("krm-sops", "explain", "--list", ".", folder=folder)
        render = bench.program("krm-sops", "render", ".", folder=folder, needs="kustomize")
        if not discover or not render:
            continue
        runs = in_rounds({"discover": discover, "render": render}, 10, most=25)
        cpu = runs["discover"].cpu + runs["render"].cpu
        slowest = max(slowest, cpu)
        rows.append([case, *(pages.milliseconds(runs[name].seconds) for name in ("discover", "render"))])
        rows[-1] += [pages.milliseconds(cpu), f"{1 / cpu:.1f}"]
    cores = APPLICATIONS * slowest / WITHIN
    text = (
        f"{APPLICATIONS:,} applications of the largest kind, all rendered again within {WITHIN} s: "
        f"{APPLICATIONS:,} × {slowest:.2f} s ÷ {WITHIN} s = {cores:.1f} cores, "
        f"{ceil(cores / 2)} replica{'s' * (cores > 2)} of the repo-server whose sidecars have 2 cores each."
    )
    pages.fill("scale.md", "sidecar", f"{pages.table(SIDECAR, rows)}\n\n{text}")
