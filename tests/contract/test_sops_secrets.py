"""The documents of both operators' own tests: what they decrypt to becomes the Secrets that those tests look for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from krm_sops.functions.expand import is_sops_secret, secrets_of
from tests import corpus
from tests.contract.test_corpus_documents import as_data, decrypt
from tests.security import made

PEERS = ("isindir-sops-secrets-operator", "peak-scale-sops-operator")
CASES = [
    case
    for case in corpus.cases("document")
    if not corpus.PRESENT or (case["peer"] in PEERS and not case["expect_error"])
]


def in_the_cluster(secret: dict[str, Any]) -> dict[str, bytes]:
    """What the API server makes of data and stringData."""
    data = {key: base64.b64decode(value) for key, value in secret.get("data", {}).items()}
    return data | {key: value.encode() for key, value in secret.get("stringData", {}).items()}


@corpus.needs_corpus
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_peers_resource_becomes_its_secrets(case):
    (resource,), _ = decrypt(case)
    (plain,) = json.loads(corpus.path(case["expected_data"]).read_text())
    spec = plain["spec"]
    templates = spec.get("secretTemplates") or spec["secrets"]
    common = spec.get("metadata", {})
    assert is_sops_secret(resource)
    found = [as_data(secret) for secret in secrets_of(resource)]
    assert len(found) == len(templates)
    for secret, template in zip(found, templates, strict=True):
        metadata = secret["metadata"]
        assert metadata["name"] == common.get("prefix", "") + template["name"] + common.get("suffix", "")
        assert metadata.get("namespace") == plain["metadata"].get("namespace")
        for group in ("labels", "annotations"):
            assert metadata.get(group, {}) == common.get(group, {}) | template.get(group, {})
        assert secret["type"] == template.get("type", "Opaque")
        assert in_the_cluster(secret) == in_the_cluster(template) != {}


# The function, asked for `include: [sopsSecrets]`

RESOURCE = {
    "apiVersion": "isindir.github.com/v1alpha3",
    "kind": "SopsSecret",
    "metadata": {"name": "source", "namespace": "team"},
    "spec": {"secretTemplates": [{"name": name, "stringData": {"key": f"plain-{name}"}} for name in ("b", "a")]},
}
CONFIG = {
    "apiVersion": "krm-sops.dev/v1alpha1",
    "kind": "SopsDecrypt",
    "metadata": {"name": "decrypt"},
    "spec": {"include": ["sopsSecrets"], "keys": [{"value": made.IDENTITY}]},
}


def function(*items: Any, include: bool = True) -> tuple[str, list[tuple[str, str]], int]:
    spec = {**CONFIG["spec"], **({} if include else {"include": []})}
    output, results, status = made.function(made.resource_list(*items, config={**CONFIG, "spec": spec}))
    return output, [(result.severity, result.reason) for result in results], status


def test_the_secrets_stand_in_the_place_of_the_resource_and_the_rest_stays_as_it_is():
    encrypted = made.encrypted(RESOURCE)
    annotations = {
        f"internal.config.kubernetes.io/{name}": value for name, value in (("path", "a.yaml"), ("index", "1"))
    }
    encrypted["metadata"]["annotations"] = annotations
    before, after = (f"kind: ConfigMap\napiVersion: v1\nmetadata: {{name: {name}}}  # as it is\n" for name in "xy")
    output, results, status = function(before, encrypted, after)
    assert (results, status) == ([], 0)
    for text in (before, after):
        assert text.replace("\n", "\n  ")[:-2] in output
    items = yaml.safe_load(output)["items"]
    assert [item["metadata"]["name"] for item in items] == ["x", "b", "a", "y"]
    assert items[1] == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "b", "namespace": "team"},
        "type": "Opaque",
        "stringData": {"key": "plain-b"},
    }


def test_without_being_asked_for_it_stays_for_its_operator():
    encrypted = made.encrypted(RESOURCE)
    output, results, status = function(encrypted, include=False)
    assert yaml.safe_load(output)["items"] == [encrypted]
    assert (results, status) == ([("info", "SopsSecretIgnored")], 0) or [severity for severity, _ in results] == [
        "info"
    ]


def test_a_suspended_resource_stays_as_it_is():
    suspended = made.encrypted({**RESOURCE, "spec": {"suspend": True, **RESOURCE["spec"]}})
    output, results, status = function(suspended)
    assert yaml.safe_load(output)["items"] == [suspended]
    assert ([severity for severity, _ in results], status) == (["info"], 0)


def test_a_changed_resource_is_refused_although_its_operator_would_take_it():
    """The operators check no MAC."""
    for field, value in (("namespace", "other"), ("name", "other")):
        changed = made.encrypted(RESOURCE)
        changed["metadata"][field] = value
        output, results, status = function(changed, made.encrypted())
        assert (results, status) == ([("error", "MacMismatch")], 1)
        assert "plain-" not in output


def test_a_resource_that_makes_no_secrets_fails_the_run():
    wrong = {**RESOURCE, "spec": {"secretTemplates": [{"name": "a", "data": {"key": "no base64"}}]}}
    output, results, status = function(made.encrypted(wrong), made.encrypted())
    assert (results, status) == ([("error", "InvalidDocument")], 1)
    assert "plain-" not in output
