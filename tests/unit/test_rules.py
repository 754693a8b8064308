"""`.sops.yaml` as it is read, without sops beside it; tests/interop compares both."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krm_sops import rules
from krm_sops.credentials import Credentials
from krm_sops.datakey import wrapped
from krm_sops.errors import ConfigError, KeyUnavailable, KrmSopsError
from krm_sops.host import Host
from krm_sops.keys import KEY_TYPES
from krm_sops.rules import Rules
from tests.agefile import IDENTITY, OTHER_IDENTITY, recipient_of

if TYPE_CHECKING:
    from pathlib import Path

    from krm_sops.rules import Rule

ONE, TWO = recipient_of(IDENTITY), recipient_of(OTHER_IDENTITY)
ARN = "arn:aws:kms:eu-west-1:123456789012:key/x"


def read(text: str) -> Rules:
    return Rules(text.replace("ONE", ONE).replace("TWO", TWO).encode(), ".sops.yaml", "/p")


def rule(text: str, path: str = "/p/a.yaml", **context: str) -> Rule:
    found = read("creation_rules:\n- " + text.replace("\n", "\n  ")).rule_for(path, context)
    assert found is not None
    return found


def names(found: Rule) -> list[list[str]]:
    return [[f"{key.section} {key.identity}" for key in group] for group in found.key_groups]


def test_the_first_rule_that_matches_counts() -> None:
    text = "creation_rules: [{path_regex: ^x/, age: ONE}, {path_regex: '\\.yaml$', age: TWO}, {pgp: A}]"
    for path, expected in (("/p/x/a.yaml", ONE), ("/p/a.yaml", TWO), ("/q/x/a.yaml", TWO), ("/p/a.json", "A")):
        found = read(text).rule_for(path)
        assert found is not None
        assert found.key_groups[0][0].identity == expected


def test_no_rule_that_matches_is_an_error_and_no_rules_are_none() -> None:
    for text in ("creation_rules: []", "creation_rules: [{path_regex: x}]"):
        with pytest.raises(ConfigError, match="no matching creation rules found") as caught:
            read(text).rule_for("/p/a.yaml")
        assert "a.yaml" in caught.value.hint
    for text in ("", "# nothing", "---", "{}", "creation_rules:", "stores: {}", "destination_rules: [{a: [b]}]"):
        assert read(text).rule_for("/p/a.yaml") is None


def test_keys_of_every_type_in_one_rule() -> None:
    found = rule(
        f"kms: '{ARN}+arn:aws:iam::1:role/r'\naws_profile: me\nage: [ONE, TWO]\npgp: 'AB CD'\ngcp_kms: g\n"
        "azure_keyvault: https://v.vault.azure.net/keys/n/1\nhckms: [a:b]\nhc_vault_transit_uri: https://v/v1/t/keys/k"
    )
    assert sorted(names(found)[0]) == sorted(
        [
            f"kms {ARN}+arn:aws:iam::1:role/r||me",
            f"age {ONE}",
            f"age {TWO}",
            "pgp ABCD",
            "gcp_kms g",
            "azure_kv https://v.vault.azure.net/keys/n/1",
            "hckms a:b",
            "hc_vault https://v/v1/t/keys/k",
        ]
    )


def test_groups_merge_first_and_hold_each_key_once() -> None:
    found = rule(
        "age: ONE\nkey_groups:\n- merge: [{age: [TWO]}, {merge: [{pgp: [A]}], age: [ONE]}]\n  age: [ONE, TWO]\n"
        f"- kms: [{{arn: {ARN}, context: {{a: 012}}, role: r}}, {{arn: {ARN}}}]\nshamir_threshold: 2"
    )
    assert names(found) == [[f"age {TWO}", "pgp A", f"age {ONE}"], [f"kms {ARN}+r|a:012", f"kms {ARN}"]]
    assert found.threshold == 2


def test_a_context_is_for_flat_keys_only() -> None:
    context = {"context.a": "b"}
    assert names(rule(f"kms: {ARN}", **context)) == [[f"kms {ARN}|a:b"]]
    assert names(rule(f"key_groups: [{{kms: [{{arn: {ARN}}}]}}]", **context)) == [[f"kms {ARN}"]]


def test_scalars_are_strings_as_they_are_spelled() -> None:
    assert rule("age: ONE\nencrypted_suffix: 0x1F").selection == {"encrypted_suffix": "0x1F"}
    assert rule("age: ONE\nencrypted_suffix: 1_000").selection == {"encrypted_suffix": "1_000"}
    assert rule("age: ONE\nencrypted_suffix: True").selection == {"encrypted_suffix": "True"}
    assert rule("age: ONE\nencrypted_suffix: ~").selection == {}


def test_merge_keys_and_aliases_are_resolved() -> None:
    text = "x: &x {age: ONE, encrypted_regex: a}\ny: &y {age: TWO, mac_only_encrypted: yes}\n"
    found = read(text + "creation_rules: [{<<: [*x, *y], encrypted_regex: b}]").rule_for("/p/a")
    assert found is not None
    assert names(found) == [[f"age {ONE}"]]
    assert found.selection == {"encrypted_regex": "b"}
    assert found.mac_only_encrypted


def test_indents_are_by_format() -> None:
    assert read("stores: {yaml: {indent: 2}, json: {indent: -1}, json_binary: {indent: 0}, dotenv: {}}").indents == {
        "yaml": 2,
        "json": -1,
        "binary": 0,
    }
    assert read("stores: {yaml: ~}").indents == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "could not unmarshal config file"),
        ("a: 1\na: 2", "already defined"),
        ("\x00", "could not unmarshal config file"),
        ("creation_rules: 5", "creation_rules is a number, not a list"),
        (
            "creation_rules: [{key_groups: [{kms: [x]}]}]",
            "creation_rules[0].key_groups[0].kms[0] is 'x', not a mapping",
        ),
        ("creation_rules: [{key_groups: [{age: [[x]]}]}]", "age[] is a list, not a string"),
        ("creation_rules: [{mac_only_encrypted: 1}]", "mac_only_encrypted is a number, not true or false"),
        ("creation_rules: [{shamir_threshold: '2'}]", "shamir_threshold is '2', not a whole number"),
        ("creation_rules: [{shamir_threshold: 1e30}]", "shamir_threshold is a number, not a whole number"),
        ("creation_rules: [{encrypted_regex: {a: b}}]", "encrypted_regex is a mapping, not a string"),
        ("stores: {yaml: {indent: x}}", "stores.yaml.indent is 'x', not a whole number"),
        ("x: &x [*x]", "could not unmarshal config file"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(text)
    with pytest.raises(ConfigError):
        Rules(b"\xff", "x", "/p")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path_regex: (", "can not compile regexp"),
        ("path_regex: (?=x)", "can not compile regexp"),
        ("path_regex: " + "a" * 1001, "can not compile regexp"),
        ("encrypted_regex: a\nunencrypted_suffix: b", "cannot use more than one of"),
        ("age: 5", "invalid age key configuration"),
        ("age: [5]", "expected string in list"),
        ("age: [~]", "expected string in list, not null"),
        ("age: abc", "unknown recipient type"),
        ("age: ''\nkey_groups: [{age: [abc]}]", "unknown recipient type"),
        ("azure_keyvault: https://v/x/n", "could not parse"),
        ("azure_keyvault: https://v/keys/n/1/2", "could not parse"),
        ("hc_vault_transit_uri: https://v/x/v1/t/keys/k", "could not parse"),
        ("hckms: [ab]", "region:uuid"),
    ],
)
def test_what_a_rule_must_not_say(text: str, said: str) -> None:
    with pytest.raises(KrmSopsError, match=re.escape(said)):
        rule(text)


@pytest.mark.parametrize(
    "text",
    [
        "kms: 'arn:aws:kms:eu-west-1.evil.example/:123456789012:key/x'",
        "kms: 'arn:aws:kms:a@evil:123456789012:key/x'",
        "key_groups: [{kms: [{arn: 'arn:aws:kms:..:123456789012:key/x'}]}]",
        "gcp_kms: 'projects/p/locations/l/keyRings/r/cryptoKeys/k?x=y'",
        "gcp_kms: 'projects/p/locations/../keyRings/r/cryptoKeys/k'",
        "azure_keyvault: https://v.vault.azure.net.evil/keys/n/1",
        "azure_keyvault: https://x@v.vault.azure.net/keys/n/1",
        "azure_keyvault: 'https://v.vault.azure.net:1/keys/n/1'",
        "key_groups: [{azure_keyvault: [{vaultUrl: 'http://v.vault.azure.net', key: n, version: 1}]}]",
        "hckms: ['a.evil/:uuid']",
        "hc_vault_transit_uri: https://evil.example/v1/t/keys/k",
        "hc_vault_transit_uri: https://x@vault.example.com/v1/t/keys/k",
        "hc_vault_transit_uri: https://vault.example.com/v1/../keys/k",
        "hc_vault_transit_uri: https://vault.example.com/v1/t/keys/k?x",
    ],
)
def test_s14_s3_addresses_of_rules_are_checked_before_anything_is_sent(text: str) -> None:
    class Nothing:
        def request(self, *arguments: object) -> object:
            raise AssertionError(f"something was sent: {arguments}")

    env = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "GOOGLE_OAUTH_ACCESS_TOKEN": "t",
        "HUAWEICLOUD_SDK_AK": "a",
        "HUAWEICLOUD_SDK_SK": "b",
        "HUAWEICLOUD_SDK_PROJECT_ID": "p" * 32,
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_SECRET": "s",
        "VAULT_ADDR": "https://vault.example.com",
        "VAULT_TOKEN": "t",
    }
    http: Any = Nothing()
    credentials = Credentials(Host(env=env, files={}, http=http))
    with pytest.raises(KeyUnavailable) as caught:
        wrapped(rule(text).key_groups, [bytes(32)], credentials)
    assert caught.value.exit_status == 1


def test_each_failed_key_of_each_group_is_told() -> None:
    found = rule("key_groups: [{pgp: [abc, def]}, {age: [ONE]}]")
    with pytest.raises(KeyUnavailable, match=r"'abc'.*'def'"):
        wrapped(found.key_groups, [bytes(33), bytes(33)], Credentials(Host(env={}, files={})))
    with pytest.raises(KeyUnavailable, match="empty key group"):
        wrapped([[]], [bytes(32)], Credentials(Host(env={}, files={})))


def test_every_key_type_says_how_rules_and_flags_name_it() -> None:
    types = [KEY_TYPES[section] for section in KEY_TYPES]
    for attribute in ("flag", "variable", "rule_field", "group_field"):
        values = [getattr(key_type, attribute) for key_type in types]
        assert all(values)
        assert len(set(values)) == len(values)


class TestFind:
    def test_the_nearest_file_upward(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        deep = tmp_path / "a/b"
        deep.mkdir(parents=True)
        (tmp_path / ".sops.yaml").write_text("creation_rules: [{path_regex: ^a/b/x$, pgp: A}]")
        monkeypatch.chdir(deep)
        host = Host(env={})
        found, warning = rules.find(host)
        assert found is not None
        assert warning == ""
        assert found.rule_for(rules.absolute("x", host)) is not None
        (tmp_path / "a/.sops.yml").write_text("")
        assert "must be called '.sops.yaml'; using" in rules.find(host)[1]

    def test_a_file_that_cannot_be_read_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".sops.yaml").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError, match="could not read config file"):
            rules.find(Host(env={}))

    def test_paths_are_spelled_as_their_user_does(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        monkeypatch.chdir(tmp_path / "link")
        link = str(tmp_path / "link")
        assert rules.absolute("../x/./y", Host(env={"PWD": link})) == f"{tmp_path}/x/y"
        assert rules.absolute("x", Host(env={"PWD": link})) == f"{link}/x"
        for untrue in ("/", str(tmp_path), "link", "", f"{tmp_path}/absent"):
            assert rules.absolute("x", Host(env={"PWD": untrue})) == f"{tmp_path}/real/x"
        assert rules.absolute("//a/../b", Host(env={})) == "/b"


WORDS = st.sampled_from(
    ["creation_rules", "key_groups", "merge", "age", "kms", "pgp", "stores", "yaml", "indent", "<<", "path_regex", "x"]
)
NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(NODES)
def test_any_document_gives_rules_or_an_error_that_is_ours(node: Any) -> None:
    try:
        Rules(json.dumps(node).encode(), "x", "/p").rule_for("/p/a.yaml")
    except KrmSopsError:
        pass


@given(st.binary(max_size=60))
def test_any_bytes_give_rules_or_an_error_that_is_ours(raw: bytes) -> None:
    try:
        Rules(raw, "x", "/p").rule_for("/p/a.yaml")
    except KrmSopsError:
        pass
