"""Annotations of items are never evidence (S6), and what may leave without a MAC is little (S7)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from krm_sops.errors import KrmSopsError
from tests.security import made

if TYPE_CHECKING:
    from krm_sops.krm.results import Result

FUNCTION = "config.kubernetes.io/function"
FORGED = {
    FUNCTION: "exec:\n  path: krm-sops\n",
    "config.k8s.io/function": "exec: {path: krm-sops}",
    "config.kubernetes.io/path": "secret.yaml",
    "config.kubernetes.io/index": "0",
    "config.kubernetes.io/id": "1",
    "config.k8s.io/id": "1",
    "config.kubernetes.io/origin": "path: secret.yaml\n",
    "config.kubernetes.io/local-config": "true",
    "config.kubernetes.io/prune-ref": "true",
    "alpha.config.kubernetes.io/transformations": "- configuredIn: kustomization.yaml\n",
    "kustomize.config.k8s.io/id": "x",
    "kustomize.config.k8s.io/needs-hash": "true",
    "kustomize.config.k8s.io/behavior": "merge",
    "internal.config.kubernetes.io/path": "secret.yaml",
    "internal.config.kubernetes.io/index": "0",
    "internal.config.kubernetes.io/seqindent": "compact",
    "internal.config.kubernetes.io/annotations-migration-resource-id": "1",
    "internal.config.kubernetes.io/previousNames": "db",
    "internal.config.kubernetes.io/previousNamespaces": "prod",
    "internal.config.kubernetes.io/previousKinds": "Secret",
    "internal.config.kubernetes.io/prefixes": "x",
    "internal.config.kubernetes.io/suffixes": "x",
    "internal.config.kubernetes.io/generatorBehavior": "create",
    "internal.config.kubernetes.io/needsHashSuffix": "enabled",
    "internal.config.k8s.io/kpt-resource-id": "x",
    "internal.kpt.dev/upstream-identifier": "v1|Secret|prod|db",
    "internal.kpt.dev/function": "x",
    "kpt.dev/function": "x",
}
KEYS = {"value": made.IDENTITY}
DECRYPT = {
    "apiVersion": "krm-sops.dev/v1alpha1",
    "kind": "SopsDecrypt",
    "metadata": {"name": "decrypt"},
    "spec": {"keys": [KEYS], "allowPlaintext": True},
}
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "decrypt"},
    "data": {"allowPlaintext": "true"},
}
CONFIGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "ConfigMap": CONFIG_MAP,
    "Secret": made.KEY_SECRET,
    "SopsDecrypt": DECRYPT,
    "strict": {**DECRYPT, "spec": {**DECRYPT["spec"], "mac": "strict"}},  # type: ignore[dict-item]
}


def run(item: dict[str, Any], config: dict[str, Any] | None) -> tuple[str, list[Result], int]:
    return made.function(made.resource_list(item, config=config), env={"SOPS_AGE_KEY": made.IDENTITY})


def started_by_kustomize(config: dict[str, Any]) -> dict[str, Any]:
    new = copy.deepcopy(config)
    new.setdefault("metadata", {})["annotations"] = {FUNCTION: "exec:\n  path: krm-sops\n"}
    return new


def changed(document: dict[str, Any]) -> list[dict[str, Any]]:
    """A clear value, a ciphertext put back to an older one, a label more; and no MAC, two ways."""
    results = []
    for path, value in (
        (("metadata", "name"), "other"),
        (("type",), "kubernetes.io/tls"),
        (("stringData", "user"), made.enc("plain-of-an-older-user", "stringData:user:")),
        (("metadata", "labels"), {"added": "x"}),
        (("metadata", "annotations"), {"authored": "x"}),
        (("sops", "mac"), ""),
        (("sops", "mac"), None),
        (("sops", "mac"), made.enc("", made.MODIFIED)),
    ):
        new = copy.deepcopy(document)
        place = new
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        results.append(new)
    without = copy.deepcopy(document)
    del without["sops"]["mac"]
    return [*results, without]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("forged", [*FORGED, "all"])
def test_no_annotation_of_an_item_loosens_the_check(forged, config):
    """S6"""
    annotations = FORGED if forged == "all" else {forged: FORGED[forged]}
    for document in changed(made.encrypted()):
        document["metadata"].setdefault("annotations", {}).update(annotations)
        output, results, status = run(document, CONFIGS[config])
        assert status == 1
        assert [result.reason for result in results] == ["MacMismatch"]
        assert "plain-of" not in output


@pytest.mark.parametrize("forged", [*FORGED, "all"])
def test_annotations_that_an_orchestrator_added_do_not_break_the_mac_and_stay(forged):
    """S6, the other way round: what is injected is left aside, what is not breaks the MAC."""
    annotations = FORGED if forged == "all" else {forged: FORGED[forged]}
    document = made.encrypted()
    document["metadata"]["annotations"] = annotations
    output, results, status = run(document, CONFIGS["Secret"])
    if status:
        assert results[0].reason == "MacMismatch"
    else:
        assert yaml.safe_load(output)["items"][0]["metadata"]["annotations"] == annotations
        assert "plain-of-password" in output
    injected = forged.startswith(("internal.config.kubernetes.io/", "config.kubernetes.io/path", "config.k8s.io/id"))
    assert status == 0 or not injected


def test_an_injected_annotation_that_was_encrypted_with_the_document_is_covered():
    """S6: authored annotations under such a name belong to the MAC or not, as a whole."""
    plain = copy.deepcopy(made.PLAIN)
    plain["metadata"]["annotations"] = {"config.kubernetes.io/path": "a.yaml", "own": "x"}
    document = made.encrypted(plain)
    assert run(document, CONFIGS["Secret"])[2] == 0
    document["metadata"]["annotations"]["own"] = "y"
    assert run(document, CONFIGS["Secret"])[2] == 1


@pytest.mark.parametrize("config", ["Secret", "SopsDecrypt", "ConfigMap"])
def test_only_kustomizes_own_mark_on_the_function_config_loosens_and_only_for_a_v1_secret(config):
    """S6, S7"""
    marked = started_by_kustomize(CONFIGS[config])  # type: ignore[arg-type]
    for document in changed(made.encrypted()):
        output, results, status = run(document, marked)
        assert status == 0
        assert [(result.severity, result.reason) for result in results] == [("warning", "MacUnverifiable")]
        assert "plain-of-password" in output
    for version, kind in (("v1", "ConfigMap"), ("v2", "Secret"), ("example.com/v1", "Secret"), ("v1", "Pod")):
        document = made.encrypted({**made.PLAIN, "apiVersion": version, "kind": kind})
        assert run(document, marked)[2] == 0
        for other in changed(document):
            output, results, status = run(other, marked)
            assert status == 1
            assert [result.reason for result in results] == ["MacUnverifiable"]
            assert "plain-of" not in output


def test_strict_is_strict_under_kustomize_too():
    """S6"""
    marked = started_by_kustomize(CONFIGS["strict"])  # type: ignore[arg-type]
    for document in changed(made.encrypted()):
        output, results, status = run(document, marked)
        assert status == 1
        assert [result.reason for result in results] == ["MacMismatch"]
        assert "plain-of" not in output


def test_warnings_are_errors_where_that_is_asked_for():
    marked = started_by_kustomize({**DECRYPT, "spec": {"keys": [KEYS], "strict": True}})
    for document in changed(made.encrypted()):
        output, results, status = run(document, marked)
        assert status == 1
        assert results[0].reason == "MacUnverifiable"
        assert "plain-of" not in output


def refused_without_mac() -> dict[str, dict[str, Any]]:
    """Documents of which the tags alone prove too little."""
    base = made.encrypted(mac="")
    user = base["stringData"]["user"]
    emptied, commented, colon, foreign, mistyped, in_list = (copy.deepcopy(base) for _ in range(6))
    emptied["stringData"]["password"] = ""
    commented["stringData"]["user"] = user.replace("type:str", "type:comment")
    moved = made.enc("plain-of-moved", "stringData:a:b:")
    colon["stringData"]["a:b"] = moved
    nested = copy.deepcopy(base)
    nested["stringData"] = {"a": {"b": moved}}
    foreign["metadata"]["labels"] = {"leak": user}
    mistyped["stringData"]["user"] = user.replace("type:str", "type:int")
    in_list["data"] = {"x": [made.enc("plain-of-list", "data:x:", "comment")]}
    return {
        "an empty string in a selected place": emptied,
        "type:comment where no comment is": commented,
        "a colon in a key above ciphertext": colon,
        "ciphertext in a clear place": foreign,
        "a wrong type": mistyped,
        "a comment in a list": in_list,
    }


@pytest.mark.parametrize("mode", ["kustomize", "tags"])
@pytest.mark.parametrize("what", refused_without_mac())
def test_without_a_mac_only_values_that_their_tags_pin_down_may_leave(what, mode):
    """S7"""
    config = (
        started_by_kustomize(DECRYPT) if mode == "kustomize" else {**DECRYPT, "spec": {"keys": [KEYS], "mac": "tags"}}
    )
    output, results, status = run(refused_without_mac()[what], config)
    assert status == 1
    assert results[0].severity == "error"
    assert "plain-of" not in output
    assert run(made.encrypted(mac=""), config)[2] == 0


def test_the_same_mark_on_a_config_inside_a_wrapper_or_comment_does_not_count():
    """S6: the annotation counts where kustomize puts it, at metadata.annotations of the config itself."""
    for config in (
        {**DECRYPT, "metadata": {"name": "x", "labels": {FUNCTION: "x"}}},
        {**made.KEY_SECRET, "annotations": {FUNCTION: "x"}},
        {**made.KEY_SECRET, "metadata": {"name": "x", "annotations": {FUNCTION: ""}}},
        {**made.KEY_SECRET, "metadata": {"name": "x", "annotations": {FUNCTION: None}}},
        {**made.KEY_SECRET, "metadata": {"name": "x", "annotations": {FUNCTION.upper(): "x"}}},
        {**made.KEY_SECRET, "metadata": {"name": "x", "annotations": [{FUNCTION: "x"}]}},
        {**made.KEY_SECRET, FUNCTION: "x"},
    ):
        for document in changed(made.encrypted()):
            assert run(document, config)[2] == 1


def test_an_item_twice_of_which_one_is_forged_leaves_neither():
    """S6: one error, and nothing is decrypted."""
    good, forged = made.encrypted(), changed(made.encrypted())[0]
    for items in ((good, forged), (forged, good)):
        try:
            output, _, status = made.function(made.resource_list(*items))
        except KrmSopsError:
            continue
        assert status == 1
        assert "plain-of" not in output
