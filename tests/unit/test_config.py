"""The functionConfig: what is wrong is named, with what would be right; and selectors as in a Kptfile."""

from __future__ import annotations

import pytest

from krm_sops.errors import ConfigError
from krm_sops.krm.config import Fields, Selector, from_kustomize
from krm_sops.krm.item import Item
from krm_sops.limits import FUNCTION
from krm_sops.tree import Branch
from krm_sops.yamlio import read


def item_of(text: str) -> Item:
    source = read(text, FUNCTION, 1000)
    assert isinstance(source.root, Branch)
    return Item(source, source.root)


def fields(text: str, *allowed: str, where: str = "spec") -> Fields:
    return Fields(read(text, FUNCTION, 1000).root, where, allowed)


def test_an_unknown_field_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"spec has no field 'secretref'; allowed: secretRef, mac") as caught:
        fields("secretref: x", "secretRef", "mac")
    assert caught.value.path == ("spec",)


@pytest.mark.parametrize("text", ["text", "[a]", "5"])
def test_what_must_be_a_mapping_is_one(text: str) -> None:
    with pytest.raises(ConfigError, match="spec must be a mapping"):
        fields(text)
    with pytest.raises(ConfigError, match=r"spec.inner must be a mapping"):
        fields(f"inner: {text}", "inner").mapping("inner", ())


def test_nothing_is_an_empty_mapping() -> None:
    """`spec:` and a missing spec are the same, and so are a null and a missing field."""
    for text in ("{}", "null", "a: null\nb: ~"):
        given = fields(text, "a", "b")
        assert not given.has("a")
        assert (given.text("a"), given.text("b", "x"), given.flag("a"), given.mappings("a", ())) == ("", "x", False, [])
        assert (given.choice("a", ("y", "n"), "y"), given.texts("b")) == ("y", {})


@pytest.mark.parametrize("value", ["5", "true", "1.5", "[a]", "{a: b}", "2024-01-01"])
def test_a_string_is_a_string(value: str) -> None:
    """No number turns into a name by accident."""
    with pytest.raises(ConfigError, match=r"spec.name must be a string") as caught:
        fields(f"name: {value}", "name").text("name")
    assert caught.value.path == ("spec", "name")


def test_a_choice_shows_what_is_allowed_and_a_cut_of_what_was_given() -> None:
    with pytest.raises(ConfigError, match=r"spec.mac is 'lax'; allowed: auto, strict"):
        fields("mac: lax", "mac").choice("mac", ("auto", "strict"), "auto")
    with pytest.raises(ConfigError) as caught:
        fields(f'mac: "{"x" * 500}\\n\\e"', "mac").choice("mac", ("auto",), "auto")
    assert len(str(caught.value)) < 120
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("value", "where", "is_set"),
    [
        ("true", "spec", True),
        ("false", "spec", False),
        ("'true'", "data", True),
        ("'false'", "data", False),
        ("true", "data", True),
    ],
)
def test_a_flag_is_a_boolean_and_in_a_config_map_its_spelling(value: str, where: str, is_set: bool) -> None:
    assert fields(f"strict: {value}", "strict", where=where).flag("strict") is is_set


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("'true'", "spec"),
        ("1", "spec"),
        ("0", "spec"),
        ("0.0", "spec"),
        ("yes", "spec"),
        ("'yes'", "data"),
        ("'True'", "data"),
        ("1", "data"),
        ("''", "data"),
        ("[]", "spec"),
    ],
)
def test_nothing_else_is_a_flag(value: str, where: str) -> None:
    """A wrong type is an error; a zero is no false, which could hide that a guard is off."""
    with pytest.raises(ConfigError, match=f"{where}.strict must be true or false"):
        fields(f"strict: {value}", "strict", where=where).flag("strict")


def test_lists_of_mappings_say_which_element_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"spec.keys must be a list"):
        fields("keys: {a: b}", "keys").mappings("keys", ("a",))
    with pytest.raises(ConfigError, match=r"spec.keys\[1\] has no field 'b'"):
        fields("keys: [{a: x}, {b: y}]", "keys").mappings("keys", ("a",))
    with pytest.raises(ConfigError, match=r"spec.keys\[0\] must be a mapping"):
        fields("keys: [x]", "keys").mappings("keys", ("a",))


@pytest.mark.parametrize("text", ["m: {a: 5}", "m: {5: a}", "m: {a: null}", "m: [a]"])
def test_a_mapping_of_strings_holds_strings(text: str) -> None:
    with pytest.raises(ConfigError, match=r"spec.m must"):
        fields(text, "m").texts("m")


# Selectors

ITEM = """\
apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: prod
  labels: {app: shop, tier: back}
  annotations: {a: b}
"""


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("{}", True),
        ("{kind: Secret}", True),
        ("{kind: secret}", False),
        ("{apiVersion: v1, kind: Secret, name: db, namespace: prod}", True),
        ("{apiVersion: v1, kind: Secret, name: db, namespace: test}", False),
        ("{namespace: ''}", False),
        ("{labels: {app: shop}}", True),
        ("{labels: {app: shop, tier: front}}", False),
        ("{labels: {missing: x}}", False),
        ("{labels: {missing: ''}}", True),
        ("{annotations: {a: b}, kind: Secret}", True),
        ("{annotations: {a: c}}", False),
    ],
)
def test_every_field_of_a_selector_must_be_equal(selector: str, matches: bool) -> None:
    (one,) = Selector.all_of(fields(f"selectors: [{selector}]", "selectors"), "selectors")
    assert one.matches(item_of(ITEM)) is matches


@pytest.mark.parametrize("selector", ["{names: x}", "{name: [x]}", "{labels: x}", "x", "{labelSelector: a=b}"])
def test_a_selector_that_is_none_is_refused(selector: str) -> None:
    with pytest.raises(ConfigError, match=r"spec.selectors\[0\]"):
        Selector.all_of(fields(f"selectors: [{selector}]", "selectors"), "selectors")


def test_kustomize_is_known_by_its_annotation_on_the_config() -> None:
    config = "kind: SopsDecrypt\nmetadata: {name: x, annotations: {%s: 'exec: {path: x}'}}\n"
    assert from_kustomize(item_of(config % "config.kubernetes.io/function"))
    assert from_kustomize(item_of(config % "config.k8s.io/function"))
    assert not from_kustomize(item_of(config % "config.kubernetes.io/local-config"))
    assert not from_kustomize(None)
