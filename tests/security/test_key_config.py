"""A functionConfig that bears keys never leaves, however the run ends and wherever it stands (S11)."""

from __future__ import annotations

import copy
import json
import textwrap
from base64 import b64encode
from itertools import product
from typing import Any

import pytest
import yaml

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.krm.resourcelist import ResourceList
from krm_sops.limits import FUNCTION
from tests.security import made

KEY = made.IDENTITY
IN_BASE64 = b64encode(KEY.encode()).decode()
META = {"name": "sops-keys"}
DECRYPT = {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsDecrypt", "metadata": META}
CONFIGS: dict[str, dict[str, Any]] = {
    "Secret with stringData": {"apiVersion": "v1", "kind": "Secret", "metadata": META, "stringData": {"a.agekey": KEY}},
    "Secret with data": {"apiVersion": "v1", "kind": "Secret", "metadata": META, "data": {"a.agekey": IN_BASE64}},
    "SopsDecrypt with a value": {**DECRYPT, "spec": {"keys": [{"value": KEY}]}},
}
OTHER = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}, "data": {"x": "y"}}
GOOD = made.encrypted()
BAD = {**GOOD, "type": "changed"}
SPELLINGS = (
    "block",
    "block, config first",
    "flow",
    "JSON",
    "JSON, config first",
    "key in a literal block",
    "commented",
)


def spelled(config: dict[str, Any], items: list[dict[str, Any]], spelling: str) -> str:
    whole = {"apiVersion": "config.kubernetes.io/v1", "kind": "ResourceList"}
    first = "first" in spelling
    if "JSON" in spelling:
        parts: dict[str, Any] = (
            {"functionConfig": config, "items": items} if first else {"items": items, "functionConfig": config}
        )
        return json.dumps({**whole, **parts}, indent=2)
    text = made.resource_list(*items, config=config, config_first=first)
    if spelling == "flow":
        return yaml.safe_dump(
            {**whole, "items": copy.deepcopy(items), "functionConfig": config},  # no aliases
            default_flow_style=True,
            width=10**6,
            sort_keys=False,
        )
    if spelling == "key in a literal block":
        at = text.find(f'"{KEY}"')
        if at >= 0:
            line = text[text.rfind("\n", 0, at) + 1 : at]
            indent = " " * (len(line) - len(line.lstrip(" -")) + 2)
            text = text.replace(f'"{KEY}"', f"|\n{indent}# created: 2026\n{indent}{KEY}")
    if spelling == "commented":
        text = text.replace("functionConfig:\n", f"functionConfig: # {KEY}\n    # {KEY}\n")
        text += f"  # {KEY}\n"
    return text


def function(text: str, *, exact: bool) -> tuple[str, list[Any], int]:
    """With the fast reader, or as the exact one sees the same list behind a byte order mark."""
    raw = text.encode()
    if exact:
        raw = b"\xef\xbb\xbf" + raw
    output, results, status = run(raw, Host(env={}, files={}), FUNCTION)
    return output.decode(), results, status


def silent(*texts: str) -> bool:
    return not any(part in text for text in texts for part in (KEY, IN_BASE64, KEY[20:50], IN_BASE64[9:40]))


@pytest.mark.parametrize(
    ("spelling", "exact"),
    [(spelling, exact) for spelling in SPELLINGS for exact in (False, True) if not (exact and "JSON" in spelling)],
)
@pytest.mark.parametrize("of", CONFIGS)
def test_a_key_bearing_config_never_leaves(of, spelling, exact):
    """S11: after success and failure, before and behind the items, in YAML and JSON (which has one reader)."""
    for items, expected in (
        ([GOOD], 0),
        ([OTHER, GOOD, OTHER], 0),
        ([BAD], 1),
        ([OTHER], 0),
        ([GOOD, BAD, OTHER], 1),
        ([], 0),
    ):
        text = spelled(CONFIGS[of], items, spelling)
        output, results, status = function(text, exact=exact)
        assert status == expected
        assert silent(output, *(result.line() + result.hint for result in results))
        found = yaml.safe_load(output)
        assert "functionConfig" not in found
        assert len(found["items"] or []) == len(items)
        assert ("plain-of-password" in output) == (expected == 0 and GOOD in items)


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize("of", CONFIGS)
def test_the_same_config_as_a_file_among_the_items_leaves_only_as_the_local_config_it_was(of, exact):
    """S11: kpt lists the file too that the functionConfig came from."""
    injected = {"internal.config.kubernetes.io/path": "keys.yaml", "config.kubernetes.io/path": "keys.yaml"}
    config = {**CONFIGS[of], "metadata": {**META, "annotations": injected}}
    for items, spelling in product(([config, GOOD], [GOOD, config, OTHER], [GOOD, config]), ("block", "flow", "JSON")):
        output, _, status = function(spelled(config, items, spelling), exact=exact and spelling != "JSON")
        assert status == 0
        left = {item["metadata"]["name"]: item for item in yaml.safe_load(output)["items"]}
        assert len(left) == len(items)
        if config["kind"] == "Secret":
            assert left["sops-keys"]["metadata"]["annotations"]["config.kubernetes.io/local-config"] == "true"
        failing = [BAD if item is GOOD else item for item in items]
        output, results, status = function(spelled(config, failing, spelling), exact=exact and spelling != "JSON")
        assert status == 1
        assert silent(output, *(result.line() for result in results))
        assert len(yaml.safe_load(output)["items"]) == len(items) - 1


def misconfigured() -> list[dict[str, Any]]:
    value = [{"value": KEY}]
    return [
        {**CONFIGS["Secret with stringData"], "kind": "Secrets"},
        {**CONFIGS["Secret with stringData"], "apiVersion": "v2"},
        {**CONFIGS["Secret with stringData"], "data": [KEY]},
        {**DECRYPT, "apiVersion": "krm-sops.dev/v1", "spec": {"keys": value}},
        {**DECRYPT, "kind": "SopsDecryptor", "spec": {"keys": value}},
        {**DECRYPT, "spec": {"keys": value, "mac": "sometimes"}},
        {**DECRYPT, "spec": {"keys": value, "unknown": True}},
        {**DECRYPT, "spec": {"key": value}},
        {**DECRYPT, "spec": {"keys": [{"value": KEY, "env": "X"}]}},
        {**DECRYPT, "keys": value},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": META, "data": {"a.agekey": KEY}},
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"keys": KEY}},
    ]


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize("number", range(len(misconfigured())))
def test_a_config_with_a_mistake_in_it_does_not_leave_either(number, exact):
    """S11: nor does its file among the items."""
    config = misconfigured()[number]
    for spelling, items in product(SPELLINGS[:4], ([GOOD], [config, GOOD] if config.get("metadata") else [GOOD])):
        output, results, status = function(spelled(config, items, spelling), exact=exact and "JSON" not in spelling)
        assert status == 1
        assert silent(output, *(result.line() for result in results))
        found = yaml.safe_load(output)
        assert "functionConfig" not in found
        assert [item["metadata"]["name"] for item in found["items"]] == ["db"]


def test_a_key_secret_that_the_config_names_leaves_on_success_only():
    """S11: also where the config that names it is wrong in another field."""
    named = {**DECRYPT, "metadata": {"name": "decrypt"}}
    right = {**named, "spec": {"decryption": {"provider": "sops", "secretRef": META}}}
    secret = CONFIGS["Secret with data"]
    output, _, status = function(spelled(right, [secret, GOOD], "block"), exact=False)
    assert status == 0
    assert len(yaml.safe_load(output)["items"]) == 2
    for config, item in (
        (right, BAD),
        ({**named, "spec": {**right["spec"], "unknown": 1}}, GOOD),
        ({**named, "spec": {**right["spec"], "mac": 1}}, GOOD),
        (
            {
                **named,
                "metadata": {"name": "decrypt", "namespace": "elsewhere"},
                "spec": {**right["spec"], "selectors": [{"namespace": "prod"}]},
            },
            GOOD,
        ),
        ({"apiVersion": "v1", "kind": "ConfigMap", "data": {"secretRef": "sops-keys", "typo": "x"}}, GOOD),
    ):
        for spelling, exact in product(("block", "flow", "JSON"), (False, True)):
            text = spelled(config, [secret, item], spelling)
            output, results, status = function(text, exact=exact and spelling != "JSON")
            assert status == 1
            assert silent(output, *(result.line() for result in results))
            assert [item["metadata"]["name"] for item in yaml.safe_load(output)["items"]] == ["db"]


def test_a_config_without_a_name_is_no_riddle():
    """S23: an empty name is found nowhere, rather than everywhere."""
    config = {"apiVersion": "v1", "kind": "Secret", "stringData": {"a.agekey": KEY}}
    output, _, status = function(made.resource_list(GOOD, config=config), exact=False)
    assert status == 0
    assert silent(output)
    assert ResourceList(made.resource_list(GOOD).encode(), FUNCTION).named("") == []


@pytest.mark.parametrize("spelling", ["block", "block, config first", "JSON"])
@pytest.mark.parametrize("of", CONFIGS)
def test_the_program_keeps_the_key_to_itself(program, of, spelling):
    """S11, from outside: stdout and stderr, exit 0 and 1."""
    for item, expected in ((GOOD, 0), (BAD, 1)):
        done = program(stdin=spelled(CONFIGS[of], [OTHER, item], spelling))
        assert done.returncode == expected
        assert silent(done.stdout.decode(), done.stderr.decode())
        assert (b"plain-of-password" in done.stdout) == (expected == 0)
        assert bool(done.stderr) == bool(expected)


def test_a_comment_that_belongs_to_the_config_goes_with_it():
    text = made.resource_list(GOOD, config=None) + textwrap.dedent(
        f"""\
        functionConfig: # {KEY}
          # {KEY}
          apiVersion: v1
          kind: Secret # {KEY}
          metadata: {{name: x}} # {KEY}
          stringData:
            a.agekey: {KEY} # {KEY}
            # {KEY}
          # {KEY}
        """
    )
    for exact in (False, True):
        output, _, status = function(text, exact=exact)
        assert status == 0
        assert silent(output)
