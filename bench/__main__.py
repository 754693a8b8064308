"""Measure everything and write docs/benchmarks.md and docs/scale.md: `make bench`.

    python -m bench FOLDER [PART...]

FOLDER: the virtual environment that krm-sops was installed into with pip; an editable start is slower.  PART: only
these.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import images, pages, peers, plot, scale, start


def main(environment: str, *parts: str) -> None:
    programs = Path(environment).resolve() / "bin"
    wanted = parts or ("start", *peers.PARTS, "scale", "sidecar")
    go = os.environ.get("GOBIN") or os.path.join(os.path.expanduser("~"), "go", "bin")
    path = os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath), go))
    if "start" in wanted:
        start.main(str(programs / "krm-sops"), str(programs / "python"))
    with tempfile.TemporaryDirectory(prefix="krm-sops-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the users that containers have
        argv = [sys.executable, "-m", "bench.documents", name]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as documents:
            assert documents.stdin
            assert documents.stdout
            env = json.loads(documents.stdout.readline())
            bench = peers.Bench(folder, env | {"PATH": path, "KPT_FN_RUNTIME": "podman", "KRM_FN_RUNTIME": "podman"})
            begin = time.strftime("%Y-%m-%d")
            peers.main(bench, [part for part in peers.PARTS if part in wanted])
            if "scale" in wanted:
                scale.one_list(bench)
            if "sidecar" in wanted:
                scale.sidecar(bench)
            documents.stdin.close()
    if set(peers.PARTS) <= set(wanted):
        summary(bench, begin)


def summary(bench: peers.Bench, date: str) -> None:
    """What only a whole run can say."""
    rows = [[name, f"{size / 1e6:.0f}"] for name, size in images.sizes().items()]
    pages.fill("benchmarks.md", "images", pages.table("image | >MB", rows) if rows else "None.")
    behind = "\n".join(f"- {line}" for line in bench.behind) or "None."
    pages.fill("benchmarks.md", "behind", behind)
    skipped = f" Skipped, as it was not there: {', '.join(bench.skipped)}." if bench.skipped else ""
    load = " ".join(f"{number:.1f}" for number in os.getloadavg())
    pages.fill("benchmarks.md", "machine", f"{date}, {os.cpu_count()} cores, load at the end {load}.{skipped}")
    drawing = plot.svg(bench.plots, "encrypted resources", "seconds")
    (pages.DOCS / "benchmarks.svg").write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
