"""Generators: which objects a config and its files come to, and what is refused with one line that says where."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krm_sops.functions import run
from krm_sops.host import Host
from krm_sops.limits import FUNCTION
from krm_sops.policy import Flags
from tests.generating import (
    KEYS,
    SECRET,
    generate,
    generated,
    ksops,
    own,
    put,
    refused,
    secret,
    sops_secret_generator,
)
from tests.security import made

NEEDS_HASH = "kustomize.config.k8s.io/needs-hash"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, as of a kustomization inside a repository."""
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    here = tmp_path / "repo" / "app"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def named(name: str, **others) -> dict:
    return {**SECRET, "metadata": {"name": name}, **others}


# What comes out


@pytest.mark.parametrize("config", [own(files=["s.yaml"]), ksops(files=["s.yaml"])], ids=["own", "ksops"])
def test_an_encrypted_manifest_becomes_its_object_and_the_config_is_consumed(config):
    put(Path("s.yaml"), SECRET)
    assert generated(config) == [SECRET]


def test_every_document_of_a_file_and_every_element_of_a_list_is_an_object():
    put(Path("list"), made.yaml({"apiVersion": "v1", "kind": "List", "items": [named("a"), named("b")]}))
    put(Path("binary"), made.yaml(named("c")) + "---\n# nothing\n---\n" + made.yaml(named("d")))
    assert [item["metadata"]["name"] for item in generated(own(files=["list", "binary"]))] == ["a", "b", "c", "d"]


def test_objects_come_in_the_order_of_the_config():
    for name in "cab":
        put(Path(f"{name}.yaml"), named(name))
    found = generated(own(files=["c.yaml", "a.yaml", "b.yaml"], secretFrom=[secret(files=["c.yaml"])]))
    assert [item["metadata"]["name"] for item in found] == ["c", "a", "b", "made"]


@pytest.mark.parametrize("kind", [own, ksops])
def test_files_binary_files_and_envs_of_a_secret(kind):
    put(Path("text"), "line 1\nline 2\n")
    put(Path("raw"), bytes(range(3)).decode() + "x")
    put(Path("vars"), "A=1\nB='two'\n")
    wanted = secret(type="kubernetes.io/x", files=["text", "other=text"], binaryFiles=["raw"], envs=["vars"])
    (found,) = generated(own(secretFrom=[wanted]) if kind is own else ksops(secretFrom=[wanted]))
    assert found == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "made"},
        "type": "kubernetes.io/x",
        "stringData": {"text": "line 1\nline 2\n", "other": "line 1\nline 2\n", "A": "1", "B": "two"},
        "data": {"raw": "AAECeA=="},
    }


def test_a_config_map_from_files():
    put(Path("text"), "t")
    put(Path("raw"), "r")
    put(Path("vars"), "A=1\n")
    (found,) = generated(own(configMapFrom=[secret(files=["text"], binaryFiles=["raw"], envs=["vars"])]))
    assert found == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "made"},
        "data": {"A": "1", "text": "t"},
        "binaryData": {"raw": "cg=="},
    }


def test_metadata_is_taken_over_with_what_kustomize_reads_there():
    put(Path("text"), "t")
    metadata = {
        "name": "n",
        "namespace": "ns",
        "labels": {"a": "b"},
        "annotations": {NEEDS_HASH: "true", "kustomize.config.k8s.io/behavior": "merge"},
    }
    for config in (own(secretFrom=[{"metadata": metadata}]), ksops(secretFrom=[{"metadata": metadata}])):
        assert generated(config) == [{"apiVersion": "v1", "kind": "Secret", "metadata": metadata}]


def test_ksops_takes_scalars_in_metadata_for_strings():
    metadata = {"name": "n", "annotations": {NEEDS_HASH: True, "n": 1}, "labels": {"z": None}}
    (found,) = generated(ksops(secretFrom=[{"metadata": metadata}]))
    assert found["metadata"] == {"name": "n", "annotations": {NEEDS_HASH: "true", "n": "1"}, "labels": {"z": ""}}


def test_values_of_string_data_are_strings_whatever_they_look_like():
    put(Path("s.yaml"), {**SECRET, "stringData": {"port": 5432, "on": True, "word": "yes", "float": 1.5}})
    (found,) = generated(own(files=["s.yaml"]))
    assert found["stringData"] == {"port": "5432", "on": "true", "word": "yes", "float": "1.5"}


def test_sops_secret_generator_puts_everything_into_data_and_asks_for_the_hash():
    put(Path("raw"), "r")
    put(Path("flat.yaml"), {"data": "x", "spec": 1, "stringData": None})
    config = sops_secret_generator(
        metadata={"name": "n", "namespace": "ns", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        type="t",
        behavior="merge",
        files=["raw", "k=raw"],
        envs=["flat.yaml"],
    )
    config["metadata"]["annotations"]["config.kubernetes.io/function"] = "exec: {path: SopsSecretGenerator}"
    (found,) = generated(config)
    annotations = {"c": "d", NEEDS_HASH: "true", "kustomize.config.k8s.io/behavior": "merge"}
    assert found["metadata"] == {"name": "n", "namespace": "ns", "labels": {"a": "b"}, "annotations": annotations}
    assert found["type"] == "t"
    values = {key: b64decode(value) for key, value in found["data"].items()}
    assert values == {"raw": b"r", "k": b"r", "data": b"x", "spec": b"1", "stringData": b""}


def test_sops_secret_generator_without_a_hash():
    put(Path("raw"), "r")
    (found,) = generated(sops_secret_generator(files=["raw"], disableNameSuffixHash=True))
    assert found["metadata"] == {"name": "g"}


def test_wildcards_name_files_in_the_order_of_their_paths():
    for name in ("b.enc.yaml", "a.enc.yaml", "deep/er/c.enc.yaml", ".hidden.enc.yaml", "plain.txt"):
        put(Path("manifests") / name, named(name.removesuffix(".enc.yaml")[-1]))
    found = generated(own(files=["manifests/**/*.enc.yaml"]))
    assert [item["metadata"]["name"] for item in found] == ["a", "b", "c"]
    (found,) = generated(own(secretFrom=[secret(binaryFiles=["manifests/?.enc.yaml"])]))
    assert sorted(found["data"]) == ["a.enc.yaml", "b.enc.yaml"]


def test_a_wildcard_and_a_name_are_a_key_of_one_file():
    put(Path("certs/tls-2026.pem"), "pem")
    assert generated(own(secretFrom=[secret(files=["tls.crt=certs/*.pem"])]))[0]["stringData"] == {"tls.crt": "pem"}
    put(Path("certs/tls-2027.pem"), "pem")
    line = refused(own(secretFrom=[secret(files=["tls.crt=certs/*.pem"])]))
    assert "spec.secretFrom[0].files[0]: certs/*.pem matches 2 files, which cannot all be 'tls.crt'" in line


def test_ksops_has_no_wildcards():
    put(Path("a.yaml"), SECRET)
    assert "cannot read *.yaml: no such file or directory" in refused(ksops(files=["*.yaml"]))


def test_a_data_key_that_several_files_share_is_unwrapped_once(monkeypatch):
    from krm_sops.keys.age import AgeKey

    asked = []
    unwrap = AgeKey.unwrap
    monkeypatch.setattr(AgeKey, "unwrap", lambda key, credentials: asked.append(key) or unwrap(key, credentials))
    for name in "abc":
        put(Path(f"{name}.yaml"), named(name))
    assert len(generated(own(files=["*.yaml"], secretFrom=[secret(files=["a.yaml"])]))) == 4
    assert len(asked) == 1


def test_items_of_a_package_stay_and_what_is_generated_comes_after_them():
    put(Path("s.yaml"), SECRET)
    config = own(files=["s.yaml"])
    in_package = {**config, "metadata": {**config["metadata"], "annotations": {}}}
    in_package["metadata"]["annotations"] = {**config["metadata"]["annotations"], made_path(): "g.yaml"}
    other = named("other")
    items, results, status = generate(config, other, in_package)
    assert (status, results) == (0, [])
    assert items == [other, in_package, SECRET]


def made_path() -> str:
    return "internal.config.kubernetes.io/path"


def test_started_as_ksops_without_a_config_every_item_of_the_kind_is_one():
    put(Path("a.yaml"), named("a"))
    put(Path("b.yaml"), named("b"))
    text = made.resource_list(ksops(files=["a.yaml"]), named("other"), ksops(files=["b.yaml"]), config=None)
    output, results, status = run(text.encode(), Host(env=KEYS), FUNCTION, Flags(), "ksops")
    assert (status, results) == (0, [])
    assert [line.split()[-1] for line in output.decode().splitlines() if " name: " in line or '"name"' in line] == [
        '"other"',
        "a",
        "b",
    ]


# What is refused


def test_a_file_that_is_not_encrypted_is_refused_as_by_ksops():
    put(Path("s.yaml"), made.yaml(SECRET).encode())
    for config in (own(files=["s.yaml"]), ksops(files=["s.yaml"])):
        assert "files[0]: s.yaml: sops metadata not found" in refused(config)


def test_the_mac_of_a_file_is_always_checked():
    put(Path("s.yaml"), SECRET)
    text = Path("s.yaml").read_text()
    Path("s.yaml").write_text(text.replace('name: "db"', 'name: "other"'))
    for config in (own(files=["s.yaml"]), ksops(files=["s.yaml"]), ksops(secretFrom=[secret(files=["s.yaml"])])):
        assert "files[0]: s.yaml: MAC mismatch" in refused(config)
    assert "spec.mac is 'tags'; allowed: auto, strict" in refused(own(files=["s.yaml"], mac="tags"))


def test_an_altered_value_is_named_with_its_file_and_place():
    put(Path("s.yaml"), SECRET)
    text = Path("s.yaml").read_text()
    Path("s.yaml").write_text(text.replace('"user"', '"user"').replace("user: ", "usr: "))
    assert "spec.files[0]: s.yaml: stringData.usr: " in refused(own(files=["s.yaml"]))


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({}, "spec needs at least one of files, secretFrom, configMapFrom"),
        ({"files": ["absent.yaml"]}, "spec.files[0]: cannot read absent.yaml: no such file or directory"),
        ({"files": "s.yaml"}, "spec.files must be a list of strings"),
        ({"files": ["none/*.yaml"]}, "spec.files[0]: cannot list none/: no such file or directory"),
        ({"files": ["*.none"]}, "spec.files[0]: *.none matches no file"),
        ({"files": ["**/../s.yaml"]}, "spec.files[0]: **/../s.yaml: .. behind a wildcard"),
        ({"file": ["s.yaml"]}, "spec has no field 'file'"),
        ({"secretFrom": [{}]}, "spec.secretFrom[0].metadata.name: an object needs a metadata.name"),
        ({"secretFrom": [secret(fils=[])]}, "spec.secretFrom[0] has no field 'fils'"),
        ({"secretFrom": [secret(files=["a=b=c"])]}, "spec.secretFrom[0].files[0]: 'a=b=c' is neither a path nor key="),
        ({"secretFrom": [secret(files=["=b"])]}, "spec.secretFrom[0].files[0]: '=b' is neither a path nor key=path"),
        ({"secretFrom": [secret(files=["a="])]}, "spec.secretFrom[0].files[0]: 'a=' is neither a path nor key=path"),
        ({"secretFrom": [secret(files=["a b=s.yaml"])]}, "secretFrom[0].files[0]: s.yaml: 'a b' cannot be a key"),
        (
            {"secretFrom": [secret(files=["s.yaml", "s.yaml"])]},
            "secretFrom[0].files[1]: s.yaml: there is a key 's.yaml'",
        ),
        ({"secretFrom": [secret(files=["s.yaml"], binaryFiles=["s.yaml"])]}, "binaryFiles[0]: s.yaml: there is a key"),
        ({"secretFrom": [secret(files=["raw"])]}, "files[0]: raw: the value of 'raw' is no UTF-8"),
        ({"secretFrom": [secret(envs=["syntax"])]}, "envs[0]: syntax: line 2 is neither a comment nor name=value"),
        ({"secretFrom": [secret(envs=["nested.yaml"])]}, "nested.yaml: data: a mapping or list where a value must be"),
        ({"secretFrom": [secret(), secret()]}, "spec.secretFrom[1]: Secret/made is already made by spec.secretFrom[0]"),
        ({"files": ["raw"]}, "spec.files[0]: raw: line 1, column 3: no valid UTF-8"),
        ({"files": ["kindless.yaml"]}, "spec.files[0]: kindless.yaml: no Kubernetes object: kind is missing"),
        ({"secretFrom": [{"metadata": {"name": "n", "labels": {"a": 1}}}]}, "metadata.labels must hold strings"),
        ({"configMapFrom": [secret(type="x")]}, "spec.configMapFrom[0] has no field 'type'"),
    ],
)
def test_a_config_is_refused_with_one_line_that_says_where_and_why(spec, line):
    put(Path("s.yaml"), SECRET)
    put(Path("raw"), made_of_bytes())
    put(Path("syntax"), "A=1\nno-plaintext-of-mine\n")
    put(Path("nested.yaml"), {"data": {"a": "b"}})
    put(Path("kindless.yaml"), {"apiVersion": "v1", "metadata": {"name": "x"}, "data": {"a": "b"}})
    said = refused(own(**spec))
    assert line in said
    assert said.startswith(("SopsGenerator/g: ", "spec"))
    assert "no-plaintext-of-mine" not in said


def made_of_bytes() -> bytes:
    return json.dumps(made.encrypted({"data": b"\xff\xfe\xff"})).encode()


def test_bytes_that_are_no_utf_8_go_into_binary_files():
    put(Path("raw"), made_of_bytes())
    (found,) = generated(own(secretFrom=[secret(binaryFiles=["raw"])]))
    assert b64decode(found["data"]["raw"]) == b"\xff\xfe\xff"
    _, results, _ = generate(own(secretFrom=[secret(files=["raw"])]))
    assert results[0].hint == "list it under binaryFiles"


def test_all_that_is_wrong_is_told_at_once():
    put(Path("s.yaml"), SECRET)
    config = own(files=["x", "s.yaml", "y"], secretFrom=[secret(files=["z"])])
    _, results, status = generate(config)
    assert status == 1
    assert [result.field for result in results] == ["spec.files[0]", "spec.files[2]", "spec.secretFrom[0].files[0]"]


@pytest.mark.parametrize(
    ("config", "warning"),
    [
        (ksops(files=["s.yaml"], fils=[]), "ksops has no field 'fils', so it is ignored"),
        (ksops(secretFrom=[secret(files=["s.yaml"], x=1)]), "secretFrom[0] has no field 'x', so it is ignored"),
        (ksops(secretFrom=[{"metadata": {"name": "n", "uid": "u"}}]), "metadata has no field 'uid', so it is ignored"),
        (sops_secret_generator(files=["s.yaml"], x=1), "SopsSecretGenerator has no field 'x', so it is ignored"),
        (ksops(secretFrom=[secret(files=["s.yaml", "s.yaml"])]), "there is a key 's.yaml' before this one"),
    ],
)
def test_what_a_foreign_tool_takes_without_a_word_is_a_warning(config, warning):
    put(Path("s.yaml"), SECRET)
    items, results, status = generate(config, config)
    assert status == 0
    assert len(items) == 1
    assert [result.severity for result in results] == ["warning"]
    assert warning in results[0].line()


def test_the_later_value_of_a_key_counts_for_ksops():
    put(Path("a"), "one")
    put(Path("b"), "x=two\n")
    items, _, _ = generate(ksops(secretFrom=[secret(files=["x=a"], envs=["b"])]))
    assert items[0]["stringData"] == {"x": "two"}


def test_ksops_without_files_is_refused_and_does_not_show_its_config():
    config = ksops()
    config["metadata"]["labels"] = {"note": "never-shown"}
    assert "ksops needs at least one of files, secretFrom" in refused(config)
    assert "never-shown" not in refused(config)


def test_ksops_takes_a_list_without_files():
    assert generated(ksops(files=[])) == []


def test_strict_makes_warnings_errors():
    put(Path("s.yaml"), SECRET)
    flags = Flags()
    flags.strict = True
    text = made.resource_list(config=ksops(files=["s.yaml"], x=1))
    _, results, status = run(text.encode(), Host(env=KEYS), FUNCTION, flags)
    assert (status, [result.severity for result in results]) == (1, ["error"])


# Where files are read


def test_a_repository_is_read_up_to_its_top_folder():
    put(Path("../base/s.yaml"), SECRET)
    assert generated(own(files=["../base/s.yaml"])) == [SECRET]
    assert generated(own(files=["../*/s.yaml"])) == [SECRET]
    assert generated(ksops(files=[str(Path("../base/s.yaml").resolve())])) == [SECRET]


def test_without_a_repository_a_container_is_named_as_the_likely_reason(monkeypatch):
    monkeypatch.chdir("/")
    assert "there is no repository here whose files could be read" in refused(own(files=["s.yaml"]))
    _, results, _ = generate(own(files=["s.yaml"]))
    assert results[0].hint.startswith("a container sees no files")


def in_package(config: dict, package: str, file: str = "g.yaml") -> dict:
    annotations = {"internal.config.kubernetes.io/package-path": package, made_path(): file}
    return {**config, "metadata": {"name": "g", "annotations": annotations}}


def test_paths_start_at_the_config_s_own_file_in_a_package(folder):
    put(Path("pkg/deep/s.yaml"), SECRET)
    put(Path("pkg/Kptfile"), b"")
    config = in_package(own(files=["s.yaml"], allowPlaintext=True), str(folder / "pkg"), "deep/g.yaml")
    items, results, status = generate(config, config)
    assert (status, [result.line() for result in results]) == (0, [])
    assert items == [config, SECRET]


def test_a_package_that_is_not_there_is_one_that_a_container_does_not_see(folder):
    config = in_package(own(files=["s.yaml"], allowPlaintext=True), str(folder / "pkg"))
    assert f"the package {folder / 'pkg'} is not here" in refused(config)


def test_a_key_secret_of_the_package_opens_files_and_is_marked_as_not_to_be_deployed(folder):
    put(Path("s.yaml"), SECRET)
    put(Path("Kptfile"), b"")
    reference = {"provider": "sops", "secretRef": {"name": "sops-keys"}}
    config = in_package(own(files=["s.yaml"], decryption=reference, allowPlaintext=True), str(folder))
    text = made.resource_list(made.KEY_SECRET, config=config)
    output, results, status = run(text.encode(), Host(env={}), FUNCTION)
    assert (status, [result.line() for result in results]) == (0, [])
    key, generated_one = yaml.safe_load(output)["items"]
    assert key["metadata"]["annotations"] == {"config.kubernetes.io/local-config": "true"}
    assert generated_one == SECRET
    _, results, status = generate(own(files=["s.yaml"], decryption=reference))
    assert (status, "no Secret of the name 'sops-keys'" in results[0].line()) == (1, True)


@pytest.mark.parametrize("kind", ["own", "ksops"])
def test_plaintext_in_place_is_refused(kind, folder):
    put(Path("s.yaml"), SECRET)
    put(Path("Kptfile"), b"")
    config = in_package(own(files=["s.yaml"]) if kind == "own" else ksops(files=["s.yaml"]), str(folder))
    _, results, status = generate(config, config)
    assert (status, results[0].reason) == (1, "PlaintextInPlace")
    assert "/g: kpt fn render would write" in results[0].line()
    assert "allowPlaintext: true" in results[0].hint


JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-9, 9),
        st.floats(allow_nan=False),
        st.sampled_from(["", "s.yaml", "k=s.yaml", "*", "**", "[", "a=b=c", "/", "..", "x\x7f\ud7ff"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "metadata", "files", "envs", "labels", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    st.sampled_from(["files", "secretFrom", "configMapFrom", "binaryFiles", "keys", "mac", "type"]),
    JUNK,
    st.integers(0, 2),
)
def test_any_config_is_taken_or_refused(field, junk, kind):
    put(Path("s.yaml"), SECRET)
    config = [own, ksops, sops_secret_generator][kind](**{field: junk})
    items, results, status = generate(config, config)
    assert status == any(result.is_error for result in results)
    assert all("\n" not in result.line() for result in results)
    if status:
        assert "plain-of" not in json.dumps(items)
