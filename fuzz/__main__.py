"""`python -m fuzz [TARGET...] [--seconds N]`: fuzz these parts, or all, for so long each. Needs atheris.

What was found to reach something new stays in .fuzz/TARGET, and is where the next run goes on; an input that breaks the
law is written to .fuzz/TARGET.crash-….
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".fuzz"
SECONDS_AN_INPUT = 10
MEBIBYTES = 1024
LARGEST = 1 << 14


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    given = parser.parse_args()
    if len(given.targets) == 1:
        return fuzz(given.targets[0], given.seconds)
    from fuzz.targets import TARGETS

    failed = []
    for target in given.targets or TARGETS:
        print(f"== {target}", flush=True)
        command = [sys.executable, "-m", "fuzz", target, "--seconds", str(given.seconds)]
        failed += [target] * bool(subprocess.run(command, check=False).returncode)  # libFuzzer ends its process
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


def fuzz(name: str, seconds: int) -> int:
    import atheris

    with atheris.instrument_imports(include=["krm_sops"]):
        import krm_sops

        for module in pkgutil.walk_packages(krm_sops.__path__, "krm_sops."):
            if not module.name.endswith("__main__"):
                __import__(module.name)
    from fuzz.seeds import seeds, tokens
    from fuzz.targets import TARGETS

    if name not in TARGETS:
        print(f"there is no target {name}; targets: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    corpus, words = FOLDER / name, FOLDER / f"{name}.words"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds(name):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words.write_text("".join('"' + "".join(rf"\x{byte:02x}" for byte in token) + '"\n' for token in tokens(name)))
    options = {
        **({"dict": words} if words.stat().st_size else {}),
        "max_total_time": seconds,
        "timeout": SECONDS_AN_INPUT,
        "rss_limit_mb": MEBIBYTES,
        "max_len": LARGEST,
        "artifact_prefix": f"{FOLDER}/{name}.",
        "print_final_stats": 1,
    }
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    kept = Path(__file__).resolve().parents[1] / "tests/vectors/fuzz" / name
    folders = [str(path) for path in (corpus, kept) if path.is_dir()]
    arguments = [sys.argv[0], *(f"-{option}={value}" for option, value in options.items()), *folders]
    atheris.Setup(arguments, TARGETS[name])
    started = time.monotonic()
    atheris.Fuzz()
    print(f"{name}: {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
