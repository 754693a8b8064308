"""What stands in for a MAC where kustomize sorted and changed an item: its file (S9), then another order (S8)."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import pytest

from krm_sops import functions
from krm_sops.cipher import DataKey
from krm_sops.document import EncryptedDocument
from krm_sops.functions.origin import LARGEST, Origins
from krm_sops.host import Host
from krm_sops.krm.resourcelist import ResourceList
from krm_sops.limits import FUNCTION
from krm_sops.metadata import Metadata
from krm_sops.policy import Flags
from krm_sops.tree import Branch
from tests.security import made

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from krm_sops.krm.results import Result

ORIGIN = "config.kubernetes.io/origin"
SECRET: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "db", "namespace": "prod", "labels": {"app": "shop", "tier": "data"}},
    "type": "Opaque",
    "stringData": {"user": "plain-of-user", "password": "plain-of-password", "host": "plain-of-host"},
}
OTHER_KIND: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Database",
    "metadata": {"name": "db", "namespace": "prod"},
    "spec": {"users": ["plain-b", "plain-a"], "login": {"user": "plain-of-user", "password": "plain-of-password"}},
}
REORDERED, IN_FILE, UNVERIFIABLE = "MacVerifiedReordered", "MacVerifiedByOrigin", "MacUnverifiable"


def config(mac: str = "auto", *, kustomize: bool = True, **spec: Any) -> dict[str, Any]:
    mark = {"annotations": {"config.kubernetes.io/function": "exec:\n  path: krm-sops\n"}} if kustomize else {}
    return {
        "apiVersion": "krm-sops.dev/v1alpha1",
        "kind": "SopsDecrypt",
        "metadata": {"name": "decrypt", **mark},
        "spec": {"keys": [{"value": made.IDENTITY}], "mac": mac, **spec},
    }


def sorted_(node: Any) -> Any:
    """As kustomize hands it on."""
    if isinstance(node, dict):
        return {key: sorted_(node[key]) for key in sorted(node)}
    return [sorted_(element) for element in node] if isinstance(node, list) else node


def run(*items: dict[str, Any], mac: str = "auto", kustomize: bool = True) -> tuple[list[Result], int, str]:
    given = made.resource_list(*map(sorted_, items), config=config(mac, kustomize=kustomize))
    output, results, status = made.function(given)
    return results, status, output


def reasons(*items: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    return [(result.severity, result.reason) for result in run(*items, **options)[0]]


def changed(document: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """changes: (path with slashes, the new value; None takes the entry out)."""
    new = copy.deepcopy(document)
    for path, value in changes:
        *folders, name = path.split("/")
        place = new
        for folder in folders:
            place = place.setdefault(folder, {})
        if value is None:
            del place[name]
        else:
            place[name] = value
    return new


ENCRYPTED = made.encrypted(SECRET)
OLD_USER = made.enc("plain-of-an-older-user", "stringData:user:")
SWAPPED_BEFORE = (
    ("stringData/user", made.enc("plain-of-password", "stringData:user:")),
    ("stringData/password", made.enc("plain-of-user", "stringData:password:")),
)
ATTACKS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": (ENCRYPTED, REORDERED),
    "name and namespace swapped": (
        changed(ENCRYPTED, ("metadata/name", "prod"), ("metadata/namespace", "db")),
        UNVERIFIABLE,
    ),
    "labels swapped": (
        changed(ENCRYPTED, ("metadata/labels/app", "data"), ("metadata/labels/tier", "shop")),
        UNVERIFIABLE,
    ),
    "a label swapped with the name": (
        changed(ENCRYPTED, ("metadata/labels/app", "db"), ("metadata/name", "shop")),
        UNVERIFIABLE,
    ),
    "type swapped with the namespace": (
        changed(ENCRYPTED, ("type", "prod"), ("metadata/namespace", "Opaque")),
        UNVERIFIABLE,
    ),
    "one label more": (changed(ENCRYPTED, ("metadata/labels/more", "x")), UNVERIFIABLE),
    "one value dropped": (changed(ENCRYPTED, ("stringData/host", None)), UNVERIFIABLE),
    "one value twice": (
        changed(ENCRYPTED, ("stringData/again", made.enc("plain-of-user", "stringData:again:"))),
        UNVERIFIABLE,
    ),
    "an old ciphertext put back": (changed(ENCRYPTED, ("stringData/user", OLD_USER)), UNVERIFIABLE),
    "a value moved to data": (
        changed(ENCRYPTED, ("stringData/host", None), ("data/host", made.enc("plain-of-host", "data:host:"))),
        UNVERIFIABLE,
    ),
    # sops itself takes these two as they stand: a MAC does not say where one value ends.
    "bytes shifted between neighbours": (
        changed(ENCRYPTED, ("metadata/name", "dbp"), ("metadata/namespace", "rod")),
        REORDERED,
    ),
    "a clear value split in two": (
        changed(ENCRYPTED, ("metadata/labels/tier", "da"), ("metadata/labels/tiers", "ta")),
        REORDERED,
    ),
    "bytes shifted over another value": (
        changed(ENCRYPTED, ("metadata/name", "dbs"), ("metadata/labels/app", "hop")),
        UNVERIFIABLE,
    ),
    # What is left: who has old ciphertexts of two values that were each other's, can put both back. It is told.
    "two old ciphertexts that were swapped once": (changed(ENCRYPTED, *SWAPPED_BEFORE), REORDERED),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_is_refused_or_told(name):
    """S8"""
    document, expected = ATTACKS[name]
    severity = "info" if expected == REORDERED else "warning"
    assert reasons(document) == [(severity, expected)]
    results, status, output = run(document, mac="strict")
    assert (status, [result.reason for result in results]) == (1, ["MacMismatch"])
    assert "plain-of" not in output


@pytest.mark.parametrize("name", ATTACKS)
def test_only_where_kustomize_runs_the_function(name):
    """S6, S8"""
    document, _ = ATTACKS[name]
    assert reasons(document, kustomize=False) == [("error", "MacMismatch")]


def test_lists_keep_their_order():
    """S8"""
    document = made.encrypted(OTHER_KIND)
    assert reasons(document) == [("info", REORDERED)]
    swapped = changed(document, ("spec/users", document["spec"]["users"][::-1]))
    assert reasons(swapped) == [("error", UNVERIFIABLE)]
    clear = made.encrypted({**SECRET, "args": ["b", "a"]})
    assert reasons(clear) == [("info", REORDERED)]
    assert reasons(changed(clear, ("args", ["a", "b"]))) == [("warning", UNVERIFIABLE)]


def test_another_kind_leaves_verified_or_not_at_all():
    """S7, S8"""
    document = made.encrypted(OTHER_KIND)
    results, status, output = run(document)
    assert (status, [result.reason for result in results]) == (0, [REORDERED])
    assert "plain-of-password" in output
    results, status, output = run(changed(document, ("metadata/name", "other")))
    assert (status, [result.reason for result in results]) == (1, [UNVERIFIABLE])
    assert "plain-of" not in output


def test_without_a_mac_or_with_a_wrong_type_no_order_is_tried():
    """S6, S8, S10"""
    for mac in ("", None, made.enc("", made.MODIFIED), made.enc("00", made.MODIFIED)):
        assert reasons(made.encrypted(SECRET, mac=mac)) == [("warning", UNVERIFIABLE)]
    mistyped = changed(ENCRYPTED, ("stringData/user", ENCRYPTED["stringData"]["user"].replace("type:str", "type:int")))
    results, status, output = run(mistyped)
    assert status == 1
    assert [result.reason for result in results] == ["InvalidDocument"]
    assert "plain-of" not in output


def test_with_encrypted_only_macs_what_is_clear_may_change():
    """S8"""
    document = made.encrypted(SECRET, mac_only_encrypted=True)
    assert reasons(document) == [("info", REORDERED)]
    assert reasons(changed(document, ("metadata/namespace", "other"), ("type", None))) == [("info", REORDERED)]
    assert reasons(changed(document, ("stringData/user", OLD_USER))) == [("warning", UNVERIFIABLE)]


def test_a_document_that_verifies_as_it_stands_needs_nothing():
    assert reasons(made.encrypted(sorted_(SECRET))) == []
    assert reasons(made.encrypted(sorted_(SECRET)), mac="strict") == []


class Repository:
    """A folder with ``.git``, which the function is started in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ".git").mkdir(parents=True)

    def write(self, name: str, *documents: dict[str, Any]) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("---\n".join(map(made.yaml, documents)))
        return path


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Repository:
    found = Repository(tmp_path / "repository")
    monkeypatch.chdir(found.root)
    return found


def moved(document: dict[str, Any] = ENCRYPTED, origin: str = "path: secret.yaml\n", **other: Any) -> dict[str, Any]:
    """As kustomize hands it on after namespace, namePrefix, labels and annotations."""
    new = changed(document, ("metadata/name", "eu-db"), ("metadata/namespace", "other"), ("metadata/labels/team", "a"))
    new["metadata"]["annotations"] = {"owner": "b", ORIGIN: origin, **other}
    return new


def test_what_kustomize_sets_may_differ_from_the_file_and_is_listed(repository):
    """S9"""
    repository.write("secret.yaml", ENCRYPTED)
    for mac in ("auto", "strict", "tags"):
        results, status, output = run(moved(), mac=mac)
        assert (status, [(result.severity, result.reason) for result in results]) == (0, [("info", IN_FILE)])
        assert results[0].message == (
            "its MAC verifies in its file, secret.yaml; not as in that file: metadata.name, metadata.namespace, "
            "metadata.annotations.owner, metadata.labels.team"
        )
        assert "plain-of-password" in output
    assert reasons(moved(), kustomize=False) == [("error", "MacMismatch")]
    same = changed(ENCRYPTED, (f"metadata/annotations/{ORIGIN.replace('/', '!')}", ""))
    same["metadata"]["annotations"] = {ORIGIN: "path: secret.yaml\n"}
    assert run(same, mac="strict")[0][0].message == "its MAC verifies in its file, secret.yaml"


DIFFERENCES = {
    "a type": ("type", "Other"),
    "a kind": ("kind", "Other"),
    "no type": ("type", None),
    "one field more": ("immutable", True),
    "an empty field more": ("data", {}),
    "a list more": ("args", ["x"]),
    "one more in metadata": ("metadata/generateName", "x"),
    "finalizers": ("metadata/finalizers", ["x"]),
    "a name that is a mapping": ("metadata", {"name": {}}),
    "a value dropped": ("stringData/host", None),
    "an old ciphertext": ("stringData/user", OLD_USER),
    "a ciphertext more": ("stringData/more", made.enc("plain-of-more", "stringData:more:")),
    "an empty value more": ("stringData/more", ""),
    "its recipients": ("sops/age", [{"recipient": made.RECIPIENT, "enc": made.WRAPPED}] * 2),
    "its rule": ("sops/encrypted_regex", "^(data|stringData)$"),
    "its version": ("sops/version", "3.0.0"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_nothing_else_may_differ_from_the_file(name, repository):
    """S9"""
    repository.write("secret.yaml", ENCRYPTED)
    document = changed(moved(), DIFFERENCES[name])
    assert [reason for _, reason in reasons(document, mac="strict")] == ["MacMismatch"]
    assert IN_FILE not in [reason for _, reason in reasons(document)]


FILES: dict[str, dict[str, Any]] = {
    "another valid document": made.encrypted(SECRET, lastmodified=made.MODIFIED, version="3.13.2"),
    "an older version": made.encrypted(changed(SECRET, ("stringData/user", "older"))),
    "one old ciphertext put back": changed(ENCRYPTED, ("stringData/user", OLD_USER)),
    "a clear value changed": changed(ENCRYPTED, ("type", "Other")),
    "a name changed": changed(ENCRYPTED, ("metadata/name", "eu-db")),
    "its MAC taken out": changed(ENCRYPTED, ("sops/mac", None)),
    "a field more": changed(ENCRYPTED, ("more", "x")),
    "nothing encrypted": SECRET,
}


@pytest.mark.parametrize("name", FILES)
def test_another_file_proves_nothing(name, repository):
    """S9: the file's own MAC must hold, and its sops block must be the item's."""
    repository.write("secret.yaml", FILES[name])
    assert reasons(moved()) == [("warning", UNVERIFIABLE)]
    both = changed(FILES[name], ("metadata/namespace", "other"))
    both["metadata"]["annotations"] = {ORIGIN: "path: secret.yaml\n"}
    if "sops" in both and name != "another valid document" and name != "an older version":
        assert IN_FILE not in [reason for _, reason in reasons(both)]


ELSEWHERE = {
    "above the root": "path: ../outside/secret.yaml\n",
    "far above the root": "path: ../../../../../../../../OUTSIDE\n",
    "absolute": "path: ROOT/secret.yaml\n",
    "another repository": "path: secret.yaml\nrepo: https://example.com/r\nref: main\n",
    "a generator": "configuredIn: kustomization.yaml\nconfiguredBy: {kind: SecretGenerator}\n",
    "no path": "path: {secret.yaml: x}\n",
    "no YAML": "path: [secret.yaml\n",
    "a zero byte": 'path: "secret.yaml\\0"\n',
    "a folder": "path: folder\n",
    "the root": "path: .\n",
    "a link": "path: link.yaml\n",
    "below a link": "path: linked/secret.yaml\n",
    "a link out of the root": "path: leads-out/secret.yaml\n",
    "a pipe": "path: pipe.yaml\n",
    "a device": "path: zero.yaml\n",
    "a large file": "path: large.yaml\n",
    "very long": f"path: {'x/' * 50_000}secret.yaml\n",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_only_regular_files_below_the_root_are_looked_at(name, repository):
    """S9"""
    text = repository.write("folder/secret.yaml", ENCRYPTED).read_text()
    outside = repository.root.parent / "outside"
    outside.mkdir()
    (outside / "secret.yaml").write_text(text)
    for link, target in (("link.yaml", "folder/secret.yaml"), ("linked", "folder"), ("leads-out", outside)):
        (repository.root / link).symlink_to(target)
    os.mkfifo(repository.root / "pipe.yaml")
    (repository.root / "large.yaml").write_text(text + "#" * (LARGEST - len(text) + 1))
    if name == "a device":
        try:
            os.mknod(repository.root / "zero.yaml", 0o20666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes device files")
    origin = ELSEWHERE[name].replace("ROOT", str(repository.root)).replace("OUTSIDE", str(outside / "secret.yaml")[1:])
    assert reasons(moved(origin=origin)) == [("warning", UNVERIFIABLE)]
    assert reasons(moved(origin="path: folder/secret.yaml\n")) == [("info", IN_FILE)]


def test_a_file_that_is_just_not_too_large_is_read(repository):
    """S9"""
    text = made.yaml(ENCRYPTED)
    (repository.root / "secret.yaml").write_text(text + "#" * (LARGEST - len(text)))
    assert reasons(moved()) == [("info", IN_FILE)]


def test_without_git_nothing_above_the_working_folder_is_read(repository, monkeypatch):
    """S9"""
    repository.write("secret.yaml", ENCRYPTED)
    (repository.root / "overlay").mkdir()
    monkeypatch.chdir(repository.root / "overlay")
    document = moved(origin="path: ../secret.yaml\n")
    assert reasons(document) == [("info", IN_FILE)]
    (repository.root / ".git").rmdir()
    assert reasons(document) == [("warning", UNVERIFIABLE)]


def test_the_operator_says_where_files_may_be_read(repository, monkeypatch):
    """S1, S9"""
    repository.write("secret.yaml", ENCRYPTED)
    (repository.root / "inner").mkdir()
    given = made.resource_list(sorted_(moved(origin="path: ../secret.yaml\n")), config=config()).encode()

    def reason(policy: str, root: str = "") -> str:
        flags = Flags()
        flags.root = root
        host = Host(env={}, files={"/etc/krm-sops/policy.yaml": policy.encode()})
        return functions.run(given, host, FUNCTION, flags)[1][0].reason

    monkeypatch.chdir(repository.root / "inner")
    root = str(repository.root)
    for allowed in (f"root: {root}\n", f"readableRoots: [{root}]\n"):
        assert reason(allowed) == IN_FILE
    for forbidden in (f"root: {root}/inner\n", f"root: {root}/other\n", f"readableRoots: [{root}/inner]\n"):
        assert reason(forbidden) == UNVERIFIABLE
    assert reason(f"root: {root}/inner\n", root) == IN_FILE
    assert reason(f"root: {root}\n", f"{root}/inner") == UNVERIFIABLE


def test_the_path_is_looked_for_around_the_working_folder(repository, monkeypatch):
    """S9: it is relative to the folder that kustomize builds, which the function is not told."""
    repository.write("apps/base/secret.yaml", ENCRYPTED)
    for folder in ("apps/base", "overlays/prod", "apps", "."):
        (repository.root / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(repository.root / folder)
        for path in ("../../apps/base/secret.yaml", "./../apps/base/secret.yaml", "apps/x/../base/secret.yaml"):
            assert reasons(moved(origin=f"path: {path}\n"), mac="strict") == [("info", IN_FILE)], (folder, path)


def test_under_kpt_the_package_says_where_the_file_is(repository):
    """S9"""
    prefix = "internal.config.kubernetes.io"
    repository.write("package/sub/secret.yaml", ENCRYPTED)
    where = {f"{prefix}/package-path": str(repository.root / "package"), f"{prefix}/path": "sub/secret.yaml"}
    assert reasons(moved(origin="", **where)) == [("info", IN_FILE)]
    for path in ("/", str(repository.root), "package", f"{repository.root}/package/../.."):
        assert reasons(moved(origin="", **{**where, f"{prefix}/package-path": path})) == [("warning", UNVERIFIABLE)]


def several(*names: str) -> list[dict[str, Any]]:
    """Documents of one file, under one MAC."""
    plain = [changed(SECRET, ("metadata/name", name)) for name in names]
    block = made.encrypted(SECRET, mac=made.mac_of(dict(zip(names, plain, strict=True))))["sops"]
    return [{**made.values_encrypted(document), "sops": block} for document in plain]


def test_documents_under_one_mac_are_verified_together(repository):
    """S9, S29"""
    first, second = several("a", "b")
    repository.write("secret.yaml", first, {"kind": "ConfigMap", "metadata": {"name": "clear"}}, second, ENCRYPTED)
    origin = {"annotations": {ORIGIN: "path: secret.yaml\n"}}
    both = [changed(one, ("metadata", {**one["metadata"], **origin, "namespace": "x"})) for one in (first, second)]
    for items in (both, both[::-1], both[:1], both[1:]):
        assert reasons(*items, mac="strict") == [("info", IN_FILE)] * len(items)
    for documents in ((first,), (second, first), (first, second, second), (first, changed(second, ("type", "x")))):
        repository.write("secret.yaml", *documents)
        for item in both:
            assert reasons(item) == [("warning", UNVERIFIABLE)]


def test_a_json_file_is_read_as_json(repository):
    """S9"""
    import json

    (repository.root / "secret.json").write_text(json.dumps(ENCRYPTED, indent=2))
    assert reasons(moved(origin="path: secret.json\n")) == [("info", IN_FILE)]


def test_what_kustomize_spells_another_way_is_the_same(repository):
    """S9: numbers and times, and null; not more."""
    plain = {
        **SECRET,
        "spare": {"number": 1.0, "time": "2020-01-01T00:00:00Z", "text": "1", "flag": True, "none": None},
    }
    document = made.encrypted(plain, mac=made.mac_of(changed(plain, ("spare/number", 1))))
    text = made.yaml(document).replace('"2020-01-01T00:00:00Z"\n', "2020-01-01T00:00:00Z\n", 1)
    assert "time: 2020" in text
    (repository.root / "secret.yaml").write_text(text)
    same = changed(moved(document), ("spare/number", 1), ("spare/none", None))
    assert reasons(same) == [("info", IN_FILE)]
    for key, value in (("text", 1), ("flag", "True"), ("number", "1"), ("number", 2), ("none", "x"), ("none", {})):
        assert IN_FILE not in [reason for _, reason in reasons(changed(same, (f"spare/{key}", value)))]


def found(origins: Origins, *items: dict[str, Any]) -> list[bool]:
    given = ResourceList(made.resource_list(*map(sorted_, items)).encode(), FUNCTION, exact=True)
    proven = []
    for item in given.encrypted():
        block = item.branch.get("sops")
        assert isinstance(block, Branch)
        branch = Branch(entry for entry in item.branch.entries if entry.key != "sops")
        metadata = Metadata.from_branch(block, 10)
        data_key = DataKey(made.DATA_KEY)
        opened = EncryptedDocument([branch], metadata).open(data_key)
        proven.append(origins.verify(item, branch, opened, metadata, data_key) is not None)
    return proven


def test_a_file_is_read_once_whatever_becomes_of_it():
    """S9: it may be swapped while the function runs."""
    contents = [made.yaml(ENCRYPTED), made.yaml(changed(ENCRYPTED, ("type", "Other"))), "{"]

    def reader(texts: list[str]) -> Callable[[str], bytes]:
        coming = iter(texts)
        return lambda path: next(coming).encode() if path == "secret.yaml" else b""

    document, other = moved(), changed(moved(), ("metadata/name", "x"))
    assert found(Origins("/r", "/r", reader(contents), FUNCTION), document, other) == [True, True]
    assert found(Origins("/r", "/r", reader(contents[1:]), FUNCTION), document, other) == [False, False]
