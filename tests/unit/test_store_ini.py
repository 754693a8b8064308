"""The INI store: the same trees and bytes as sops', and flat metadata in both spellings of a line break."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import MetadataError, StoreError
from krm_sops.stores.ini import STORE
from krm_sops.tree import Branch, Comment, Entry, Timestamp
from tests.unit.store_vectors import FOLDER, notation, rows


@pytest.mark.parametrize("row", rows("ini"), ids=lambda row: repr(row["document"])[:40])
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


@pytest.mark.parametrize("text", ["[s]\na = 1\nhunter2\n", "[s]\na = 1\n[hunter2\n", "[s]\na = 1\n'=`hunter2"])
def test_an_error_says_where_and_shows_nothing(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        STORE.read(text.encode())
    assert caught.value.line == 3
    assert "hunter2" not in str(caught.value)


def test_metadata_is_nested_again() -> None:
    raw = (FOLDER / "secret.enc.ini").read_bytes()
    (branch,), metadata = STORE.read(raw)
    assert branch.keys() == ["DEFAULT", "database", "database", "multi line"]
    assert metadata is not None
    assert metadata.keys() == ["age", "lastmodified", "mac", "unencrypted_suffix", "version"]
    (age,) = metadata.get("age")  # type: ignore[union-attr,misc]
    assert age.keys() == ["enc", "recipient"]
    assert age.get("enc").startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert age.get("enc").endswith("-----END AGE ENCRYPTED FILE-----\n")


def test_metadata_with_line_breaks_in_quotes_is_the_same_metadata() -> None:
    """sops 3.13.0 and 3.13.1 wrote it so."""
    raw = (FOLDER / "secret.enc.ini").read_bytes()
    lines = [
        line.replace(b"= ", b'= """', 1).replace(b"\\n", b"\n") + b'"""' if b"\\n" in line else line
        for line in raw.split(b"\n")
    ]
    quoted = b"\n".join(lines)
    assert quoted.count(b"\n") > raw.count(b"\n") + 5
    assert STORE.read(quoted) == STORE.read(raw)


def test_two_sections_of_metadata_are_refused() -> None:
    with pytest.raises(MetadataError):
        STORE.read(b"[sops]\nmac = m\n[sops]\nmac = m\n")


def test_a_section_name_must_match_exactly() -> None:
    (branch,), metadata = STORE.read(b"[Sops]\nmac = m\n")
    assert metadata is None
    assert branch.keys() == ["DEFAULT", "Sops"]


def test_several_documents_are_written_one_after_another() -> None:
    one = Branch([Entry("a", Branch([Entry("k", 1)]))])
    two = Branch([Entry(Comment("lost"), None), Entry("b", Branch([Entry("k", True)]))])
    assert STORE.write_plain([one, two]) == b"[a]\nk = 1\n\n[b]\nk = true\n"


def test_keys_and_values_are_quoted_as_sops_does() -> None:
    values = {"plain": "v", "hash": "a#b", "tick": "a`b", "lines": "a\nb", "outer": " v ", "": ""}
    section = Branch(Entry(f"k{name}", value) for name, value in values.items())
    section.entries += [Entry('"q"', "1"), Entry("a:b", "2"), Entry("x`y", "3")]
    section.entries.append(Entry("t", Timestamp("2001-12-14T21:59:43.1Z")))
    assert STORE.write_plain([Branch([Entry("s", section)])]).decode() == (
        "[s]\n"
        "kplain    = v\n"
        "khash     = `a#b`\n"
        'ktick     = """a`b"""\n'
        'klines    = """a\nb"""\n'
        'kouter    = " v "\n'
        "k         = \n"
        '`"q"`     = 1\n'
        "`a:b`     = 2\n"
        '"""x`y""" = 3\n'
        "t         = 2001-12-14T21:59:43Z\n"
    )


def test_a_comment_with_an_empty_line_is_written_where_sops_ends() -> None:
    raw = b"[s]\n;\n; text\nk = v\n"
    branches, _ = STORE.read(raw)
    assert STORE.write_plain(branches) == b"[s]\n; \n; text\nk = v\n"


@pytest.mark.parametrize(
    "tree",
    [
        Branch([Entry("s", "no mapping")]),
        Branch([Entry("", Branch())]),
        Branch([Entry(5, Branch())]),
        Branch([Entry("s", Branch([Entry("", "v")]))]),
        Branch([Entry("s", Branch([Entry("k", [])]))]),
        Branch([Entry("s", Branch([Entry("k", Branch())]))]),
        Branch([Entry("s", Branch([Entry("k", Comment("c"))]))]),
    ],
)
def test_what_ini_cannot_say_is_refused(tree: Branch) -> None:
    with pytest.raises(StoreError):
        STORE.write_plain([tree])


def test_single_values_are_json_literals() -> None:
    assert STORE.write_value(5) == b"5"
    with pytest.raises(StoreError):
        STORE.write_value(Branch())


Names = st.text(st.characters(whitelist_categories=["L", "N"]), min_size=1, max_size=8).filter(lambda n: n != "sops")
# A value in quotes of its own, or that ends in a backslash, does not survive this format.
Values = st.text(st.characters(blacklist_characters="\"'`\\\r\0", blacklist_categories=["Cs", "Cc", "Z"])) | st.just(
    " x#;y "
)


@given(st.dictionaries(Names, st.dictionaries(Names, Values, max_size=4), max_size=4))
def test_what_is_written_is_read_back(sections: dict[str, dict[str, str]]) -> None:
    sections.pop("DEFAULT", None)
    tree = Branch(Entry(name, Branch(Entry(k, v) for k, v in keys.items())) for name, keys in sections.items())
    default = Entry("DEFAULT", Branch())
    assert STORE.read(STORE.write_plain([Branch([default, *tree.entries])])) == (
        [Branch([default, *tree.entries])],
        None,
    )
