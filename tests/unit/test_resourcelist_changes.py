"""Objects that are added to a list, or take the place of an item: both readers, block and flow style."""

from __future__ import annotations

import json
from itertools import product

import pytest
import yaml

from krm_sops.krm.resourcelist import ResourceList
from krm_sops.limits import FUNCTION
from krm_sops.tree import Branch, Entry

HEAD = "apiVersion: config.kubernetes.io/v1\nkind: ResourceList\n"
ITEM = "- kind: {0}\n  metadata:\n    name: {0}\n"
WIDE = "  - kind: {0} # wide\n    metadata: {{name: {0}}}\n"
CONFIG = "functionConfig:\n  kind: Config\n  metadata:\n    name: c\n"
NASTY = "first\n\nthird: 'x'\n\n\n"


def made(name: str) -> Branch:
    metadata = Branch([Entry("name", name)])
    return Branch([Entry("kind", "New"), Entry("metadata", metadata), Entry("text", NASTY), Entry("none", Branch())])


def block(item: str, names: str, tail: str) -> str:
    return HEAD + "items:\n" + "".join(item.format(name) for name in names) + tail


LISTS = [
    *(block(item, "ABC", tail) for item, tail in product((ITEM, WIDE), ("", CONFIG, "results: []\n"))),
    block(ITEM, "ABC", "").removesuffix("\n"),
    json.dumps({"kind": "ResourceList", "items": [{"kind": k, "metadata": {"name": k}} for k in "ABC"]}),
    "kind: ResourceList\nitems: [{kind: A}, {kind: B}, {kind: C}]\n",
]


def written(text: str, exact: bool, **changes: object) -> list[str]:
    """The kinds of the items that leave; `replaced` and `without` name items by their kind."""
    given = ResourceList(text.encode(), FUNCTION, exact=exact)
    for kind, names in changes.get("replaced", {}).items():  # type: ignore[union-attr]
        given.of_kind(kind)[0].replacement = [made(name) for name in names]
    without = [given.of_kind(kind)[0] for kind in changes.get("without", "")]  # type: ignore[union-attr]
    added = [made(name) for name in changes.get("added", "")]  # type: ignore[union-attr]
    output = given.write(without=without, added=added)
    for item in yaml.safe_load(output)["items"]:
        assert item["kind"] != "New" or (item["text"], item["none"]) == (NASTY, {})
    again = yaml.safe_load(output)
    assert {key: again[key] for key in again if key != "items"} == {
        key: value for key, value in yaml.safe_load(text).items() if key != "items"
    }
    return [item["metadata"]["name"] if item["kind"] == "New" else item["kind"] for item in again["items"]]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({"added": "xy"}, "ABCxy"),
        ({"replaced": {"A": "xy"}}, "xyBC"),
        ({"replaced": {"C": "x"}}, "ABx"),
        ({"replaced": {"B": ""}}, "AC"),
        ({"replaced": {"A": "", "B": "", "C": ""}}, ""),
        ({"replaced": {"A": "", "B": "x", "C": ""}}, "x"),
        ({"without": "ABC", "added": "x"}, "x"),
        ({"without": "A", "replaced": {"B": "x", "C": "y"}, "added": "z"}, "xyz"),
        ({"without": "B", "replaced": {"B": "x"}}, "AC"),
    ],
)
def test_objects_come_and_go(text, exact, changes, kinds):
    assert "".join(written(text, exact, **changes)) == kinds


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("text", [HEAD, HEAD + "items: []\n", HEAD + "items:\n", HEAD + "items: null\n" + CONFIG])
def test_a_list_without_items_gets_its_first(text, exact):
    assert written(text, exact, added="xy") == ["x", "y"]
    assert ResourceList(text.encode(), FUNCTION, exact=exact).write() == text.encode()


@pytest.mark.parametrize("exact", [False, True])
def test_a_failure_changes_nothing(exact):
    text = block(ITEM, "AB", CONFIG)
    given = ResourceList(text.encode(), FUNCTION, exact=exact)
    given.of_kind("A")[0].replacement = [made("x")]
    assert given.write(changed=False, added=[made("y")]) == text.encode()


@pytest.mark.parametrize("spelled", ["kind: Wanted", 'kind: "Wan\\x74ed"', "kind: !!str Wanted", '"\\x6bind": Wanted'])
def test_a_kind_is_found_however_it_is_spelled(spelled):
    text = f"{HEAD}items:\n- kind: Other\n  metadata: {{name: Wanted}}\n- {spelled}\n  metadata:\n    name: w\n"
    for exact in (False, True):
        found = ResourceList(text.encode(), FUNCTION, exact=exact).of_kind("Wanted")
        assert [item.name for item in found] == ["w"]
