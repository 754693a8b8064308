"""The binary store: any bytes as one string of a JSON document."""

from __future__ import annotations

import pytest

from krm_sops.errors import StoreError
from krm_sops.stores.binary import STORE
from krm_sops.tree import Branch, Comment, Entry, from_bytes
from tests.unit.store_vectors import FOLDER


def test_an_encrypted_file_is_a_json_document_with_data() -> None:
    (branch,), metadata = STORE.read((FOLDER / "secret.enc.bin").read_bytes())
    assert branch.keys() == ["data"]
    assert metadata is not None
    assert metadata.get("version") == "3.13.3"


def test_all_bytes_come_out_as_they_went_in() -> None:
    raw = bytes(range(256))
    assert STORE.write_plain([Branch([Entry(Comment("c"), None), Entry("data", from_bytes(raw))])]) == raw
    assert STORE.write_plain([Branch([Entry("data", "")])]) == b""


@pytest.mark.parametrize(
    "branches",
    [
        [],
        [Branch()],
        [Branch([Entry("data", "x")]), Branch([Entry("data", "y")])],
        [Branch([Entry("data", 5)])],
        [Branch([Entry("Data", "x")])],
    ],
)
def test_other_trees_are_no_binary_file(branches: list[Branch]) -> None:
    with pytest.raises(StoreError):
        STORE.write_plain(branches)


def test_there_are_no_single_values() -> None:
    with pytest.raises(StoreError):
        STORE.write_value("x")
