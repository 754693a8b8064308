"""SopsTemplate: what it renders, from which secrets, what it leaves alone, and what it refuses."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import Flags
from tests.generating import FUNCTION_ANNOTATION, KEYS, put
from tests.security import made

DB = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db", "namespace": "shop"},
    "data": {"user": b64encode(b"app").decode(), "password": "AAAA"},
    "stringData": {"password": 'p"w'},
}
FILE = {"db": {"user": "app", "password": 'p"w', "port": 5432}, "list": ["a", "b"]}
CHECKSUM = "krm-sops.dev/checksum-t"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    here = tmp_path / "repo" / "app"
    here.mkdir()
    monkeypatch.chdir(here)
    put(here / "s.yaml", made.yaml(made.document(FILE)).encode())
    return here


def config(**spec: Any) -> dict[str, Any]:
    spec.setdefault("secrets", [{"secret": "db"}])
    return {
        "apiVersion": "krm-sops.dev/v1alpha1",
        "kind": "SopsTemplate",
        "metadata": {"name": "t", "namespace": "shop", "annotations": FUNCTION_ANNOTATION},
        "spec": spec,
    }


def template(kind: str = "Secret", *, name: str = "out", **fields: Any) -> dict[str, Any]:
    texts = {} if fields else {"stringData" if kind == "Secret" else "data": {"k": "<SOPS:db/user>"}}
    return {"kind": kind, "metadata": {"name": name}, **texts, **fields}


def workload(kind: str = "Deployment", *, reads: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    pods = {"containers": [{"name": "c", "envFrom": [reads or {"secretRef": {"name": "out"}}]}]}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": {**({"metadata": metadata} if metadata else {}), "spec": pods}},
    }


def function(given: dict[str, Any], *items: Any, flags: Flags | None = None):
    text = made.resource_list(*items, config=given)
    output, results, status = run(text.encode(), Host(env=KEYS), FUNCTION, flags)
    return output.decode(), results, status


def rendered(given: dict[str, Any], *items: Any, flags: Flags | None = None) -> list[dict[str, Any]]:
    output, results, status = function(given, *items, flags=flags)
    assert (status, [result.line() for result in results]) == (0, [])
    return yaml.safe_load(output)["items"]


def refused(given: dict[str, Any], *items: Any) -> str:
    output, results, status = function(given, *items)
    assert status == 1
    assert yaml.safe_load(output)["items"] == [yaml.safe_load(made.yaml(item)) for item in items]
    assert [result.severity for result in results] == ["error"], [result.line() for result in results]
    return results[0].line()


# What comes out


def test_a_secret_from_a_decrypted_secret_among_the_items():
    texts = {"json": '{"p": <SOPS:db/password:json>}', "text": "<SOPS:db/user>:<SOPS:db/password>"}
    made_here = template(type="kubernetes.io/x", stringData=texts)
    made_here["metadata"] |= {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    db, out = rendered(config(templates=[made_here]), DB)
    assert db == DB
    assert out == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "out", "namespace": "shop", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "type": "kubernetes.io/x",
        "stringData": {"json": '{"p": "p\\"w"}', "text": 'app:p"w'},
    }


def test_a_secret_from_an_encrypted_file():
    texts = {"url": "postgres://<SOPS:db/user>:<SOPS:db/password:url>@db:<SOPS:db/port>", "l": "<SOPS:list/1>"}
    (out,) = rendered(config(secrets=[{"file": "s.yaml"}], templates=[template(stringData=texts)]))
    assert out["stringData"] == {"url": "postgres://app:p%22w@db:5432", "l": "b"}


def test_values_under_other_names_and_several_sources():
    put(Path("cert.pem"), "PEM")
    secrets = [{"file": "s.yaml", "values": {"user": "db/user"}}, {"secret": "db", "name": "d"}, {"file": "cert.pem"}]
    secrets.append({"file": "cert.pem", "name": "tls/cert"})
    text = "<SOPS:user> <SOPS:d/password> <SOPS:cert.pem> <SOPS:tls/cert>"
    _, out = rendered(config(secrets=secrets, templates=[template(stringData={"k": text})]), DB)
    assert out["stringData"] == {"k": 'app p"w PEM PEM'}


def test_template_files_are_read_below_the_repository_and_keep_their_structure():
    Path("app.conf").write_text("user <SOPS:db/user>;\n")
    Path("app.yaml").write_text("password: <SOPS:db/password>\nport: <SOPS:db/port>\n")
    given = template(files=["app.conf", "c.yaml=app.yaml"])
    (out,) = rendered(config(secrets=[{"file": "s.yaml"}], templates=[given]))
    assert out["stringData"]["app.conf"] == "user app;\n"
    assert yaml.safe_load(out["stringData"]["c.yaml"]) == {"password": 'p"w', "port": 5432}


def test_bytes_that_are_no_text_go_where_kubernetes_wants_base64():
    binary = {**DB, "data": {"user": b64encode(b"\xff").decode()}, "stringData": {}}
    assert rendered(config(templates=[template()]), binary)[1]["data"] == {"k": "/w=="}
    given = config(templates=[template("ConfigMap")], allowConfigMap=True)
    assert rendered(given, binary)[1]["binaryData"] == {"k": "/w=="}


def test_items_that_are_named_are_filled_where_they_stand():
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "out", "namespace": "shop"},
        "data": {"k": b64encode(b"=<SOPS:db/user>").decode(), "kept": "AAAA"},
        "stringData": {"x": "1", "y": "a <SOPS:db/password> b"},
    }
    config_map = {**secret, "kind": "ConfigMap", "data": {"k": "<SOPS:db/user>"}}
    del config_map["stringData"]
    given = config(items=[{"name": "out"}, {"kind": "ConfigMap", "name": "out"}], allowConfigMap=True)
    output, results, status = function(given, DB, made.yaml(secret).replace('"1"', '"1" # stays'), config_map)
    assert (status, results) == (0, [])
    _, filled, filled_map = yaml.safe_load(output)["items"]
    assert "# stays" in output
    assert b64decode(filled["data"]["k"]) == b"=app"
    assert (filled["data"]["kept"], filled["stringData"]) == ("AAAA", {"x": "1", "y": 'a p"w b'})
    assert filled_map["data"] == {"k": "app"}


def test_a_number_in_a_file_is_a_text_in_a_secret():
    given = config(secrets=[{"file": "s.yaml"}], templates=[template(stringData={"port": "<SOPS:db/port>"})])
    assert rendered(given)[0]["stringData"] == {"port": "5432"}


def test_where_kustomize_moved_the_secrets_the_result_goes_too():
    moved = {**DB, "metadata": {"name": "x-db", "namespace": "prod", "annotations": {}}}
    moved["metadata"]["annotations"] = {
        "internal.config.kubernetes.io/previousNames": "db",
        "internal.config.kubernetes.io/previousNamespaces": "shop",
    }
    _, out = rendered(config(templates=[template()]), moved)
    assert out["metadata"] == {"name": "out", "namespace": "prod"}


def test_as_a_generator_of_kustomize_the_config_is_consumed():
    given = config(secrets=[{"file": "s.yaml"}], templates=[template()])
    assert [item["kind"] for item in rendered(given, given)] == ["Secret"]


# Checksums


def test_workloads_that_read_the_result_get_a_checksum_that_changes_with_it():
    given = config(secrets=[{"file": "s.yaml"}], templates=[template()])
    reads = [
        {"secretRef": {"name": "out"}},
        {"valueFrom": {"secretKeyRef": {"name": "out", "key": "k"}}},
        {"secret": {"secretName": "out"}},
        {"projected": {"sources": [{"secret": {"name": "out"}}]}},
    ]
    items = [workload(reads=one) for one in reads] + [workload(annotations={"a": "b"}), workload(labels={"a": "b"})]
    found = rendered(given, *items)
    checksums = {item["spec"]["template"]["metadata"]["annotations"][CHECKSUM] for item in found[:-1]}
    assert len(checksums) == 1
    assert found[4]["spec"]["template"]["metadata"]["annotations"]["a"] == "b"
    assert found[5]["spec"]["template"]["metadata"]["labels"] == {"a": "b"}
    assert rendered(given, *found[:-1]) == found
    other = config(secrets=[{"file": "s.yaml"}], templates=[template(stringData={"k": "<SOPS:db/password>"})])
    (changed, _) = rendered(other, items[0])
    assert changed["spec"]["template"]["metadata"]["annotations"][CHECKSUM] not in checksums


def test_other_workloads_get_none():
    given = config(secrets=[{"file": "s.yaml"}], templates=[template()])
    elsewhere = workload()
    elsewhere["metadata"] = {"name": "web", "namespace": "other"}
    others = [
        workload("Job"),
        workload(reads={"secretRef": {"name": "x"}}),
        workload(reads={"configMapRef": {"name": "out"}}),
        elsewhere,
        {**workload(), "spec": {"template": {"x": "y"}, "containers": "none"}},
    ]
    assert rendered(given, *others)[:-1] == others
    silent = config(secrets=[{"file": "s.yaml"}], templates=[template()], checksum=False)
    assert rendered(silent, workload())[:-1] == [workload()]


def test_without_a_key_there_is_no_checksum_and_a_wish_for_one_is_refused():
    output, results, status = function(config(templates=[template()]), DB, workload())
    assert (status, [(result.severity, result.reason) for result in results]) == (0, [("info", "ChecksumUnavailable")])
    assert "checksum" not in str(yaml.safe_load(output)["items"])
    assert "without its key" in refused(config(templates=[template()], checksum=True), DB, workload())


def test_pod_annotations_that_are_an_alias_are_refused():
    text = made.yaml(workload(annotations={"a": "b"})).replace(
        "annotations:", 'labels: &x\n        c: "d"\n      annotations: *x\n      more:'
    )
    given = config(secrets=[{"file": "s.yaml"}], templates=[template()])
    _, results, status = function(given, text)
    assert (status, [result.reason for result in results]) == (1, ["InvalidDocument"])


# What is refused


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({}, "spec needs templates or items"),
        ({"secrets": [], "items": [{"name": "x"}]}, "spec.secrets must say"),
        ({"secrets": [{"name": "x"}], "items": [{"name": "x"}]}, "needs either secret or file"),
        ({"templates": [template(stringData={"k": "<SOPS:db/other>"})]}, "no secret has the name 'db/other'"),
        ({"templates": [template(stringData={"k": "none"})]}, "has no placeholder"),
        ({"templates": [template("ConfigMap")]}, "a ConfigMap is no place for secrets"),
        ({"items": [{"kind": "ConfigMap", "name": "x"}]}, "a ConfigMap is no place for secrets"),
        ({"items": [{"kind": "Deployment", "name": "x"}]}, "allowed: Secret, ConfigMap"),
        ({"items": [{"name": "x"}]}, "no Secret of the name 'x' in the namespace 'shop'"),
        ({"items": [{"name": "db"}]}, "gives values, so it is no template"),
        ({"templates": [template(), template()]}, "Secret out is named twice"),
        ({"templates": [template(data={"k": "v"})]}, "stand in stringData"),
        ({"templates": [{"stringData": {"k": "v"}}]}, "needs a metadata.name"),
        ({"templates": [template(stringData={"k": "v"}, files=["k"])]}, "the key 'k' occurs twice"),
        ({"secrets": [{"secret": "x"}], "templates": [template()]}, "no Secret of the name 'x'"),
        ({"secrets": [{"secret": "db", "values": {"a": "b"}}], "templates": [template()]}, "has no value 'b'"),
        ({"secrets": [{"file": "none"}], "templates": [template()]}, "cannot read none"),
        ({"secrets": [{"file": "/etc/passwd"}], "templates": [template()]}, "leads out of"),
        ({"templates": [template(files=["../../x"])]}, "leads out of"),
        ({"secrets": [{"secret": "db"}, {"file": "s.yaml"}], "templates": [template()]}, "is already the name"),
        (
            {"secrets": [{"secret": "db"}, {"file": "s.yaml", "name": "f"}], "templates": [template()]},
            "(s.yaml): no placeholder names any of its values",
        ),
        (
            {"secrets": [{"secret": "db", "values": {"db/user": "user", "b": "password"}}], "templates": [template()]},
            "no placeholder names 'b'",
        ),
    ],
)
def test_configs_that_are_refused(spec, why):
    assert why in refused(config(**spec), DB)


def test_a_namespace_that_is_not_the_configs_is_refused():
    given = template()
    given["metadata"]["namespace"] = "other"
    assert "is not the config's, 'shop'" in refused(config(templates=[given]), DB)


def test_a_secret_that_is_encrypted_still_is_no_source():
    encrypted = made.encrypted({**made.PLAIN, "metadata": {"name": "db", "namespace": "shop"}})
    assert "is encrypted" in refused(config(templates=[template()]), encrypted)


def test_a_placeholder_that_stays_is_told():
    given = config(templates=[template()])
    other = {**DB, "metadata": {"name": "o", "namespace": "shop"}, "data": {}, "stringData": {"k": "<SOPS:db/user>"}}
    _, results, status = function(given, DB, other)
    assert (status, [result.severity for result in results]) == (0, ["warning"])
    pods = workload(reads={"name": "<SOPS:db/user>"})
    assert "where none is resolved" in refused(given, DB, pods)


def test_kpt_does_not_write_plaintext_into_a_package():
    package = {
        **DB,
        "metadata": {**DB["metadata"], "annotations": {"internal.config.kubernetes.io/package-path": "/p"}},
    }
    given = config(templates=[template()])
    given["metadata"]["annotations"] = {}
    assert "plaintext into the package" in refused(given, package)
    given["spec"]["allowPlaintext"] = True
    assert len(rendered(given, package)) == 2


def test_masked_it_shows_nothing_of_a_secret():
    """S27"""
    flags = Flags()
    flags.mask = True
    given = config(
        secrets=[{"secret": "db"}, {"file": "s.yaml", "name": "f"}],
        templates=[template(stringData={"a": "=<SOPS:db/user>", "b": "<SOPS:f/db/user:json>", "c": "clear"})],
    )
    _, web, out = rendered(given, DB, workload(), flags=flags)
    assert out["stringData"] == {"a": "***", "b": "***", "c": "clear"}
    assert out["metadata"]["annotations"] == {"krm-sops.dev/masked": "true"}
    assert web == workload()
