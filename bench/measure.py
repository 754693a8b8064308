"""Start programs and see what they take: wall time, CPU time, memory.

This process stays small on purpose: Linux counts the memory of a parent towards its child.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Sample:
    """seconds: until the end.  cpu: seconds of all processors.  memory: bytes, of the largest process."""

    def __init__(self, seconds: float, cpu: float, memory: int) -> None:
        self.seconds = seconds
        self.cpu = cpu
        self.memory = memory


class Program:
    """A command line, its program with a path. reads: the file on its stdin.  env: all of its environment."""

    def __init__(
        self, argv: list[str], env: Mapping[str, str] = os.environ, reads: str = os.devnull, folder: str = "."
    ) -> None:
        self.argv = argv
        self.env = env
        self.reads = reads
        self.folder = folder

    def run(self, writes: str = os.devnull) -> Sample:
        """Ends everything where the program fails: a fast failure is no result."""
        former = os.getcwd()
        with tempfile.TemporaryFile() as told:
            streams = [
                (os.POSIX_SPAWN_OPEN, 0, os.path.join(former, self.reads), os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.path.join(former, writes), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, told.fileno(), 2),
            ]
            os.chdir(self.folder)
            begin = time.perf_counter()
            child = os.posix_spawn(self.argv[0], self.argv, self.env, file_actions=streams)
            _, status, usage = os.wait4(child, 0)
            elapsed = time.perf_counter() - begin
            os.chdir(former)
            if status:
                told.seek(0)
                words = told.read(2000).decode(errors="replace")
                code = os.waitstatus_to_exitcode(status)
                sys.exit(f"{' '.join(self.argv)[:300]} <{self.reads}: exit status {code}\n{words}")
        unit = 1 if sys.platform == "darwin" else 1024
        return Sample(elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


class Runs:
    """What one program took, round by round."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []

    @property
    def seconds(self) -> float:
        """The shortest: whatever else a machine does only adds."""
        return min(sample.seconds for sample in self.samples)

    @property
    def cpu(self) -> float:
        return min(sample.cpu for sample in self.samples)

    @property
    def memory(self) -> int:
        return max(sample.memory for sample in self.samples)

    def ratio(self, base: Runs) -> float:
        """The median over the rounds of how many times as long as `base` it took."""
        pairs = zip(self.samples, base.samples, strict=True)
        return median([mine.seconds / its.seconds for mine, its in pairs])


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def in_rounds(programs: Mapping[str, Program], seconds: float, most: int = 15) -> dict[str, Runs]:
    """Each program once in every round, in turn, so that a busy machine slows all of them.

    seconds: after which no round begins.  most: rounds.
    """
    runs = {name: Runs() for name in programs}
    end = time.perf_counter() + seconds
    for number in range(most):
        if number and time.perf_counter() > end:
            break
        for name, program in programs.items():
            runs[name].samples.append(program.run())
    return runs
