"""The documents of both operators' own tests: what they decrypt to becomes the Secrets that those tests look for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from krm_sops.functions.expand import is_sops_secret, secrets_of
from tests import corpus
from tests.contract.test_corpus_documents import as_data, decrypt

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
