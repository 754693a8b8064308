"""SOPS documents inside of values: all that are ones are found (S17) and verified (S6), within the limits (S23)."""

from __future__ import annotations

import copy
import json
import textwrap
from base64 import b64decode, b64encode, encodebytes
from typing import Any

import pytest
import yaml

from krm_sops.limits import FUNCTION
from krm_sops.stores import STORES
from krm_sops.tree import Branch, Entry
from tests.security import made

PLAIN: dict[str, Any] = {"user": "admin", "password": "plain-of-inner"}
LEAK = "plain-of-inner"
CONFIG: dict[str, Any] = {
    "apiVersion": "krm-sops.dev/v1alpha1",
    "kind": "SopsDecrypt",
    "metadata": {"name": "decrypt"},
    "spec": {"keys": [{"value": made.IDENTITY}]},
}
KUSTOMIZE = {"config.kubernetes.io/function": "exec: {path: krm-sops}"}


def config(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    found = copy.deepcopy(CONFIG)
    found["spec"].update(spec)
    found["metadata"].update({"annotations": annotations} if annotations else {})
    return found


def tree(node: Any) -> Any:
    if isinstance(node, dict):
        return Branch([Entry(key, tree(value)) for key, value in node.items()])
    return [tree(element) for element in node] if isinstance(node, list) else node


def document(format_: str, plain: dict[str, Any] = PLAIN, **options: Any) -> bytes:
    """An encrypted file."""
    if format_ == "ini":
        plain = {"DEFAULT": {}, "section": plain}
    whole = made.document(plain, **options)
    block = tree(whole.pop("sops"))
    written: bytes = STORES[format_].write_encrypted([tree(whole)], block)
    return written


def secret(field: str = "data", kind: str = "Secret", **values: bytes | str) -> dict[str, Any]:
    """values: of the field, `__` for the first dot of a key; bytes become base64."""
    texts = {
        key.replace("__", ".", 1): b64encode(value).decode() if isinstance(value, bytes) else value
        for key, value in values.items()
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "s"}, field: texts}


def run(*items: Any, given: dict[str, Any] | None = CONFIG) -> tuple[list[dict[str, Any]], list[Any], int]:
    output, results, status = made.function(made.resource_list(*items, config=given))
    return yaml.safe_load(output)["items"], results, status


def refused(item: dict[str, Any] | str, given: dict[str, Any] = CONFIG) -> Any:
    """The one error; nothing of the plaintext is anywhere, and the items are as they came."""
    before = made.resource_list(item, config=given)
    output, results, status = made.function(before)
    assert status == 1
    assert LEAK not in output + "".join(result.line() + result.hint for result in results)
    assert yaml.safe_load(output)["items"] == yaml.safe_load(before)["items"]
    (error,) = [result for result in results if result.is_error]
    return error


AS_YAML = b"user: admin\npassword: plain-of-inner\n"
AS_JSON = b'{\n\t"user": "admin",\n\t"password": "plain-of-inner"\n}\n'
AS_DOTENV = b"user=admin\npassword=plain-of-inner\n"
AS_INI = b"[section]\nuser     = admin\npassword = plain-of-inner\n"
WRITTEN = {
    ("yaml", "a.yaml"): AS_YAML,
    ("yaml", "a.yml"): AS_YAML,
    ("yaml", "a.json"): AS_JSON,
    ("yaml", "a.env"): AS_DOTENV,
    ("yaml", "config"): AS_YAML,
    ("json", "a.json"): AS_JSON,
    ("json", ".dockerconfigjson"): AS_JSON,
    ("json", "my.dockerconfigjson"): AS_JSON,
    ("json", "a.yaml"): AS_YAML,
    ("json", "config"): AS_JSON,
    ("dotenv", "a.env"): AS_DOTENV,
    ("dotenv", "a.yaml"): AS_YAML,
    ("dotenv", "config"): AS_DOTENV,
    ("ini", "a.ini"): AS_INI,
    ("ini", "config"): AS_INI,
}


@pytest.mark.parametrize(("format_", "key"), WRITTEN, ids=lambda name: name)
@pytest.mark.parametrize("field", ["data", "stringData"])
def test_the_result_has_the_format_of_the_key_or_else_its_own(format_, key, field):
    raw = document(format_)
    item = secret(field)
    item[field] = {"other": "dmFsdWU=", key: b64encode(raw).decode() if field == "data" else raw.decode(), "last": ""}
    found, results, status = run(item)
    assert (status, results) == (0, [])
    value = found[0][field].pop(key)
    assert (b64decode(value) if field == "data" else value.encode()) == WRITTEN[format_, key]
    assert found[0] == {**item, field: {"other": "dmFsdWU=", "last": ""}}


@pytest.mark.parametrize("key", ["file", "a.json", "a.yaml", "a.env", "tls.key", ".dockerconfigjson"])
def test_a_binary_document_gives_its_bytes_under_any_key(key):
    content = b"\xff\x00 not text, and no JSON {"
    item = secret()
    item["data"] = {key: b64encode(document("binary", {"data": content})).decode()}
    found, results, status = run(item)
    assert (status, results) == (0, [])
    assert b64decode(found[0]["data"][key]) == content


@pytest.mark.parametrize(("field", "content"), [("data", b"x: 1\n"), ("binaryData", b"\xff\x00")])
def test_config_maps_where_they_are_included(field, content):
    raw = document("binary", {"data": content}) if field == "binaryData" else document("yaml", {"x": 1})
    item = secret(field, "ConfigMap", a__yaml=raw.decode() if field == "data" else raw)
    found, results, status = run(item, given=config(include=["configMaps"]))
    assert (status, results) == (0, [])
    assert found == [secret(field, "ConfigMap", a__yaml=content.decode() if field == "data" else content)]
    found, results, status = run(item)
    assert (status, found) == (0, [item])
    assert [(result.severity, result.reason) for result in results] == [("info", "StillEncrypted")] * (field == "data")


SPELLED = {
    "quoted": lambda text: json.dumps(text),
    "in single quotes": lambda text: f"'{text}'",
    "plain": lambda text: text,
    "literal": lambda text: "|\n" + textwrap.indent(encodebytes(b64decode(text)).decode(), "    "),
    "folded": lambda text: ">-\n" + textwrap.indent(encodebytes(b64decode(text)).decode(), "    "),
    "escaped": lambda text: '"' + "".join(f"\\x{ord(c):02x}" for c in text) + '"',
    "in quotes over several lines": lambda text: '"' + text[:70] + "\\\n    " + text[70:] + '"',
}


@pytest.mark.parametrize("how", SPELLED)
@pytest.mark.parametrize("layout", ["block", "exact"])
def test_however_the_value_is_spelled(how, layout):
    """S17: the value counts, not its spelling; by the fast reader as by the exact one."""
    spelled = SPELLED[how](b64encode(document("yaml")).decode())
    item = f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ndata:\n  # why\n  a.yaml: {spelled}\n"
    item = item.rstrip("\n") + "\n  b: dmFsdWU=\n"
    text = made.resource_list(item, config=CONFIG)
    output, results, status = made.function(text.replace("\n", "\r\n") if layout == "exact" else text)
    assert (status, results) == (0, [])
    assert "# why" in output
    data = yaml.safe_load(output)["items"][0]["data"]
    assert (b64decode(data["a.yaml"]), data["b"]) == (AS_YAML, "dmFsdWU=")


@pytest.mark.parametrize(
    "kind", ['"\\x53ecret"', "'Secret'", "!!str Secret", "!!binary U2VjcmV0", "|-\n  Secret", "*k"]
)
def test_however_the_kind_is_spelled(kind):
    """S17."""
    value = b64encode(document("yaml")).decode()
    item = (
        f"apiVersion: v1\nmetadata:\n  name: s\n  labels: {{a: &k Secret}}\nkind: {kind}\ndata: {{a.yaml: {value}}}\n"
    )
    output, results, status = made.function(made.resource_list(item, config=CONFIG))
    assert (status, results) == (0, [])
    assert b64decode(yaml.safe_load(output)["items"][0]["data"]["a.yaml"]) == AS_YAML


def test_in_json_and_in_flow_style():
    item = secret(a__yaml=document("yaml"))
    for given in ({"kind": "ResourceList", "functionConfig": CONFIG, "items": [item]}, None):
        text = json.dumps(given) if given else made.resource_list(json.dumps(item) + "\n", config=CONFIG)
        output, results, status = made.function(text)
        assert (status, results) == (0, [])
        assert b64decode(yaml.safe_load(output)["items"][0]["data"]["a.yaml"]) == AS_YAML


def respelled(how: str) -> bytes:
    """The document with its key `sops` spelled in another way that means the same."""
    if how.startswith("JSON"):
        return document("json").replace(b'"sops"', b'"\\u0073\\u006Fps"')
    if how == "as an alias":
        plain = {"clear_unencrypted": "sops", **PLAIN}
        _, _, rest = document("yaml", plain, unencrypted_suffix="_unencrypted").decode().partition("\n")
        return ("clear_unencrypted: &k sops\n" + rest.replace("\nsops:", "\n*k :")).encode()
    text = document("yaml").decode()
    if how == "as an escape":
        text = text.replace("\nsops:", '\n"\\x73o\\u0070s":')
    elif how == "over two lines":
        text = text.replace("\nsops:", '\n? "so\\\n  ps"\n:')
    elif how == "as binary data":
        text = text.replace("\nsops:", "\n!!binary c29wcw==:")
    elif how == "as binary data by a handle":
        text = "%TAG !b! tag:yaml.org,2002:bin\n---\n" + text.replace("\nsops:", "\n!b!ary c29wcw==:")
    else:
        return {"UTF-16": text.encode("utf-16"), "UTF-8 with a mark": text.encode("utf-8-sig")}[how]
    return text.encode()


@pytest.mark.parametrize(
    "how",
    [
        *("JSON escapes", "as an escape", "over two lines", "as binary data", "as binary data by a handle"),
        *("as an alias", "UTF-16", "UTF-8 with a mark"),
    ],
)
def test_however_its_metadata_are_spelled(how):
    """S17: the document is what its format's reader reads, not what a byte search would find."""
    key = "a.json" if how.startswith("JSON") else "a.yaml"
    item = secret()
    item["data"][key] = b64encode(respelled(how)).decode()
    found, results, status = run(item)
    assert (status, results) == (0, [])
    plain = b64decode(found[0]["data"][key]).expandtabs(2)
    assert yaml.safe_load(plain) == PLAIN | ({"clear_unencrypted": "sops"} if how == "as an alias" else {})


NO_DOCUMENTS = {
    "settings under the same word": "sops:\n  enabled: true\n",
    "the word": "we use sops\n",
    "a text about it": 'mac: ENC[ is what it looks like, in sops: as in json "mac": "ENC[\n',
    "an empty block": "sops: {}\n",
    "a list": "sops:\n- age: age1\n",
    "a JSON file": '{"sops": {"age": ["x"]}, "a": "\\u0073"}',
    "variables": "sops_enabled=true\nother=1\n",
    "a section": "[sops]\nenabled = yes\n",
    "broken": "sops: [\n",
    "nothing": "",
    "an escape": "a\\x20b !tag % binary",
}


@pytest.mark.parametrize("what", NO_DOCUMENTS)
def test_what_is_no_document_leaves_byte_for_byte(what):
    text = NO_DOCUMENTS[what]
    items = [
        secret(a__yaml=text.encode()),
        secret("stringData", a__yaml=text),
        secret(key=b"\xff\xfe\x00sops\\x!binary"),
    ]
    before = made.resource_list(*items, config=None)
    assert made.function(before) == (before, [], 0)


def test_without_a_functionconfig_and_with_keys_at_hand():
    before = made.resource_list(secret(a__yaml=document("yaml")), config=None)
    output, results, status = made.function(before, {"SOPS_AGE_KEY": made.IDENTITY})
    assert (status, results) == (0, [])
    assert b64decode(yaml.safe_load(output)["items"][0]["data"]["a.yaml"]) == AS_YAML


@pytest.mark.parametrize("given", [{}, {"mac": "tags"}, {"mac": "strict"}], ids=["auto", "tags", "strict"])
@pytest.mark.parametrize("annotations", [None, KUSTOMIZE], ids=["kpt", "kustomize"])
@pytest.mark.parametrize("change", ["changed", "removed", "emptied"])
def test_its_mac_is_verified_whatever_the_options_say(given, annotations, change):
    """S6: nothing sorted or changed the text of a value, so there is no excuse."""
    whole = made.document({"clear_unencrypted": "x", **PLAIN}, unencrypted_suffix="_unencrypted")
    whole["clear_unencrypted"] = "y"
    if change != "changed":
        whole = made.document(PLAIN)
        whole["sops"]["mac"] = ""
        if change == "removed":
            del whole["sops"]["mac"]
    error = refused(secret(a__yaml=made.yaml(whole).encode()), config(annotations, **given))
    assert (error.reason, error.field) == ("MacMismatch", "data.a.yaml")


def test_a_document_whose_block_lost_what_marks_it_still_counts():
    """S6: with ciphertext in it, taking the MAC and its time out does not make it pass."""
    whole = made.document(PLAIN)
    whole["sops"] = {"age": whole["sops"]["age"]}
    assert refused(secret(a__yaml=made.yaml(whole).encode())).reason == "InvalidDocument"


def test_errors_name_the_item_the_value_and_the_place_in_it():
    whole = made.document({"deep": {"password": LEAK, "other": "x"}})
    whole["deep"]["password"] = whole["deep"]["other"]
    error = refused(secret("stringData", a__yaml=made.yaml(whole)))
    assert (error.reason, error.field) == ("TagMismatch", "stringData.a.yaml.deep.password")
    assert error.line().startswith("Secret/s: stringData.a.yaml.deep.password: ")
    foreign = document("yaml", age=[{"recipient": "age1foreign", "enc": "x"}])
    error = refused(secret(a__yaml=foreign))
    assert (error.reason, error.field) == ("NoUsableKey", "data.a.yaml")


def test_every_wrong_item_is_told_and_none_is_decrypted():
    bad = made.document(PLAIN)
    bad["sops"]["mac"] = ""
    items = [secret(a__yaml=made.yaml(bad).encode()), secret(a__yaml=document("yaml")), made.encrypted(), made.PLAIN]
    items.append({**made.encrypted(), "type": "changed"})
    found, results, status = run(*items)
    assert (status, found) == (1, items)
    assert [(result.reason, result.item.name) for result in results] == [("MacMismatch", "db"), ("MacMismatch", "s")]


@pytest.mark.parametrize("key", ["a.json", "a.env", "a.ini"])
def test_several_documents_under_a_key_that_takes_one(key):
    inner = [made.values_encrypted({"a": LEAK}["a"], ("a",)), made.values_encrypted("second", ("a",))]
    block = {**made.encrypted()["sops"], "mac": made.mac_of({"0": LEAK, "1": "second"})}
    del block["encrypted_regex"]
    raw = "---\n".join(made.yaml({"a": value, "sops": block}) for value in inner).encode()
    item = secret()
    item["data"] = {"a.yaml": b64encode(raw).decode()}
    found, results, status = run(item)
    assert (status, results) == (0, [])
    assert b64decode(found[0]["data"]["a.yaml"]) == f"a: {LEAK}\n---\na: second\n".encode()
    item["data"] = {key: b64encode(raw).decode()}
    assert refused(item).field == f"data.{key}"


@pytest.mark.parametrize("key", ["a.env", "a.ini"])
def test_what_the_format_of_the_key_cannot_hold(key):
    item = secret()
    item["data"][key] = b64encode(document("yaml", {"list": [LEAK]})).decode()
    assert refused(item).field == f"data.{key}"


@pytest.mark.parametrize("field", ["stringData", "data"])
def test_bytes_that_are_no_text(field):
    """In `data` they are fine; elsewhere they would reach the cluster as something else."""
    raw = document("binary", {"data": b"\xff" + LEAK.encode()})
    item = secret(field, a=raw if field == "data" else raw.decode())
    if field == "data":
        assert run(item)[2] == 0
    else:
        assert refused(item).field == "stringData.a"


def test_values_of_text_fields_leave_as_quoted_strings():
    item = secret("stringData", number=document("binary", {"data": "0123"}).decode())
    output, _, status = made.function(made.resource_list(item, config=CONFIG))
    assert status == 0
    assert '"number": "0123"' in output or 'number: "0123"' in output


def test_nothing_in_a_decrypted_document_is_substituted_or_opened_again():
    inner = document("yaml", {"inner": LEAK}).decode()
    found, results, status = run(secret("stringData", a__yaml=document("yaml", {"x": inner, "y": "${HOME}"}).decode()))
    assert status == 0
    assert yaml.safe_load(found[0]["stringData"]["a.yaml"]) == {"x": inner, "y": "${HOME}"}
    assert [(result.severity, result.reason, result.field) for result in results] == [
        ("warning", "StillEncrypted", "stringData.a.yaml.x")
    ]


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_an_encrypted_item_is_opened_as_that_only_and_what_is_left_is_told(field):
    """As Flux: either or. S28: after the run, an exact scan for leftovers."""
    inner = document("yaml")
    plain = secret(field, a__yaml=inner if field == "data" else inner.decode())
    found, results, status = run(made.encrypted(plain))
    assert (status, found) == (0, [plain])
    assert [(result.severity, result.reason, result.field) for result in results] == [
        ("warning", "StillEncrypted", f"{field}.a.yaml")
    ]
    _, results, status = run(made.encrypted(plain), given=config(strict=True))
    assert (status, results[0].severity) == (1, "error")


def test_a_value_that_was_encrypted_twice_is_told():
    """S28."""
    plain = {**made.PLAIN, "stringData": {"a": made.enc("x", "y")}}
    found, results, status = run(made.encrypted(plain))
    assert (status, found) == (0, [plain])
    assert [(result.reason, result.field) for result in results] == [("StillEncrypted", "stringData.a")]


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_ciphertext_that_reads_as_no_document_is_told(field):
    """S28: such as a file that was cut off."""
    cut = document("yaml")[:150]
    _, results, status = run(secret(field, a__yaml=cut if field == "data" else cut.decode()))
    assert status == 0
    assert [(result.severity, result.reason, result.field) for result in results] == [
        ("warning", "InvalidDocument", f"{field}.a.yaml")
    ]


@pytest.mark.parametrize("name", ["krm-sops.dev/decrypt", "kustomize.toolkit.fluxcd.io/decrypt"])
def test_opt_outs_hold(name):
    item = secret(a__yaml=document("yaml"))
    item["metadata"]["annotations"] = {name: "disabled"}
    assert run(item) == ([item], [], 0)


def test_exclusions_and_namespaces_hold():
    """S12: a config's keys open only what is in its namespace."""
    item = secret(a__yaml=document("yaml"))
    assert run(item, given=config(exclude=[{"name": "s"}])) == ([item], [], 0)
    given = config()
    given["metadata"]["namespace"] = "other"
    found, results, status = run(item, given=given)
    assert (found, status, [result.reason for result in results]) == ([item], 0, ["OtherNamespace"])


def test_the_key_secret_itself_is_not_searched():
    keys = {**made.KEY_SECRET, "stringData": {"k.agekey": made.IDENTITY, "a.yaml": document("yaml").decode()}}
    given = config(keys=[], decryption={"provider": "sops", "secretRef": {"name": "sops-keys"}})
    found, results, status = run(made.encrypted(), keys, given=given)
    assert (status, results) == (0, [])
    assert found[1]["stringData"] == keys["stringData"]


def test_in_place_rendering_is_refused():
    item = secret(a__yaml=document("yaml"))
    item["metadata"]["annotations"] = {"internal.config.kubernetes.io/package-path": "/package"}
    assert refused(item).reason == "PlaintextInPlace"


@pytest.mark.parametrize("anchor", ["value", "mapping"])
def test_a_value_with_an_anchor_is_refused(anchor):
    """Its plaintext would appear wherever an alias repeats it."""
    text = b64encode(document("yaml")).decode()
    data = f"data:\n  a.yaml: &a {text}\n  b: *a\n" if anchor == "value" else f"data: &a\n  a.yaml: {text}\nextra: *a\n"
    assert "anchor" in refused(f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n{data}").message


def test_a_key_twice_is_refused():
    """S17."""
    text = b64encode(document("yaml")).decode()
    error = refused(f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ndata:\n  a: {text}\n  a: {text}\n")
    assert error.reason == "InvalidDocument"


def limited(item: dict[str, Any], **limits: int) -> Any:
    _, results, status = made.function(made.resource_list(item, config=CONFIG), limits=FUNCTION.changed(limits))
    return (status, [(result.reason, result.field) for result in results])


def test_limits_count_what_is_in_values():
    """S23."""
    many = document("yaml", {f"k{number}": "v" for number in range(60)})
    item = secret(a__yaml=many, b__yaml=many)
    assert limited(item) == (0, [])
    assert limited(item, document_bytes=300) == (1, [("LimitExceeded", "data.a.yaml")])
    assert limited(item, document_nodes=50) == (1, [("LimitExceeded", "data.a.yaml")])
    assert limited(item, run_nodes=220) == (1, [("LimitExceeded", "data.b.yaml")])
    deep = document("yaml").replace(b"\nsops:", b"\nx: " + b"[" * 200 + b"]" * 200 + b"\nsops:")
    assert limited(secret(a__yaml=deep)) == (1, [("LimitExceeded", "data.a.yaml")])
    keys = [{"recipient": "r", "enc": "x"}] * 101
    assert limited(secret(a__yaml=document("yaml", age=keys))) == (1, [("LimitExceeded", "data.a.yaml")])


def test_a_large_plain_value_is_no_matter():
    before = made.resource_list(secret(a=b"!\\x binary" + b"\xff" * (6 << 20)))
    assert made.function(before)[2] == 0


def test_aliases_are_expanded_within_the_limits():
    """S23: a billion laughs inside of a value."""
    lines = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    assert limited(secret(a__yaml=(lines + "sops: {mac: x}\n").encode())) == (1, [("LimitExceeded", "data.a.yaml")])
