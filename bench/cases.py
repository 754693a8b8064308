"""What is measured against an empty interpreter, and what it may cost."""

from __future__ import annotations

import filecmp
import sys

VALUES = 5  # in each Secret
PLAINTEXT = "bench-plaintext-"  # begins each of them


class Case:
    def __init__(self, items: int, secrets: int, ratio: float, megabytes: int) -> None:
        """ratio: to an empty interpreter, at most.  megabytes: of resident memory, at most."""
        self.items = items
        self.secrets = secrets
        self.ratio = ratio
        self.megabytes = megabytes

    def __str__(self) -> str:
        return f"{self.items}-{self.secrets}"


CASES = (
    Case(100, 0, 1.25, 40),
    Case(10, 1, 2.2, 40),
    Case(100, 1, 2.4, 40),
    Case(100, 10, 2.8, 40),
    Case(1000, 10, 3.7, 40),
    Case(1000, 100, 7.7, 40),
    Case(1000, 1000, 45, 60),
)


def verify(secrets: int, stream: str, output: str) -> None:
    """A fast wrong answer is no result: all values are there in the clear, or nothing was touched."""
    right = opened(output) == secrets * VALUES if secrets else filecmp.cmp(stream, output, shallow=False)
    if not right:
        sys.exit(f"{stream}, with {secrets} Secrets: wrong output")


def opened(output: str) -> int:
    """How many values stand there in the clear; -1 if anything is still encrypted."""
    found = 0
    with open(output, encoding="utf-8") as lines:
        for line in lines:
            if "ENC[" in line or "sops:" in line:
                return -1
            found += line.count(PLAINTEXT)
    return found
