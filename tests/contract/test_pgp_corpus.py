"""OpenPGP messages and data keys of other projects' fixtures open with the keys beside them, and with no others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.credentials import Credentials, KeyEntry
from krm_sops.errors import KeyUnavailable, WrongKey
from krm_sops.host import Host
from krm_sops.keys.pgp import PgpKey
from tests import corpus

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES = corpus.cases("openpgp")
UNREADABLE = ("bad_metadata", "parse_error", "no_metadata")
DOCUMENTS = [
    case
    for case in corpus.cases("document", "wrapped")
    if "pgp" in (case.get("key_type", "pgp") or "") and case.get("error_kind") not in UNREADABLE
]
ARMOR = re.compile("-----BEGIN PGP MESSAGE-----.*?-----END PGP MESSAGE-----", re.DOTALL)
UNOPENED = ("no_matching_key", "key_unwrap_failed")
OPENED_BY_SOPS = ("peak-scale-sops-operator/decryptor-secret-pgp.yaml",)
"""gpg does not find the key of these, as it dropped a subkey whose binding it could not check. It is in the ring all
the same; keys are taken by their id, as sops does with the same ring in `secring.gpg` (3.13.3 opens it)."""


def credentials(case: dict[str, Any]) -> Credentials:
    rings = [KeyEntry("pgp", name, corpus.path(name).read_bytes(), "corpus") for name in case["key_files"]]
    return Credentials(Host(env={}, files={}), rings)


@corpus.needs_corpus
@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case["id"])
def test_a_message_gives_what_gpg_gave(case: dict[str, Any]) -> None:
    key = PgpKey("0" * 40, corpus.path(case["file"]).read_text())
    if case["expect_error"]:
        with pytest.raises((WrongKey, KeyUnavailable)) as caught:
            key.unwrap(credentials(case))
        if case["error_kind"] == "openpgp_no_integrity":
            assert "no integrity protection" in str(caught.value)
    else:
        assert key.unwrap(credentials(case)) == corpus.path(case["expected"]).read_bytes()


def wrapped(node: Any) -> Iterator[dict[str, str]]:
    """Every entry that looks like one of `sops.pgp`, wherever metadata stands."""
    if isinstance(node, dict):
        if isinstance(node.get("fp"), str) and isinstance(node.get("enc"), str):
            yield {"fp": node["fp"], "enc": node["enc"]}
        for child in node.values():
            yield from wrapped(child)
    elif isinstance(node, list):
        for child in node:
            yield from wrapped(child)


def entries(text: str) -> list[dict[str, str]]:
    try:
        found = [entry for document in yaml.safe_load_all(text) for entry in wrapped(document)]
    except yaml.YAMLError:
        found = []
    # dotenv and INI keep the message on one line, with its newlines escaped.
    return found or [{"fp": "0" * 40, "enc": enc.replace("\\n", "\n")} for enc in ARMOR.findall(text)]


@corpus.needs_corpus
@pytest.mark.parametrize("case", DOCUMENTS, ids=lambda case: case["id"])
def test_a_document_has_a_data_key_that_opens_unless_it_is_for_others(case: dict[str, Any]) -> None:
    given = credentials(case)
    lengths = []
    for fields in entries(corpus.path(case["file"]).read_text(errors="replace")):
        try:
            lengths.append(len(PgpKey.from_fields(fields).unwrap(given)))
        except (WrongKey, KeyUnavailable):
            continue
    if case["error_kind"] in UNOPENED and case["id"] not in OPENED_BY_SOPS:
        assert lengths == []
    else:
        assert lengths
        assert set(lengths) <= {32, 33}
