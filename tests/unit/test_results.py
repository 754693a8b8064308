"""Results: the fields of the KRM Functions Specification v1, in YAML and JSON, whatever the foreign texts in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from krm_sops.errors import ConfigError, TagMismatch
from krm_sops.krm.item import Item
from krm_sops.krm.results import Result, in_block, in_flow
from krm_sops.limits import FUNCTION
from krm_sops.stores.json import read_source
from krm_sops.tree import Branch

ALLOWED = {"message", "severity", "resourceRef", "field", "file", "tags"}


def item_of(tree: dict[str, Any]) -> Item:
    source = read_source(json.dumps(tree), FUNCTION, 1000)
    assert isinstance(source.root, Branch)
    return Item(source, source.root)


SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "db",
        "namespace": "prod",
        "annotations": {"internal.config.kubernetes.io/path": "a.yaml", "internal.config.kubernetes.io/index": "2"},
    },
}


def test_a_result_has_the_fields_of_the_specification() -> None:
    error = TagMismatch("the value was altered", hint="restore it", path=("data", "a"))
    result = Result.of(error, item_of(SECRET))
    wanted = {
        "message": "the value was altered (hint: restore it)",
        "severity": "error",
        "resourceRef": {"apiVersion": "v1", "kind": "Secret", "name": "db", "namespace": "prod"},
        "field": {"path": "data.a"},
        "file": {"path": "a.yaml", "index": 2},
        "tags": {"reason": "TagMismatch"},
    }
    assert result.fields() == wanted
    assert yaml.safe_load(in_block([result])) == [wanted]
    assert json.loads("[" + in_flow([result, result]) + "]") == [wanted, wanted]
    assert result.line() == "a.yaml[2]: Secret/prod/db: data.a: the value was altered"


def test_what_is_not_known_is_left_out() -> None:
    """No item: no reference, and then no field either, as a field needs a reference; no file: no file."""
    result = Result.of(ConfigError("spec.mac is wrong", path=("spec", "mac")))
    assert result.fields() == {"message": "spec.mac is wrong", "severity": "error", "tags": {"reason": "InvalidConfig"}}
    bare = Result("warning", "X", "y", item=item_of({"a": "b"}), field="a").fields()
    assert "file" not in bare
    assert yaml.safe_load(in_block([Result("info", "X", "y", item=item_of({"a": "b"}))])) is not None


@pytest.mark.parametrize("margin", ["", "  "])
def test_a_block_can_stand_at_any_margin(margin: str) -> None:
    results = [Result("info", "X", "one"), Result("warning", "Y", "two: # 'it'", item=item_of(SECRET), field="a")]
    text = f"a:\n{margin}- b: c\n{in_block(results, margin)}"
    assert yaml.safe_load(text)["a"][1:] == [result.fields() for result in results]


@pytest.mark.parametrize("index", ["", "x", "-1", "99999999999", "²", "٣", "1.5"])
def test_an_index_that_is_none_counts_as_the_first(index: str) -> None:
    metadata = {
        "name": "x",
        "annotations": {"config.kubernetes.io/path": "f", "internal.config.kubernetes.io/index": index},
    }
    assert Result("info", "X", "y", item=item_of({"metadata": metadata})).fields()["file"] == {"path": "f", "index": 0}


@given(st.text(max_size=30) | st.text(st.characters(max_codepoint=0x2FF), max_size=30), st.text(max_size=9))
def test_no_foreign_text_breaks_the_list(text: str, other: str) -> None:
    """S33: names and paths of others, with line breaks, controls, or quotes, stay one harmless line each."""
    annotations = {"config.kubernetes.io/path": text}
    item = item_of(
        {"kind": other, "apiVersion": text, "metadata": {"name": text, "namespace": other, "annotations": annotations}}
    )
    result = Result("error", "X", "message", item=item, field=text)
    for read in (
        yaml.safe_load(in_block([result])),
        yaml.safe_load(f"[{in_flow([result])}]"),
        json.loads(f"[{in_flow([result])}]"),
    ):
        assert read == [result.fields()]
    assert set(result.fields()) <= ALLOWED
    assert result.line().isprintable()


def test_long_texts_are_cut() -> None:
    """A name of a megabyte is no reason for a message of a megabyte."""
    metadata = {"name": "n" * 10**6, "annotations": {"config.kubernetes.io/path": "p" * 10**6}}
    result = Result("error", "X", "message", item=item_of({"metadata": metadata}), field="f" * 10**6)
    assert len(in_block([result])) < 3000
    assert len(result.line()) < 1000
