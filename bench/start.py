"""The function against an empty interpreter: what a start costs, and each item."""

from __future__ import annotations

import os
import sys
import tempfile

from bench import cases, pages
from bench.measure import Program, in_rounds

HEAD = ">items | >Secrets | >ms | >ratio to B | limit | >CPU ms | >MB | limit"


def generated(items: int, secrets: int, stream: str) -> None:
    Program([sys.executable, "-m", "bench.generate", str(items), str(secrets)]).run(stream)


def limit(most: float, seen: float) -> str:
    return f"**{most} exceeded**" if seen > most else str(most)


def main(program: str, python: str) -> None:
    empty = [os.path.realpath(python), "-I", "-S", "-c", "pass"]
    programs = {"B": Program(empty)}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases.CASES:
            stream = os.path.join(folder, f"{case}.yaml")
            generated(case.items, case.secrets, stream)
            programs[str(case)] = Program([program], reads=stream)
            programs[str(case)].run(stream + ".out")
            cases.verify(case.secrets, stream, stream + ".out")
        runs = in_rounds(programs, 45, most=25)
    rows = []
    for case in cases.CASES:
        took = runs[str(case)]
        ratio = took.ratio(runs["B"])
        rows.append([f"{case.items:,}", f"{case.secrets:,}", pages.milliseconds(took.seconds), f"{ratio:.2f}"])
        rows[-1] += [limit(case.ratio, ratio), pages.milliseconds(took.cpu), pages.megabytes(took.memory)]
        rows[-1] += [limit(case.megabytes, took.memory / 1e6)]
    base = pages.milliseconds(runs["B"].seconds)
    text = f"B = {base} ms, `python -I -S -c pass` of Python {sys.version_info[0]}.{sys.version_info[1]}."
    pages.fill("benchmarks.md", "start", f"{text}\n\n{pages.table(HEAD, rows)}")
