"""Time the function against an empty interpreter and print a table.

    python -m bench PROGRAM PYTHON [ROUNDS]

PROGRAM: an installed krm-sops.  PYTHON: the interpreter it was installed for; B is what `PYTHON -I -S -c pass` takes.
Every round starts each command once, in turn, so that a busy machine slows all of them; a ratio is the median over
the rounds. This process stays small on purpose: Linux counts the memory of a parent towards its child.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

from bench import cases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def started(argv: list[str], source: str, target: str) -> tuple[float, int]:
    """Seconds until a successful end, and the largest resident memory in bytes."""
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, source, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    begin = time.perf_counter()
    child = os.posix_spawn(argv[0], argv, os.environ, file_actions=streams)
    _, status, usage = os.wait4(child, 0)
    elapsed = time.perf_counter() - begin
    if status:
        sys.exit(f"{' '.join(argv)} <{source}: exit status {os.waitstatus_to_exitcode(status)}")
    return elapsed, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def limit(most: float, seen: float) -> str:
    return f"{most} exceeded" if seen > most else str(most)


def main(program: str, python: str, rounds: str = "25") -> None:
    empty = [os.path.realpath(python), "-I", "-S", "-c", "pass"]
    with tempfile.TemporaryDirectory() as folder:
        streams = {}
        for case in cases.CASES:
            stream = streams[case] = os.path.join(folder, f"{case.items}-{case.secrets}.yaml")
            started([sys.executable, "-m", "bench.generate", str(case.items), str(case.secrets)], os.devnull, stream)
            started([program], stream, stream + ".out")
            cases.verify(case.secrets, stream, stream + ".out")
        base: list[float] = []
        times: dict[cases.Case, list[float]] = {case: [] for case in cases.CASES}
        memory = dict.fromkeys(cases.CASES, 0)
        for _ in range(int(rounds)):
            base.append(started(empty, os.devnull, os.devnull)[0])
            for case in cases.CASES:
                elapsed, resident = started([program], streams[case], os.devnull)
                times[case].append(elapsed)
                memory[case] = max(memory[case], resident)
    print(f"B = {median(base) * 1e3:.1f} ms, `{' '.join(empty)}`; {rounds} rounds")
    print("| items | Secrets | ms | ratio to B | limit | memory MB | limit |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for case in cases.CASES:
        ratio = median([one / alone for one, alone in zip(times[case], base, strict=True)])
        megabytes = memory[case] / 1e6
        print(
            f"| {case.items} | {case.secrets} | {median(times[case]) * 1e3:.1f}"
            f" | {ratio:.2f} | {limit(case.ratio, ratio)} | {megabytes:.1f} | {limit(case.megabytes, megabytes)} |"
        )


main(*sys.argv[1:])
