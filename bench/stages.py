"""Time a StageSet against a plain decrypt of the same items, and print a table.

python -m bench.stages PROGRAM [ROUNDS]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import cases, generate

ITEMS, SECRETS, STAGES = 5000, 500, 50
_NAMESPACE = "bench"
_STAGE_SET = f"""\
functionConfig:
  apiVersion: stages.metio.wtf/v1
  kind: StageSet
  metadata:
    name: bench
    namespace: {_NAMESPACE}
    annotations:
      krm-sops.dev/emit: %s
  spec:
    decryption:
      provider: sops
      secretRef:
        name: sops-keys
    stages:
"""
_KEY = f"""\
- apiVersion: v1
  kind: Secret
  metadata:
    name: sops-keys
    namespace: {_NAMESPACE}
  stringData:
    bench.agekey: %s
"""


def streams() -> dict[str, str]:
    """The plain decrypt, and the same items in stages for each engine."""
    plain = generate.for_age(ITEMS, SECRETS)
    found = {"decrypt": plain}
    items, _, config = plain.partition("functionConfig:\n")
    identity = re.findall(r"AGE-SECRET-KEY-\w+", config)[0]
    items = re.sub(r"team-\d/service-(\d+)", lambda seen: f"stage-{int(seen[1]) * STAGES // ITEMS}/{seen[1]}", items)
    names = "".join(
        f"    - name: stage-{number}\n      sourceRef:\n        name: stage-{number}\n" for number in range(STAGES)
    )
    for emit in ("argocd", "kpt"):
        found[f"StageSet, {emit}"] = items + _KEY % identity + _STAGE_SET % emit + names
    return found


def main(program: str, rounds: str = "7") -> None:
    print(f"{ITEMS} items, {SECRETS} of them encrypted, in {STAGES} stages; {rounds} rounds")
    print("| function | ms | ratio |")
    print("| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        times: dict[str, list[float]] = {}
        for name, text in streams().items():
            stream = os.path.join(folder, name)
            Path(stream).write_text(text, encoding="ascii")
            for _ in range(int(rounds)):
                with open(stream, "rb") as source, open(stream + ".out", "wb") as target:
                    begin = time.perf_counter()
                    subprocess.run([program], stdin=source, stdout=target, check=True)
                    times.setdefault(name, []).append(time.perf_counter() - begin)
            cases.verify(SECRETS, stream, stream + ".out")
    medians = {name: sorted(seen)[len(seen) // 2] for name, seen in times.items()}
    for name, seconds in medians.items():
        print(f"| {name} | {seconds * 1e3:.0f} | {seconds / medians['decrypt']:.1f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
