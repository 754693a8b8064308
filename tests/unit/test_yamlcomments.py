"""Where comments, documents, aliases and tags of a YAML stream end up in the tree, and what is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import InputError, LimitError, StoreError
from krm_sops.stores.yaml import STORE
from krm_sops.tree import Branch, Comment, Timestamp, to_bytes
from krm_sops.yamlcomments import read

VECTORS = Path(__file__).parent.parent / "vectors/yaml"
NAMES = sorted(path.stem for path in VECTORS.glob("*.yaml") if not path.stem.endswith(".out"))


def notation(node: object) -> Any:
    """A mapping as a list of (key, value), a comment as its text behind ``#`` or, where inline, ``>``."""
    if isinstance(node, Branch):
        return [
            notation(entry.key) if isinstance(entry.key, Comment) else (entry.key, notation(entry.value))
            for entry in node.entries
        ]
    if isinstance(node, list):
        return {"list": [notation(element) for element in node]}
    if isinstance(node, Comment):
        return (">" if node.inline else "#") + node.text
    return node.text if isinstance(node, Timestamp) else node


def tree(text: str) -> Any:
    """The only document."""
    (branch,) = read(text)
    return notation(branch)


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_file_is_read_and_written_as_sops_did(name: str) -> None:
    branches, metadata = STORE.read((VECTORS / f"{name}.yaml").read_bytes())
    assert metadata is not None
    assert STORE.write_plain(branches) == (VECTORS / f"{name}.out.yaml").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_is_read_and_written_again_without_a_change(name: str) -> None:
    written = (VECTORS / f"{name}.out.yaml").read_bytes()
    branches, metadata = STORE.read(written)
    assert metadata is None
    again = STORE.write_plain(branches)
    assert values(STORE.read(again)[0]) == values(branches)


def values(node: Any) -> Any:
    """Without comments: some of them move on every reading, as in sops."""
    if isinstance(node, Branch):
        return [(e.key, values(e.value)) for e in node.entries if not isinstance(e.key, Comment)]
    if isinstance(node, list):
        return [values(element) for element in node if not isinstance(element, Comment)]
    return repr(node) if isinstance(node, float) else node


def test_there_are_recorded_files() -> None:
    assert len(NAMES) > 10


# Comments


def test_a_comment_above_a_key_stands_before_it() -> None:
    assert tree("# x\n#y\na: 1\n") == ["# x", "#y", ("a", 1)]


def test_a_comment_behind_a_value_is_inline_and_stands_before_the_key() -> None:
    assert tree("a: 1 # x\nb: 2\n") == ["> x", ("a", 1), ("b", 2)]


def test_a_comment_on_the_line_of_a_key_with_a_collection_below_stands_before_the_key() -> None:
    assert tree("a: # x\n  b: 1\n") == ["# x", ("a", [("b", 1)])]
    assert tree("a: # x\n  - b\n") == ["# x", ("a", {"list": ["b"]})]


def test_a_comment_above_the_first_key_of_a_nested_mapping_stands_inside() -> None:
    assert tree("a:\n  # x\n  b: 1\n") == [("a", ["# x", ("b", 1)])]


def test_a_comment_below_the_last_key_stands_after_it() -> None:
    assert tree("a:\n  b: 1\n  # x\nc: 2\n# y\n") == [("a", [("b", 1), "# x"]), ("c", 2), "# y"]


def test_a_comment_before_an_empty_line_belongs_to_what_is_above_it() -> None:
    assert tree("a: 1\n# x\n\n# y\nb: 2\n") == [("a", 1), "# x", "# y", ("b", 2)]


def test_comments_of_lists_are_elements_before_the_item_and_after_the_last_one() -> None:
    assert tree("a:\n  # x\n  - 1 # y\n  # z\n  - 2\n  # end\n") == [
        ("a", {"list": ["# x", "> y", 1, "# z", 2, "# end"]}),
    ]


def test_a_comment_behind_a_flow_collection_is_its_first_element() -> None:
    assert tree("a: [1, 2] # x\nb: {c: 3} # y\n") == [("a", {"list": ["# x", 1, 2]}), ("b", ["# y", ("c", 3)])]


def test_a_comment_behind_a_block_scalar_s_indicator_is_inline() -> None:
    assert tree("a: | # x\n  # text\n") == ["> x", ("a", "# text\n")]


def test_a_comment_behind_a_dash_is_the_head_of_the_item() -> None:
    assert tree("a:\n  - # x\n    b: 1\n") == [("a", {"list": [["# x", ("b", 1)]]})]


def test_an_empty_comment_is_a_comment() -> None:
    assert tree("#\na: 1 #\n") == ["#", ">", ("a", 1)]


def test_a_hash_without_a_space_before_it_is_text() -> None:
    assert tree("a#b: c#d\n") == [("a#b", "c#d")]


def test_comments_in_quotes_are_text() -> None:
    assert tree("a: \"# x\n  # y\"\nb: '# z'\n") == [("a", "# x # y"), ("b", "# z")]


# Documents


def test_documents_are_read_one_by_one_and_an_empty_one_is_an_empty_mapping() -> None:
    found = [notation(branch) for branch in read("a: 1\n---\nb: 2\n...\n---\n---\n~\n")]
    assert found == [[("a", 1)], [("b", 2)], [], []]


def test_three_dashes_alone_are_one_empty_document() -> None:
    assert tree("---\n") == []


def test_an_empty_text_has_no_document_but_one_of_comments_is_refused() -> None:
    assert read("") == []
    for text in ("\n", "# x\n", "   ", "...\n"):
        with pytest.raises(StoreError):
            read(text)


def test_a_repeated_key_is_refused_in_the_first_document_at_any_depth_and_kept_in_later_ones() -> None:
    for text in ("a: 1\na: 2\n", "a:\n  - {b: 1, b: 2}\n", "1: a\n'1': b\n"):
        with pytest.raises(StoreError, match="already defined"):
            read(text)
    assert notation(read("a: 1\n---\nb: 1\nb: 2\n")[1]) == [("b", 1), ("b", 2)]


@pytest.mark.parametrize("text", ["- a\n", "text\n", "12\n", "a: 1\n---\n- b\n", "a: 1\n---\nb\n"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match=r"line \d"):
        read(text)


def test_crlf_ends_lines_too() -> None:
    assert tree("a: b\r\nc: |\r\n  d\r\n") == [("a", "b"), ("c", "d\n")]


def test_a_yaml_directive_other_than_1_1_is_refused_as_in_sops() -> None:
    assert tree("%YAML 1.1\n---\na: 1\n") == [("a", 1)]
    with pytest.raises(StoreError, match="incompatible"):
        read("%YAML 1.2\n---\na: 1\n")


# Aliases, merges, tags


def test_aliases_are_expanded_even_from_another_document() -> None:
    assert tree("a: &x [1]\nb: *x\n") == [("a", {"list": [1]}), ("b", {"list": [1]})]
    assert notation(read("a: &x 1\n---\nb: *x\n")[1]) == [("b", 1)]


def test_merge_keys_stay_keys() -> None:
    assert tree("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n")[1] == ("c", [("<<", [("b", 1)]), ("d", 2)])
    assert tree("a: {!!merge <<: {b: 1}}\n") == [("a", [("<<", [("b", 1)])])]


@pytest.mark.parametrize("value", ["1", "[1]", "*list"])
def test_a_merge_of_something_else_than_mappings_is_refused(value: str) -> None:
    with pytest.raises(StoreError, match="map merge"):
        read(f"l: &list [1]\na:\n  <<: {value}\n")


def test_an_unknown_alias_and_an_anchor_inside_itself_are_refused() -> None:
    with pytest.raises(StoreError, match="unknown anchor"):
        read("a: *x\n")
    with pytest.raises(StoreError, match="contains itself"):
        read("a: &x [*x]\n")
    with pytest.raises(StoreError, match="contains itself"):
        read("a: 1\n---\na: &x {b: *x}\n")


def test_unknown_tags_are_dropped_and_known_ones_honoured() -> None:
    found = tree("a: !vault 12\nb: !custom [1]\nc: !!str 1\nd: !!set {e}\nf: ! 1\ng: !!binary gA==\n")
    assert found[:5] == [("a", "12"), ("b", {"list": [1]}), ("c", "1"), ("d", [("e", None)]), ("f", 1)]
    assert to_bytes(found[5][1]) == b"\x80"


def test_a_value_that_does_not_fit_its_tag_is_refused_in_every_document_with_its_place() -> None:
    with pytest.raises(StoreError, match="line 3, column 4"):
        read("a: 1\n---\nb: !!int hunter2\n")


def test_a_key_may_be_any_scalar_but_no_collection() -> None:
    assert tree("1: a\n~: b\n2001-01-01: c\n")[1] == (None, "b")
    for text in ("? [a]\n: b\n", "{a: b}: c\n"):
        with pytest.raises(StoreError, match="must be a scalar"):
            read(text)


# What is no YAML


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 'hunter2", 1, 4),
        ("a: 1\n b: 2\n", 2, 3),
        ("a:\n\t- 1\n", 2, 1),
        ("a: [1\nb: 2", 2, 2),
        ("a: b: c\n", 1, 5),
        ("a: 1\nb\n", 2, 1),
        ("a: @x\n", 1, 4),
        ('a: "\\z"\n', 1, 4),
        ("a: 1\nb: \x01\n", 2, 4),
        ("a: 1\n... y\n", 2, 5),
    ],
)
def test_an_error_tells_line_and_column_and_nothing_else(text: str, line: int, column: int) -> None:
    with pytest.raises(StoreError) as caught:
        read(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert "hunter2" not in str(caught.value)


# Limits


def test_depth_is_limited() -> None:
    assert read("a: " + "[" * 99 + "]" * 99)
    for text in ("a: " + "[" * 100 + "]" * 100, "{a: " * 101 + "}" * 101, "a:\n" + "- " * 100 + "x\n"):
        with pytest.raises(LimitError):
            read(text)


def test_depth_is_counted_through_aliases() -> None:
    chain = "x0: &x0 {a: b}\n" + "".join(f"x{i}: &x{i} {{a: *x{i - 1}}}\n" for i in range(1, 20))
    assert read(chain, depth=21)
    with pytest.raises(LimitError):
        read(chain, depth=20)


def test_nodes_are_limited_before_the_whole_text_is_read() -> None:
    assert read("a: [" + "1," * 96 + "]", nodes=99)
    with pytest.raises(LimitError):
        read("a: [" + "1," * 100 + "@", nodes=99)


def test_nodes_are_counted_after_alias_expansion() -> None:
    text = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    with pytest.raises(LimitError):
        read(text)
    with pytest.raises(LimitError, match="aliasing"):
        read(text, nodes=1 << 40)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + '"b\\n' * 200_000,
        "a: '" + "''" * 200_000,
        "a: [" + "[" * 200_000,
        "a: " + "\n" * 200_000 + "b: c",
        "a: b" + " " * 200_000 + "# c",
        "a: b\n" + "# c\n" * 30_000 + "d: e",
        "a: b\n" + "".join(" " * (i % 9) + "# c\n" for i in range(30_000)) + "d: e",
        "a: |\n" + "  b\n" * 100_000,
        "a: >\n" + "\n" * 200_000 + "  b",
        "a: {" + "b: c, " * 30_000 + "}",
        "a: " + "x:" * 200_000,
        "a: " + "#x" * 200_000,
        "- " * 200_000,
        "? " * 200_000,
        "&a " * 100_000,
        "!a " * 100_000,
        "--- a\n" * 30_000,
        "%TAG ! a\n" * 30_000,
        "a: b\u2028" + "# c\u2028" * 30_000,
    ],
    ids=lambda text: repr(text[:9]),
)
def test_a_long_text_is_read_or_refused_in_linear_time(text: str) -> None:
    """Quadratic behaviour would take minutes here."""
    with contextlib.suppress(InputError, LimitError):
        read(text)


PIECES = (
    *("a", "b: ", "- ", "? ", ": ", "\n", "\n", "\n  ", "\n    ", "# c\n", " # d\n", "#", "[", "]", "{", "}", ", "),
    *('"', "'", "|\n", ">-\n", "|2\n", "&x ", "*x", "!!str ", "!t ", "<<: ", "---\n", "...\n", "%YAML 1.1\n", "\t"),
    *("\r\n", "\x85", "\u2028", "\\", "\ufeff", "12", "é", "~"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(StoreError, LimitError):
        read(text)


# The store


def test_the_metadata_of_the_first_document_are_taken_and_those_of_the_others_dropped() -> None:
    branches, metadata = STORE.read(b"a: 1\nsops: {mac: x}\n---\nb: 2\nsops: dropped\n---\nc: {sops: kept}\n")
    assert [notation(branch) for branch in branches] == [[("a", 1)], [("b", 2)], [("c", [("sops", "kept")])]]
    assert notation(metadata) == [("mac", "x")]


def test_a_sops_entry_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(InputError):
        STORE.read(b"a: 1\nsops: x\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbfa: \xc3\xa9\n",
        b"\xff\xfe" + "a: é\n".encode("utf-16-le"),
        b"\xfe\xff" + "a: é\n".encode("utf-16-be"),
    ],
)
def test_a_byte_order_mark_tells_the_encoding(raw: bytes) -> None:
    assert notation(STORE.read(raw)[0][0]) == [("a", "é")]


def test_what_is_no_utf_8_is_refused_with_its_place() -> None:
    with pytest.raises(StoreError, match="line 2, column 4"):
        STORE.read(b"a: 1\nb: \xff\n")


def test_a_file_without_content_has_no_document() -> None:
    assert STORE.read(b"") == ([], None)
