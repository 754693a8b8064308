"""A SopsSecret becomes the Secrets that its operator would create, and nothing where it describes none."""

from __future__ import annotations

from typing import Any

import pytest

from krm_sops.errors import InputError
from krm_sops.functions.expand import is_sops_secret, is_suspended, secrets_of
from krm_sops.limits import FUNCTION
from krm_sops.tree import Branch, Comment, Entry
from krm_sops.yamlio import read
from tests.security import made

ALPHA1, ALPHA2, ALPHA3 = (f"isindir.github.com/v1alpha{number}" for number in (1, 2, 3))
PEAK_SCALE = "addons.projectcapsule.dev/v1alpha1"
LISTED_UNDER = {ALPHA1: "secret_templates", ALPHA2: "secretTemplates", ALPHA3: "secretTemplates", PEAK_SCALE: "secrets"}


def tree(node: dict[str, Any]) -> Branch:
    root = read(made.yaml(node), FUNCTION, FUNCTION.run_nodes).root
    assert isinstance(root, Branch)
    return root


def plain(node: Any) -> Any:
    if isinstance(node, Branch):
        return {entry.key: plain(entry.value) for entry in node.entries}
    return node


def resource(version: str, *templates: Any, kind: str = "SopsSecret", **spec: Any) -> Branch:
    return tree(
        {
            "apiVersion": version,
            "kind": kind,
            "metadata": {
                "name": "source",
                "namespace": "team",
                "labels": {"of": "the resource"},
                "annotations": {"config.kubernetes.io/path": "a.yaml", "config.kubernetes.io/index": "0"},
            },
            "spec": {**spec, LISTED_UNDER[version]: list(templates)},
        }
    )


def expanded(version: str, *templates: Any, **options: Any) -> list[Any]:
    return [plain(secret) for secret in secrets_of(resource(version, *templates, **options))]


def secret(name: str, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", **fields}


def test_each_template_becomes_a_secret_in_the_namespace_of_the_resource_in_order():
    one, two = {"name": "b", "stringData": {"x": "1", "a": "2"}}, {"name": "a", "data": {"k": "dmFsdWU="}}
    assert expanded(ALPHA3, one, two) == [
        secret("b", stringData={"x": "1", "a": "2"}),
        secret("a", data={"k": "dmFsdWU="}),
    ]


def test_labels_annotations_and_type_are_the_templates_own():
    template = {"name": "a", "labels": {"l": "1"}, "annotations": {"n": "2"}, "type": "custom/type", "stringData": {}}
    (found,) = expanded(ALPHA3, template)
    assert found["metadata"] == {"name": "a", "namespace": "team", "labels": {"l": "1"}, "annotations": {"n": "2"}}
    assert found["type"] == "custom/type"


@pytest.mark.parametrize("version", [ALPHA1, ALPHA2])
def test_data_of_the_first_two_versions_is_text(version):
    assert expanded(version, {"name": "a", "data": {"k": "dmFsdWU="}}) == [secret("a", stringData={"k": "dmFsdWU="})]


@pytest.mark.parametrize("version", [ALPHA1, ALPHA2])
def test_string_data_of_the_first_two_versions_is_refused_as_it_would_be_lost(version):
    with pytest.raises(InputError, match="has no stringData") as raised:
        expanded(version, {"name": "a", "stringData": {"k": "v"}})
    assert raised.value.path == ("spec", f"{LISTED_UNDER[version]}[0]", "stringData")


def test_where_data_and_string_data_name_the_same_key_the_operators_differ():
    """isindir's decodes data over stringData; of a Secret with both, which peak-scale's makes, stringData counts."""
    both = {"name": "a", "data": {"k": "ZGF0YQ=="}, "stringData": {"k": "text", "other": "x"}}
    assert expanded(ALPHA3, both) == [secret("a", data={"k": "ZGF0YQ=="}, stringData={"other": "x"})]
    assert expanded(PEAK_SCALE, both) == [secret("a", data=both["data"], stringData=both["stringData"])]


def test_bytes_that_are_no_text_survive():
    assert expanded(ALPHA3, {"name": "a", "data": {"k": "/wA="}}) == [secret("a", data={"k": "/wA="})]


def test_metadata_of_peak_scales_resource_is_added_and_its_items_win():
    common = {"prefix": "p-", "suffix": "-s", "labels": {"a": "c", "b": "c"}, "annotations": {"n": "c"}}
    item = {"name": "x", "labels": {"b": "i"}, "immutable": True, "stringData": {"k": "v"}}
    (found,) = expanded(PEAK_SCALE, item, metadata=common)
    assert found["metadata"] == {
        "name": "p-x-s",
        "namespace": "team",
        "labels": {"a": "c", "b": "i"},
        "annotations": {"n": "c"},
    }
    assert found["immutable"] is True


def test_a_cluster_wide_resource_names_the_namespace_of_each_secret():
    one, two = ({"name": "a", "namespace": namespace, "stringData": {"k": "v"}} for namespace in ("x", "y"))
    found = expanded(PEAK_SCALE, one, two, kind="GlobalSopsSecret")
    assert [secret["metadata"] for secret in found] == [
        {"name": "a", "namespace": "x"},
        {"name": "a", "namespace": "y"},
    ]
    with pytest.raises(InputError, match="needs a namespace"):
        expanded(PEAK_SCALE, {"name": "a"}, kind="GlobalSopsSecret")


def test_a_resource_without_a_namespace_gives_secrets_without_one():
    given = resource(ALPHA3, {"name": "a"})
    metadata = given.get("metadata")
    assert isinstance(metadata, Branch)
    metadata.entries = [entry for entry in metadata.entries if entry.key != "namespace"]
    assert plain(secrets_of(given)[0])["metadata"] == {"name": "a"}


def test_comments_are_no_templates_and_no_values():
    given = resource(ALPHA3, {"name": "a", "stringData": {"k": "v"}})
    spec = given.get("spec")
    assert isinstance(spec, Branch)
    (template,) = spec.entries[0].value
    spec.entries[0].value = [Comment(" first"), template]
    template.entries[1].value.entries.insert(0, Entry(Comment(" about k"), None))
    assert [plain(found) for found in secrets_of(given)] == [secret("a", stringData={"k": "v"})]


@pytest.mark.parametrize(
    ("version", "template", "path", "message"),
    [
        (ALPHA3, {"stringData": {"k": "v"}}, "spec.secretTemplates[0]", "needs a name"),
        (ALPHA3, {"name": ""}, "spec.secretTemplates[0]", "needs a name"),
        (ALPHA3, "text", "spec.secretTemplates[0]", "must be a mapping"),
        (ALPHA3, {"name": 7}, "spec.secretTemplates[0].name", "must be a string"),
        (ALPHA3, {"name": "a", "stringData": {"port": 5432}}, "spec.secretTemplates[0].stringData.port", "a string"),
        (ALPHA3, {"name": "a", "stringData": ["v"]}, "spec.secretTemplates[0].stringData", "must be a mapping"),
        (ALPHA3, {"name": "a", "labels": {"l": True}}, "spec.secretTemplates[0].labels.l", "must be a string"),
        (ALPHA3, {"name": "a", "data": {"k": "not base64"}}, "spec.secretTemplates[0].data.k", "no base64"),
        (ALPHA3, {"name": "a", "data": {"k": "dmFsdWU"}}, "spec.secretTemplates[0].data.k", "no base64"),
        (ALPHA3, {"name": "a", "data": {"k": "päss"}}, "spec.secretTemplates[0].data.k", "no base64"),
        (PEAK_SCALE, {"name": "a", "data": {"k": "-"}}, "spec.secrets[0].data.k", "no base64"),
        (PEAK_SCALE, {"name": "a", "immutable": "yes"}, "spec.secrets[0].immutable", "true or false"),
    ],
)
def test_what_no_secret_can_be_made_of_is_refused_with_its_path(version, template, path, message):
    with pytest.raises(InputError, match=message) as raised:
        expanded(version, template)
    assert ".".join(raised.value.path) == path


def test_no_message_quotes_a_value():
    with pytest.raises(InputError) as raised:
        expanded(ALPHA3, {"name": "a", "data": {"k": "hunter2!"}})
    assert "hunter2" not in raised.value.message + raised.value.hint


@pytest.mark.parametrize("version", LISTED_UNDER)
def test_two_secrets_of_one_name_are_refused(version):
    with pytest.raises(InputError, match="another Secret 'a'") as raised:
        expanded(version, {"name": "a"}, {"name": "b"}, {"name": "a"})
    assert raised.value.path == ("spec", f"{LISTED_UNDER[version]}[2]", "name")


@pytest.mark.parametrize("version", LISTED_UNDER)
def test_a_resource_without_templates_is_refused(version):
    with pytest.raises(InputError, match="at least one Secret"):
        expanded(version)


def test_the_field_of_another_version_is_not_taken_for_this_one():
    given = resource(ALPHA1, {"name": "a", "data": {}})
    given.entries[0].value = ALPHA3
    with pytest.raises(InputError) as raised:
        secrets_of(given)
    assert raised.value.path == ("spec", "secretTemplates")


@pytest.mark.parametrize("version", [ALPHA3, PEAK_SCALE])
def test_masked_it_has_the_shape_that_it_has_otherwise(version):
    """S27: although names, which are encrypted as a rule, are all alike then."""
    template = {"name": "***", "data": {"k": "Kioq"}, "stringData": {"t": "***"}, "immutable": "***"}
    given = resource(version, template, template)
    assert [plain(found) for found in secrets_of(given, "***")] == [
        secret(f"***-{number}", data={"k": "Kioq"}, stringData={"t": "***"}) for number in (1, 2)
    ]
    with pytest.raises(InputError):
        secrets_of(given)


def test_which_resources_are_meant():
    for version in LISTED_UNDER:
        assert is_sops_secret(resource(version, {"name": "a"}))
    assert is_sops_secret(resource(PEAK_SCALE, {"name": "a"}, kind="GlobalSopsSecret"))
    assert not is_sops_secret(resource(ALPHA3, {"name": "a"}, kind="GlobalSopsSecret"))
    assert not is_sops_secret(tree({"apiVersion": "goabout.com/v1beta1", "kind": "SopsSecret"}))
    assert not is_sops_secret(tree({"apiVersion": "isindir.github.com/v1beta1", "kind": "SopsSecret"}))


def test_suspended_is_what_isindirs_operator_leaves_alone():
    assert is_suspended(resource(ALPHA3, {"name": "a"}, suspend=True))
    assert not is_suspended(resource(ALPHA3, {"name": "a"}, suspend=False))
    assert not is_suspended(resource(ALPHA3, {"name": "a"}))
    assert not is_suspended(resource(PEAK_SCALE, {"name": "a"}, suspend=True))
