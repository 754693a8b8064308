"""The reader of items: trees as go-yaml types them, and where everything stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from krm_sops.errors import InputError, LimitError, StoreError
from krm_sops.limits import FUNCTION, Limits
from krm_sops.tree import Branch, Timestamp, leaves
from krm_sops.yamlio import read
from krm_sops.yamlio import read_all as read_stream

if TYPE_CHECKING:
    from krm_sops.places import Source


def read_all(text: str, **limits: int) -> Source:
    return read(text, Limits(**limits), 1000)


def plain(node: Any) -> Any:
    if isinstance(node, Branch):
        return {entry.key: plain(entry.value) for entry in node.entries}
    return [plain(element) for element in node] if isinstance(node, list) else node


def spelled(source: Source) -> list[str | None]:
    return [source.text[span.start : span.end] if span else None for span in source.spans]


def entries(source: Source, node: Any) -> list[str]:
    return [source.text[start:end] for start, end in source.places[id(node)].entries]


def test_scalars_mean_what_go_yaml_takes_them_for() -> None:
    """Not YAML 1.1: `yes` is a string, `0777` an octal number, tags other than `!` count, quotes make strings."""
    text = "[yes, 0777, 1_000, 0o17, ~, .inf, 1e3, '5', !!str 5, !!int '5', ! 5, ! '5', 2024-01-01, !x y, 12:30]"
    assert plain(read_all(text).root) == [
        *(
            "yes",
            0o777,
            1000,
            15,
            None,
            float("inf"),
            1000.0,
            "5",
            "5",
            5,
            5,
            "5",
            Timestamp("2024-01-01T00:00:00Z"),
            "y",
        ),
        "12:30",
    ]


def test_every_leaf_has_its_place_in_walk_order() -> None:
    """With quotes, tags and anchors; keys have none; an alias has no place, but counts."""
    source = read_all(
        "a: b\n'c': \"d\"\ne:\n- !!str f # g\n- &h i\n- {j: x, k: [l]}\nm: *h\n"
        "n:\n  - |\n    o\n\n  - >-\n    p\n    q\nr:\n"
    )
    assert spelled(source) == ["b", '"d"', "!!str f", "&h i", "x", "l", None, "|\n    o", ">-\n    p\n    q", ""]
    assert len(source.spans) == sum(1 for _ in leaves(source.root))


def test_places_of_mappings_and_lists() -> None:
    source = read_all("a:\n- b: c # d\n  e:\n    f: g\n- [h, {i: j}]\nk: {l: m,\n n: o}\n")
    root = source.root
    assert isinstance(root, Branch)
    assert entries(source, root) == ["a:\n- b: c # d\n  e:\n    f: g\n- [h, {i: j}]", "k: {l: m,\n n: o}"]
    first, second = root.get("a")  # type: ignore[misc]
    assert entries(source, root.get("a")) == ["b: c # d\n  e:\n    f: g", "[h, {i: j}]"]
    assert entries(source, first) == ["b: c", "e:\n    f: g"]
    assert [source.places[id(node)].indent for node in (root, root.get("a"), first, second, root.get("k"))] == [
        0,
        0,
        2,
        -1,
        -1,
    ]
    assert [source.places[id(node)].first_leaf for node in (root, first, second)] == [0, 0, 2]
    assert [source.places[id(node)].after for node in (root, first, second)] == [6, 2, 4]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("? a\n: b\n? c\n: d\n", ["? a\n: b", "? c\n: d"]),
        ("? a # ?\n: b\nc: d\n", ["? a # ?\n: b", "c: d"]),
        ("a: b # ?\n# ? x\nc: d\n", ["a: b", "c: d"]),
        ("a: b\n?\n  # ?\n  c\n:\n  d\n", ["a: b", "?\n  # ?\n  c\n:\n  d"]),
        ("a: what? # ?\n\n? c\n: d\n", ["a: what?", "? c\n: d"]),
        ("!!map\n&x a: b\n!!str c: d\n", ["&x a: b", "!!str c: d"]),
        ("&m\n? a\n: b\n", ["? a\n: b"]),
    ],
)
def test_an_entry_begins_at_its_key_or_at_its_question_mark(text: str, wanted: list[str]) -> None:
    source = read_all(text)
    assert entries(source, source.root) == wanted
    assert source.places[id(source.root)].indent == 0


@pytest.mark.parametrize("lead", ["&m", "!!map", "!!map &m", "&m # c", "&m\n\n  # c"])
def test_a_mapping_with_an_anchor_or_tag_stands_where_its_keys_do(lead: str) -> None:
    """Its own mark is that of the anchor or tag."""
    source = read_all(f"x:  {lead}\n    a: b\n    ? c\n    : d\n")
    inner = source.root.get("x")  # type: ignore[union-attr]
    assert source.places[id(inner)].indent == 4
    assert entries(source, inner) == ["a: b", "? c\n    : d"]


def test_what_is_below_an_anchor_counts_as_anchored() -> None:
    """Its plaintext would appear at the alias, wherever that is."""
    source = read_all("a: &x {b: c}\nd: &y\n- e: f\ng: h\ni: &z j\nk: *x\n")
    assert [span.anchored if span else None for span in source.spans] == [True, True, False, True, None]
    assert [source.text[anchor:][:2] + source.text[alias:][:2] for anchor, alias in source.aliases] == ["&x*x"]


def test_duplicate_keys_are_kept() -> None:
    """An item that is not looked at may have them; `refuse_duplicates` is for those that are."""
    root = read_all("a: 1\na: 2\n").root
    assert isinstance(root, Branch)
    assert [entry.value for entry in root.entries] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty document"),
        ("# only a comment\n", "empty document"),
        ("a: b\n---\nc: d\n", "line 2, column 1: more than one document"),
        ("a: [b\n", "line 2, column 1"),
        ("a: b\n\tc: d\n", "line 2, column 1"),
        ("? [a]\n: b\n", "line 1, column 1: a mapping key that is a collection"),
        ("? {a: b}\n: c\n", "a mapping key that is a collection"),
        ("a: !!int b\n", "does not fit its tag"),
        ("a: \x07", "control characters"),
        ("a: \udcff", "lone surrogate"),
    ],
)
def test_what_is_no_single_document_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        read_all(text)


@pytest.mark.parametrize("text", ["a: *b", "a: &b [*b]", "a: &b {c: *b}"])
def test_an_alias_needs_an_anchor_that_is_complete(text: str) -> None:
    with pytest.raises(InputError, match=r"the alias \*b has no anchor, or is inside it"):
        read_all(text)


def test_an_alias_repeats_the_latest_anchor_of_its_name() -> None:
    assert plain(read_all("[&a 1, *a, &a 2, *a, {b: *a, *a : c}]").root) == [1, 1, 2, 2, {"b": 2, 2: "c"}]


def test_limits_count_what_aliases_repeat() -> None:
    """S23: a billion laughs costs a few kilobytes."""
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]\n" for at in range(1, 9))
    with pytest.raises(LimitError, match="after alias expansion"):
        read(laughs, FUNCTION, FUNCTION.run_nodes)
    assert read("[a, {b: c}]", FUNCTION, 5).nodes == 5
    with pytest.raises(LimitError, match="more than 4 nodes"):
        read("[a, {b: c}]", FUNCTION, 4)


def test_the_limit_of_depth_is_exact_and_can_leave_out_what_is_around() -> None:
    deep = Limits(depth=3)
    read("[[[x]]]", deep, 99)
    read("[[[[x]]]]", deep, 99, 1)
    for text, outer in (("[[[[x]]]]", 0), ("[[[[[x]]]]]", 1), ("{a: {b: {c: {}}}}", 0)):
        with pytest.raises(LimitError, match="nested deeper than 3"):
            read(text, deep, 99, outer)


SCALARS = st.text("ab :#-'\"\\\n?!&*|>{}[],😀\x85", max_size=8)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4), max_leaves=12
)


@settings(deadline=None)
@given(st.dictionaries(SCALARS, TREES), st.booleans() | st.none(), st.integers(1, 90), st.booleans())
def test_it_reads_what_pyyaml_writes(tree: dict[str, Any], flow: bool | None, width: int, canonical: bool) -> None:
    """Data and places: every span, read on its own, is its leaf."""
    text = yaml.safe_dump(
        tree, default_flow_style=flow, width=width, canonical=canonical, allow_unicode=True, sort_keys=False
    )
    source = read_all(text, depth=50)
    assert plain(source.root) == yaml.load(text, Loader=yaml.CBaseLoader)
    values = list(leaves(source.root))
    assert len(values) == len(source.spans)
    for value, span in zip(values, source.spans, strict=True):
        assert (
            span is None
            or span.style in "|>"
            or yaml.load(text[span.start : span.end], Loader=yaml.CBaseLoader) == value
        )


def test_the_documents_of_a_stream_have_places_in_its_whole_text() -> None:
    text = "# head\n---\na: {b: 1}\n--- [x, y] # inline\n...\n%YAML 1.1\n---\n---\nz: |\n  two\n  lines\n"
    found = read_stream(text, FUNCTION, 100)
    assert [plain(source.root) for source in found] == [{"a": {"b": 1}}, ["x", "y"], None, {"z": "two\nlines\n"}]
    assert [spelled(source) for source in found] == [["1"], ["x", "y"], [""], ["|\n  two\n  lines"]]
    assert entries(found[3], found[3].root) == ["z: |\n  two\n  lines"]
    assert [source.nodes for source in found] == [5, 3, 1, 3]
    assert read_stream("# nothing\n", FUNCTION, 100) == []


def test_the_documents_of_a_stream_share_nodes_but_no_anchors() -> None:
    with pytest.raises(LimitError, match="more than 6 nodes"):
        read_stream("[1, 2]\n---\n[1, 2, 3]\n", FUNCTION, 6)
    with pytest.raises(InputError, match="has no anchor"):
        read_stream("a: &x 1\n---\nb: *x\n", FUNCTION, 100)
