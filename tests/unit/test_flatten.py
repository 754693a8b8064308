"""Flat keys spell a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from krm_sops.errors import LimitError, MetadataError
from krm_sops.stores.flatten import take_metadata, unflatten
from krm_sops.tree import Branch, Comment, Entry

if TYPE_CHECKING:
    from krm_sops.tree import Node


def tree(*pairs: tuple[str, str]) -> Branch:
    return unflatten(Entry(key, value) for key, value in pairs)


def branch(**values: Node) -> Branch:
    return Branch(Entry(key, value) for key, value in values.items())


def test_keys_without_markers_stay_and_are_sorted() -> None:
    assert tree(("version", "3"), ("mac", "m")) == branch(mac="m", version="3")


def test_maps_and_lists_are_rebuilt_in_any_order() -> None:
    assert tree(
        ("age__list_1__map_enc", "e1"),
        ("age__list_0__map_recipient", "r0"),
        ("age__list_0__map_enc", "e0"),
        ("kms__list_0__map_context__map_tenant", "t"),
    ) == branch(
        age=[branch(enc="e0", recipient="r0"), branch(enc="e1")],
        kms=[branch(context=branch(tenant="t"))],
    )


def test_lists_of_lists_and_key_groups() -> None:
    assert tree(("key_groups__list_0__map_age__list_0__map_enc", "e")) == branch(
        key_groups=[branch(age=[branch(enc="e")])]
    )
    assert tree(("a__list_0__list_0", "x"), ("a__list_0__list_1", "y")) == branch(a=[["x", "y"]])


def test_more_than_nine_elements_count_as_numbers() -> None:
    assert tree(*((f"a__list_{n}", str(n)) for n in range(12))) == branch(a=[str(n) for n in range(12)])


def test_a_key_may_look_odd() -> None:
    assert tree(("__map_a", "1")) == Branch([Entry("", branch(a="1"))])
    assert tree(("a__map_", "1")) == branch(a=Branch([Entry("", "1")]))
    assert tree(("a_map_b", "1")) == branch(a_map_b="1")


def test_what_is_no_list_position_counts_as_zero() -> None:
    assert tree(("a__list_x", "1")) == branch(a=["1"])


def test_comments_are_left_out() -> None:
    assert unflatten([Entry(Comment("c"), None), Entry("a", "1")]) == branch(a="1")
    assert unflatten([]) == Branch()


@pytest.mark.parametrize(
    "keys",
    [
        ["a", "a"],
        ["a", "a__map_b"],
        ["a", "a__list_0"],
        ["a__map_b", "a__list_0"],
        ["a__list_1"],
        ["a__list_0", "a__list_2"],
        ["a__list_0", "a__list_x"],
        ["a__list_99999999999999999999"],
        ["a__list_0", "a__list_18446744073709551617"],
    ],
)
def test_ambiguous_and_broken_keys_are_refused(keys: list[str]) -> None:
    with pytest.raises(MetadataError):
        tree(*((key, "v") for key in keys))


def test_a_huge_position_allocates_nothing() -> None:
    with pytest.raises(MetadataError, match="holes"):
        tree(("a__list_999999999", "v"))


def test_a_key_of_many_steps_is_a_limit_error() -> None:
    with pytest.raises(LimitError):
        tree(("a" + "__map_a" * 100_000, "v"))


def test_metadata_is_taken_off_a_tree() -> None:
    metadata = branch(mac="m")
    assert take_metadata(branch(a=1, sops=metadata, b=2)) == (branch(a=1, b=2), metadata)
    assert take_metadata(branch(a=branch(sops=metadata))) == (branch(a=branch(sops=metadata)), None)
