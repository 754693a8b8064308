"""What krm-sops encrypts the real sops decrypts, to what it makes of its own encryption; with sops' ciphertexts, the
files are sops' byte for byte.

Documents, rules and key groups are those of `generate`. KRM_SOPS_INTEROP_DOCUMENTS: how many (here a third of it,
default 250).  KRM_SOPS_INTEROP_SEED: the first seed.
"""

from __future__ import annotations

import random
import re
import secrets
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from krm_sops.cipher import DataKey
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.encryption import Carried, encrypt, encrypted_file, shares
from krm_sops.errors import KrmSopsError, StoreError
from krm_sops.keys.age import AgeKey
from krm_sops.metadata import VERSION, Metadata
from krm_sops.selection import Selection
from krm_sops.stores import STORES
from krm_sops.tree import Comment, leaves
from tests import agefile
from tests.interop.generate import DOCUMENTS, Profile, profile, yaml_document
from tests.interop.test_sops_documents import COUNT, PATH, SEED, SOPS, Case, World
from tests.trees import exact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from krm_sops.tree import Branch

BATCH = 25
BATCHES = max(1, COUNT // 3 // (len(DOCUMENTS) * BATCH))
NOW = "2026-06-30T12:00:00Z"
COMMENT = re.compile(rb"ENC\[AES256_GCM,[^\]]*,type:comment\]")

pytestmark = pytest.mark.skipif(SOPS is None, reason="sops is not installed")
counted: Counter[str] = Counter()
every_batch = pytest.mark.parametrize(("format_", "batch"), [(f, b) for f in DOCUMENTS for b in range(BATCHES)])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    if shutil.which("age-keygen", path=PATH) is None:
        pytest.skip("age-keygen is not installed")
    made = World(tmp_path_factory.mktemp("sops"))
    yield made
    made.close()
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\nencryption: {', '.join(f'{number} {what}' for what, number in sorted(counted.items()))}")


def cases(world: World, format_: str, batch: int) -> list[Case]:
    first = SEED + 100_000 + batch * BATCH
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda seed: Case(world, format_, seed), range(first, first + BATCH)))
    found = [case for case in made if case.encrypted is not None]
    assert len(found) > BATCH * 0.6, f"sops refused {BATCH - len(found)} of {BATCH} documents"
    return found


def selection(how: Profile, format_: str) -> Selection:
    if format_ == "binary":
        return Selection("", "")
    return Selection.from_fields({name: str(text) for name, text in how.rule.items() if name != "mac_only_encrypted"})


def new_metadata(world: World, how: Profile, format_: str) -> tuple[Metadata, DataKey]:
    """A data key of our own in age files. The first two keys are at hand, the third is not."""
    one, two, absent = world.recipients
    groups = {"two": [[absent, one]], "pair": [[one], [absent, two]], "two-of-three": [[absent], [two], [one]]}
    raw = secrets.token_bytes(32)
    chosen = groups.get(how.keys, [[one]])
    metadata = Metadata(
        lastmodified="",
        mac="",
        version=VERSION,
        key_groups=[[AgeKey(recipient, "") for recipient in group] for group in chosen],
        threshold=2 if how.keys == "two-of-three" else 0,
        mac_only_encrypted=bool(how.rule.get("mac_only_encrypted")) and format_ != "binary",
        selection=selection(how, format_),
    )
    for group, part in zip(metadata.key_groups, shares(raw, metadata), strict=True):
        for key in group:
            assert isinstance(key, AgeKey)
            key.enc = agefile.armor(agefile.make([agefile.for_recipient(key.recipient)], part)).decode()
    return metadata, DataKey(raw)


def values_and_comments(raw: bytes) -> tuple[list[object], Counter[str]]:
    """What a YAML file holds, in order, and its comments, wherever they stand."""
    found = [leaf for branch in STORES["yaml"].read_plain(raw) for leaf in leaves(branch)]
    comments = Counter(leaf.text for leaf in found if isinstance(leaf, Comment))
    return [exact(leaf) for leaf in found if not isinstance(leaf, Comment)], comments


@every_batch
def test_what_we_encrypt_sops_decrypts_to_what_it_makes_of_its_own(world: World, format_: str, batch: int) -> None:
    jobs = []
    found = cases(world, format_, batch)
    for case in found:
        plain = STORES[format_].read_plain(case.plain)
        metadata, data_key = new_metadata(world, case.profile, format_)
        try:
            jobs.append((case, encrypted_file(plain, metadata, data_key, STORES[format_], now=NOW)))
        except StoreError:
            # We refuse what could not be decrypted; then sops cannot decrypt its own file either.
            assert case.decrypt(world, case.encrypted or b"", format_) is None, case.label()
            counted[f"{format_} refused, where sops' file does not open"] += 1
    with ThreadPoolExecutor(2) as pool:
        ours = list(pool.map(lambda job: job[0].decrypt(world, job[1], format_), jobs))
        theirs = list(pool.map(lambda job: job[0].decrypt(world, job[0].encrypted or b"", format_), jobs))
    for (case, raw), mine, other in zip(jobs, ours, theirs, strict=True):
        assert mine is not None, f"sops does not decrypt ours: {case.label()}\n{raw.decode(errors='replace')}"
        if other is None:
            counted[f"{format_} that only ours opens"] += 1
            continue
        if mine == other:
            counted[format_] += 1
            continue
        assert COMMENT.search(other), f"{case.label()}\n{mine!r}\n{other!r}"
        if COMMENT.sub(b"", mine) == COMMENT.sub(b"", other):
            # One that would become clear where the reader finds it.
            counted[f"{format_} with comments that nobody can open"] += 1
            continue
        # Comments that sops could not decrypt in its own file are decrypted in ours, and may stand elsewhere.
        values, comments = values_and_comments(mine)
        assert not COMMENT.search(mine), case.label()
        their_values, their_comments = values_and_comments(other)
        assert values == their_values, f"{case.label()}\n{mine!r}\n{other!r}"
        assert comments <= values_and_comments(case.plain)[1], f"{case.label()}\n{mine!r}"
        assert comments.total() == their_comments.total(), f"{case.label()}\n{mine!r}\n{other!r}"
        counted[f"{format_} with comments that only ours keeps"] += 1


@every_batch
def test_with_the_ciphertexts_of_sops_the_files_are_those_of_sops(world: World, format_: str, batch: int) -> None:
    """From the plain file on: reading, choice, comments, layout, metadata."""
    for case in cases(world, format_, batch):
        raw = case.encrypted or b""
        try:
            branches, block = STORES[format_].read(raw)
            assert block is not None
            theirs = EncryptedDocument(branches, Metadata.from_branch(block, 100))
            data_key = recover(theirs.metadata, world.credentials)
            decrypted, _ = theirs.decrypt(data_key)
        except KrmSopsError:
            assert case.decrypt(world, raw, format_) is None, case.label()
            counted[f"{format_} that sops does not open either"] += 1
            continue
        if format_ == "binary":
            theirs.metadata.selection = Selection("", "")
        plain = STORES[format_].read_plain(case.plain)
        ours = encrypt(plain, theirs.metadata, data_key, now=NOW, carried=Carried(theirs, decrypted))
        metadata = ours.metadata.with_mac(theirs.metadata.mac, theirs.metadata.lastmodified)
        written = STORES[format_].write_encrypted(ours.branches, metadata.to_branch())
        if written != raw:
            # A comment that sops reads at another place than where it stood has no ciphertext to carry over.
            assert COMMENT.sub(b"", written) == COMMENT.sub(b"", raw), case.label()
            counted[f"{format_} byte for byte but for comments that moved"] += 1
            continue
        counted[f"{format_} byte for byte"] += 1


def converted(world: World, source: str, target: str, seed: int) -> tuple[str, bytes | None, bytes | None]:
    """A document of one format encrypted as another, by sops and by us, each decrypted by sops; None: refused."""
    r = random.Random(f"{source} to {target} {seed}")
    how = profile(r, pgp=False)
    plain = yaml_document(r, list_comments=True) if source == "yaml" else DOCUMENTS[source][1](r)
    path = world.folder / f"{source}-{target}-{seed}.{DOCUMENTS[source][0]}"
    encrypted = path.with_suffix(f".enc.{DOCUMENTS[target][0]}")
    path.write_bytes(plain)

    def opened(raw: bytes) -> bytes | None:
        encrypted.write_bytes(raw)
        done = world.sops("decrypt", "--output-type", "json" if target == "binary" else target, str(encrypted))
        return done.stdout if done.returncode == 0 else None

    label = f"{source} to {target} seed {seed}, {how.rule}:\n{plain!r}"
    done = world.sops("--config", str(world.config(how)), "encrypt", "--output-type", target, str(path))
    theirs = opened(done.stdout) if done.returncode == 0 else None
    if plain.count(b"---\n") and target != "yaml":
        theirs = None  # where it opens, documents were lost
    metadata, data_key = new_metadata(world, how, source)
    try:
        branches: list[Branch] = STORES[source].read_plain(plain)
        return label, theirs, opened(encrypted_file(branches, metadata, data_key, STORES[target], now=NOW))
    except KrmSopsError:
        return label, theirs, None


CONVERSIONS = [
    *(("yaml", "json"), ("yaml", "dotenv"), ("json", "yaml"), ("json", "dotenv"), ("dotenv", "yaml")),
    *(("dotenv", "json"), ("dotenv", "ini"), ("ini", "yaml"), ("ini", "json"), ("binary", "yaml"), ("binary", "json")),
]


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_across_formats_what_opens_is_the_same_and_what_would_not_is_refused(
    world: World, source: str, target: str
) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda n: converted(world, source, target, SEED + n), range(max(8, COUNT // 90))))
    for label, theirs, ours in found:
        if theirs is None:
            assert ours is None or b"type:str]" not in ours
            counted["across formats, refused"] += 1
        elif ours != theirs:
            assert ours is not None, label
            assert COMMENT.search(theirs), f"{label}\n{ours!r}\n{theirs!r}"
            counted["across formats, with comments that only ours keeps"] += 1
        else:
            counted["across formats"] += 1


def test_sops_keeps_our_ciphertexts_where_nothing_changed(world: World) -> None:
    """`sops set` on a file of ours renews one value and the MAC; we then keep what sops left."""
    how = Profile({}, "pair")
    metadata, data_key = new_metadata(world, how, "yaml")
    plain = STORES["yaml"].read_plain(b"# c\na: x\nb:\n    - x\n    - y\nc: old\n")
    raw = encrypted_file(plain, metadata, data_key, STORES["yaml"], now=NOW)
    path = world.folder / "kept.yaml"
    path.write_bytes(raw)
    done = world.sops("set", str(path), '["c"]', '"new"')
    assert done.returncode == 0, done.stderr
    lines = path.read_bytes().split(b"\n")
    changed = [line for line in lines if line not in raw.split(b"\n")]
    assert [line.partition(b":")[0].strip() for line in changed] == [b"c", b"lastmodified", b"mac"]
    branches, block = STORES["yaml"].read(path.read_bytes())
    assert block is not None
    theirs = EncryptedDocument(branches, Metadata.from_branch(block, 100))
    decrypted, _ = theirs.decrypt(data_key)
    again = encrypted_file(
        decrypted, theirs.metadata, data_key, STORES["yaml"], now=NOW, carried=Carried(theirs, decrypted)
    )
    assert again == path.read_bytes()


@pytest.mark.parametrize("indent", [2, 3, 7])
@pytest.mark.parametrize("format_", ["yaml", "json"])
def test_the_indentation_is_that_of_sops(world: World, format_: str, indent: int) -> None:
    path = world.folder / f"indent.{format_}"
    path.write_bytes(b'{"a": {"b": ["x", {"c": 1}]}}' if format_ == "json" else b"a:\n  b:\n  - x\n  - c: 1\n")
    config = str(world.config(Profile({}, "age")))
    done = world.sops("--config", config, "--indent", str(indent), "encrypt", str(path))
    assert done.returncode == 0, done.stderr
    branches, block = STORES[format_].read(done.stdout)
    assert block is not None
    metadata = Metadata.from_branch(block, 100)
    assert STORES[format_].write_encrypted(branches, metadata.to_branch(), indent) == done.stdout
