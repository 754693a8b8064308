"""How strings, keys and comments are written, and that other readers of YAML read them back."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import StoreError
from krm_sops.stores.yaml import STORE
from krm_sops.tree import Branch, Comment, Entry, Timestamp, from_bytes
from krm_sops.yamlcomments import read
from krm_sops.yamlwrite import flow_scalar, scalar_text, write, write_value


def spelled(value: Any) -> str:
    text = write([Branch([Entry("k", value)])])
    assert text.startswith("k: ")
    assert text.endswith("\n")
    return text[3:-1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (12, "12"),
        (-(2**63), "-9223372036854775808"),
        (1.0, "1"),
        (1e21, "1e+21"),
        (float("-inf"), "-.inf"),
        (Timestamp("2001-01-02T00:00:00Z"), "2001-01-02T00:00:00Z"),
        (Branch(), "{}"),
        ([], "[]"),
        ("words", "words"),
        ("a:b#c", "a:b#c"),
        ("", '""'),
        ("true", '"true"'),
        ("~", '"~"'),
        ("12", '"12"'),
        ("1e3", '"1e3"'),
        ("2001-01-02", '"2001-01-02"'),
        ("1:20", '"1:20"'),
        ("-1_0:59.5", '"-1_0:59.5"'),
        ("1:60", "1:60"),
        ("y", '"y"'),
        ("No", '"No"'),
        ("none", "none"),
        ("a: b", "'a: b'"),
        ("a:", "'a:'"),
        ("a #b", "'a #b'"),
        (" a", "' a'"),
        ("a ", "'a '"),
        ("it's: x", "'it''s: x'"),
        ("- a", "'- a'"),
        ("-", "'-'"),
        ("-a", "-a"),
        ("---a", "'---a'"),
        ("@a", "'@a'"),
        ('"a', "'\"a'"),
        ("a\tb", '"a\\tb"'),
        ("a\rb", '"a\\rb"'),
        ("\x00\x1b\x7f\x85\xa0", '"\\0\\e\\x7F\\N\xa0"'),
        ("\U0001f600", '"\\U0001F600"'),
        ("\ufeffa b", '"\\uFEFF\\x61\\x20\\x62"'),
        ("\ufeff0x", '"\\uFEFF\\x30\\x78"'),
        ("a\ufeffb", '"a\\uFEFFb"'),
        ("naïve ☃", "naïve ☃"),
        ("a\nb", "|-\n    a\n    b"),
        ("a\nb\n", "|\n    a\n    b"),
        ("a\n\n", "|+\n    a\n"),
        (" a\nb", "|4-\n     a\n    b"),
        ("\na", "|4-\n\n    a"),
        ("\n", "|4+\n"),
        ("12\n", "|\n    12"),
        ("a \nb", '"a \\nb"'),
        ("a\nb ", '"a\\nb "'),
        ("a\n b", "|-\n    a\n     b"),
        ("a\n\tb", "|-\n    a\n    \tb"),
        ("a\n\U0001f600", '"a\\n\\U0001F600"'),
        ("<<", "!!merge <<"),
        (from_bytes(b"\x80\xff"), "!!binary gP8="),
        (from_bytes(b"\x80" * 60), "!!binary |\n    " + "gICA" * 17 + "gI\n    CAgICAgICA"),
    ],
)
def test_a_value_is_written_as_sops_writes_it(value: Any, text: str) -> None:
    assert spelled(value) == text


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("two words", "two words: v\n"),
        ("y", '"y": v\n'),
        ("", '"": v\n'),
        ("a: b", "'a: b': v\n"),
        ("<<", "!!merge <<: v\n"),
        ("x" * 128, "x" * 128 + ": v\n"),
        ("x" * 129, "? " + "x" * 129 + "\n: v\n"),
        ("é" * 64, "é" * 64 + ": v\n"),
        ("é" * 65, "? " + "é" * 65 + "\n: v\n"),
        ("a\nb", "? |-\n    a\n    b\n: v\n"),
    ],
)
def test_a_key_is_written_as_sops_writes_it(key: str, text: str) -> None:
    assert write([Branch([Entry(key, "v")])]) == text


def test_collections_are_written_in_block_style_with_four_spaces() -> None:
    inner = Branch([Entry("b", ["x", ["x", Branch([Entry("z", 1), Entry("w", "2\n")])]])])
    assert write([Branch([Entry("a", inner)])]) == (
        "a:\n    b:\n        - x\n        - - x\n          - z: 1\n            w: |\n                2\n"
    )


@pytest.mark.parametrize(("indent", "spaces"), [(2, 2), (3, 3), (9, 9), (1, 2), (10, 2), (None, 4), (0, 4)])
def test_the_indent_is_the_caller_s_from_2_to_9(indent: int | None, spaces: int) -> None:
    tree = Branch([Entry("a", Branch([Entry("b", "x\ny")]))])
    margin = " " * spaces
    assert STORE.write_plain([tree], indent) == f"a:\n{margin}b: |-\n{margin * 2}x\n{margin * 2}y\n".encode()


def test_a_negative_indent_is_refused() -> None:
    with pytest.raises(StoreError):
        STORE.write_plain([Branch()], -1)


def test_documents_are_separated_by_three_dashes_and_an_empty_one_is_braces() -> None:
    assert write([Branch(), Branch([Entry("a", 1)]), Branch()]) == "{}\n---\na: 1\n---\n{}\n"


# Comments


def test_comments_are_written_above_behind_and_below() -> None:
    tree = Branch(
        [
            Entry(Comment(" head"), None),
            Entry(Comment("second"), None),
            Entry(Comment(" inline", inline=True), None),
            Entry("a", 1),
            Entry(Comment(" between"), None),
            Entry("b", [Comment(" first"), "x", Comment(" in line", inline=True), "y", Comment(" last")]),
            Entry(Comment(" end"), None),
        ]
    )
    assert write([tree]) == (
        '# head\n#second\na: 1 # inline\n# between\nb:\n    # first\n    - x\n    - "y" # in line\n    # last\n# end\n'
    )


def test_a_document_of_comments_keeps_them() -> None:
    assert write([Branch([Entry(Comment(" x"), None)])]) == "# x\n{}\n"


def test_a_comment_with_a_line_break_stays_a_comment() -> None:
    """Decrypted comments may hold anything."""
    text = write([Branch([Entry(Comment(" x\ny: 1\r- z\x85w"), None), Entry("a", 1)])])
    assert [[(e.key, e.value) for e in b.entries if e.key == "a"] for b in read(text)] == [[("a", 1)]]
    assert all(isinstance(entry.key, Comment) or entry.key == "a" for entry in read(text)[0].entries)


def test_a_comment_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(StoreError):
        STORE.write_plain([Branch([Entry(Comment(from_bytes(b"\xff")), None)])])


# Differs from sops


def test_lines_that_begin_with_a_tab_are_quoted_where_sops_writes_null() -> None:
    assert spelled("\ta\nb") == '"\\ta\\nb"'


def test_the_indentation_indicator_is_right_inside_lists_where_sops_writes_a_file_that_nobody_can_read() -> None:
    text = write([Branch([Entry("a", [" x\n", Branch([Entry("b", "\nx")])])])])
    assert text == "a:\n    - |2\n       x\n    - b: |2-\n\n        x\n"
    assert yaml.safe_load(text) == {"a": [" x\n", {"b": "\nx"}]}


# Single values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, b"5\n"),
        (None, b"null\n"),
        ([], b"[]\n"),
        ([1, [2], Branch([Entry("a", "b")])], b"- 1\n- - 2\n- a: b\n"),
        ([Comment(" c"), 1], b"# c\n- 1\n"),
        (Branch([Entry("a", [1])]), b"a:\n    - 1\n"),
    ],
)
def test_a_single_value_is_a_document_of_its_own(value: Any, text: bytes) -> None:
    assert STORE.write_value(value) == text


def test_a_comment_is_no_value() -> None:
    with pytest.raises(StoreError):
        STORE.write_value(Comment("x"))


# For splicing


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("words", "words"),
        ("yes", '"yes"'),
        ("10.0.0.1", '"10.0.0.1"'),
        ("=", '"="'),
        ("a: b", '"a: b"'),
        ("<<", '"<<"'),
        ("a\nb", "|-\n      a\n      b"),
        ("a\n\nb\n", "|\n      a\n\n      b"),
        ("a\n\n", "|+\n      a\n"),
        ("\n", "|2+\n"),
        (" a\n", "|2\n       a"),
        ("a \nb", '"a \\nb"'),
        ("\ta\nb", '"\\ta\\nb"'),
        ("a\u2028\nb", '"a\\L\\nb"'),
        (from_bytes(b"\xff" * 60), '!!binary "' + "/" * 80 + '"'),
        (12, "12"),
        (None, "null"),
    ],
)
def test_a_spliced_scalar_is_one_line_or_a_literal_block(value: Any, text: str) -> None:
    assert scalar_text(value, indent=6) == text


def test_a_quoted_scalar_is_one_line_in_double_quotes() -> None:
    assert scalar_text('a\n"b"\\', indent=6, quoted=True) == '"a\\n\\"b\\"\\\\"'
    assert scalar_text("words", indent=6, quoted=True) == '"words"'
    assert flow_scalar("a, [b]") == '"a, [b]"'
    assert flow_scalar(True) == "true"


# Laws

odd_text = st.text(
    st.sampled_from("ab01 .:-#?,[]{}&*!|>'\"%@`=~<\n\n\n\t\r\x85\u2028\xa0é😀\ufeff\x07\x00"), max_size=12
)
texts = odd_text | st.text(max_size=20) | st.binary(max_size=20).map(from_bytes)
scalars = (
    texts
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
)
keys = texts.filter(lambda key: key != "<<")
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.tuples(keys, inner), max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda pairs: Branch(Entry(key, value) for key, value in pairs)
        )
    ),
    max_leaves=8,
)
documents = st.lists(st.tuples(keys, trees), max_size=4, unique_by=lambda pair: pair[0]).map(
    lambda pairs: Branch(Entry(key, value) for key, value in pairs)
)


@given(st.lists(documents, min_size=1, max_size=3), st.integers(2, 9))
def test_what_is_written_is_read_back_as_the_same_tree(branches: list[Branch], indent: int) -> None:
    assert read(write(branches, indent)) == branches


@given(trees)
def test_a_single_mapping_is_read_back(value: Any) -> None:
    tree = Branch([Entry("k", value)])
    assert read(write_value(tree)) == [tree]


@given(texts, st.integers(0, 8), st.integers(1, 6))
def test_a_spliced_scalar_is_read_back_by_us_and_by_pyyaml(value: str, column: int, step: int) -> None:
    spelled = scalar_text(value, indent=column + step, step=step)
    nested = "x:\n" + " " * column if column else ""
    text = f"{nested}k: {spelled}\n{' ' * column}z: 1\n"
    found: Any = read(text)[0]
    if column:
        found = found.get("x")
    assert found.get("k") == value
    assert found.get("z") == 1
    if not spelled.startswith("!!binary"):
        loaded = yaml.safe_load(text)
        loaded = loaded["x"] if column else loaded
        assert str(loaded["k"]) == value
        assert loaded["z"] == 1


@given(scalars)
def test_a_flow_scalar_is_read_back_by_us_and_by_pyyaml(value: Any) -> None:
    text = "{k: [" + flow_scalar(value) + "], z: {" + flow_scalar("key") + ": 1}}\n"
    assert "\n" not in text[:-1]
    found = read(text)[0].get("k")
    assert found == [value]
    if not isinstance(value, float) and "!!binary" not in text:
        assert yaml.safe_load(text)["k"] == [value]


def test_comments_do_not_change_the_values_that_are_read_back() -> None:
    tree = Branch()
    for number in range(40):
        tree.entries.append(Entry(Comment(f" {number}", inline=number % 3 == 0), None))
        tree.entries.append(Entry(f"k{number}", [Comment("c", inline=number % 2 == 0), number, [Comment("d"), None]]))
    found = read(write([tree]))[0]
    assert [e.key for e in found.entries if isinstance(e.key, str)] == [f"k{number}" for number in range(40)]
