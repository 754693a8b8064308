"""`python -m fuzz.peers [FORMAT...] [--files N]`: what fuzzing found of files, before the real sops.

What sops encrypts and opens again, krm-sops encrypts too, and each opens the other's file to the same bytes; what
krm-sops encrypts, sops does. A file that sops encrypts and cannot open itself may be refused (docs/adr/0011), like JSON
that ends too early (docs/sops-differences.md).
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys

from fuzz.__main__ import FOLDER
from fuzz.targets import KEY, NOW, Alone
from krm_sops.credentials import Credentials
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.encryption import encrypted_file
from krm_sops.errors import KrmSopsError
from krm_sops.keys.age import AgeKey
from krm_sops.limits import SOPS_VERBS
from krm_sops.metadata import VERSION, Metadata
from krm_sops.selection import Selection
from krm_sops.stores import STORES
from krm_sops.tree import Branch
from tests.security import made

LARGEST = 4096


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.peers", description=__doc__)
    parser.add_argument("formats", nargs="*", metavar="FORMAT")
    parser.add_argument("--files", type=int, default=200, help="of each format at most (200)")
    given = parser.parse_args()
    if not shutil.which("sops"):
        print("there is no sops on PATH", file=sys.stderr)
        return 2
    wrong = 0
    for name in given.formats or list(STORES):
        files = [path for path in FOLDER.glob(f"store-{name}/*") if path.stat().st_size <= LARGEST]
        chosen = random.sample(sorted(files), min(given.files, len(files)))
        for path in chosen:
            difference = compared(name, path.read_bytes())
            if difference:
                wrong += 1
                print(f"{path}: {difference}")
        print(f"{name}: {len(chosen)} files")
    return bool(wrong)


def compared(name: str, raw: bytes) -> str:
    """How the two differ; "" where they do not."""
    theirs = sops("encrypt", name, raw, "--age", made.RECIPIENT)
    plain = None if theirs is None else sops("decrypt", name, theirs)
    ours = encrypted(name, raw)
    if ours is None:
        return "" if plain is None else "refused, but sops encrypts and opens it"
    if theirs is None:
        return "encrypted, but sops refuses it"
    if decrypted(name, theirs) != plain:
        return "the file of sops is opened to something else"
    return "" if sops("decrypt", name, ours) == plain else "sops opens the file to something else"


def sops(verb: str, name: str, raw: bytes, *arguments: str) -> bytes | None:
    command = [shutil.which("sops") or "", verb, "--input-type", name, "--output-type", name, *arguments, "/dev/stdin"]
    done = subprocess.run(command, input=raw, capture_output=True, check=False, env=ENVIRONMENT, cwd="/")
    return None if done.returncode else done.stdout


def encrypted(name: str, raw: bytes) -> bytes | None:
    key = AgeKey.from_fields({"recipient": made.RECIPIENT, "enc": made.WRAPPED})
    metadata = Metadata(
        lastmodified="",
        mac="",
        version=VERSION,
        key_groups=[[key]],
        threshold=0,
        mac_only_encrypted=False,
        selection=Selection("unencrypted_suffix", "_unencrypted"),
    )
    try:
        return encrypted_file(STORES[name].read_plain(raw), metadata, KEY, STORES[name], now=NOW)
    except KrmSopsError:
        return None


def decrypted(name: str, raw: bytes) -> bytes | None:
    try:
        branches, block = STORES[name].read(raw)
        metadata = Metadata.from_branch(block or Branch(), SOPS_VERBS.key_entries)
        plain, _ = EncryptedDocument(branches, metadata).decrypt(recover(metadata, Credentials(Alone())))
        return STORES[name].write_plain(plain)
    except KrmSopsError:
        return None


ENVIRONMENT = {"PATH": "/bin", "HOME": "/nonexistent", "SOPS_AGE_KEY": made.IDENTITY}

if __name__ == "__main__":
    sys.exit(main())
