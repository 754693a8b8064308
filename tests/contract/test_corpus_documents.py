"""Peers' own documents and values: every one decrypts to what its peer says, or is refused for the same reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from krm_sops.cipher import DataKey, decrypt_value
from krm_sops.credentials import Credentials
from krm_sops.datakey import recover
from krm_sops.document import EncryptedDocument
from krm_sops.errors import KrmSopsError, MacMismatch, MetadataError, NoMetadata, NoUsableKey, StoreError, TagMismatch
from krm_sops.host import Host
from krm_sops.keysources import from_file
from krm_sops.limits import FUNCTION
from krm_sops.metadata import Metadata
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Comment, Timestamp
from tests import corpus

REFUSALS: dict[str, tuple[type[KrmSopsError], ...]] = {
    "no_matching_key": (NoUsableKey,),
    "key_unwrap_failed": (NoUsableKey,),
    "auth_tag": (TagMismatch,),
    "mac_mismatch": (MacMismatch,),
    "mac_missing": (MacMismatch,),
    "no_metadata": (NoMetadata,),
    "bad_metadata": (MetadataError,),
    "parse_error": (StoreError, NoMetadata),
}


OPENED_BY_SOPS = ("peak-scale-sops-operator/decryptor-secret-pgp.yaml",)
"""Listed as a refusal because GnuPG 2.2 drops the subkey (its binding names its issuer by fingerprint only). The key is
in the ring, and sops 3.13.3 opens the document with the same ring as `secring.gpg`."""


def credentials(case: dict[str, Any]) -> Credentials:
    host = Host(env={})
    entries = [from_file(str(corpus.path(name)), host, name) for name in case["key_files"]]
    return Credentials(host, entries, ambient="never")


def decrypt(case: dict[str, Any], *, ignore_mac: bool = False) -> tuple[list[Branch], bytes]:
    store = STORES[case["format"]]
    branches, block = store.read(corpus.path(case["file"]).read_bytes())
    if block is None:
        raise NoMetadata
    metadata = Metadata.from_branch(block, FUNCTION.key_entries)
    data_key = recover(metadata, credentials(case))
    plain, _ = EncryptedDocument(branches, metadata).decrypt(data_key, ignore_mac=ignore_mac)
    return plain, store.write_plain(plain)


def as_data(node: Any) -> Any:
    if isinstance(node, Branch):
        return {str(entry.key): as_data(entry.value) for entry in node.entries if not isinstance(entry.key, Comment)}
    if isinstance(node, list):
        return [as_data(element) for element in node if not isinstance(element, Comment)]
    return node.text if isinstance(node, Timestamp) else node


def same(found: Any, expected: Any) -> bool:
    """Equal, where a number may be told as text: dotenv and INI know nothing else, and JSON has one kind of number."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return bool(found == expected)


def contains(found: Any, expected: Any) -> bool:
    if isinstance(found, dict) and isinstance(expected, dict):
        return all(key in found and contains(found[key], value) for key, value in expected.items())
    return same(found, expected)


def parsed(case: dict[str, Any]) -> list[Any]:
    text = corpus.path(case["expected"]).read_text()
    if case["format"] == "dotenv":
        return [dict(line.partition("=")[::2] for line in text.splitlines() if line and line[0] != "#")]
    return list(yaml.safe_load_all(text))


@corpus.needs_corpus
@pytest.mark.parametrize("case", corpus.cases("document"), ids=lambda case: case["id"])
def test_document(case: dict[str, Any]) -> None:
    if case["id"] in OPENED_BY_SOPS:
        assert decrypt(case)
        return
    if case["expect_error"]:
        with pytest.raises(REFUSALS[case["error_kind"]]):
            decrypt(case)
        if case["error_kind"].startswith("mac") and case["expected_data"]:
            plain, raw = decrypt(case, ignore_mac=True)
            check_data(case, plain, raw)
        return
    plain, raw = decrypt(case)
    check_data(case, plain, raw)
    data = [as_data(branch) for branch in plain]
    compare = case["expected_compare"]
    if compare == "bytes":
        expected = corpus.path(case["expected"]).read_bytes() if case["expected"] else case["expected_inline"].encode()
        if case["format"] in ("json", "ini"):  # sops before 3.10 ended JSON without a line break, INI with two
            raw, expected = raw.rstrip(b"\n"), expected.rstrip(b"\n")
        assert raw == expected
    elif compare == "data":
        assert same(data, parsed(case) if case["expected"] else [case["expected_inline"]])
    elif compare == "subset":
        assert any(contains(document, case["expected_inline"]) for document in data)
    elif compare == "contains":
        assert all(text in raw.decode() for text in case["expected_inline"])
    else:
        assert compare is None


def check_data(case: dict[str, Any], plain: list[Branch], raw: bytes) -> None:
    if not case["expected_data"]:
        return
    expected = corpus.path(case["expected_data"]).read_bytes()
    if case["format"] == "binary":
        assert raw == expected
    else:
        found = [as_data(branch) for branch in plain]
        if case["format"] == "ini" and not found[0]["DEFAULT"]:
            del found[0]["DEFAULT"]  # the unnamed first section; whoever made these answers left it out when empty
        assert same(found, json.loads(expected))


@corpus.needs_corpus
@pytest.mark.parametrize("case", corpus.cases("value"), ids=lambda case: case["id"])
def test_value(case: dict[str, Any]) -> None:
    text = corpus.path(case["file"]).read_text()
    data_key = DataKey(bytes.fromhex(case["data_key_hex"]))
    if case["expect_error"]:
        with pytest.raises(REFUSALS[case["error_kind"]]):
            decrypt_value(text, data_key, case["aad"].encode(), ())
    else:
        assert decrypt_value(text, data_key, case["aad"].encode(), ()) == case["expected_inline"]


@corpus.needs_corpus
@pytest.mark.parametrize("case", corpus.cases("plain"), ids=lambda case: case["id"])
def test_what_is_no_sops_document_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(REFUSALS[case["error_kind"]]):
        decrypt(case)
