"""spec.needsHash: what is marked for kustomize, and which values the hash would give away (S26)."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
import yaml

from tests.security import made

MARK = "internal.config.kubernetes.io/needsHashSuffix"
CONFIG: dict[str, Any] = {
    "apiVersion": "krm-sops.dev/v1alpha1",
    "kind": "SopsDecrypt",
    "metadata": {"name": "d", "annotations": {"config.kubernetes.io/function": "exec: {path: krm-sops}"}},
    "spec": {"needsHash": True, "keys": [{"value": made.IDENTITY}], "include": ["configMaps", "sopsSecrets"]},
}
STRONG = "Vb2nRkcQzJx7hTwLdF9sMgYpA4eUo3Xi"


def run(*items: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    output, results, status = made.function(made.resource_list(*items, config=CONFIG))
    assert status == 0, [result.line() for result in results]
    return yaml.safe_load(output)["items"], results


def item(kind: str = "Secret", field: str = "stringData", version: str = "v1", **values: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, field: values}


def is_marked(found: dict[str, Any]) -> bool:
    return found["metadata"].get("annotations") == {MARK: "enabled"}


def test_decrypted_secrets_and_config_maps_are_marked_and_nothing_else():
    inner = b64encode(made.yaml(made.document({"token": STRONG})).encode()).decode()
    items = [
        made.encrypted(item(a=STRONG)),
        made.encrypted(item("ConfigMap", "data", a=STRONG)),
        item(field="data", **{"a.yaml": inner}),
        made.encrypted(item("Other", "spec", "example.com/v1", a=STRONG)),
        item(a="plain"),
    ]
    found, results = run(*items)
    assert [is_marked(one) for one in found] == [True, True, True, False, False]
    assert results == []


def test_the_secrets_of_a_sops_secret_are_marked():
    templates = [
        {"name": "one", "stringData": {"a": STRONG, "pin": "4711"}},
        {"name": "two", "annotations": {"b": "c"}},
    ]
    resource = {"apiVersion": "isindir.github.com/v1alpha3", "kind": "SopsSecret", "metadata": {"name": "s"}}
    whole = {**resource, "spec": {"secretTemplates": templates}}
    found, results = run(made.encrypted(whole, mac_only_encrypted=True))
    assert [(one["kind"], one["metadata"]["annotations"]) for one in found] == [
        ("Secret", {MARK: "enabled"}),
        ("Secret", {"b": "c", MARK: "enabled"}),
    ]
    assert [(result.reason, result.item.kind) for result in results] == [("HashRevealsLowEntropy", "SopsSecret")]
    assert "stringData.pin" in results[0].message


WEAK = {"a PIN": "471105", "a word": "hunter2", "one letter": "a" * 100, "a number": 1234567890, "a boolean": True}


@pytest.mark.parametrize("what", WEAK)
@pytest.mark.parametrize("where", ["stringData", "data", "ConfigMap", "document"])
def test_weak_values_are_told_by_their_keys(what, where):
    """S26: whoever sees the name could try them out. The message has the keys, never a value."""
    value = WEAK[what]
    if where == "document":
        inner = b64encode(made.yaml(made.document({"pin": value})).encode()).decode()
        _, results = run(item(field="data", pin=inner))
    elif where == "data":
        values = {"pin": b64encode(str(value).encode()).decode(), "token": b64encode(STRONG.encode()).decode()}
        _, results = run(made.encrypted(item(field="data", **values), mac_only_encrypted=True))
    else:
        kind, field = ("ConfigMap", "data") if where == "ConfigMap" else ("Secret", where)
        _, results = run(made.encrypted(item(kind, field, pin=value, token=STRONG), mac_only_encrypted=True))
    field = {"ConfigMap": "data", "document": "data"}.get(where, where)
    assert [(result.severity, result.reason) for result in results] == [("warning", "HashRevealsLowEntropy")]
    assert results[0].message.endswith(f": {field}.pin")
    assert str(value) not in results[0].line()


@pytest.mark.parametrize(
    "value", [STRONG, "0123456789abcdef" * 2, "correct horse battery staple", "two\nlines of a text\n"]
)
def test_what_takes_long_to_guess_is_not_told(value):
    assert run(made.encrypted(item(a=value)))[1] == []


def test_the_parts_of_a_document_count_together():
    inner = made.document({"enabled": True, "token": STRONG})
    assert run(item(a=made.yaml(inner)))[1] == []
