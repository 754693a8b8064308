"""Which orders of a sorted document are tried, which never are, and where it ends (S8)."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krm_sops import reordering
from krm_sops.reordering import DOCUMENT_HASHES, RUN_HASHES, Budget
from krm_sops.tree import Branch, Entry
from tests.security import made

SELECTED = ("data", "stringData")


def tree(node: Any) -> Any:
    if isinstance(node, dict):
        return Branch([Entry(key, tree(value)) for key, value in node.items()])
    return [tree(element) for element in node] if isinstance(node, list) else node


def sorted_(node: Any) -> Any:
    """As kustomize hands it on."""
    if isinstance(node, dict):
        return {key: sorted_(node[key]) for key in sorted(node)}
    return [sorted_(element) for element in node] if isinstance(node, list) else node


def parts_of(document: Any) -> list[bytes]:
    return [str(value).encode() for _, value in made.leaves(document)]


def verifies(authored: Any, came: Any, budget: Budget | None = None, selected: tuple[str, ...] = SELECTED) -> bool:
    mac = hashlib.sha512(b"".join(parts_of(authored))).digest()
    encrypted = [at for at, (path, _) in enumerate(made.leaves(came)) if path[0] in selected]
    return reordering.verifies([tree(came)], parts_of(came), encrypted, b"", mac, budget or Budget())


def secret(*keys: str, **other: Any) -> dict[str, Any]:
    head = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "prod"}, "type": "Opaque"}
    return head | other | {"stringData": {key: f"value-of-{key}" for key in keys}}


def reordered(node: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: node[key] for key in keys}


LABELS = {f"app.kubernetes.io/{name}": name for name in ("name", "instance", "part-of", "managed-by")}
AUTHORED = {
    "as written by hand": secret("username", "password"),
    "type last": reordered(secret("username", "password"), "apiVersion", "kind", "metadata", "stringData", "type"),
    "data and stringData": secret("z", "a", data={"y": "1", "b": "2"}),
    "labels after the name": secret("z", "a", metadata={"name": "d", "labels": {"a": "x"}, "annotations": {"b": "c"}}),
    "annotations before labels": secret("z", metadata={"name": "d", "annotations": {"a": "b"}, "labels": {"c": "d"}}),
    "recommended labels": secret("z", "a", metadata={"name": "db", "labels": LABELS}),
    "immutable": secret("z", "a", immutable=True),
    "nested ciphertext": {**secret(), "stringData": {"z": {"y": "1", "x": ["2", "3"]}, "a": {"d": "4", "c": "5"}}},
    "seven values in the worst order": secret(*"gfedcba"),
    "many, grouped": secret(*(f"{group}_{word}" for group in ("db", "smtp") for word in ("host", "port", "password"))),
    "many, numbered": secret(*(f"key{number}" for number in range(1, 31))),
    "many, two added at the end": secret(*"bcdefghijklmnopqrstu", "ad", "az"),
}  # fmt: skip


@pytest.mark.parametrize("name", AUTHORED)
def test_the_order_of_a_file_is_found_again(name):
    """S8"""
    authored = AUTHORED[name]
    assert verifies(authored, sorted_(authored))


def test_documents_under_one_mac_are_put_in_order_together():
    authored = [secret("z", "a"), secret("y", "b", type="other")]
    mac = hashlib.sha512(b"".join(map(b"".join, map(parts_of, authored)))).digest()
    for documents, expected in ((authored, True), (authored[::-1], False), (authored[:1], False)):
        came = [sorted_(document) for document in documents]
        parts = [part for document in came for part in parts_of(document)]
        found = reordering.verifies(list(map(tree, came)), parts, range(len(parts)), b"", mac, Budget())
        assert found is expected


def test_a_file_of_very_many_documents_has_to_be_written_as_people_do():
    """S8"""
    authored = [secret("username", "password", type=str(at)) for at in range(200)]
    came = [sorted_(document) for document in authored]
    mac = hashlib.sha512(b"".join(map(b"".join, map(parts_of, authored)))).digest()
    parts = [part for document in came for part in parts_of(document)]
    encrypted = [at for at, part in enumerate(parts) if part.startswith(b"value-of-")]
    budget = Budget()
    assert reordering.verifies(list(map(tree, came)), parts, encrypted, b"", mac, budget)
    assert RUN_HASHES - budget.left < 100


def test_the_seed_of_encrypted_only_macs_counts():
    authored = secret("z", "a")["stringData"]
    mac = hashlib.sha512(made.ONLY_ENCRYPTED_SEED + b"".join(parts_of(authored))).digest()
    came = sorted_(authored)
    for seed, expected in ((made.ONLY_ENCRYPTED_SEED, True), (b"", False)):
        assert reordering.verifies([tree(came)], parts_of(came), (0, 1), seed, mac, Budget()) is expected


orders = st.permutations(range(6))
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@settings(max_examples=50)
@given(orders, st.lists(texts, min_size=6, max_size=6), st.booleans(), st.integers(0, 10))
def test_any_order_of_six_values_is_found_and_a_changed_value_in_none(order, values, type_last, changed):
    """S8"""
    data = {f"k{at}": values[at] for at in order}
    keys = ("apiVersion", "kind", "metadata", *(("stringData", "type") if type_last else ("type", "stringData")))
    authored = reordered({**secret(), "stringData": data}, *keys)
    came = sorted_(authored)
    assert verifies(authored, came)
    path, value = list(made.leaves(came))[changed]
    place: Any = came
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value + "\x00"
    assert not verifies(authored, came)


@pytest.mark.parametrize("count", range(1, 7))
def test_every_order_comes_once_the_plausible_ones_first(count):
    first = [tuple(range(count))[::-1], tuple(range(count))]
    found = list(reordering._moved(first))
    assert found[: len(set(first))] == list(dict.fromkeys(first))
    assert sorted(found) == sorted(itertools.permutations(range(count)))


def hashes(authored: Any, came: Any, selected: tuple[str, ...] = SELECTED) -> int:
    """How many it took to give up."""
    budget = Budget()
    assert not verifies(authored, came, budget, selected)
    return RUN_HASHES - budget.left


def test_lists_are_never_put_in_another_order():
    """S8"""
    authored = {**secret(), "stringData": {"list": ["b", "a", "c"]}}
    came = sorted_(authored)
    assert verifies(authored, came)
    came["stringData"]["list"] = ["a", "b", "c"]
    assert hashes(authored, came) <= 3


def test_a_mapping_with_clear_values_has_three_layouts_at_most():
    """S8: a mapping of 12 clear keys stays in bound."""
    clear = {f"k{at}": str(at) for at in range(12)}
    authored = dict(reversed(clear.items()))
    assert hashes(authored, clear) == 0 + 1
    assert hashes({"spec": authored}, {"spec": clear | {"name": "x", "labels": "y", "annotations": "z"}}) == 3
    one_of_them = {"stringData": authored}
    came = {"stringData": {"metadata": "not ciphertext", **clear}}
    encrypted = range(1, 13)
    mac = hashlib.sha512(b"".join(parts_of(one_of_them))).digest()
    budget = Budget()
    assert not reordering.verifies([tree(came)], parts_of(came), encrypted, b"", mac, budget)
    assert RUN_HASHES - budget.left <= 3


def test_a_colon_in_a_key_unpins_what_is_below():
    """S8: the tag of a:b is that of b in a."""
    authored = {"stringData": {"z": "1", "a:b": "2"}}
    assert not verifies(authored, sorted_(authored))
    assert verifies({"stringData": {"z": "1", "a.b": "2"}}, {"stringData": {"a.b": "2", "z": "1"}})


def test_values_that_the_mac_does_not_cover_do_not_count():
    """S8: null and the empty string, wherever they stand, and with mac_only_encrypted whatever is clear."""
    parts = [b"", b"1", b"", b"2", b""]
    came = tree({"a": None, "b": "1", "c": "", "d": "2", "e": "clear"})
    mac = hashlib.sha512(b"21").digest()
    assert reordering.verifies([came], parts, (1, 3), b"", mac, Budget())
    assert not reordering.verifies([came], parts, (1,), b"", mac, Budget())


@pytest.mark.parametrize("size", [10, 1_000, 100_000])
@pytest.mark.parametrize("count", [12, 300])
def test_a_document_costs_so_much_at_most_whatever_its_size(count, size):
    """S8"""
    authored = secret(*(f"k{at:03}" for at in range(count)))
    came = sorted_(authored)
    authored["stringData"]["k000"] = "x" * size
    came["stringData"]["k000"] = "y" * size
    spent = hashes(authored, came)
    assert DOCUMENT_HASHES <= spent <= DOCUMENT_HASHES + 1 + size * count // 2048


def test_a_run_costs_so_much_at_most():
    """S8"""
    authored = secret(*(f"k{at}" for at in range(9)))
    came = sorted_(authored)
    came["type"] = "changed"
    budget = Budget(DOCUMENT_HASHES + 10)
    assert not verifies(authored, came, budget)
    assert budget.left == 10
    assert not verifies(authored, came, budget)
    assert budget.left == 0
    assert not verifies(secret("b", "a"), sorted_(secret("b", "a")), budget)


def test_many_mappings_are_no_trouble():
    """S8"""
    authored = {"data": [{f"k{key}": f"{at}-{key}" for key in (2, 1, 0)} for at in range(1000)]}
    came = sorted_(authored)
    came["data"][0]["k0"] = "changed"
    assert hashes(authored, came) <= DOCUMENT_HASHES + 200
    deep: Any = "x"
    for _ in range(100):
        deep = {"b": deep, "a": "y"}
    assert hashes({"data": "other"}, {"data": deep}) <= DOCUMENT_HASHES + 200


def test_a_mac_that_is_no_digest_verifies_nothing():
    assert not reordering.verifies([tree({"a": "1"})], [b"1"], (0,), b"", b"", Budget())
    assert not reordering.verifies([], [], (), b"", b"\0" * 64, Budget())
    assert math.factorial(7) < DOCUMENT_HASHES < RUN_HASHES
