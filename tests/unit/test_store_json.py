"""The JSON store: the same trees and bytes as sops', places for the splicer, and limits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import LimitError, MetadataError, StoreError
from krm_sops.limits import Limits
from krm_sops.stores.json import STORE, json_scalar, parse
from krm_sops.tree import Branch, Comment, Entry, Timestamp, leaves
from tests.unit.store_vectors import notation, rows


@pytest.mark.parametrize("row", rows("json"), ids=lambda row: repr(row["document"])[:40])
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


@pytest.mark.parametrize("text", ['{"a"', '{"a":', '{"a":[1', '{"a":[1,', '{"a":{"b":1}', "{"])
def test_a_document_that_ends_too_early_is_refused_even_where_sops_takes_it(text: str) -> None:
    with pytest.raises(StoreError, match="ends too early"):
        STORE.read(text.encode())


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [('{"a": 1,\n  "b": x}', 2, 8), ("[]", 1, 1), ('{\n"a" 1}', 2, 5), ('{"a":\n\n"x\n"}', 3, 1)],
)
def test_an_error_says_where(text: str, line: int, column: int) -> None:
    with pytest.raises(StoreError) as caught:
        STORE.read(text.encode())
    assert (caught.value.line, caught.value.column) == (line, column)


def test_an_error_shows_nothing_of_the_document() -> None:
    with pytest.raises(StoreError) as caught:
        STORE.read(b'{"password": "hunter2\n"}')
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


def test_spans_are_the_places_of_the_leaves_in_walk_order() -> None:
    text = ' {"a" : "x\\n", "b": [1, {"c": null}, [], "é"], "d": {}, "a": -2.5e3 , "t":true} tail'
    spans: list[tuple[int, int]] = []
    node, end = parse(text, 1, spans)
    assert text[end:] == " tail"
    assert [text[a:b] for a, b in spans] == ['"x\\n"', "1", "null", '"é"', "-2.5e3", "true"]
    assert list(leaves(node)) == ["x\n", 1, None, "é", -2500.0, True]


def test_an_object_is_read_out_of_the_middle_of_a_text() -> None:
    text = '[{"items": [ {"kind": "Secret"} ]}]'
    node, end = parse(text, text.index('{"kind'))
    assert node == Branch([Entry("kind", "Secret")])
    assert text[end:] == " ]}]"


@pytest.mark.parametrize("text", ["5", '"x"', "true", " null", "[1]"])
def test_any_value_can_be_read_alone(text: str) -> None:
    assert parse(text)[1] == len(text)


Json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def as_python(node: Any) -> Any:
    if isinstance(node, Branch):
        return {entry.key: as_python(entry.value) for entry in node.entries}
    return [as_python(element) for element in node] if isinstance(node, list) else node


@given(Json, st.sampled_from([None, 0, 3]))
def test_what_another_writer_wrote_is_read(value: Any, indent: int | None) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
        spans: list[tuple[int, int]] = []
        node, end = parse(text, 0, spans)
        assert end == len(text)
        assert as_python(node) == value
        assert [json.loads(text[a:b]) for a, b in spans] == [as_python(leaf) for leaf in leaves(node)]


@given(Json)
def test_what_is_written_is_read_by_another_reader(value: Any) -> None:
    text = json.dumps({"v": value})
    (branch,), _ = STORE.read(text.encode())
    # A float without a fraction is written as sops does: as an integer.
    assert json.loads(STORE.write_plain([branch]), parse_int=float) == json.loads(text, parse_int=float)


def test_metadata_is_taken_off() -> None:
    (branch,), metadata = STORE.read(b'{"a": 1, "sops": {"mac": "m", "version": "3.13.3"}}')
    assert branch == Branch([Entry("a", 1)])
    assert metadata == Branch([Entry("mac", "m"), Entry("version", "3.13.3")])


@pytest.mark.parametrize("text", ['{"sops": "x"}', '{"sops": null}', '{"sops": []}', '{"sops": {}, "sops": {}}'])
def test_a_sops_entry_that_cannot_be_metadata_is_refused(text: str) -> None:
    with pytest.raises(MetadataError):
        STORE.read(text.encode())


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
def test_deep_nesting_is_a_limit_error(opening: str) -> None:
    with pytest.raises(LimitError, match="nested deeper than 100 levels"):
        parse(opening * 100_000)


def test_the_depth_that_is_allowed_is_read() -> None:
    assert parse("[" * 100 + "]" * 100)[1] == 200
    with pytest.raises(LimitError):
        parse("[" * 101 + "]" * 101)


def test_too_many_values_are_a_limit_error() -> None:
    limits = Limits(document_nodes=10)
    assert parse("[" + "1," * 8 + "1]", limits=limits)[0] == [1] * 9
    with pytest.raises(LimitError, match="more than 10 values"):
        parse("[" + "1," * 9 + "1]", limits=limits)


def test_a_number_of_many_digits_costs_nothing() -> None:
    assert parse("1" * 300)[0] == float("1" * 300)
    with pytest.raises(StoreError):
        parse("1" * 1_000_000)


@pytest.mark.parametrize(
    ("indent", "text"),
    [
        (None, '{\n\t"a": [\n\t\t1,\n\t\t{}\n\t],\n\t"b": []\n}\n'),
        (-1, '{\n\t"a": [\n\t\t1,\n\t\t{}\n\t],\n\t"b": []\n}\n'),
        (0, '{\n"a": [\n1,\n{}\n],\n"b": []\n}\n'),
        (2, '{\n  "a": [\n    1,\n    {}\n  ],\n  "b": []\n}\n'),
    ],
)
def test_the_indent_is_sops(indent: int | None, text: str) -> None:
    tree = Branch([Entry("a", [1, Branch()]), Entry(Comment("gone"), None), Entry("b", [Comment("gone")])])
    assert STORE.write_plain([tree], indent) == text.encode()


def test_what_json_cannot_say_is_refused() -> None:
    for value in (float("nan"), float("inf"), Comment("x")):
        with pytest.raises(StoreError):
            STORE.write_value(value)
    with pytest.raises(StoreError):
        STORE.write_plain([Branch([Entry(5, "x")])])
    with pytest.raises(StoreError):
        STORE.write_plain([])
    with pytest.raises(StoreError):
        STORE.write_plain([Branch()], -2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a<b>&\u2028\x7f\udcff", '"a\\u003cb\\u003e\\u0026\\u2028\x7f\\ufffd"'),
        (True, "true"),
        (None, "null"),
        (1e21, "1e+21"),
        (1.0, "1"),
        (-7, "-7"),
        (Timestamp("2001-12-14T21:59:43.1-05:00"), '"2001-12-14T21:59:43.1-05:00"'),
    ],
)
def test_scalars_are_spelled_as_go_does(value: Any, text: str) -> None:
    assert json_scalar(value) == text
    assert STORE.write_value(value) == text.encode()
