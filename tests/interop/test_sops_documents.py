"""The real sops encrypts, sops and krm-sops decrypt: the same bytes, or both refuse.

KRM_SOPS_INTEROP_DOCUMENTS: how many documents (default 750), spread over formats, rules and key groups.
KRM_SOPS_INTEROP_SEED: the first seed (default 1); the seed of a document that fails is in the message.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

import pytest

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import IntegrityError, KrmSopsError
from krm_sops.host import Host
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES
from tests.interop.generate import DOCUMENTS, RULES, Profile, profile, yaml_document

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = os.pathsep.join((os.environ.get("PATH", ""), str(Path.home() / "go/bin")))
SOPS = shutil.which("sops", path=PATH)
GPG = shutil.which("gpg")
COUNT = int(os.environ.get("KRM_SOPS_INTEROP_DOCUMENTS", "750"))
SEED = int(os.environ.get("KRM_SOPS_INTEROP_SEED", "1"))
BATCH = 25
BATCHES = -(-COUNT // (len(DOCUMENTS) * BATCH))
ENC = re.compile(rb"ENC\[AES256_GCM,[^\]]*,type:(?!comment)\w+\]")

pytestmark = pytest.mark.skipif(SOPS is None, reason="sops is not installed")
counted: Counter[str] = Counter()


class World:
    """A folder with keys and configurations, and the environment in which sops runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"PATH": PATH, "HOME": str(folder), "SOPS_AGE_KEY_FILE": str(folder / "keys.txt")}
        version = self.sops("--version", "--disable-version-check").stdout.decode()
        numbers = [int(n) for n in re.findall(r"\d+", version)[:3]]
        self.list_comments = numbers >= [3, 13, 3] or numbers < [3, 13, 2]
        recipients, identities = age_keys()
        self.recipients = recipients
        (folder / "keys.txt").write_text("".join(f"{identity}\n" for identity in identities[:2]))
        entries = [KeyEntry("age", "keys.agekey", (folder / "keys.txt").read_bytes(), "test")]
        self.fingerprint = ""
        if GPG:
            self.env["GNUPGHOME"] = str(folder / "gnupg")
            self.fingerprint, secret = self.pgp_key()
            entries.append(KeyEntry("pgp", "key.asc", secret, "test"))
        self.credentials = Credentials(Host(env={}, files={}), entries, "never")

    def pgp_key(self) -> tuple[str, bytes]:
        (self.folder / "gnupg").mkdir(mode=0o700)

        def gpg(*arguments: str) -> bytes:
            command = [GPG or "", "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback", *arguments]
            return subprocess.run(command, env=self.env, capture_output=True, check=True, timeout=60).stdout

        gpg("--quick-generate-key", "interop <interop@example.invalid>", "future-default", "default", "never")
        listing = gpg("--list-keys", "--with-colons").decode()
        fingerprint = re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[0]
        return fingerprint, gpg("--armor", "--export-secret-keys")

    def close(self) -> None:
        if GPG:
            subprocess.run(["gpgconf", "--kill", "all"], env=self.env, check=False, timeout=30)

    def sops(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([SOPS or "", *arguments], env=self.env, capture_output=True, check=False, timeout=60)

    def config(self, how: Profile) -> Path:
        """The creation rule of a profile as a file. Key 0 and 1 are at hand, key 2 is not."""
        keys = self.recipients
        pgp = self.fingerprint
        groups: dict[str, list[dict[str, list[str]]]] = {
            "age": [{"age": [keys[0]]}],
            "two": [{"age": [keys[2], keys[0]]}],
            "pgp": [{"pgp": [pgp]}],
            "age-and-pgp": [{"pgp": [pgp], "age": [keys[2]]}],
            "pair": [{"age": [keys[0]]}, {"age": [keys[2], keys[1]]}],
            "two-of-three": [{"age": [keys[2]]}, {"age": [keys[1]]}, {"age": [keys[0]]}],
            "pair-with-pgp": [{"pgp": [pgp]}, {"age": [keys[0]]}],
        }
        rule: dict[str, object] = {**how.rule, "key_groups": groups[how.keys]}
        if how.keys == "two-of-three":
            rule["shamir_threshold"] = 2
        text = json.dumps({"creation_rules": [rule]})
        path = self.folder / f"{abs(hash(text))}.sops.yaml"
        if not path.exists():
            whole = path.with_suffix(f".{get_ident()}")  # another sops may be reading the file of this name
            whole.write_text(text)
            whole.replace(path)
        return path

    def ours(self, raw: bytes, format_: str, output: str) -> bytes:
        branches, found = STORES[format_].read(raw)
        if found is None:
            raise KrmSopsError("no metadata")
        metadata = Metadata.from_branch(found, 100)
        plain, _ = EncryptedDocument(branches, metadata).decrypt(recover(metadata, self.credentials))
        return STORES[output].write_plain(plain)


def age_keys() -> tuple[list[str], list[str]]:
    """Three throw-away pairs."""
    recipients, identities = [], []
    for _ in range(3):
        made = subprocess.run(
            ["age-keygen"], env={"PATH": PATH}, capture_output=True, check=True, timeout=30
        ).stdout.decode()
        recipients.append(re.findall(r"age1\w+", made)[0])
        identities.append(re.findall(r"AGE-SECRET-KEY-1\w+", made)[0])
    return recipients, identities


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    if shutil.which("age-keygen", path=PATH) is None:
        pytest.skip("age-keygen is not installed")
    made = World(tmp_path_factory.mktemp("sops"))
    yield made
    made.close()
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\nsops: {', '.join(f'{number} {what}' for what, number in sorted(counted.items()))}")


class Case:
    """One document, encrypted by sops. encrypted: None where sops refused it."""

    def __init__(self, world: World, format_: str, seed: int) -> None:
        r = random.Random(f"{format_} {seed}")
        suffix, make = DOCUMENTS[format_]
        self.format = format_
        self.seed = seed
        self.random = r
        self.profile = profile(r, bool(GPG))
        self.plain = yaml_document(r, world.list_comments) if format_ == "yaml" else make(r)
        self.path = world.folder / f"{format_}-{seed}.{suffix}"
        self.path.write_bytes(self.plain)
        done = world.sops("--config", str(world.config(self.profile)), "encrypt", str(self.path))
        self.encrypted = done.stdout if done.returncode == 0 else None

    def decrypt(self, world: World, raw: bytes, output: str) -> bytes | None:
        """What sops makes of this document; None where it refuses."""
        path = self.path.with_suffix(f".enc{self.path.suffix}")
        path.write_bytes(raw)
        done = world.sops("decrypt", "--output-type", output, str(path))
        return done.stdout if done.returncode == 0 else None

    def label(self) -> str:
        return f"{self.format} seed {self.seed}, {self.profile.rule}, {self.profile.keys}:\n{self.plain!r}"


def cases(world: World, format_: str, batch: int) -> list[Case]:
    seeds = range(SEED + batch * BATCH, SEED + (batch + 1) * BATCH)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda seed: Case(world, format_, seed), seeds))
    found = [case for case in made if case.encrypted is not None]
    # A generator that sops mostly refuses tests nothing.
    assert len(found) > BATCH * 0.6, f"sops refused {BATCH - len(found)} of {BATCH} documents"
    return found


def outcome(world: World, raw: bytes, format_: str, output: str) -> bytes | KrmSopsError:
    try:
        return world.ours(raw, format_, output)
    except KrmSopsError as error:
        return error


OUTPUTS = {
    "yaml": ("yaml", "yaml", "yaml", "json"),
    "json": ("json", "json", "json", "yaml"),
    "dotenv": ("dotenv", "dotenv", "json", "yaml"),
    "ini": ("ini", "ini", "json", "yaml"),
    "binary": ("binary", "binary", "json"),
}

every_batch = pytest.mark.parametrize(("format_", "batch"), [(f, b) for f in DOCUMENTS for b in range(BATCHES)])


def without_indicators(raw: bytes) -> bytes:
    """The indentation indicator of a block scalar is ours to choose: sops writes one that is too large below a list."""
    return re.sub(rb"([|>])[1-9]", rb"\1", raw)


@every_batch
def test_what_sops_encrypts_is_decrypted_to_the_same_bytes(world: World, format_: str, batch: int) -> None:
    found = cases(world, format_, batch)
    outputs = [case.random.choice(OUTPUTS[format_]) for case in found]
    with ThreadPoolExecutor(2) as pool:
        expected = list(
            pool.map(lambda case, output: case.decrypt(world, case.encrypted or b"", output), found, outputs)
        )
    for case, output, theirs in zip(found, outputs, expected, strict=True):
        mine = outcome(world, case.encrypted or b"", format_, output)
        if theirs is None:
            # sops cannot read or print some of what it wrote; where we can, that is no fault.
            counted[f"{format_} that sops cannot print as {output}"] += 1
            continue
        assert not isinstance(mine, KrmSopsError), f"{mine}; {case.label()}"
        assert without_indicators(mine) == without_indicators(theirs), f"to {output}: {case.label()}"
        counted[format_] += 1


def swap_two_values(raw: bytes, r: random.Random) -> bytes | None:
    found = list(ENC.finditer(raw))[:-1]
    if len(found) < 2:
        return None
    a, b = sorted(r.sample(found, 2), key=re.Match.start)
    return raw[: a.start()] + b[0] + raw[a.end() : b.start()] + a[0] + raw[b.end() :]


def flip_one_character(raw: bytes, r: random.Random) -> bytes | None:
    found = r.choice(list(ENC.finditer(raw)))
    at = (
        r.choice([m.end() for field in (b"data:", b"iv:", b"tag:") for m in re.finditer(field, found[0])])
        + found.start()
    )
    return raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :]


def empty_one_value(raw: bytes, r: random.Random) -> bytes | None:
    found = r.choice(list(ENC.finditer(raw)))
    return raw[: found.start()] + raw[found.end() :]


def change_one_type(raw: bytes, r: random.Random) -> bytes | None:
    """A text taken for another type is refused, or hashes to something else."""
    found = [m for m in ENC.finditer(raw) if m[0].endswith(b",type:str]")]
    m = r.choice(found)
    return raw[: m.end() - 4] + r.choice((b"int", b"bool", b"time", b"float", b"x")) + raw[m.end() - 1 :]


def change_when(raw: bytes, r: random.Random) -> bytes | None:
    found = re.search(rb"lastmodified[^0-9]*(\d)", raw)
    assert found
    return raw[: found.start(1)] + b"1" + raw[found.end(1) :]


def drop_one_line(raw: bytes, r: random.Random) -> bytes | None:
    lines = raw.split(b"\n")
    found = [n for n, line in enumerate(lines) if ENC.search(line) and b"mac" not in line]
    if not found or not raw.strip().startswith(b"{"):
        at = r.choice(found) if found else -1
        return b"\n".join(lines[:at] + lines[at + 1 :]) if found else None
    return None


TAMPERINGS = (swap_two_values, flip_one_character, empty_one_value, change_one_type, change_when, drop_one_line)


@every_batch
def test_what_was_tampered_with_is_refused_by_both(world: World, format_: str, batch: int) -> None:
    jobs = []
    for case in cases(world, format_, batch):
        how = case.random.choice(TAMPERINGS)
        raw = how(case.encrypted or b"", case.random)
        if raw is not None and raw != case.encrypted:
            jobs.append((case, how.__name__, raw))
    with ThreadPoolExecutor(2) as pool:
        expected = list(pool.map(lambda job: job[0].decrypt(world, job[2], format_), jobs))
    for (case, how, raw), theirs in zip(jobs, expected, strict=True):
        mine = outcome(world, raw, format_, format_)
        what = f"{how}: {case.label()}\n{raw.decode(errors='replace')}"
        if theirs is None:
            assert isinstance(mine, KrmSopsError), what
            counted[f"{format_} refused"] += 1
        else:
            # What carries no information for the MAC: equal values swapped, an empty text, a comment, a line break.
            assert isinstance(mine, IntegrityError) or mine == theirs, what
            counted[f"{format_} tampered to no effect"] += 1


def test_every_rule_and_format_was_met() -> None:
    """The generator reaches each rule for each format within the documents of one run."""
    for format_ in DOCUMENTS:
        met = {str(sorted(profile(random.Random(f"{format_} {SEED + n}"), True).rule)) for n in range(BATCHES * BATCH)}
        rules = {str(sorted(rule)) for rule in RULES}
        assert rules <= met
