"""Peers' own documents at the gate: what is encrypted well passes, what is not is found, each for its reason."""

from __future__ import annotations

from typing import Any

import pytest

from krm_sops.gate import DECRYPTED, ENCRYPTED
from krm_sops.gate.judge import Gate
from krm_sops.limits import FUNCTION
from tests import corpus

WEAK = {
    "ksops/history-6c8fcadc-secret.enc.env": {"WeakSelection"},  # a rule for Secrets in a dotenv file: all is plain
    "getsops-sops/no-mac.yaml": {"MissingMac"},
    # Encrypted as a whole, then told otherwise: the names of its object are ciphertext that nothing decrypts.
    "flux-kustomize-controller/history-11c7d2e8-secret.age.yaml": {"StrayCiphertext"},
    "peak-scale-sops-operator/checker-garbage.yaml": {"InvalidDocument", "MissingMac"},  # ciphertexts without tags
    "getsops-sops/plain-yaml-duplicate-keys": {"InvalidDocument"},
    "stageset-controller/plain-broken-yaml": {"InvalidDocument"},
    "pre-commit-ensure-sops/plain-invalid-secret": {"InvalidMetadata"},
    "pre-commit-ensure-sops/plain-no-sops-metadata": {"MissingMetadata"},
}
"""All others are encrypted well, or hold no sign of a secret."""


def rules(case: dict[str, Any], expect: str, file: str = "file") -> set[str]:
    gate = Gate(expect, FUNCTION)
    gate.file(corpus.path(case[file]).read_bytes(), case[file])
    return {finding.rule for finding in gate.findings}


@corpus.needs_corpus
@pytest.mark.parametrize("case", corpus.cases("document", "wrapped", "plain"), ids=lambda case: case["id"])
def test_a_document_passes_unless_it_is_listed_with_its_weakness(case):
    assert rules(case, ENCRYPTED) == WEAK.get(case["id"], set())


@corpus.needs_corpus
@pytest.mark.parametrize("case", corpus.cases("document", "wrapped"), ids=lambda case: case["id"])
def test_an_encrypted_document_is_no_decrypted_one_and_what_is_inside_is(case):
    assert "StillEncrypted" in rules(case, DECRYPTED)
    if case["expected"] and not case["expect_error"]:
        assert rules(case, DECRYPTED, "expected") <= {"PrivateKey"}
