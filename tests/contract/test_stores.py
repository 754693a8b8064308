"""What holds for every store. A format is tested by being registered, and by its line in these two tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import InputError, LimitError, StoreError
from krm_sops.metadata import Metadata
from krm_sops.selection import Selection
from krm_sops.stores import STORES, format_for_path
from krm_sops.tree import Branch
from tests.unit.store_vectors import FOLDER

PLAIN = {
    "yaml": b"# c\na: 1\nb:\n    - x\n    - z: null\n",
    "json": b'{\n\t"a": 1,\n\t"b": [\n\t\t"x",\n\t\t{\n\t\t\t"y": null\n\t\t}\n\t]\n}\n',
    "dotenv": b"# c\na=1\nb=x\\ny\n",
    "ini": b"a = 1\n\n; c\n[s]\nb = x\n",
    "binary": b'{"data": "x"}',
}
SUFFIX = {"yaml": "yaml", "json": "json", "dotenv": "env", "ini": "ini", "binary": "bin"}

every_store = pytest.mark.parametrize("name", list(STORES))


def encrypted(name: str) -> bytes:
    return (FOLDER / f"secret.enc.{SUFFIX[name]}").read_bytes()


def try_read(name: str, raw: bytes) -> list[Branch] | None:
    """What is read, None where it is refused. Anything but the two allowed kinds of refusal fails the test."""
    try:
        STORES[name].read_plain(raw)
        return STORES[name].read(raw)[0]
    except (InputError, LimitError):
        return None


@every_store
def test_a_plain_document_has_no_metadata(name: str) -> None:
    branches, metadata = STORES[name].read(PLAIN[name])
    assert metadata is None
    assert len(branches) == 1
    assert branches[0].entries


@every_store
def test_a_plain_document_is_written_as_it_was(name: str) -> None:
    branches, _ = STORES[name].read(PLAIN[name])
    assert STORES[name].write_plain(branches) == (b"x" if name == "binary" else PLAIN[name])


@every_store
def test_metadata_arrives_as_a_nested_branch_and_leaves_no_trace(name: str) -> None:
    branches, metadata = STORES[name].read(encrypted(name))
    assert isinstance(metadata, Branch)
    assert {"age", "lastmodified", "mac", "version"} <= set(metadata.keys())
    age = metadata.get("age")
    assert isinstance(age, list)
    (entry,) = age
    assert isinstance(entry, Branch)
    enc = entry.get("enc")
    assert isinstance(enc, str)
    assert enc.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    for branch in branches:
        assert not [entry for entry in branch.entries if isinstance(entry.key, str) and entry.key.startswith("sops")]


@every_store
def test_an_encrypted_document_is_written_as_sops_wrote_it(name: str) -> None:
    branches, block = STORES[name].read(encrypted(name))
    assert block is not None
    metadata = Metadata.from_branch(block, 100)
    if name == "binary":
        metadata.selection = Selection("", "")  # sops stores no rule in a new file, and assumes one in an old file
    assert STORES[name].write_encrypted(branches, metadata.to_branch()) == encrypted(name)


@every_store
def test_metadata_in_a_plain_file_are_entries_like_others(name: str) -> None:
    """What is to be encrypted keeps them, so that they can be refused."""
    branch = STORES[name].read_plain(encrypted(name))[0]
    if name == "binary":
        assert branch.keys() == ["data"]
        return
    assert any(map(STORES[name].is_reserved, branch.keys()))
    with pytest.raises(StoreError, match="reserved"):
        STORES[name].write_encrypted([branch], Branch())


@every_store
def test_the_suffix_names_the_format(name: str) -> None:
    assert format_for_path(f"folder.yaml.d/x.{SUFFIX[name]}") == name


@every_store
def test_every_truncation_is_read_or_refused(name: str) -> None:
    raw = encrypted(name)
    for length in range(0, len(raw), 7):
        try_read(name, raw[:length])


@every_store
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"\xef\xbb\xbf",
        b"\xff\xfe\x00",
        b"\x00" * 100,
        b"sops",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"- " * 100_000,
        b"{a: " * 100_000,
        b"a: &a [*a]\n",
        b"sops_a" + b"__map_a" * 100_000 + b"=1\n",
        b"[sops]\na" + b"__list_0" * 100_000 + b"=1\n",
        b"sops_a__list_99999999=1\n",
        b"[s]\na = " + b"x\\\n" * 10_000,
        b'{"a": ' + b"9" * 100_000 + b"}",
        b"a: " + b"9" * 100_000 + b"\n",
        b"a: 1e999999999\n",
        b"? [a]\n: 1\n",
        b"&a a: !!binary '*'\n",
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_built_to_break_a_reader_is_read_or_refused(name: str, raw: bytes) -> None:
    try_read(name, raw)


@every_store
@given(raw=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(name: str, raw: bytes) -> None:
    try_read(name, raw)


@every_store
@given(
    at=st.integers(0, 10_000),
    length=st.integers(0, 30),
    new=st.binary(max_size=4)
    | st.sampled_from([b'"', b"\n", b"sops", b"[", b"{", b"=", b"__map_", b"\n- ", b"&a ", b"*a"]),
)
def test_an_altered_document_is_read_or_refused(name: str, at: int, length: int, new: bytes) -> None:
    raw = encrypted(name)
    at %= len(raw)
    try_read(name, raw[:at] + new + raw[at + length :])


@every_store
@pytest.mark.parametrize(
    "raw", [b'{"hunter2": hunter2', b"[s]\nhunter2", b"hunter2", b'"hunter2', b"a: 'hunter2", b"[hunter2"]
)
def test_a_refusal_shows_nothing_of_the_document(name: str, raw: bytes) -> None:
    shown = ""
    try:
        STORES[name].read(raw)
    except InputError as error:
        shown = repr((error, error.__context__, error.__cause__))
    assert "hunter2" not in shown
    assert "\n" not in shown
