"""Flux's decryption contract, row by row as docs/flux.md lists it: what is the same, stricter, other, or not yet."""

from __future__ import annotations

import copy
import json
import re
import textwrap
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.stores import format_for_path
from tests import agefile, corpus
from tests.contract.test_corpus_documents import contains
from tests.e2e.clients import Clients
from tests.interop.fakes.http import Answer, FakeHttp, Seen, as_http
from tests.security import made

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "flux.md"
FLUX = "flux-kustomize-controller"
SOPS = f"{FLUX}/files/internal/controller/testdata/sops"
KEY, OTHER_KEY = made.IDENTITY, made.OTHER_IDENTITY
IN_BASE64 = b64encode(made.DATA_KEY).decode()


def decrypt(name: str = "decrypt", namespace: str = "", **spec: Any) -> dict[str, Any]:
    """As a Flux Kustomization's `spec` says it."""
    place = {"namespace": namespace} if namespace else {}
    given = {"decryption": {"provider": "sops", "secretRef": {"name": "sops-keys"}}, **spec}
    metadata = {"name": name, **place}
    return {"apiVersion": "krm-sops.dev/v1alpha1", "kind": "SopsDecrypt", "metadata": metadata, "spec": given}


def key_secret(namespace: str = "", **entries: str) -> dict[str, Any]:
    """entries: names with ``_`` for the first dot or hyphen."""
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sops-keys", **place}, "stringData": entries}


def function(
    *items: dict[str, Any] | str,
    config: dict[str, Any] | None = None,
    http: FakeHttp | None = None,
    env: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
) -> tuple[list[dict[str, Any]], list[Any], int]:
    host = Host(env=env or {}, files=files or {}, http=as_http(http or FakeHttp()))
    text = made.resource_list(*items, config=config)
    output, results, status = run(text.encode(), host, FUNCTION)
    return yaml.safe_load(output)["items"], results, status


def opens(*items: dict[str, Any] | str, **given: Any) -> bool:
    """Whether the first item comes out decrypted; else the run failed with NoUsableKey and said why."""
    found, results, status = function(*items, **given)
    if status == 0:
        assert "sops" not in found[0]
        return True
    assert {result.reason for result in results} == {"NoUsableKey"}, [result.line() for result in results]
    return False


HANDED_IN: dict[str, Any] = {"decryption": {"provider": "sops"}, "keys": [{"value": KEY}]}


def fixture(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(corpus.path(f"{SOPS}/{name}").read_text())
    return found


def fixture_key(name: str) -> str:
    return corpus.path(f"{FLUX}/keys/{name}").read_text()


def rows() -> dict[int, tuple[str, str]]:
    """Number -> what krm-sops does, and the note."""
    found = re.findall(r"^\| (\d+) \| .* \| (same|stricter|other|not yet) \| (.*)\|$", PAGE.read_text(), re.MULTILINE)
    return {int(number): (state, note.strip()) for number, state, note in found}


def test_every_row_has_a_line_and_every_line_that_claims_something_a_test():
    table = rows()
    assert sorted(table) == list(range(1, 38))
    tested = {int(number) for name in globals() if "test_row" in name for number in re.findall(r"_(\d+)", name)}
    for number, (state, note) in table.items():
        assert number in tested or note or state == "not yet", f"row {number} has neither a test nor a reason"
    assert tested >= {number for number, (state, _) in table.items() if state == "stricter"}


def test_row_1_decryption_is_asked_for_as_in_a_kustomization():
    assert opens(made.encrypted(), key_secret(**{"k.agekey": KEY}), config=decrypt())
    wrong = decrypt(decryption={"provider": "other", "secretRef": {"name": "sops-keys"}})
    _, results, status = function(made.encrypted(), key_secret(**{"k.agekey": KEY}), config=wrong)
    assert (status, results[0].reason) == (1, "InvalidConfig")


def test_row_2_the_key_secret_is_in_the_same_namespace():
    item = made.encrypted()
    for namespaces in ([], [""], ["other"], ["prod", "prod"]):
        secrets = [key_secret(namespace, **{"k.agekey": KEY}) for namespace in namespaces]
        _, results, status = function(item, *secrets, config=decrypt(namespace="prod"))
        assert (status, results[0].reason) == (1, "InvalidConfig")
        assert "sops-keys" in results[0].message
    assert opens(item, key_secret("prod", **{"k.agekey": KEY}), config=decrypt(namespace="prod"))


@corpus.needs_corpus
def test_row_3_an_openpgp_key_opens_and_a_broken_one_is_told_with_its_entry():
    item = fixture("algorithms/pgp.yaml")
    assert opens(item, key_secret(**{"pgp.asc": fixture_key("pgp.asc")}), config=decrypt())
    broken = key_secret(**{"pgp.asc": fixture_key("pgp.asc")[:-200]})
    _, results, status = function(item, broken, config=decrypt())
    assert status == 1
    assert "pgp.asc (Secret sops-keys)" in results[0].message


@corpus.needs_corpus
@pytest.mark.parametrize(("document", "key"), [("age", "age.txt"), ("age-pq", "age-pq.txt")])
def test_row_4_age_keys_of_both_kinds_open_several_entries_and_comments_add_up(document, key):
    item = fixture(f"algorithms/{document}.yaml")
    both = key_secret(**{"a.agekey": OTHER_KEY, "b.agekey": f"# created: today\n\n{fixture_key(key)}\n"})
    assert opens(item, both, config=decrypt())
    assert not opens(item, key_secret(**{"a.agekey": OTHER_KEY}), config=decrypt())


def vault(seen: Seen) -> Answer:
    assert seen.headers["x-vault-token"] == "the-token-of-an-entry"
    return Answer(200, {"data": {"plaintext": IN_BASE64}})


def in_vault(address: str) -> dict[str, Any]:
    entry = {"vault_address": address, "engine_path": "transit", "key_name": "k", "enc": "vault:v1:AAAA"}
    return made.encrypted(age=None, hc_vault=[entry])


def test_row_5_a_vault_token_is_trimmed_and_goes_to_servers_that_the_operator_named():
    secret = key_secret(**{"sops.vault-token": "\n  the-token-of-an-entry \n"})
    http = FakeHttp(**{"vault.example": vault})
    item = in_vault("https://vault.example")
    assert opens(item, secret, config=decrypt(), http=http, env={"VAULT_ADDR": "https://vault.example"})
    http = FakeHttp(**{"vault.example": vault})
    assert not opens(item, secret, config=decrypt(), http=http, env={"VAULT_ADDR": "https://other.example"})
    assert http.asked == []


def test_row_6_static_aws_keys_with_the_documents_region_context_and_role():
    entry = "aws_access_key_id: AKIDOFENTRY\naws_secret_access_key: s3cret\naws_session_token: t0ken\n"
    seen: list[Seen] = []

    def kms(request: Seen) -> Answer:
        seen.append(request)
        return Answer(200, {"Plaintext": IN_BASE64})

    def sts(request: Seen) -> Answer:
        seen.append(request)
        keys = "<AccessKeyId>AKIDOFROLE</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>y</SessionToken>"
        return Answer(200, f"<R>{keys}</R>".encode())

    http = FakeHttp(**{"kms.eu-west-1.amazonaws.com": kms, "sts.eu-west-1.amazonaws.com": sts})
    arn = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000000"
    key = {"arn": arn, "context": {"App": "shop"}, "enc": b64encode(b"x").decode(), "aws_profile": ""}
    secret = key_secret(**{"sops.aws-kms": entry})
    assert opens(made.encrypted(age=None, kms=[key]), secret, config=decrypt(), http=http, env={"AWS_PROFILE": "no"})
    assert "AKIDOFENTRY/" in seen[0].headers["authorization"]
    assert seen[0].headers["x-amz-security-token"] == "t0ken"
    assert json.loads(seen[0].body)["EncryptionContext"] == {"App": "shop"}
    role = "arn:aws:iam::111122223333:role/sops"
    item = made.encrypted(age=None, kms=[{**key, "role": role}])
    assert not opens(item, secret, config=decrypt(), http=http)  # a role is more than the entry's own power
    assert len(seen) == 1
    assert opens(item, secret, config=decrypt(ambient="always"), http=http)
    assert parse_qs(seen[1].body.decode())["RoleArn"] == [role]
    assert "AKIDOFROLE/" in seen[2].headers["authorization"]


AZURE = {
    "a service principal": {"tenantId": "t", "clientId": "c", "clientSecret": "s"},
    "as az prints it": {"tenant": "t", "appId": "c", "password": "s"},
    "a managed identity": {"clientId": "c"},
    "nothing usable": {"tenantId": "t"},
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", AZURE)
def test_row_7_azure_credentials_in_every_form(form, encoding):
    """A managed identity is the machine's, so an entry alone may not use it."""
    data = b64encode(json.dumps(AZURE[form]).encode(encoding)).decode()
    secret = {**key_secret(), "data": {"sops.azure-kv": data}}
    del secret["stringData"]
    value = IN_BASE64.rstrip("=").replace("+", "-").replace("/", "_")
    http = FakeHttp(
        **{
            "v.vault.azure.net": lambda _: Answer(200, {"kid": "k", "value": value}),
            "login.microsoftonline.com": lambda _: Answer(200, {"access_token": "t"}),
            "169.254.169.254": lambda _: Answer(200, {"access_token": "t"}),
        }
    )
    key = {"vault_url": "https://v.vault.azure.net", "name": "k", "version": "1", "enc": "AAAA"}
    item = made.encrypted(age=None, azure_kv=[key])
    assert opens(item, secret, config=decrypt(), http=http) == (form in ("a service principal", "as az prints it"))
    assert http.local == []
    if form == "a managed identity":
        assert opens(item, secret, config=decrypt(ambient="always"), http=http)


def test_row_8_google_credentials_are_a_service_accounts():
    key = {"resource_id": "projects/p/locations/global/keyRings/r/cryptoKeys/k", "enc": b64encode(b"x").decode()}
    for kind in ("authorized_user", "external_account", "impersonated_service_account", "service_account"):
        http = FakeHttp()
        secret = key_secret(**{"sops.gcp-kms": json.dumps({"type": kind, "token_url": "https://evil.example"})})
        _, results, status = function(made.encrypted(age=None, gcp_kms=[key]), secret, config=decrypt(), http=http)
        assert status == 1
        assert ("only service_account" in results[0].message) == (kind != "service_account")
        assert http.asked == []


def test_row_9_other_entries_are_ignored_and_those_that_look_like_keys_are_told():
    secret = key_secret(**{"age.key": KEY, "README": "nothing"})
    _, results, status = function(made.encrypted(), secret, config=decrypt())
    assert status == 1
    secret["stringData"]["k.agekey"] = KEY
    _, results, status = function(made.encrypted(), secret, config=decrypt())
    assert status == 0
    assert [(result.severity, "age.key" in result.message) for result in results] == [("warning", True)]


def test_row_10_an_entry_of_a_type_leaves_its_ambient_keys_out():
    wrong = key_secret(**{"k.agekey": OTHER_KEY})
    env = {"SOPS_AGE_KEY": KEY}
    assert not opens(made.encrypted(), wrong, config=decrypt(), env=env)
    assert opens(made.encrypted(), key_secret(**{"sops.vault-token": "t"}), config=decrypt(), env=env)


def test_row_11_keys_for_everybody_are_in_the_mounted_folder():
    files = {"/keys/global.agekey": KEY.encode()}
    assert opens(made.encrypted(), files=files)
    assert opens(made.encrypted(), key_secret(**{"k.agekey": OTHER_KEY}), config=decrypt(), files=files)


def test_row_12_vault_by_a_service_account_where_the_operator_lists_it():
    claims = {
        "aud": ["https://vault.example"],
        "sub": "system:serviceaccount:flux-system:sops",
        "exp": 4102444800,
    }
    body = b64encode(json.dumps(claims).encode()).decode().rstrip("=").replace("+", "-").replace("/", "_")
    seen: list[Seen] = []

    def server(request: Seen) -> Answer:
        seen.append(request)
        if "login" in request.path:
            return Answer(200, {"auth": {"client_token": "the-token-of-an-entry"}})
        return vault(request)

    files = {
        "/logins.yaml": b"instances:\n- address: https://vault.example\n  loginPath: auth/kubernetes/login\n",
        "/var/run/secrets/kubernetes.io/serviceaccount/token": f"e30.{body}.e30".encode(),
    }
    env = {"KRM_SOPS_VAULT_LOGIN": "/logins.yaml"}
    http = FakeHttp(**{"vault.example": server, "other.example": server})
    assert opens(in_vault("https://vault.example"), config=None, env=env, files=files, http=http)
    assert json.loads(seen[0].body)["role"] == "flux-system_sops"
    del seen[:]
    assert not opens(in_vault("https://other.example"), config=None, env=env, files=files, http=http)
    assert seen == []


def test_row_13_a_run_gathers_its_keys_once():
    """A key Secret that the run itself decrypts adds no key for the items behind it."""
    key = made.encrypted(key_secret(**{"k.agekey": OTHER_KEY}))
    second = made.encrypted(age=[{"recipient": "r", "enc": agefile.enc(OTHER_KEY, made.DATA_KEY)}])
    _, results, status = function(key, second, config=made.KEY_SECRET)
    assert (status, results[0].reason) == (1, "NoUsableKey")


CONFIG_MAP_PLAIN = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a.yaml": "x: 1\n"}}


@pytest.mark.parametrize("row", [16, 36])
def test_row_16_36_documents_inside_of_other_fields_stay(row):
    inner = made.yaml(made.encrypted())
    config_map = {**CONFIG_MAP_PLAIN, "data": {"a.yaml": inner}}
    release = {"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "metadata": {"name": "h"}}
    release["spec"] = {"values": made.encrypted()}  # type: ignore[assignment]
    found, results, status = function(config_map, release, config=made.KEY_SECRET)
    assert status == 0
    assert [(result.severity, result.item.kind) for result in results] == [("info", "ConfigMap")]
    assert found == [config_map, release]
    found, results, status = function(config_map, release, config=decrypt(**HANDED_IN, include=["configMaps"]))
    assert (status, results) == (0, [])
    assert (yaml.safe_load(found[0]["data"]["a.yaml"]), found[1]) == (made.PLAIN, release)


BUILD = {
    "app/kustomization.yaml": (
        "resources: [../base]\ngeneratorOptions: {disableNameSuffixHash: true}\n"
        "configMapGenerator: [{name: map, envs: [env.env]}]\npatches: [{path: patch.yaml}]\n"
    ),
    "app/patch.yaml": made.yaml(made.encrypted({**made.PLAIN, "metadata": {"name": "made"}})),
    "base/kustomization.yaml": "components: [part]\n",
    "base/part/kustomization.yaml": (
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
        "secretGenerator: [{name: made, files: [key=file.json], options: {disableNameSuffixHash: true}}]\n"
    ),
    "base/part/file.json": json.dumps(made.encrypted({"data": "plain-of-file"}, encrypted_regex=None), indent="\t"),
    "app/env.env": f"a={made.enc('x', 'a:')}\nsops_mac=ENC[none]\n",
}


@pytest.fixture
def render(tmp_path):
    """A folder of files, rendered."""
    clients = Clients(tmp_path)
    clients.need("kustomize")

    def rendered(files: dict[str, str], path: str) -> tuple[list[dict[str, Any]], str]:
        for name, text in {".git/x": "", "key.txt": KEY, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        done = clients.run("krm-sops", "render", "--key-file", "key.txt", path, cwd=tmp_path)
        return list(yaml.safe_load_all(done.stdout)), done.stderr

    return rendered


def test_row_14_15_16_21_sources_are_decrypted_through_resources_and_components(render):
    found, said = render(BUILD, "app")
    assert len(found) == 2, said
    config_map = next(one for one in found if one["kind"] == "ConfigMap")
    secret = next(one for one in found if one["kind"] == "Secret")
    assert b64decode(secret["data"]["key"]) == b"plain-of-file"
    assert secret["stringData"] == made.PLAIN["stringData"]
    assert config_map["data"]["a"].startswith("ENC[")
    outside, said = render(
        {**BUILD, "base/kustomization.yaml": "components: [part]\nresources: [../../x.yaml]\n"}, "app"
    )
    assert not outside
    assert "leads out of" in said


def test_row_17_an_item_counts_as_encrypted_by_its_top_level_sops():
    plain = {**made.PLAIN, "stringData": {"note": "mac: ENC[", "sops": "mac: ENC[", "value": '"mac": "ENC['}}
    found, results, status = function(plain, config=made.KEY_SECRET)
    assert (found, results, status) == ([plain], [], 0)


def test_row_18_the_format_follows_from_the_name():
    told = {"a.yaml": "yaml", "a.yml": "yaml", "a.json": "json", "a.env": "dotenv", "a.ini": "ini", "a.txt": "binary"}
    assert {name: format_for_path(name) for name in told} == told


def test_row_19_five_mebibytes():
    item = {**made.encrypted(), "note": "x" * (5 << 20)}
    _, results, status = function(item, config=made.KEY_SECRET)
    assert (status, results[0].reason) == (1, "LimitExceeded")
    assert "document_bytes" in results[0].message


def test_row_20_key_files_are_regular_files(tmp_path):
    (tmp_path / "k.agekey").mkdir()
    for path in (tmp_path / "k.agekey", Path("/dev/zero")):
        config = decrypt(decryption={"provider": "sops"}, keys=[{"file": str(path)}])
        text = made.resource_list(made.encrypted(), config=config).encode()
        _, results, status = run(text, Host(env={}), FUNCTION)
        assert (status, results[0].reason) == (1, "InvalidConfig")


def test_row_21_key_files_stay_below_the_operators_roots():
    config = decrypt(decryption={"provider": "sops"}, keys=[{"file": "/repo/../etc/key"}])
    files = {"/etc/key": KEY.encode(), "/etc/krm-sops/policy.yaml": b"readableRoots: [/repo]"}
    _, results, status = function(made.encrypted(), config=config, files=files)
    assert (status, results[0].reason) == (1, "PolicyDenied")


@corpus.needs_corpus
def test_row_23_every_kind_with_a_top_level_sops_is_decrypted():
    found, results, status = function(
        fixture("algorithms/age.yaml"), key_secret(**{"k.agekey": fixture_key("age.txt")}), config=decrypt()
    )
    assert (status, results) == (0, [])
    assert found[0] == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "age"},
        "stringData": {"key": found[0]["stringData"]["key"]},
    }
    assert not found[0]["stringData"]["key"].startswith("ENC[")


@pytest.mark.parametrize("kind", ["Deployment", "ConfigMap", "Whatever"])
def test_row_23_of_any_kind_and_a_missing_mac_is_an_error(kind):
    plain = {
        "apiVersion": "example.com/v1",
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": {"a": "b", "c": [1, True]},
    }
    found, _, status = function(made.encrypted(plain), config=made.KEY_SECRET)
    assert (status, found) == (0, [plain])
    for mac in (None, ""):
        item = made.encrypted({**plain})
        item["sops"] = {name: value for name, value in {**item["sops"], "mac": mac}.items() if value is not None}
        found, results, status = function(item, config=made.KEY_SECRET)
        assert (status, results[0].reason, found) == (1, "MacMismatch", [item])


@corpus.needs_corpus
@pytest.mark.parametrize("case", corpus.cases("wrapped"), ids=lambda case: case["id"])
def test_row_24_documents_in_secret_data_are_decrypted(case):
    item = yaml.safe_load(corpus.path(case["file"]).read_text())
    keys = {f"{at}.agekey": corpus.path(file).read_text() for at, file in enumerate(case["key_files"])}
    found, results, status = function(item, key_secret(**keys), config=decrypt())
    assert (status, results) == (0, [])
    assert contains(found[0], case["expected_inline"])
    assert found[0].keys() == item.keys()


def test_row_24_of_string_data_too():
    item = {**made.PLAIN, "stringData": {"a.yaml": made.yaml(made.encrypted()), "b": "plain"}}
    found, results, status = function(item, config=made.KEY_SECRET)
    assert (status, results) == (0, [])
    assert yaml.safe_load(found[0]["stringData"].pop("a.yaml")) == made.PLAIN
    assert found[0] == {**item, "stringData": {"b": "plain"}}


def test_row_25_one_format_is_no_question():
    listed = {"kind": "ResourceList", "functionConfig": made.KEY_SECRET, "items": [made.encrypted()]}
    output, _, status = run(json.dumps(listed).encode(), Host(env={}, files={}), FUNCTION)
    assert (status, json.loads(output)["items"]) == (0, [made.PLAIN])


@corpus.needs_corpus
def test_row_26_a_binary_document_gives_its_bytes(program_output, tmp_path):
    document = corpus.path(f"{SOPS}/inside/secret.data.key.decoded.json")
    key = tmp_path / "key.txt"
    key.write_text(fixture_key("age.txt"))
    expected = corpus.path(f"{FLUX}/derived/inside-secret.yaml-inner.bin").read_bytes()
    argv = ["--key-file", str(key), "--input-type", "json", str(document)]
    assert program_output(*argv, "--output-type", "binary") == expected
    item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    item["data"] = {"a.json": b64encode(document.read_bytes()).decode()}  # type: ignore[assignment]
    found, _, _ = function(item, key_secret(**{"k.agekey": fixture_key("age.txt")}), config=decrypt())
    assert b64decode(found[0]["data"]["a.json"]) == expected
    assert json.loads(program_output(*argv)) == {"data": expected.decode()}


@pytest.fixture
def program_output(capfdbinary):
    from krm_sops.verbs.decrypt import main

    def output(*argv: str) -> bytes:
        assert main(list(argv)) == 0
        found: bytes = capfdbinary.readouterr().out
        return found

    return output


@pytest.mark.parametrize("word", ["disabled", "Disabled", "DISABLED"])
@pytest.mark.parametrize("name", ["kustomize.toolkit.fluxcd.io/decrypt", "krm-sops.dev/decrypt"])
def test_row_27_an_annotation_opts_out(name, word):
    item = made.encrypted()
    item["metadata"]["annotations"] = {name: word}
    found, results, status = function(item, config=made.KEY_SECRET)
    assert (found, results, status) == ([item], [], 0)


def test_row_28_the_mac_is_checked():
    changed = {**made.encrypted(), "type": "changed"}
    found, results, status = function(changed, config=made.KEY_SECRET)
    assert (status, results[0].reason, found) == (1, "MacMismatch", [changed])
    lax = decrypt(decryption={"provider": "sops"}, mac="tags", keys=[{"value": KEY}])
    found, results, status = function(changed, config=lax)
    assert (status, results[0].severity, "sops" in found[0]) == (0, "info", False)


def test_row_29_what_a_comment_selects_is_never_silently_left():
    """The MAC covers the ciphertext's plaintext, which without its comment is not decrypted."""
    item = made.encrypted(encrypted_regex=None, encrypted_comment_regex="^sops:enc")
    _, results, status = function(item, config=made.KEY_SECRET)
    assert status == 1
    assert results[0].reason in ("MacMismatch", "InvalidDocument")


def test_row_30_what_stays_encrypted_is_told():
    item = made.encrypted()
    found, results, status = function(item, config={**made.KEY_SECRET, "metadata": {"name": "k", "namespace": "x"}})
    assert (found, status) == ([item], 0)
    assert [result.severity for result in results] == ["warning"]
    twice = {**made.PLAIN, "stringData": {"a": made.enc("x", "y")}}
    found, results, status = function(made.encrypted(twice), config=made.KEY_SECRET)
    assert (found, status) == ([twice], 0)
    assert [(result.severity, result.reason) for result in results] == [("warning", "StillEncrypted")]


def test_row_31_every_error_is_told_and_nothing_is_decrypted():
    bad = {**made.encrypted(), "type": "changed"}
    foreign = made.encrypted(age=[{"recipient": "age1foreign", "enc": agefile.enc(OTHER_KEY, made.DATA_KEY)}])
    items = [made.encrypted(), bad, foreign]
    found, results, status = function(*copy.deepcopy(items), config=made.KEY_SECRET)
    assert (found, status) == (items, 1)
    assert [(result.reason, result.item.name) for result in results] == [("MacMismatch", "db"), ("NoUsableKey", "db")]
    assert "age age1foreign" in results[1].message


def test_row_32_age_and_pgp_come_before_services():
    http = FakeHttp()
    key = {"resource_id": "projects/p/locations/global/keyRings/r/cryptoKeys/k", "enc": "AAAA"}
    assert opens(made.encrypted(gcp_kms=[key]), config=made.KEY_SECRET, http=http)
    assert http.asked == []


def test_row_33_nothing_is_substituted_in_a_decrypted_value():
    plain = {**made.PLAIN, "stringData": {"a": "${HOME}", "b": "$${x} $y ${z:-w}"}}
    found, _, status = function(made.encrypted(plain), config=made.KEY_SECRET, env={"HOME": "/root", "x": "y"})
    assert (status, found) == (0, [plain])


def test_row_34_the_hash_is_over_plaintext_where_it_is_asked_for():
    """tests/e2e/test_name_hash.py has the real kustomize."""
    config = decrypt(**HANDED_IN, needsHash=True)
    _, results, status = function(made.encrypted(), config=config)
    assert (status, results[0].reason, results[0].field) == (1, "InvalidConfig", "spec.needsHash")
    config["metadata"]["annotations"] = {"config.kubernetes.io/function": "exec: {path: krm-sops}"}
    found, _, status = function(made.encrypted(), config=config)
    assert status == 0
    assert found[0]["metadata"]["annotations"] == {"internal.config.kubernetes.io/needsHashSuffix": "enabled"}


def test_row_35_a_docker_config_comes_out_as_flux_prints_it():
    auths = {"auths": {"registry.example": {"auth": "YTpi"}}}
    inner = json.dumps(made.document(auths)).encode()
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "d"}, "type": "kubernetes.io/dockerconfigjson"}
    item = {**plain, "data": {".dockerconfigjson": b64encode(inner).decode()}}
    found, results, status = function(item, config=made.KEY_SECRET)
    assert (status, results) == (0, [])
    assert b64decode(found[0]["data"][".dockerconfigjson"]).decode() == json.dumps(auths, indent="\t") + "\n"


def test_row_35_as_a_value_of_an_encrypted_item_it_keeps_its_text():
    text = '{"auths": {"registry.example": {"auth": "YTpi"}}}'
    data = {".dockerconfigjson": b64encode(text.encode()).decode()}
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "d"}, "type": "kubernetes.io/dockerconfigjson"}
    found, _, status = function(made.encrypted({**plain, "data": data}), config=made.KEY_SECRET)
    assert status == 0
    assert b64decode(found[0]["data"][".dockerconfigjson"]).decode() == text


def test_row_37_nothing_is_masked_that_could_be_pasted_back():
    found, _, status = function(made.encrypted(), config=made.KEY_SECRET)
    assert (status, found) == (0, [made.PLAIN])
    found, _, status = function(made.encrypted())
    assert status == 1
    assert found == [made.encrypted()]
    assert "**" not in textwrap.dedent(made.yaml(found[0]))
