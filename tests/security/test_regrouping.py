"""Documents of one file share a MAC, and are verified together (S29). Annotations only suggest what to try (S6)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.security import made

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}, "stringData": {"b": "bee", "a": "aye"}}
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}, "data": {"z": "zed", "empty": ""}}
OTHER = {"apiVersion": "x/v1", "kind": "Other", "metadata": {"name": "three"}, "spec": {"n": [1, True], "none": None}}
PLAINS = [SECRET, MAP, OTHER]
CONFIG: dict[str, Any] = {
    "apiVersion": "krm-sops.dev/v1alpha1",
    "kind": "SopsDecrypt",
    "metadata": {"name": "decrypt"},
    "spec": {"keys": [{"value": made.IDENTITY}]},
}
KUSTOMIZE = {"config.kubernetes.io/function": "exec: {path: krm-sops}"}
PATH, INDEX = "internal.config.kubernetes.io/path", "internal.config.kubernetes.io/index"
ORIGIN = "config.kubernetes.io/origin"


def together(*plains: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """What sops makes of a file of these documents: one ``sops`` block, and one MAC in it."""
    mac = made.mac_of(dict(enumerate(plains))) if "mac" not in options else options.pop("mac")  # type: ignore[arg-type]
    return [made.encrypted(plain, mac=mac, **options) for plain in plains]


def annotated(item: dict[str, Any], **annotations: str) -> dict[str, Any]:
    item = copy.deepcopy(item)
    item["metadata"].setdefault("annotations", {}).update(annotations)
    return item


def placed(items: list[dict[str, Any]], file: str = "a.yaml", first: int = 0) -> list[dict[str, Any]]:
    """As kpt hands them to a function."""
    return [annotated(item, **{PATH: file, INDEX: str(at)}) for at, item in enumerate(items, first)]


def config(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    found = copy.deepcopy(CONFIG)
    found["spec"].update(spec)
    found["metadata"].update({"annotations": annotations} if annotations else {})
    return found


def run(*items: dict[str, Any], given: dict[str, Any] = CONFIG) -> tuple[list[dict[str, Any]], list[Any], int]:
    """The items without the annotations that say where they were, what was told, and the exit status."""
    output, results, status = made.function(made.resource_list(*items, config=given))
    found = yaml.safe_load(output)["items"]
    for item in found:
        annotations = item["metadata"].get("annotations", {})
        for name in (PATH, INDEX, ORIGIN):
            annotations.pop(name, None)
        if not annotations:
            item["metadata"].pop("annotations", None)
    return found, results, status


def test_the_documents_of_a_file_are_decrypted_together():
    assert run(*placed(together(*PLAINS))) == (PLAINS, [], 0)
    assert run(*placed(together(*PLAINS, mac_only_encrypted=False), first=4)) == (PLAINS, [], 0)


def test_their_order_is_that_of_the_file_not_of_the_list():
    one, two, three = placed(together(*PLAINS))
    assert run(three, one, two) == ([OTHER, SECRET, MAP], [], 0)


def test_documents_that_were_encrypted_each_on_its_own_stay_so():
    items = placed([made.encrypted(plain) for plain in PLAINS])
    assert run(*items) == (PLAINS, [], 0)
    assert run(*items[1:]) == (PLAINS[1:], [], 0)


def test_several_files_in_one_list():
    items = placed(together(*PLAINS), "a.yaml") + placed(together(*PLAINS[:2]), "b.yaml") + placed(together(OTHER), "c")
    assert run(*items) == ([*PLAINS, *PLAINS[:2], OTHER], [], 0)


def test_a_copied_file_is_verified_by_itself():
    items = placed(together(*PLAINS), "a.yaml") + placed(together(*PLAINS), "copy.yaml")
    assert run(*items) == ([*PLAINS, *PLAINS], [], 0)


@pytest.mark.parametrize("file", ["a.yaml", "", ORIGIN])
def test_wherever_the_items_are_from(file):
    """As kpt names it, not at all, or as kustomize's origin annotation does."""
    items = placed(together(*PLAINS)) if file == "a.yaml" else together(*PLAINS)
    if file == ORIGIN:
        items = [annotated(item, **{ORIGIN: "path: a.yaml\n"}) for item in items]
    assert run(*items) == (PLAINS, [], 0)


def changed(items: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    if how == "the first is missing":
        return items[1:]
    if how == "one in the middle is missing":
        return [items[0], items[2]]
    if how == "the last is missing":
        return items[:2]
    if how == "one is there twice":
        return [*items, items[1]]
    if how == "one is there twice, with a number of its own":
        return [*items, placed([together(*PLAINS)[1]], first=3)[0]]
    if how == "two have changed places":
        first, second, _ = together(*PLAINS)
        return placed([second, first, together(*PLAINS)[2]])
    if how == "one of another file stands between them":
        block = items[0]["sops"]
        foreign = {**made.encrypted({**MAP, "metadata": {"name": "foreign"}}), "sops": block}
        return placed([*together(*PLAINS)[:2], foreign, together(*PLAINS)[2]])
    if how == "one says that it is of another file":
        return [*items[:2], placed([together(*PLAINS)[2]], "b.yaml")[0]]
    if how == "a clear value was changed":
        return [items[0], items[1], {**items[2], "kind": "Changed"}]
    assert how == "a value was moved to another document"
    moved = copy.deepcopy(items)
    moved[1]["data"]["z"] = moved[0]["stringData"]["a"]
    return moved


CHANGES = (
    "the first is missing",
    "one in the middle is missing",
    "the last is missing",
    "one is there twice",
    "one is there twice, with a number of its own",
    "two have changed places",
    "one of another file stands between them",
    "a clear value was changed",
    "a value was moved to another document",
)


@pytest.mark.parametrize(
    ("how", "is_named"),
    [*((how, named) for how in CHANGES for named in (True, False)), ("one says that it is of another file", True)],
)
def test_anything_else_is_a_mismatch(how, is_named):
    """S29. Where nobody says which file it is, no forged name can be the cause."""
    items = changed(placed(together(*PLAINS)), how)
    if not is_named:
        for item in items:
            item["metadata"].pop("annotations", None)
    before = made.resource_list(*items, config=CONFIG)
    output, results, status = made.function(before)
    assert status == 1
    reasons = {result.reason for result in results if result.is_error}
    assert reasons
    assert reasons <= {"MacMismatch", "TagMismatch"}
    assert "bee" not in output + str([result.line() for result in results])
    assert yaml.safe_load(output)["items"] == items


def test_a_gap_is_told_although_the_mac_says_nothing_of_the_missing_one():
    """S29: with `mac_only_encrypted`, a document without encrypted values adds nothing to the MAC."""
    clear = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "clear"}}
    mac = made.mac_of({**SECRET, "data": MAP["data"]}, only_encrypted=True)
    items = placed(together(SECRET, clear, MAP, mac=mac, mac_only_encrypted=True))
    assert run(*items) == ([SECRET, clear, MAP], [], 0)
    _, results, status = run(items[0], items[2])
    assert (status, results[0].reason) == (1, "MacMismatch")
    assert "0, 2" in results[0].message


def test_the_blocks_must_be_equal():
    """S29: a member with another ``sops`` block is none, whatever MAC it shows."""
    items = placed(together(*PLAINS))
    items[1]["sops"] = {**items[1]["sops"], "lastmodified": "2026-01-31T12:00:01Z"}
    _, results, status = run(*items)
    assert status == 1
    assert {result.reason for result in results} == {"MacMismatch"}


@pytest.mark.parametrize("file", ["a.yaml", "b.yaml"])
def test_forged_places_do_not_turn_a_wrong_document_into_a_right_one(file):
    """S6: the annotations are in the file itself, put there by whoever wrote it."""
    alone = made.encrypted(SECRET)
    stranger = {**made.encrypted(MAP), "sops": alone["sops"]}
    forged = [annotated(alone, **{PATH: "a.yaml", INDEX: "0"}), annotated(stranger, **{PATH: file, INDEX: "1"})]
    _, results, status = run(*forged)
    assert status == 1
    assert {result.reason for result in results} == {"MacMismatch"}


OPTED_OUT = {
    "annotation": ({}, {"krm-sops.dev/decrypt": "disabled"}),
    "exclude": ({"exclude": [{"kind": "ConfigMap"}]}, {}),
    "selectors": ({"selectors": [{"kind": "Secret"}, {"kind": "Other"}]}, {}),
}


@pytest.mark.parametrize("how", OPTED_OUT)
def test_a_member_that_is_to_stay_encrypted_is_read_for_the_mac_and_stays(how):
    spec, annotations = OPTED_OUT[how]
    two = {**MAP, "metadata": {"name": "two", "annotations": annotations}} if annotations else MAP
    items = placed(together(SECRET, two, OTHER))
    found, results, status = run(*items, given=config(**spec))
    assert (status, results) == (0, [])
    assert [found[0], found[2]] == [SECRET, OTHER]
    assert found[1]["data"] == items[1]["data"]
    assert found[1]["sops"] == items[1]["sops"]
    tampered = copy.deepcopy(items)
    tampered[1]["kind"] = "Altered" if how == "annotation" else "ConfigMap"
    tampered[1]["metadata"]["name"] = "altered"
    _, results, status = run(*tampered, given=config(**spec))
    assert (status, {result.reason for result in results}) == (1, {"MacMismatch"})


def test_a_member_of_another_namespace_is_read_for_the_mac_and_stays():
    """S12: its plaintext goes nowhere."""
    here = {**SECRET, "metadata": {"name": "one", "namespace": "here"}}
    there = {**MAP, "metadata": {"name": "two", "namespace": "there"}}
    given = config()
    given["metadata"]["namespace"] = "here"
    found, results, status = run(*placed(together(here, there)), given=given)
    assert (status, [result.reason for result in results]) == (0, ["OtherNamespace"])
    assert found[0] == here
    assert found[1]["data"]["z"].startswith("ENC[")


def test_under_kustomize_a_guess_that_fails_leaves_each_item_by_itself():
    """Two overlays of one base: the same document twice, which kustomize renamed. Each is verified on its own."""
    plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}, "stringData": {"a": "aye"}}
    base = made.encrypted(plain, mac_only_encrypted=True)
    names = "internal.config.kubernetes.io/previousNames"
    renamed = [annotated(base, **{names: "one", ORIGIN: "path: base/a.yaml\n"}) for _ in "ab"]
    for item, prefix in zip(renamed, "ab", strict=True):
        item["metadata"]["name"] = f"{prefix}-one"
    found, results, status = run(*renamed, given=config(KUSTOMIZE))
    assert (status, results) == (0, [])
    assert [item["stringData"] for item in found] == [{"a": "aye"}, {"a": "aye"}]


def test_under_kustomize_a_missing_member_makes_the_others_unverifiable():
    """As any Secret whose MAC does not hold there: with the warning, and with `strict` not at all."""
    other = {**SECRET, "metadata": {"name": "other"}, "stringData": {"c": "sea"}}
    items = together(SECRET, other, {**SECRET, "metadata": {"name": "third"}})[:2]
    found, results, status = run(*items, given=config(KUSTOMIZE))
    assert (status, [result.reason for result in results]) == (0, ["MacUnverifiable"] * 2)
    assert found == [SECRET, other]
    _, results, status = run(*items, given=config(KUSTOMIZE, mac="strict"))
    assert (status, [result.reason for result in results]) == (1, ["MacMismatch"] * 2)


def test_an_error_in_one_member_names_it():
    items = placed(together(*PLAINS))
    items[1]["data"]["z"] = "patched"
    _, results, status = run(*items)
    assert status == 1
    assert [(result.item.name, result.field) for result in results] == [("two", "data.z")]


def test_a_key_secret_in_a_file_with_others_opens_with_them():
    keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"k.agekey": "x"}}
    keys["stringData"] = {"k.agekey": made.IDENTITY}
    given = config(decryption={"provider": "sops", "secretRef": {"name": "keys"}})
    found, results, status = run(*placed(together(keys, SECRET)), given=given)
    assert (status, results) == (0, [])
    assert found[1] == SECRET
    assert found[0]["stringData"]["k.agekey"].startswith("ENC[")
