"""The dotenv store: the same trees and bytes as sops', and flat metadata."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import MetadataError, StoreError
from krm_sops.stores.dotenv import STORE
from krm_sops.tree import Branch, Comment, Entry, Timestamp
from tests.unit.store_vectors import FOLDER, notation, rows


@pytest.mark.parametrize("row", rows("dotenv"), ids=lambda row: repr(row["document"])[:40])
def test_documents_are_read_and_written_as_sops_does(row: dict[str, Any]) -> None:
    raw = row["document"].encode("latin-1")
    if "tree" not in row:
        with pytest.raises(StoreError):
            STORE.read(raw)
        return
    (branch,), metadata = STORE.read(raw)
    assert metadata is None
    assert notation(branch) == row["tree"]
    assert STORE.write_plain([branch]) == row["written"].encode("latin-1")


def test_a_line_without_equals_sign_is_refused_without_showing_it() -> None:
    with pytest.raises(StoreError) as caught:
        STORE.read(b"a=b\n\nhunter2\n")
    assert (caught.value.line, caught.value.column) == (3, 1)
    assert "hunter2" not in str(caught.value)


def test_metadata_is_nested_again() -> None:
    (branch,), metadata = STORE.read((FOLDER / "secret.enc.env").read_bytes())
    assert branch.keys() == ["USER", "PASSWORD", "export PORT", "MULTI", "EMPTY", "NOTE_unencrypted", "USER"]
    assert metadata is not None
    assert metadata.keys() == ["age", "lastmodified", "mac", "unencrypted_suffix", "version"]
    (age,) = metadata.get("age")  # type: ignore[union-attr,misc]
    assert age.keys() == ["enc", "recipient"]
    assert age.get("enc").startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert age.get("enc").endswith("-----END AGE ENCRYPTED FILE-----\n")


def test_metadata_may_stand_anywhere() -> None:
    (branch,), metadata = STORE.read(b"sops_mac=m\na=1\nsops_version=v\n")
    assert branch == Branch([Entry("a", "1")])
    assert metadata == Branch([Entry("mac", "m"), Entry("version", "v")])


def test_metadata_twice_is_refused() -> None:
    with pytest.raises(MetadataError):
        STORE.read(b"sops_mac=m\nsops_mac=n\n")


def test_scalars_become_text() -> None:
    tree = Branch(
        [
            Entry("t", True),
            Entry("n", None),
            Entry("f", 1.0),
            Entry("i", 7),
            Entry("d", Timestamp("2001-12-14T21:59:43.1Z")),
            Entry(Comment(" c"), None),
            Entry("s", "a\nb"),
        ]
    )
    assert STORE.write_plain([tree]) == b"t=true\nn=<nil>\nf=1.0\ni=7\nd=2001-12-14T21:59:43Z\n# c\ns=a\\nb\n"


@pytest.mark.parametrize("value", [Branch(), [], ["x"], Comment("x")])
def test_a_value_that_is_no_scalar_is_refused(value: Any) -> None:
    with pytest.raises(StoreError):
        STORE.write_plain([Branch([Entry("a", value)])])


def test_single_values_are_strings_or_nothing() -> None:
    assert STORE.write_value("x\ny") == b"x\ny"
    with pytest.raises(StoreError):
        STORE.write_value(5)
    with pytest.raises(StoreError):
        STORE.write_plain([])


# A key with a line break, an equals sign or a leading # cannot be written in this format, and neither can a literal
# backslash before an n.
Keys = st.text(st.characters(blacklist_characters="=\n", blacklist_categories=["Cs"])).filter(
    lambda key: not key.startswith(("#", "sops_"))
)
Values = st.text().filter(lambda value: "\\" not in value and value.isprintable())


@given(st.lists(st.tuples(Keys, Values)))
def test_what_is_written_is_read_back(pairs: list[tuple[str, str]]) -> None:
    tree = Branch(Entry(key, value) for key, value in pairs)
    assert STORE.read(STORE.write_plain([tree])) == ([tree], None)
