"""What is measured, and what it may cost."""

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


CASES = (Case(100, 0, 1.5, 40), Case(10, 1, 3, 40), Case(1000, 10, 4.5, 40), Case(1000, 100, 9, 40))


def verify(secrets: int, stream: str, output: str) -> None:
    """A fast wrong answer is no result: all values are there in the clear, or nothing was touched."""
    if not secrets:
        right = filecmp.cmp(stream, output, shallow=False)
    else:
        with open(output, encoding="ascii") as lines:
            text = [line for line in lines if PLAINTEXT in line or "ENC[" in line or "sops:" in line]
        right = len(text) == secrets * VALUES and all(PLAINTEXT in line for line in text)
    if not right:
        sys.exit(f"{stream}, with {secrets} Secrets: wrong output")
